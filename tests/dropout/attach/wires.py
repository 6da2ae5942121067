"""Networks whose modules return what they get: their outputs show the masks."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

SHAPE = (8, 40)


class NNXWire(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return x * self.scale[...].reshape((1,) * x.ndim)


class NNXWires(nnx.Module):
    def __init__(self, names):
        self.names = names
        for name in names:
            setattr(self, name, NNXWire())

    def __call__(self, x):
        return {name: getattr(self, name)(x) for name in self.names}


class NNXStack(nnx.Module):
    def __init__(self, layers):
        self.layers = nnx.vmap(lambda _: NNXWire())(jnp.arange(layers))

    def __call__(self, x):
        return nnx.scan(lambda layer: layer(x), in_axes=0, out_axes=0)(self.layers)


class LinenWire(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", lambda key: jnp.ones(()))
        return x * scale.reshape((1,) * x.ndim)


class LinenStep(nn.Module):
    @nn.compact
    def __call__(self, carry, x):
        return carry, LinenWire(name="wire")(x)


class LinenWires(nn.Module):
    names: tuple[str, ...]

    @nn.compact
    def __call__(self, x):
        return {name: LinenWire(name=name)(x) for name in self.names}


class LinenStack(nn.Module):
    layers: int

    @nn.compact
    def __call__(self, x):
        loop = nn.scan(
            LinenStep, variable_axes={"params": 0}, split_rngs={"params": True},
            in_axes=nn.broadcast, length=self.layers,
        )  # fmt: skip
        return loop(name="layers")(0, x)[1]


@cache
def equinox_networks():
    import equinox as eqx

    class Wire(eqx.Module):
        scale: jax.Array

        def __call__(self, x):
            return x * self.scale.reshape((1,) * x.ndim)

    class Wires(eqx.Module):
        wires: dict

        def __call__(self, x):
            return {name: wire(x) for name, wire in self.wires.items()}

    class Stack(eqx.Module):
        layers: Wire

        def __call__(self, x):
            arrays, rest = eqx.partition(self.layers, eqx.is_array)
            return jax.lax.map(lambda layer: eqx.combine(layer, rest)(x), arrays)

    return Wire, Wires, Stack


def site(framework, name):
    """The site of a wire."""
    return f"wires/{name}" if framework == "equinox" else name


def wires(framework, names, plan):
    """`x -> {name: output of the wire}` with a plan, called with moment and mode."""
    x = jnp.ones(SHAPE)
    if framework == "nnx":
        return with_nnx(NNXWires(names), plan, x)
    if framework == "linen":
        return with_linen(LinenWires(names), plan, x)
    wire, network, _ = equinox_networks()
    model = network({name: wire(jnp.ones(())) for name in names})
    return with_equinox(model, plan, x)


def stack(framework, layers, rule):
    """`x -> (layers, *x.shape)`: each of n equal layers, called in one loop."""
    x = jnp.ones(SHAPE)
    if framework == "nnx":
        return with_nnx(NNXStack(layers), f"layers:{rule}", x)
    if framework == "linen":
        return with_linen(LinenStack(layers), f"layers/wire:{rule}", x)
    wire, _, network = equinox_networks()
    run = with_equinox(network(wire(jnp.ones(layers))), f"layers:{rule}", x)
    return lambda x, **options: jnp.moveaxis(run(x, **options), 1, 0)


def with_nnx(model, plan, *inputs):
    from dropout.nnx import attach

    return partial(attach(model, plan, *inputs), model)


def with_linen(model, plan, *inputs):
    from dropout.linen import attach

    variables = model.init(jax.random.key(0), *inputs)
    return partial(attach(model, plan, variables, *inputs), variables)


def with_equinox(model, plan, *inputs):
    from dropout.equinox import attach

    return partial(attach(model, plan, *inputs), model)
