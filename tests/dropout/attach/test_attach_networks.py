"""The laws of masks in networks with loops, shared modules and their own Dropout."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sampling import sampled
from wires import NNXWire, with_equinox, with_linen, with_nnx

pytestmark = pytest.mark.slow
X = jnp.ones((8, 40))


class Cell(nnx.Module):
    def __init__(self):
        self.wire, self.drop = NNXWire(), nnx.Dropout(0.5)

    def __call__(self, x):
        return self.drop(self.wire(x))


class Nested(nnx.Module):
    """Lists of lists of cells, and one cell that is called first and last."""

    def __init__(self):
        self.shared = Cell()
        cells = [nnx.List([Cell(), Cell()]), nnx.List([Cell()])]
        self.stages = nnx.List([*cells, nnx.List([self.shared])])

    def __call__(self, x):
        cells = [cell for stage in self.stages for cell in stage]
        return jnp.stack([cell(x) for cell in [self.shared, *cells]])


class LinenCell(nn.Module):
    @nn.compact
    def __call__(self, carry, x):
        x = nn.Dense(40, kernel_init=nn.initializers.ones, name="wire")(x)
        return carry, nn.Dropout(0.5, deterministic=True, name="drop")(x)


class Loop(nn.Module):
    """Rematerialised layers in a loop, each with its own Dropout."""

    @nn.compact
    def __call__(self, x):
        loop = nn.scan(
            nn.remat(LinenCell), variable_axes={"params": 0}, length=3,
            split_rngs={"params": True}, in_axes=nn.broadcast,
        )  # fmt: skip
        return loop(name="layers")(0, x)[1]


def equinox_tokens():
    """A Dropout layer in a vmap over tokens that do not depend on the example."""
    import equinox as eqx

    class Tokens(eqx.Module):
        wire: eqx.nn.Identity
        drop: eqx.nn.Dropout

        def __call__(self, x):
            keys, x = jax.random.split(jax.random.key(0), 3), self.wire(x)
            drop = jax.vmap(lambda token, key: self.drop(token, key=key))
            return drop(jnp.ones((3, *x.shape)), keys)

    return Tokens(eqx.nn.Identity(), eqx.nn.Dropout(0.5))


def examples_second(run, x, **options):
    """Layers first, as the other networks return them."""
    return jnp.moveaxis(run(x, **options), 1, 0)


# With no rule, and with one at another site.
NETWORKS = {
    "nnx": lambda plan: with_nnx(Nested(), plan, X),
    "linen": lambda plan: with_linen(Loop(), plan, X),
    "equinox": lambda plan: partial(
        examples_second, with_equinox(equinox_tokens(), plan, X)
    ),
}
OTHERS = {
    "nnx": "input:gaussian:0.2 stages/*/*/wire:gaussian:0.3",
    "linen": "input:gaussian:0.2 layers/wire:gaussian:0.3",
    "equinox": "input:gaussian:0.2 wire:gaussian:0.3",
}


@cache
def without_rules(framework):
    return NETWORKS[framework]("none")


@pytest.mark.parametrize("framework", NETWORKS)
def test_own_dropout_has_a_mask_for_each_call_and_layer(framework, moment):
    run = without_rules(framework)
    kept = run(X, moment=moment(8)) != 0
    for one in range(len(kept)):
        for other in range(one):
            # 320 decisions: 0.3 is seven standard deviations below a half.
            assert (kept[one] != kept[other]).mean() > 0.3
    compiled = jax.jit(jax.checkpoint(lambda x: run(x, moment=moment(8))))
    np.testing.assert_array_equal(compiled(X) != 0, kept)
    shared = run(X, moment=moment(8), mode="shared_mc") != 0
    np.testing.assert_array_equal(shared, shared[:, :1].repeat(8, 1))
    for mode in ("eval", "scaling"):
        assert run(X, mode=mode).all()


@pytest.mark.parametrize(
    "framework", sampled(NETWORKS, ["nnx", "linen"], pytest.mark.long)
)
def test_masks_stay_under_another_batch_and_another_rule(framework, moment):
    run = without_rules(framework)
    kept, fewer = run(X, moment=moment(8)) != 0, run(X[:3], moment=moment(3)) != 0
    np.testing.assert_array_equal(fewer, kept[:, :3])
    more = NETWORKS[framework](OTHERS[framework])(X, moment=moment(8)) != 0
    np.testing.assert_array_equal(more, kept)
