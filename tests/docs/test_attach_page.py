"""The guide to `attach` runs as it stands, and has today's messages."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from paths import ROOT
from sampling import sampled

from dropout import Moment
from dropout.nnx import attach

TEXT = (ROOT / "docs" / "guides" / "attach.md").read_text()
BLOCKS = dict(
    re.findall(r"^## ([^\n]*)\n(?:(?!^## ).)*?^```python\n(.*?)^```", TEXT, re.M | re.S)
)
X = jnp.ones((8, 4))


@pytest.fixture(autouse=True)
def promotion():
    """As users have it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("title", sampled(BLOCKS, ["Flax Linen"]))
def test_an_example_runs(title):
    namespace = {}
    exec(BLOCKS[title], namespace)
    noisy, plain = namespace["noisy"], namespace["plain"]
    assert noisy.shape == plain.shape == (4, 2)
    assert jnp.isfinite(noisy).all() and (noisy != plain).any()
    if title == "Flax NNX":
        assert f"```\n{namespace['attached']}\n```" in TEXT


def test_there_is_an_example_for_each_framework():
    assert list(BLOCKS) == ["Flax NNX", "Flax Linen", "Equinox"]


class Looped(nnx.Module):
    def __init__(self):
        self.cell = nnx.Dropout(0.5)

    def __call__(self, x):
        return jax.lax.fori_loop(0, 3, lambda _, x: self.cell(x), x)


class Cached(nnx.Module):
    def __init__(self):
        self.drop = nnx.Dropout(0.5)

    @nnx.remat
    def block(self, x):
        return self.drop(x)

    def __call__(self, x):
        return self.block(self.block(x))


class Scale(nnx.Module):
    def __init__(self, index):
        self.scale = nnx.Param(index * jnp.ones(()))

    def __call__(self, x):
        return x * self.scale[...].mean()


class Stacked(nnx.Module):
    """Calls its layers in a loop, and all at once."""

    def __init__(self):
        self.layers = nnx.vmap(Scale)(jnp.arange(3.0))

    def __call__(self, x):
        nnx.scan(lambda layer: layer(x), in_axes=0, out_axes=0)(self.layers)
        return self.layers(x)


def messages():
    """What is raised for each row of the table of what is refused."""
    key, model = jax.random.key(0), nnx.Sequential(nnx.Dropout(0.5))
    moment = Moment(key, jnp.arange(8), epoch=0, step=0)
    attached = attach(model, "none", X)
    calls = (
        lambda: attach(model, "fc:bernoulli:0.5", X),
        lambda: attach(Looped(), "none", X),
        lambda: attach(Cached(), "none", X),
        lambda: attach(Stacked(), "layers:bernoulli:0.5", X),
        lambda: attached(model, X),
        lambda: attached(model, X, moment=moment, rows=()),
    )
    for call in calls:
        with pytest.raises(ValueError) as raised:
            call()
        yield str(raised.value)


def test_what_is_refused_is_refused_in_these_words():
    quoted = re.findall(r"^\|.* \| `([^`]+)` \|$", TEXT, re.M)
    assert len(quoted) == 6
    for quote, message in zip(quoted, messages(), strict=True):
        start = quote.partition(";")[0]
        assert message.startswith(start) and "\n" not in message
