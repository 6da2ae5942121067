"""Attach plans to Equinox networks without sites.

from dropout.equinox import attach
attached = attach(model, "layers/*:bernoulli:0.1", images)
logits = attached(model, images, moment=moment)

A network of Equinox maps one example; an attached one maps a batch, with the examples
along axis 0 of each input but an `eqx.nn.State`. If an example's array has three axes
or more, its channels come first, as in Equinox's layers; variants see them last.
"""

# pyright: reportAttributeAccessIssue=false
# Without Equinox installed the checker takes this file for it.

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
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

LINEAR = (eqx.nn.Linear, eqx.nn.Conv, eqx.nn.ConvTranspose, eqx.nn.Embedding)


def call_model(model: Any, *inputs: Any) -> Any:
    """Call a network with the inputs of one example."""
    return model(*inputs)


def attach(
    model: eqx.Module,
    plan: Plan | str,
    *inputs: Any,
    call: Callable[..., Any] = call_model,
    branches: tuple[str, ...] = (),
    axis_name: str = "batch",
) -> Attached:
    """Attach a plan to a network; `dropout.attached` lists the sites that this makes.

    The result is called as `attached(model, *inputs, moment=..., mode=...)`, with this
    model or another of its structure, under any transform. With a state among its
    inputs it returns the output and the new state.

    Where a Dropout layer is called for several heads or tokens, or in a loop over
    layers that are not stacked, the key with which it is called tells the masks apart:
    `call=lambda model, x: model(x, key=jax.random.key(0))` hands one to the network.

    Args:
        model: the network, which maps one example.
        plan: the plan, or its text.
        inputs: inputs of a batch, or their shapes.
        call: `(model, *inputs) -> output`, one pass with one example.
        branches: patterns of the modules whose outputs are residual branches.
        axis_name: the name of the batch axis, for batch normalisation.

    Raises:
        ValueError: a plan that does not fit the sites of the network.
    """
    arrays, structure = eqx.partition(model, eqx.is_array)

    def run(
        carried: Carried, stacks: Mapping[str, Sizes], model: eqx.Module, inputs: tuple
    ) -> Any:
        def once(example: Array | None, key: Array | None, *inputs: Any) -> Any:
            own = replace(carried, key=key, moment=_of_example(carried, example))
            if own.notes is None and not own.rates:
                return call(model, *inputs)
            acted = act_at_input(inputs, functools.partial(_act_on, own))
            return call(_carrying(model, "", own, stacks), *acted)

        examples = None if carried.moment is None else carried.moment[0]
        key, key_axis = carried.key, None
        if carried.notes is not None and key is not None:
            # As many axes as what it acts on has: an inner vmap then shows.
            key, key_axis = jax.random.split(key, len(jax.tree.leaves(inputs)[0])), 0
        axes = [None if isinstance(item, eqx.nn.State) else 0 for item in inputs]
        mapped = jax.vmap(
            once,
            in_axes=(0, key_axis, *axes),
            out_axes=(0, None) if None in axes else 0,
            axis_name=axis_name,
        )
        return mapped(examples, key, *inputs)

    def program(carried: Carried, stacks: Mapping[str, Sizes]) -> Jaxpr:
        def traced(arrays: Any, inputs: tuple) -> None:
            run(carried, stacks, eqx.combine(arrays, structure), inputs)

        return jax.make_jaxpr(traced)(arrays, inputs).jaxpr

    leaves = {path: _shapes(module) for path, module in _modules("", model)}
    return assemble(plan, branches, run, program, leaves)


def kernels(attached: Attached, model: eqx.Module) -> dict[str, Array]:
    """Return the kernels by site, which the penalties of learned variants need."""
    return {
        below(path, "kernel"): _as_kernel(
            module, module.weight, len(attached.recorded.stacks[path])
        )
        for path, module in _modules("", model)
        if isinstance(module, LINEAR)
    }


def _of_example(carried: Carried, example: Array | None) -> tuple | None:
    if carried.moment is None or example is None:
        return None
    return (example[None], *carried.moment[1:])


def _children(path: str, node: Any) -> tuple[list[tuple[str, Any]], Any]:
    """What a node of the tree holds down to the next modules, by path."""
    items, structure = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda item: item is not node and isinstance(item, eqx.Module)
    )
    children = [
        (below(path, jax.tree_util.keystr(keys, simple=True, separator="/")), child)
        for keys, child in items
    ]
    return children, structure


