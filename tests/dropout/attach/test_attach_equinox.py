"""Equinox networks that know nothing of plans: a CNN, a transformer in a loop."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropout import bind, parse, resolve
from dropout.equinox import attach, kernels

pytestmark = pytest.mark.slow


class CNN(eqx.Module):
    """After the CNN of Equinox's MNIST example, with batch norm and Dropout."""

    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    pool: eqx.nn.MaxPool2d
    hidden: eqx.nn.Linear
    dropout: eqx.nn.Dropout
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.conv = eqx.nn.Conv2d(1, 4, 3, key=keys[0])
        self.norm = eqx.nn.BatchNorm(4, axis_name="batch", mode="batch")
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.hidden = eqx.nn.Linear(36, 16, key=keys[1])
        self.dropout = eqx.nn.Dropout(0.2)
        self.out = eqx.nn.Linear(16, 3, key=keys[2])

    def __call__(self, x, state, key=None):
        x, state = self.norm(self.conv(x), state)
        x = self.pool(jax.nn.relu(x)).reshape(-1)
        return self.out(self.dropout(jax.nn.relu(self.hidden(x)), key=key)), state


class Block(eqx.Module):
    attn: eqx.nn.MultiheadAttention
    mlp: eqx.nn.MLP
    dropout: eqx.nn.Dropout

    def __init__(self, key):
        keys = jax.random.split(key)
        self.attn = eqx.nn.MultiheadAttention(2, 8, dropout_p=0.1, key=keys[0])
        self.mlp = eqx.nn.MLP(8, 8, 16, 1, key=keys[1])
        self.dropout = eqx.nn.Dropout(0.2)

    def __call__(self, x, key=None):
        x = x + self.attn(x, x, x, key=key)
        return x + self.dropout(jax.vmap(self.mlp)(x), key=key)


class Transformer(eqx.Module):
    """Blocks in a loop, each computed again in the backward pass."""

    blocks: Block
    out: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.blocks = eqx.filter_vmap(Block)(jax.random.split(keys[0], 3))
        self.out = eqx.nn.Linear(8, 3, key=keys[1])

    def __call__(self, x, key=None):
        arrays, rest = eqx.partition(self.blocks, eqx.is_array)

        @jax.checkpoint
        def step(x, layer):
            return eqx.combine(layer, rest)(x, key), None

        return self.out(jax.lax.scan(step, x, arrays)[0].mean(0))


def cnn(key):
    model, state = eqx.nn.make_with_state(CNN)(key)
    return model, (jax.random.normal(key, (8, 1, 8, 8)), state)


def transformer(key):
    return Transformer(key), (jax.random.normal(key, (8, 5, 8)),)


def with_key(model, *inputs):
    return model(*inputs, key=jax.random.key(0))


@pytest.mark.parametrize("build", [cnn, transformer])
def test_without_rules_the_network_is_itself_bit_for_bit(build, key):
    model, inputs = build(key)
    plain = eqx.nn.inference_mode(model)
    axes = (0, None)[: len(inputs)]
    mapped = jax.vmap(plain, axes, axes if len(axes) > 1 else 0, axis_name="batch")
    found = attach(plain, "none", *inputs, call=with_key)(plain, *inputs, mode="eval")
    jax.tree.map(np.testing.assert_array_equal, found, mapped(*inputs))


