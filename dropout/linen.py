"""Attach plans to Flax Linen networks without sites.

from dropout.linen import attach
attached = attach(model, "block*/attn:bernoulli:0.1", variables, images)
logits = attached(variables, images, moment=moment)
"""

import functools
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from jax.extend.core import Jaxpr
from jaxtyping import Array, Key

from dropout.acting import (
    act,
    act_at_input,
    act_at_kernel,
    act_at_layer,
    act_at_output,
    acts,
)
from dropout.attached import Attached, assemble
from dropout.carried import Carried, Sizes, below
from dropout.keys import fold, named_key
from dropout.plan import Plan

LINEAR = (
    nn.Dense, nn.DenseGeneral, nn.Einsum, nn.Conv, nn.ConvLocal, nn.ConvTranspose,
    nn.Embed,
)  # fmt: skip

# A copy of a layer that computes the product with another kernel; no site.
BARE = "dropout bare"


def call_model(model: nn.Module, *inputs: Any) -> Any:
    """Call a network with its inputs."""
    return model(*inputs)


def attach(
    model: nn.Module,
    plan: Plan | str,
    variables: Mapping[str, Any],
    *inputs: Any,
    call: Callable[..., Any] = call_model,
    branches: tuple[str, ...] = (),
    mutable: tuple[str, ...] = (),
) -> Attached:
    """Attach a plan to a network; `dropout.attached` lists the sites that this makes.

    The result is called as `attached(variables, *inputs, moment=..., mode=...)`, under
    any transform. Inside `nn.scan` and `nn.vmap` over layers the keys of `params` tell
    the masks apart, which are split to make the layers differ.

    A module of the user's own that draws from the stream `dropout` gets keys that are
    a function of the step and its path.

    Args:
        model: the network, whose examples are along axis 0.
        plan: the plan, or its text.
        variables: its variables, or their shapes.
        inputs: inputs of the network, or their shapes.
        call: `(model, *inputs) -> output`, one pass: `lambda model, x: model(x, True)`.
        branches: patterns of the modules whose outputs are residual branches.
        mutable: the collections that a pass changes: it then returns the output and
            them, as `apply` does.

    Raises:
        ValueError: a plan that does not fit the sites of the network.
    """

    def run(
        carried: Carried, stacks: Mapping[str, Sizes], variables: Any, inputs: tuple
    ) -> Any:
        def within(model: nn.Module, *inputs: Any) -> Any:
            with nn.intercept_methods(_interceptor(carried)):
                return call(
                    model, *act_at_input(inputs, functools.partial(act, carried))
                )

        return model.apply(
            variables,
            *inputs,
            method=within,
            rngs=_streams(carried),
            mutable=list(mutable) or False,
        )

    def program(carried: Carried, stacks: Mapping[str, Sizes]) -> Jaxpr:
        def once(variables: Any, inputs: tuple) -> None:
            run(carried, stacks, variables, inputs)

        return jax.make_jaxpr(once)(variables, inputs).jaxpr

    return assemble(plan, branches, run, program, {})


def kernels(attached: Attached, variables: Mapping[str, Any]) -> dict[str, Array]:
    """Return the kernels by site, which the penalties of learned variants need."""
    found = {}
    for site in attached.sites:
        *path, last = site.name.split("/")
        if last == "kernel":
            layer = variables["params"]
            for name in path:
                layer = layer[name]
            found[site.name] = meta.unbox(layer[_kernel_name(layer)])
    return found


def _streams(carried: Carried) -> dict[str, Key[Array, ""]]:
    """The streams of random keys of a pass."""
    # A stream of a name that is new in each pass: `nn.jit` would reuse a trace in which
    # other masks, or none, are drawn.
    streams = {f"pass {uuid.uuid4().hex}": jax.random.key(0)}
    if carried.notes is not None or carried.called:
        streams["params"] = jax.random.key(0)
    if carried.key is not None:
        _, _, step, draw = carried.moment or (0, 0, 0, 0)
        streams["dropout"] = named_key(fold(fold(carried.key, step), draw), "streams")
    return streams


