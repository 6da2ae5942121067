"""Linen networks that know nothing of plans: ImageNet's ResNet, scanned blocks."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropout import bind, parse, resolve
from dropout.linen import attach, kernels


class ResNetBlock(nn.Module):
    """After the block of Flax's ImageNet example."""

    filters: int
    conv: type = nn.Conv
    norm: type = nn.BatchNorm
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x):
        residual = x
        y = nn.relu(self.norm()(self.conv(self.filters, (3, 3), self.strides)(x)))
        y = self.conv(self.filters, (3, 3))(y)
        y = self.norm(scale_init=nn.initializers.zeros_init())(y)
        if residual.shape != y.shape:
            residual = self.conv(self.filters, (1, 1), self.strides, name="conv_proj")(
                x
            )
            residual = self.norm(name="norm_proj")(residual)
        return nn.relu(residual + y)


class ResNet(nn.Module):
    """After the network of Flax's ImageNet example, with fewer filters."""

    @nn.compact
    def __call__(self, x, train=True):
        conv = partial(nn.Conv, use_bias=False)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = conv(4, (3, 3), name="conv_init")(x)
        x = nn.relu(norm(name="bn_init")(x))
        for stage, blocks in enumerate((1, 2)):
            for block in range(blocks):
                strides = (2, 2) if stage > 0 and block == 0 else (1, 1)
                x = ResNetBlock(4 * 2**stage, conv, norm, strides)(x)
        return nn.Dense(3)(x.mean((1, 2)))


class Layer(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x, _=None):
        h = nn.MultiHeadDotProductAttention(
            2, dropout_rate=0.1, deterministic=not self.train
        )(x, x)
        h = nn.Dropout(0.2, deterministic=not self.train)(h)
        return x + nn.Dense(8)(h), None


class Scanned(nn.Module):
    """Words, a loop over layers that are computed again, a layer in its own jit."""

    @nn.compact
    def __call__(self, words, train=True):
        x = nn.Embed(20, 8)(words)
        loop = nn.scan(
            nn.remat(Layer), variable_axes={"params": 0}, length=3,
            split_rngs={"params": True, "dropout": True},
        )  # fmt: skip
        x, _ = loop(train, name="layers")(x, None)
        x, _ = nn.jit(Layer)(train, name="last")(x)
        return nn.Dense(3)(x.mean(1))


IMAGES = jax.random.normal(jax.random.key(1), (8, 8, 8, 3))
WORDS = jnp.arange(40).reshape(8, 5) % 20
NETWORKS = {ResNet: IMAGES, Scanned: WORDS}