@pytest.mark.parametrize(
    "build, plan",
    [
        (cnn, "input:cutout(length=3):0.5 conv/kernel:kernel_dropout(drop='filter'):0.2"
         " conv:spatial:0.1 hidden/kernel:dropconnect(unit='example'):0.2"),
        (transformer, "blocks/attn/branch:drop_path:0.2 blocks/mlp/*/*/kernel:bernoulli"
         ":0.1 blocks/dropout:locked:0.2"),
    ],
)  # fmt: skip
def test_a_network_learns_with_a_plan(build, plan, key, moment):
    model, inputs = build(key)
    labels, branches = jnp.arange(8) % 3, ("blocks/attn",)
    attached = attach(model, plan, *inputs, call=with_key, branches=branches)
    optimizer = optax.adam(0.01)

    @eqx.filter_value_and_grad(has_aux=True)
    def loss_of(model, inputs, step):
        out = attached(model, *inputs, moment=moment(8, step))
        logits, rest = (out[0], out[1:]) if isinstance(out, tuple) else (out, ())
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (inputs[0], *rest)

    @eqx.filter_jit
    def update(model, inputs, slots, step):
        (loss, inputs), gradients = loss_of(model, inputs, step)
        change, slots = optimizer.update(gradients, slots)
        return eqx.apply_updates(model, change), inputs, slots, loss

    slots, losses = optimizer.init(eqx.filter(model, eqx.is_inexact_array)), []
    for step in range(40):
        model, inputs, slots, loss = update(model, inputs, slots, jnp.asarray(step))
        losses.append(float(loss))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_a_dropout_layer_does_what_its_author_wrote_by_name(key, moment):
    layer, x = eqx.nn.Sequential([eqx.nn.Dropout(0.4)]), jnp.ones((8, 40))
    found = attach(layer, "none", x)(layer, x, moment=moment(8))
    rows = resolve(parse("layers/0:bernoulli:0.4"), ("layers/0",))
    np.testing.assert_array_equal(found, bind(rows, moment(8))("layers/0", x))


def test_channels_are_first_here_and_last_for_variants(moment):
    class Wire(eqx.Module):
        wire: eqx.nn.Identity = eqx.nn.Identity()

        def __call__(self, x):
            return self.wire(x)

    x = jnp.ones((8, 6, 5, 4))
    found = attach(Wire(), "wire:spatial:0.5", x)(Wire(), x, moment=moment(8))
    assert (found == found[:, :, :1, :1]).all()
    assert len(np.unique(found[:, :, 0, 0], axis=0)) > 4


def test_heads_need_the_key_of_the_caller_and_never_share_a_mask(key, moment):
    attention = eqx.nn.MultiheadAttention(4, 8, dropout_p=0.5, key=key)

    class Seen(eqx.Module):
        attention: eqx.nn.MultiheadAttention

        def __call__(self, x, key=None):
            return self.attention(x, x, x, key=key)

    model, x = Seen(attention), jax.random.normal(key, (8, 5, 8))
    with pytest.raises(ValueError, match="'attention/dropout' is called in a loop or"):
        attach(model, "none", x)
    # All weights alike, all values one: each head shows how many weights it kept.
    flat = eqx.tree_at(
        lambda m: (m.attention.query_proj.weight, m.attention.value_proj.weight,
                   m.attention.output_proj.weight), model,
        (jnp.zeros((8, 8)), jnp.full((8, 8), 1 / 8), jnp.eye(8)),
    )  # fmt: skip
    attached = attach(flat, "none", jnp.ones((8, 5, 8)), call=with_key)
    out = attached(flat, jnp.ones((8, 5, 8)), moment=moment(8))
    heads = np.asarray(out).reshape(8, 5, 4, 2)
    assert len({heads[:, :, head, 0].tobytes() for head in range(4)}) == 4


def test_activations_inside_a_vmap_over_tokens_are_refused(key):
    model, inputs = transformer(key)
    with pytest.raises(ValueError, match="'blocks/mlp' is called in a loop or a vmap"):
        attach(model, "blocks/mlp:bernoulli:0.5", *inputs, call=with_key)


def test_kernels_have_the_layout_that_variants_know(key):
    model, inputs = cnn(key)
    found = kernels(attach(model, "none", *inputs), model)
    assert found["conv/kernel"].shape == (3, 3, 1, 4)
    np.testing.assert_array_equal(found["hidden/kernel"], model.hidden.weight.T)
    stacked, inputs = transformer(key)
    attached = attach(stacked, "none", *inputs, call=with_key)
    assert kernels(attached, stacked)["blocks/mlp/layers/0/kernel"].shape == (3, 8, 16)
