"""Attach plans to Flax NNX networks without sites.

from dropout.nnx import attach
attached = attach(model, "blocks/*/attn:bernoulli:0.1", images)
logits = attached(model, images, moment=moment)
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.attention import dot_product_attention_weights
from jax.extend.core import Jaxpr
from jaxtyping import Array

from dropout.acting import (
    act,
    act_at_input,
    act_at_kernel,
    act_at_layer,
    act_at_output,
    acts,
)
from dropout.attached import Attached, assemble
from dropout.carried import Carried, Sizes, belongs, below, stacked
from dropout.plan import Plan
from dropout.recorded import Shapes

KERNELS = {
    nnx.Linear: "kernel",
    nnx.LinearGeneral: "kernel",
    nnx.Einsum: "kernel",
    nnx.Conv: "kernel",
    nnx.ConvTranspose: "kernel",
    nnx.Embed: "embedding",
}


class Carrier(nnx.Param):
    """Holds what a module carries through a pass.

    It is a `Param` because loops over stacked layers name the axis of these.
    """


def call_model(model: nnx.Module, *inputs: Any) -> Any:
    """Call a network with its inputs."""
    return model(*inputs)


def attach(
    model: nnx.Module,
    plan: Plan | str,
    *inputs: Any,
    call: Callable[..., Any] = call_model,
    branches: tuple[str, ...] = (),
) -> Attached:
    """Attach a plan to a network; `dropout.attached` lists the sites that this makes.

    The result is called as `attached(model, *inputs, moment=..., mode=...)`, with this
    model or another of its structure, under any transform of NNX or JAX.

    Args:
        model: the network, whose examples are along axis 0.
        plan: the plan, or its text.
        inputs: inputs of the network, or their shapes.
        call: `(model, *inputs) -> output`, one pass.
        branches: patterns of the modules whose outputs are residual branches.

    Raises:
        ValueError: a plan that does not fit the sites of the network.
    """
    graph, state = nnx.split(model)

    def run(
        carried: Carried, stacks: Mapping[str, Sizes], model: nnx.Module, inputs: tuple
    ) -> Any:
        if carried.notes is None and not carried.rates:
            return call(model, *inputs)
        acted = act_at_input(inputs, functools.partial(act, carried))
        return call(_carrying(model, carried, stacks), *acted)

    def program(carried: Carried, stacks: Mapping[str, Sizes]) -> Jaxpr:
        def once(state: Any, inputs: tuple) -> None:
            run(carried, stacks, nnx.merge(graph, state), inputs)

        return jax.make_jaxpr(once)(state, inputs).jaxpr

    leaves = {path: _shapes(module) for path, module in _modules(model).items()}
    return assemble(plan, branches, run, program, leaves)


def kernels(attached: Attached, model: nnx.Module) -> dict[str, Array]:
    """Return the kernels by site, which the penalties of learned variants need."""
    modules = _modules(model)
    found = {}
    for site in attached.sites:
        path, _, last = site.name.rpartition("/")
        if last == "kernel":
            found[site.name] = getattr(modules[path], _kernel_name(modules[path]))[...]
    return found


def _modules(model: nnx.Module) -> dict[str, Any]:
    """All modules that can be called, by path; lists and dictionaries cannot."""
    return {
        "/".join(map(str, path)): module
        for path, module in nnx.iter_modules(model)
        if callable(module)
    }


def _shapes(module: nnx.Module) -> Shapes:
    state = nnx.state(module)
    return [leaf.shape for leaf in jax.tree.leaves(state)]


def _carrying(
    model: nnx.Module, carried: Carried, stacks: Mapping[str, Sizes]
) -> nnx.Module:
    """A network with the same variables whose modules act at their sites."""
    copy = nnx.clone(model, variables=False)
    for path, module in _modules(copy).items():
        if carried.notes is not None or any(
            belongs(site, path) for site in carried.rates
        ):
            own = stacked(replace(carried, path=path), stacks[path])
            module.__class__ = _acting(type(module))
            module.dropout_carrier = Carrier(own)
    return copy


@functools.cache
def _acting(plain: type) -> type:
    """A class like `plain` whose calls act at the sites of the module."""

    def __call__(self: Any, *arguments: Any, **options: Any) -> Any:
        carried = self.dropout_carrier.get_value()
        if carried.notes is not None:
            carried.notes.note_leaves(carried.path, _shapes(self))
        return _act(self, plain, carried, arguments, options)

    body = {"__call__": __call__, "__annotations__": {}}
    body |= {"__module__": plain.__module__, "__qualname__": plain.__qualname__}
    return type(plain)(plain.__name__, (plain,), body)


def _act(
    module: Any, plain: type, carried: Carried, arguments: tuple, options: dict
) -> Any:
    if isinstance(module, nnx.Dropout):
        sharing = tuple(module.broadcast_dims)
        rate = module.rate
        return act_at_layer(carried, carried.path, arguments[0], rate, sharing)
    call = plain.__call__
    if _kernel_name(module) and acts(carried, below(carried.path, "kernel")):
        output = _through_kernel(module, call, carried, arguments, options)
    elif _attends(module) and acts(carried, below(carried.path, "weights")):
        output = call(_with_weights(module, carried), *arguments, **options)
    else:
        output = call(module, *arguments, **options)
    return act_at_output(carried, output, functools.partial(act, carried))


def _kernel_name(module: nnx.Module) -> str:
    names = (name for kind, name in KERNELS.items() if isinstance(module, kind))
    return next(names, "")


def _through_kernel(
    module: Any, call: Callable, carried: Carried, arguments: tuple, options: dict
) -> Array:
    name = _kernel_name(module)
    bias = getattr(module, "bias", None)

    def product(x: Array, kernel: Array) -> Array:
        bare = nnx.clone(module, variables=False)
        setattr(bare, name, nnx.Param(kernel))
        if bias is not None:
            bare.bias, bare.use_bias = nnx.data(None), False
        return call(bare, x, *arguments[1:], **options)

    kernel = getattr(module, name)[...]
    added = None if bias is None else bias[...]
    return act_at_kernel(carried, arguments[0], kernel, product, added)


def _attends(module: nnx.Module) -> bool:
    """Whether it is an attention layer with the framework's own attention."""
    is_attention = isinstance(module, nnx.MultiHeadAttention)
    return is_attention and module.attention_fn is nnx.dot_product_attention


def _with_weights(module: Any, carried: Carried) -> nnx.Module:
    """The attention layer, with a site at its weights in place of its own dropout."""
    sharing = (0, 1) if module.broadcast_dropout else ()

    def attend(query: Array, key: Array, value: Array, **options: Any) -> Array:
        weights = dot_product_attention_weights(query, key, **options)
        site, rate = below(carried.path, "weights"), module.dropout_rate
        weights = act_at_layer(carried, site, weights, rate, sharing)
        # Grouped queries: each head of values serves several heads of weights.
        value = jnp.repeat(value, weights.shape[-3] // value.shape[-2], axis=-2)
        return jnp.einsum(
            "...hqk,...khd->...qhd", weights, value, precision=options["precision"]
        )

    bare = nnx.clone(module, variables=False)
    bare.attention_fn, bare.dropout_rate = attend, 0.0
    return bare