def network(kind):
    model, x = kind(), NETWORKS[kind]
    return model, model.init(jax.random.key(0), x, False), x


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [Scanned, pytest.param(ResNet, marks=pytest.mark.slow)]
)
def test_without_rules_the_network_is_itself_bit_for_bit(kind):
    model, variables, x = network(kind)
    attached = attach(model, "none", variables, x, call=lambda m, x: m(x, False))
    np.testing.assert_array_equal(
        attached(variables, x, mode="eval"), model.apply(variables, x, False)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, plan",
    [
        (ResNet, "input:cutout:0.5 ResNetBlock_*:dropblock:0.0..0.2"
         " ResNetBlock_*/Conv_0:spatial:0.1 Dense_0/kernel:dropconnect:0.3"),
        pytest.param(Scanned,
         "Embed_0/kernel:embedding:0.1 layers/Dense_0/branch:drop_path:0.2"
         " layers/MultiHeadDotProductAttention_0/weights:drophead:0.3"
         " last/Dense_0/kernel:bernoulli(unit='example'):0.2",
         marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_network_learns_with_a_plan(kind, plan, moment):
    model, variables, x = network(kind)
    labels = jnp.arange(8) % 3
    attached = attach(
        model,
        plan,
        variables,
        x,
        branches=("layers/Dense_0",),
        mutable=("batch_stats",),
    )
    optimizer = optax.adam(0.01)

    def loss_of(params, rest, step):
        now = moment(8, step)
        logits, rest = attached({"params": params, **rest}, x, moment=now)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), rest

    @jax.jit
    def update(params, rest, slots, step):
        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            params, rest, step
        )
        change, slots = optimizer.update(gradients, slots)
        return optax.apply_updates(params, change), rest, slots, loss

    rest = dict(variables)
    params = rest.pop("params")
    slots, losses = optimizer.init(params), []
    for step in range(40):
        params, rest, slots, loss = update(params, rest, slots, step)
        losses.append(float(loss))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert update._cache_size() == 1


def test_a_pass_in_a_jit_of_its_own_is_not_taken_from_a_cache(moment):
    model, x = nn.jit(nn.Dropout)(0.5, deterministic=True), jnp.ones((8, 40))
    model.apply({}, x)
    attached = attach(model, "none", {}, x)
    first, second = (
        attached({}, x, moment=moment(8, draw=draw), mode="mc") for draw in (1, 2)
    )
    # 320 decisions: 0.3 is seven standard deviations below a half.
    assert (first != second).mean() > 0.3
    np.testing.assert_array_equal(attached({}, x, mode="eval"), x)


def test_a_dropout_layer_does_what_its_author_wrote_by_name(moment):
    layer = nn.Sequential([nn.Dropout(0.4, broadcast_dims=(-2,), deterministic=True)])
    x = jnp.ones((8, 5, 9))
    found = attach(layer, "none", {}, x)({}, x, moment=moment(8))
    rows = resolve(parse("layers_0:bernoulli:0.4"), ("layers_0",))
    expected = bind(rows, moment(8))("layers_0", jnp.ones((8, 1, 9)))
    np.testing.assert_array_equal(found, jnp.broadcast_to(expected, x.shape))
    spatial = attach(layer, "layers_0:spatial:0.5", {}, x)({}, x, moment=moment(8))
    assert (spatial == spatial[:, :1]).all() and set(np.unique(spatial)) == {0, 2}


@pytest.mark.slow
def test_the_weights_of_attention_are_a_site(moment):
    model = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, deterministic=True)
    x = jax.random.normal(jax.random.key(2), (8, 5, 8))
    variables = model.init(jax.random.key(0), x)
    attached = attach(model, "weights:attention:0", variables, x)
    np.testing.assert_allclose(
        attached(variables, x, moment=moment(8)),
        model.apply(variables, x), rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    author = attach(model, "none", variables, x)
    assert [(row.site, row.unit) for row in author.rows] == [("weights", "batch")]
    assert jnp.isfinite(author(variables, x, moment=moment(8))).all()


def test_two_calls_of_a_module_never_share_a_mask(moment):
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            wire = nn.Dropout(0.5, deterministic=True)
            return jnp.stack([wire(x), wire(x)])

    x = jnp.ones((8, 40))
    attached = attach(Twice(), "none", {}, x)
    assert [site.name for site in attached.sites] == ["input", "Dropout_0"]
    one, other = attached({}, x, moment=moment(8))
    assert (one != other).mean() > 0.3


def test_a_loop_that_does_not_split_keys_is_refused():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            loop = nn.scan(
                Layer,
                variable_broadcast="params",
                split_rngs={"params": False},
                length=2,
            )
            return loop(False, name="layers")(x, None)[0]

    model, x = Shared(), jnp.ones((8, 5, 8))
    variables = model.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="'layers/.*split_rngs"):
        attach(model, "layers/Dense_0:bernoulli:0.5", variables, x)


@pytest.mark.slow
def test_kernels_are_found_by_site():
    model, variables, x = network(Scanned)
    found = kernels(attach(model, "none", variables, x), variables)
    assert found["layers/Dense_0/kernel"].shape == (3, 8, 8)
    np.testing.assert_array_equal(
        found["Embed_0/kernel"], variables["params"]["Embed_0"]["embedding"]
    )
