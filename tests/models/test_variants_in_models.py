"""Every variant at the sites of real networks: it acts there, or says why it cannot."""

import re
from functools import cache

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from model_cases import TINY, site_names
from sampling import sampled
from variant_cases import QUICK

from dropout import VARIANTS, Moment, bind, identity, kind_of, parse, resolve
from dropout.grammar import parse_call
from models import create
from training.dropout_parameters import learned_of, with_starts

SMALL = (
    "vit(patch=7, width=8, depth=2, heads=2)",
    "lstm(units=4)",
    "cnn(widths=(2, 3), dense=4)",
    "shake_shake(depth=8, width=2)",
)
IMAGE, ROWS, RATE = (28, 28, 1), 2, 0.3
KNOWN = {}  # problems by variant, kind and rank, alike in all networks


def network(text):
    return create(parse_call(text), IMAGE, 10, jax.random.key(0))


def dropper(plan, sites, kernels):
    """What `bind` makes of a plan; `kernels` are those of the start, by their site."""
    rows = resolve(parse(plan), sites)
    moment = Moment(jax.random.key(1), jnp.arange(ROWS), 0, 0, run=jax.random.key(3))
    starts = {
        row.site: {"start": kernels[row.site]}
        for row in rows
        if VARIANTS[row.variant.name].needs_start
    }
    return bind(rows, moment, params=starts)


def problem(name, site, *arguments, time):
    """What a variant says is wrong at a site; None where it acts."""
    plain = jax.eval_shape(lambda: identity(site, *arguments, time=time))
    kernels = {site: arguments[1]} if len(arguments) > 1 else {}
    drop = dropper(f"{site}:{name}:{RATE}", (site,), kernels)
    try:
        found = jax.eval_shape(lambda: drop(site, *arguments, time=time))
    except ValueError as error:
        return str(error)
    assert found == plain, f"{name} at {site!r} gives {found}, not {plain}."
    return None


@cache
def problems(text):
    """For every variant at every site of its kind what `problem` says."""
    known, found = KNOWN, {}

    def drop(site, x, *others, time=None, reader=""):
        kind = kind_of(site)
        for name in (name for name in VARIANTS if kind in VARIANTS[name].kinds):
            if (name, kind, x.ndim) not in known:
                known[name, kind, x.ndim] = problem(name, site, x, *others, time=time)
            found[site, name] = known[name, kind, x.ndim]
        return identity(site, x, *others, time=time)

    jax.eval_shape(lambda x: network(text)(x, drop), jnp.ones((ROWS, *IMAGE)))
    return found


@cache
def plans():
    """Plans of networks, the small ones first, that use every variant once between
    them; and the variants that no network has a site for."""
    left = sorted(VARIANTS, key=lambda name: len(VARIANTS[name].kinds))
    made = {}
    for text in (*SMALL, *TINY):
        kinds, rules = {kind_of(site) for site in site_names(text)}, {}
        for name in [name for name in left if kinds & set(VARIANTS[name].kinds)]:
            for site in site_names(text):
                fits = kind_of(site) in VARIANTS[name].kinds
                acts = fits and problems(text)[site, name] is None
                if acts and site not in rules and name in left:
                    rules[site] = name
                    left.remove(name)
        if rules:
            made[text] = " ".join(f"{s}:{name}:{RATE}" for s, name in rules.items())
    return made, left


@pytest.mark.slow
def test_every_variant_acts_in_some_network_that_has_sites_of_its_kind():
    kinds = {kind_of(site) for text in TINY for site in site_names(text)}
    _, left = plans()
    assert not [name for name in left if kinds & set(VARIANTS[name].kinds)]


@pytest.mark.long
def test_gradients_with_every_variant_are_finite_under_jit():
    for text, plan in plans()[0].items():

        def gradient(images, text=text, plan=plan):
            graph, params, others = nnx.split(network(text), nnx.Param, ...)
            rows = resolve(parse(plan), site_names(text))
            starts = learned_of(with_starts(nnx.to_pure_dict(params), rows))
            kernels = {site: given["start"] for site, given in starts.items()}
            drop = dropper(plan, site_names(text), kernels)
            logits = lambda params: nnx.merge(graph, params, others)(images, drop)  # noqa: E731
            return jax.grad(lambda params: (logits(params) ** 2).sum())(params)

        images = jax.random.uniform(jax.random.key(2), (ROWS, *IMAGE))
        found = jax.tree.leaves(jax.jit(gradient, compiler_options=QUICK)(images))
        assert all(jnp.isfinite(leaf).all() for leaf in found), (text, plan)
        assert any((leaf != 0).any() for leaf in found), (text, plan)


@pytest.mark.parametrize("text", sampled(SMALL, SMALL[2:3]))
def test_where_a_variant_cannot_act_it_says_so_in_one_line(text):
    for (_, name), says in problems(text).items():
        if says is not None:
            assert re.fullmatch(rf"{name}.* at '.*': .*expected .*\.", says), says


def test_blocks_and_tokens_need_positions():
    says = problems(SMALL[2])
    assert says["fc", "dropblock"] and says["fc", "disout"] and says["fc", "patch"]
    assert says["fc", "spatial"] is None and says["conv1", "dropblock"] is None