def _interceptor(carried: Carried) -> Callable[..., Any]:
    def intercept(
        call: Callable[..., Any], arguments: tuple, options: dict, context: Any
    ) -> Any:
        module = context.module
        if context.method_name != "__call__" or module.name == BARE:
            return call(*arguments, **options)
        path = "/".join(module.path)
        own = replace(carried, path=path, caller=_layer_key(module))
        return _act(module, call, own, arguments, options)

    return intercept


def _act(
    module: Any, call: Callable, carried: Carried, arguments: tuple, options: dict
) -> Any:
    if isinstance(module, nn.Dropout):
        sharing, rate = tuple(module.broadcast_dims), module.rate
        return act_at_layer(carried, carried.path, arguments[0], rate, sharing)
    if _is_linear(module) and acts(carried, below(carried.path, "kernel")):
        output = _through_kernel(module, carried, arguments, options)
    elif _attends(module) and acts(carried, below(carried.path, "weights")):
        with _site_at_weights(module, carried):
            output = call(*arguments, **options)
    else:
        output = call(*arguments, **options)
    return act_at_output(carried, output, functools.partial(act, carried))


def _layer_key(module: Any) -> Key[Array, ""] | None:
    """A key that is split where layers are stacked, the same at all steps."""
    rngs = module.scope.rngs
    return rngs["params"].rng if "params" in rngs else None


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, LINEAR)


def _kernel_name(params: Mapping[str, Any]) -> str:
    return "kernel" if "kernel" in params else "embedding"


def _through_kernel(
    module: Any, carried: Carried, arguments: tuple, options: dict
) -> Array:
    params = meta.unbox(module.variables["params"])
    name = _kernel_name(params)
    bare = module.clone(parent=None, name=BARE)
    if "bias" in params:
        bare = module.clone(parent=None, name=BARE, use_bias=False)

    def product(x: Array, kernel: Array) -> Array:
        variables = {"params": {name: kernel}}
        return bare.apply(variables, x, *arguments[1:], **options)

    bias = params["bias"] if "bias" in params else None
    return act_at_kernel(carried, arguments[0], params[name], product, bias)


def _attends(module: nn.Module) -> bool:
    """Whether it is an attention layer with the framework's own attention."""
    is_attention = isinstance(module, nn.MultiHeadDotProductAttention)
    return is_attention and module.attention_fn is nn.dot_product_attention


@contextmanager
def _site_at_weights(module: Any, carried: Carried) -> Iterator[None]:
    """Let an attention layer call a site in place of its own dropout."""
    site, rate = below(carried.path, "weights"), module.dropout_rate
    sharing = (0, 1) if module.broadcast_dropout else ()

    def attend(
        query: Array,
        key: Array,
        value: Array,
        *,
        mask: Array | None = None,
        dtype: Any = None,
        precision: Any = None,
        force_fp32_for_softmax: bool = False,
        module: nn.Module | None = None,
    ) -> Array:
        weights = nn.dot_product_attention_weights(
            query, key, mask=mask, dtype=dtype, precision=precision, module=module,
            force_fp32_for_softmax=force_fp32_for_softmax,
        )  # fmt: skip
        weights = act_at_layer(carried, site, weights, rate, sharing)
        values = value.astype(weights.dtype)
        return jnp.einsum("...hqk,...khd->...qhd", weights, values, precision=precision)

    own = {"attention_fn": module.attention_fn, "dropout_rate": rate}
    # A bound module is frozen, but made anew in each pass.
    for name, value in (("attention_fn", attend), ("dropout_rate", 0.0)):
        object.__setattr__(module, name, value)
    try:
        yield
    finally:
        for name, value in own.items():
            object.__setattr__(module, name, value)
