"""Branches that are skipped, beside the same ones computed."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from model_cases import made, site_names
from variant_cases import QUICK

from dropout import Moment, bind, parse, resolve
from models.skipping import computed_if_kept

IMAGE, ROWS, STEPS = (8, 8, 1), 4, 6
SKIPPED, COMPUTED = "layerdrop(skip=True):0.5", "layerdrop:0.5"
CASES = {
    "resnet(depth=8, width=2)": (
        "drop_path(skip=True, unit='batch'):0.5",
        "drop_path(unit='batch'):0.5",
    ),
    "vit(patch=4, width=4, depth=2, heads=2)": (SKIPPED, COMPUTED),
}


class Unit(nnx.Module):
    """A branch of one product, which counts how often it is computed."""

    def __init__(self):
        self.kernel = nnx.Param(jnp.eye(3) * 2)
        self.count = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x, drop):
        added = computed_if_kept(
            self, "unit/branch", drop, lambda unit, drop: unit.branch(x)
        )
        return x + drop("unit/branch", added)

    def branch(self, x):
        self.count[...] += 1
        return x @ self.kernel[...]


def moment(step):
    return Moment(jax.random.key(2), jnp.arange(ROWS), 0, step)


def pass_of(rule):
    """(kernel, x, step) -> the sum of outputs, (outputs, count), of a `Unit`."""
    rows = resolve(parse(f"unit/branch:{rule}"), ("unit/branch",))

    def once(kernel, x, step):
        unit = Unit()
        unit.kernel[...] = kernel
        y = unit(x, bind(rows, moment(step)))
        return y.sum(), (y, unit.count[...])

    return once


@pytest.mark.slow
def test_a_branch_is_computed_if_it_is_kept():
    """Outputs and gradients are those of a branch that is always computed."""
    kernel, x = jax.random.normal(jax.random.key(3), (2, 3, 3))

    @partial(jax.jit, compiler_options=QUICK)
    def both(step):
        return [
            jax.grad(pass_of(rule), (0, 1), has_aux=True)(kernel, x, step)
            for rule in (SKIPPED, COMPUTED)
        ]

    counts = []
    for step in range(STEPS):
        skipped, computed = both(step)
        same = (skipped[0], skipped[1][0]), (computed[0], computed[1][0])
        for one, other in zip(*map(jax.tree.leaves, same), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
        kept = bool((computed[1][0] != x).any())
        counts.append(float(skipped[1][1]))
        assert counts[-1] == kept and computed[1][1] == 1
    assert set(counts) == {0, 1}


def test_without_the_option_nothing_is_conditional():
    programs = [
        str(jax.make_jaxpr(pass_of(rule))(jnp.eye(3), jnp.ones((2, 3)), 0))
        for rule in (SKIPPED, COMPUTED)
    ]
    assert "cond[" in programs[0] and "cond[" not in programs[1]


@pytest.mark.parametrize(
    "text", ["drop_path(skip=True)", "layerdrop(skip=True, unit='example')"]
)
def test_a_branch_of_one_example_cannot_be_skipped(text):
    with pytest.raises(ValueError, match=r"skip=True.*expected unit='batch' or 'run'"):
        parse(f"block*/branch:{text}:0.5")


@cache
def compiled(text, rule):
    """The statistics, and step -> gradients, (logits, statistics, kept branches)."""
    network = made(text, IMAGE, 3, jax.random.key(0))
    graph, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
    rows = resolve(parse(f"block*/branch:{rule}"), site_names(text, IMAGE, 3))
    x = jax.random.normal(jax.random.key(1), (ROWS, *IMAGE))

    def loss(params, step):
        drop = bind(rows, moment(step))
        model = nnx.merge(graph, params, stats, copy=True)
        weights = (jnp.ones(ROWS),) if jax.tree.leaves(stats) else ()
        logits = model(x, drop, *weights)
        kept = {row.site: drop(row.site, jnp.ones((1, 1))) != 0 for row in rows}
        after = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return (logits**2).sum(), (logits, after, kept)

    step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICK)
    return nnx.to_pure_dict(stats), partial(step, params)


def assert_close(one, other):
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("text", CASES)
def test_networks_skip_branches_whose_statistics_then_stay(text):
    before, skipping = compiled(text, CASES[text][0])
    _, computing = compiled(text, CASES[text][1])
    seen = set()
    for step in range(STEPS):
        gradients, (logits, after, kept) = skipping(step)
        expected, (same_logits, moved, same_kept) = computing(step)
        assert kept == same_kept
        assert_close((gradients, logits), (expected, same_logits))
        for site, is_kept in kept.items():
            seen.add(bool(is_kept))
            block = site.split("/")[0]
            layers = [n for n in after[block] if n != "act1"] if block in after else []
            for name in layers:
                whole = moved if is_kept else before
                assert_close(after[block][name], whole[block][name])
    assert seen == {True, False}