def _modules(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    """All modules that can be called, by path."""
    if _acts(node):
        yield path, node
    for below_it, child in _children(path, node)[0]:
        if isinstance(child, eqx.Module):
            yield from _modules(below_it, child)


def _acts(node: Any) -> bool:
    # What the framework wraps functions in has a class that is private.
    return callable(node) and not type(node).__name__.startswith("_")


def _shapes(module: eqx.Module) -> Shapes:
    return [leaf.shape for leaf in jax.tree.leaves(eqx.filter(module, eqx.is_array))]


def _carrying(
    node: Any, path: str, carried: Carried, stacks: Mapping[str, Sizes]
) -> Any:
    """A copy of a network whose modules act at their sites."""
    children, structure = _children(path, node)
    leaves = [
        _carrying(child, its_path, carried, stacks)
        if isinstance(child, eqx.Module)
        else child
        for its_path, child in children
    ]
    copy = jax.tree.unflatten(structure, leaves)
    wanted = carried.notes is not None or any(
        belongs(site, path) for site in carried.rates
    )
    if not wanted or path not in stacks:
        return copy
    own = stacked(replace(carried, path=path), stacks[path])
    return _changed(copy, _acting(type(node)), dropout_carried=own)


def _changed(module: Any, kind: type, **fields: Any) -> Any:
    """A copy of a module with another class, and with fields replaced."""
    copy = object.__new__(kind)
    for name, value in {**vars(module), **fields}.items():
        object.__setattr__(copy, name, value)
    return copy


@functools.cache
def _acting(plain: type) -> type:
    """A class like `plain` whose calls act at the sites of the module."""

    def __call__(self: Any, *arguments: Any, **options: Any) -> Any:
        carried = self.dropout_carried
        if carried.notes is not None:
            carried.notes.note_leaves(carried.path, _shapes(self))
        return _act(self, plain, carried, arguments, options)

    body = {
        "__call__": __call__,
        "__annotations__": {"dropout_carried": Carried},
        "dropout_carried": None,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
    }
    return type(plain)(plain.__name__, (plain,), body)


def _act(
    module: Any, plain: type, carried: Carried, arguments: tuple, options: dict
) -> Any:
    if isinstance(module, eqx.nn.Dropout):
        own = replace(carried, caller=options["key"] if "key" in options else None)
        at_layer = functools.partial(act_at_layer, own, own.path)
        return _on_rows(lambda x: at_layer(x, module.p, ()), arguments[0])
    if isinstance(module, LINEAR) and acts(carried, below(carried.path, "kernel")):
        output = _through_kernel(module, plain, carried, arguments[0])
    else:
        output = plain.__call__(module, *arguments, **options)
    return act_at_output(carried, output, functools.partial(_act_on, carried))


def _act_on(carried: Carried, site: str, x: Array) -> Array:
    return _on_rows(functools.partial(act, carried, site), x)


def _on_rows(function: Callable[[Array], Array], x: Array) -> Array:
    """Apply a function of a batch with channels last to an example as it is here."""
    if x.ndim < 3:
        return function(x[None])[0]
    return jnp.moveaxis(function(jnp.moveaxis(x, 0, -1)[None])[0], -1, 0)


def _through_kernel(module: Any, plain: type, carried: Carried, x: Array) -> Array:
    bias = getattr(module, "bias", None)
    changes = {} if bias is None else {"bias": None, "use_bias": False}

    def product(rows: Array, kernel: Array) -> Array:
        weight = _as_weight(module, kernel)
        bare = _changed(module, type(module), weight=weight, **changes)
        return plain.__call__(bare, rows[0])[None]

    kernel = _as_kernel(module, module.weight)
    return act_at_kernel(carried, x[None], kernel, product, bias)[0]


def _as_kernel(module: eqx.Module, weight: Array, stacked_axes: int = 0) -> Array:
    """Weights (..., outputs, inputs, *taps) as a kernel (..., *taps, inputs, outputs).

    `stacked_axes` axes of layers come first.
    """
    if isinstance(module, eqx.nn.Embedding):
        return weight
    return jnp.moveaxis(weight, (stacked_axes, stacked_axes + 1), (-1, -2))


def _as_weight(module: eqx.Module, kernel: Array) -> Array:
    if isinstance(module, eqx.nn.Embedding):
        return kernel
    return jnp.moveaxis(kernel, (-1, -2), (0, 1))
