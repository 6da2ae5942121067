"""NNX networks that know nothing of plans: MNIST's, a transformer, shared modules."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dropout import bind, initial_parameters, learned_rows, parse, resolve
from dropout.nnx import attach, kernels


class MNIST(nnx.Module):
    """After the network of Flax's MNIST tutorial, with fewer channels."""

    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.batch_norm1 = nnx.BatchNorm(4, rngs=rngs)
        self.dropout1 = nnx.Dropout(0.25, rngs=rngs)
        self.conv2 = nnx.Conv(4, 6, (3, 3), rngs=rngs)
        self.batch_norm2 = nnx.BatchNorm(6, rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(24, 16, rngs=rngs)
        self.dropout2 = nnx.Dropout(0.5, rngs=rngs)
        self.linear2 = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        x = self.avg_pool(nnx.relu(self.batch_norm1(self.dropout1(self.conv1(x)))))
        x = self.avg_pool(nnx.relu(self.batch_norm2(self.conv2(x))))
        x = nnx.relu(self.dropout2(self.linear1(x.reshape(x.shape[0], -1))))
        return self.linear2(x)


class Block(nnx.Module):
    """A pre-normalised block of a transformer."""

    def __init__(self, rngs):
        self.norm1, self.norm2 = (
            nnx.LayerNorm(8, rngs=rngs),
            nnx.LayerNorm(8, rngs=rngs),
        )
        self.attn = nnx.MultiHeadAttention(
            2, 8, dropout_rate=0.1, broadcast_dropout=False, decode=False, rngs=rngs
        )
        self.mlp = nnx.Sequential(nnx.Linear(8, 16, rngs=rngs), nnx.gelu,
                                  nnx.Linear(16, 8, rngs=rngs))  # fmt: skip
        self.dropout = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x):
        x = x + self.dropout(self.attn(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class RematBlock(Block):
    @nnx.remat
    def __call__(self, x):
        return x + self.attn(x)


class Transformer(nnx.Module):
    """Nested lists of blocks, and a stack of them in a loop."""

    def __init__(self, rngs):
        self.stages = nnx.List([nnx.List([Block(rngs), Block(rngs)])])
        self.stack = nnx.vmap(RematBlock)(rngs.split(3))
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        for block in self.stages[0]:
            x = block(x)
        loop = nnx.scan(
            lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry
        )
        return self.head(loop(x, self.stack).mean(1))


NETWORKS = {MNIST: (8, 8, 8, 1), Transformer: (8, 5, 8)}


def network(kind):
    shape = NETWORKS[kind]
    return kind(nnx.Rngs(0)), jax.random.normal(jax.random.key(1), shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [MNIST, pytest.param(Transformer, marks=pytest.mark.slow)]
)
def test_without_rules_the_network_is_itself_bit_for_bit(kind):
    model, x = network(kind)
    plain = nnx.view(model, deterministic=True)
    attached = attach(model, "none", x)
    np.testing.assert_array_equal(attached(model, x, mode="eval"), plain(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, plan",
    [
        (MNIST, "input:cutout:0.5 conv*:spatial:0.1..0.3 linear*/kernel:dropconnect:0.3"
         " conv2/kernel:kernel_dropout(drop='filter'):0.2"),
        pytest.param(Transformer, "stages/*/*/mlp/branch:drop_path:0.2"
         " stack/attn/weights:drophead:0.3"
         " stack/attn/query/kernel:bernoulli(unit='example'):0.2",
         marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_network_learns_with_a_plan(kind, plan, moment):
    model, x = network(kind)
    labels = jnp.arange(8) % 3
    attached = attach(model, plan, x, branches=("stages/*/*/mlp",))
    optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer, step):
        def loss_of(model):
            logits = attached(model, x, moment=moment(8, step))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean()

        loss, gradients = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, gradients)
        return loss

    losses = [float(update(model, optimizer, step)) for step in range(40)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.slow
def test_statistics_of_batch_norm_are_those_of_the_plain_network():
    (model, x), (plain, _) = network(MNIST), network(MNIST)
    plain.dropout1.rate = plain.dropout2.rate = 0.0
    attach(model, "linear2:bernoulli:0.0", x)(model, x, mode="eval")
    plain(x)
    np.testing.assert_array_equal(
        model.batch_norm1.mean[...], plain.batch_norm1.mean[...]
    )
    assert abs(model.batch_norm1.mean[...]).max() > 0


def test_a_dropout_layer_does_what_its_author_wrote_by_name(key, moment):
    layer, x = (
        nnx.Sequential(nnx.Dropout(0.4, broadcast_dims=(1,))),
        jnp.ones((8, 5, 9)),
    )
    found = attach(layer, "none", x)(layer, x, moment=moment(8))
    rows = resolve(parse("layers/0:bernoulli:0.4"), ("layers/0",))
    expected = bind(rows, moment(8))("layers/0", jnp.ones((8, 1, 9)))
    np.testing.assert_array_equal(found, jnp.broadcast_to(expected, x.shape))
    # The layer's own flag does not decide: the mode does.
    off = nnx.view(layer, deterministic=True)
    np.testing.assert_array_equal(
        attach(off, "none", x)(off, x, moment=moment(8)), found
    )
    np.testing.assert_array_equal(attach(off, "none", x)(off, x, mode="eval"), x)


def test_a_rule_takes_a_dropout_layer_over(moment):
    layer, x = nnx.Sequential(nnx.Dropout(0.4)), jnp.ones((8, 5, 9))
    attached = attach(layer, "layers/0:spatial:0.5", x)
    found = attached(layer, x, moment=moment(8))
    assert [row.variant.name for row in attached.rows] == ["spatial"]
    assert (found == found[:, :1]).all() and set(np.unique(found)) == {0, 2}
    silent = attach(layer, "layers/0:bernoulli:0", x)
    np.testing.assert_array_equal(silent(layer, x, moment=moment(8)), x)


def test_calls_of_a_shared_module_never_share_a_mask(moment):
    class Shared(nnx.Module):
        def __init__(self):
            self.first = nnx.Dropout(0.5)
            self.again = nnx.List([self.first])

        def __call__(self, x):
            return jnp.stack([self.first(x), self.again[0](x), self.first(x)])

    model, x = Shared(), jnp.ones((8, 40))
    attached = attach(model, "none", x)
    assert [site.name for site in attached.sites] == ["input", "again/0"]
    found = attached(model, x, moment=moment(8))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        # 320 decisions: 0.3 is seven standard deviations below a half.
        assert (found[one] != found[other]).mean() > 0.3
    jitted = nnx.jit(lambda model: attached(model, x, moment=moment(8)))
    np.testing.assert_array_equal(jitted(model), found)


def test_what_cannot_be_told_apart_is_refused():
    class Loop(nnx.Module):
        def __init__(self):
            self.wire = nnx.Dropout(0.5)

        def __call__(self, x):
            return jax.lax.fori_loop(0, 3, lambda _, x: self.wire(x), x)

    class Cached(Loop):
        def __call__(self, x):
            once = nnx.remat(lambda wire, x: wire(x))
            return once(self.wire, once(self.wire, x))

    for kind, why in ((Loop, "share a mask"), (Cached, "cached trace")):
        with pytest.raises(ValueError, match=f"'wire'.*{why}") as raised:
            attach(kind(), "none", jnp.ones((8, 4)))
        assert "\n" not in str(raised.value)


def test_a_kernel_loses_weights_and_keeps_its_bias(moment):
    model = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
    model.kernel[...], model.bias[...] = jnp.ones((6, 4)), jnp.full(4, 10.0)
    found = attach(model, "kernel:dropconnect:0.5", jnp.eye(6))(
        model, jnp.eye(6), moment=moment(6)
    )
    assert set(np.unique(found)) == {10.0, 12.0}


@pytest.mark.slow
def test_learned_parameters_have_gradients(moment):
    model, x = network(MNIST)
    model = nnx.view(model, use_running_average=True)
    attached = attach(model, "linear1/kernel:variational:0.3", x)
    learned = learned_rows(attached.rows, attached.sites)
    params = initial_parameters(learned, kernels(attached, model))

    def total(params):
        return attached(model, x, moment=moment(8), params=params).sum()

    plain = attached(model, x, moment=moment(8)).sum()
    np.testing.assert_allclose(total(params), plain, rtol=1e-5)
    gradients = jax.tree.leaves(jax.grad(total)(params))
    assert all(abs(gradient).max() > 0 for gradient in gradients)


class Rectified(nnx.Module):
    def __call__(self, x):
        return nnx.relu(x)


class Unit(nnx.Module):
    def __init__(self, inner):
        self.inner, self.act = inner, Rectified()

    def __call__(self, x):
        return self.act(self.inner(x))


@pytest.mark.slow
def test_the_output_of_a_module_called_act_is_an_activation(moment):
    """Below another module it has a name of its own: `act` is the name of a kind."""
    model, x = Unit(Unit(Rectified())), jnp.ones((2, 3))
    attached = attach(model, "inner/act/output:bernoulli:1.0", x)
    names = [site.name for site in attached.sites]
    assert names == ["input", "inner/inner", "inner/act/output", "inner", "act"]
    assert not attached(model, x, moment=moment(2)).any()
