"""What every variant is tested with: cases and inputs, made from its registry entry."""

import inspect
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Literal, get_args, get_origin

import jax
import jax.numpy as jnp

from dropout import VARIANTS
from dropout.grammar import option_types
from dropout.kinds import PLAIN
from dropout.noise import scale

ROWS = 8
SHAPE = (6, 8, 4)  # a map, tokens, heads x queries x keys, or a kernel
IMAGE = (12, 20, 2)
QUICK = {"xla_backend_optimization_level": 0}
# A variant of each form, whose transformed functions the fast suite compiles.
FORMS = ("bernoulli", "dropblock", "max_pool", "zoneout", "concrete", "patch")

# Cases beyond the defaults and every value of an option with named choices.
MORE = {
    "dropblock": (
        {"block_size": 3},
        {"block_size": 4, "mode": "paper"},
        {"block_size": 1},
    ),
    "disout": ({"block_size": 2, "alpha": 3.0},),
    "cutout": ({"length": 3},),
    "grid_mask": ({"shortest": 3, "longest": 5, "ratio": 0.3},),
    "erase": ({"height": 0.5, "width": 0.2},),
    "hide_and_seek": ({"sizes": (3,)},),
    "adl": ({"threshold": 0.95, "otherwise": "plain"},),
    "jumpout": ({"cap": 0.3, "power": 1.0},),
}


TAKEN = ("window", "act")  # kinds whose sites pass a function

# Choices that the first kind of site of their variant does not have.
ELSEWHERE = {("variational", "weight")}


def max_pool(x, *, window, strides, padding):
    pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    return jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), pads
    )


POOL = partial(max_pool, window=(2, 2), strides=(2, 2), padding="VALID")


@cache
def inputs(kind, rows=ROWS, dtype=jnp.float32):
    """The arrays at a site of this kind, x first; positive, its channels unlike."""
    shape = (rows, *(IMAGE if kind == "input" else SHAPE))
    signs = jnp.asarray([1, -1] if kind == "act" else 1, dtype)
    first, second = jax.random.split(jax.random.key(7))
    x = jax.random.uniform(first, shape, jnp.float32, 0.5, 1.5)
    x = (x * jnp.linspace(0.5, 2, shape[-1]).reshape(1, 1, 1, -1)).astype(dtype)
    x = jnp.resize(signs, (1, shape[1], 1, 1)) * x
    if kind not in ("state", "branches"):
        return (x,)
    return x, jax.random.uniform(second, shape, jnp.float32, 3.0, 4.0).astype(dtype)


def functions(kind, entry):
    """What a site of this kind passes after the arrays.

    A variant that draws the product with a kernel is given one of a single weight of 1,
    so that the plain network is the identity there too.
    """
    if kind == "kernel" and entry.kernel_form == "product":
        weight = jnp.ones((1, 1, 1, 1))
        return weight, lambda x, kernel: scale(x, kernel.astype(jnp.float32))
    return {"window": (POOL,), "act": (jax.nn.relu,)}[kind] if kind in TAKEN else ()


@dataclass(frozen=True)
class Case:
    """A variant with options, tested at one kind of site."""

    name: str
    options: dict = field(default_factory=dict, hash=False)

    def __str__(self):
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}({options})" if options else self.name

    @property
    def entry(self):
        return VARIANTS[self.name]

    @property
    def kind(self):
        return self.entry.kinds[0]

    @property
    def functions(self):
        return functions(self.kind, self.entry)

    def draw(self, key, rate, x, *others):
        return self.entry(key, x, rate, *others, *self.functions, **self.options)

    def plain(self, x, *others):
        if self.kind == "kernel" and not self.functions:  # where x is the kernel
            return x
        return PLAIN[self.kind](x, *others, *self.functions)

    def at_test(self, rate, x, *others):
        if self.entry.evaluate is None:
            return self.plain(x, *others)
        return self._call(self.entry.evaluate, rate, x, *others)

    def expectation(self, rate, x, *others):
        if self.entry.expectation is None:
            return self.at_test(rate, x, *others)
        return self._call(self.entry.expectation, rate, x, *others)

    def _call(self, function, rate, x, *others):
        others = (*others, *self.functions)
        rate = self.entry.parameters(rate, x, *others, **self.options)
        return function(x, rate, *others, **self.options)


def _cases(name):
    yield Case(name)
    draw = VARIANTS[name].draw
    for option, kind in option_types(draw).items():
        if get_origin(kind) is Literal:
            for value in get_args(kind):
                if (name, value) in ELSEWHERE:
                    continue
                if value != inspect.signature(draw).parameters[option].default:
                    yield Case(name, {option: value})
    for options in MORE[name] if name in MORE else ():
        yield Case(name, options)


CASES = tuple(case for name in VARIANTS for case in _cases(name))


def draw(name, key, x, rate, *others, **options):
    """A variant's draw, quickly compiled."""
    return _compiled_draw(name, tuple(options.items()))(key, x, rate, *others)


def pull(name, key, x, rate, *others):
    """A variant's draw and the gradients of its sum in (x, *others), compiled so."""
    return _compiled_pull(name)(key, x, rate, *others)


@cache
def _compiled_draw(name, options):
    return jax.jit(partial(VARIANTS[name], **dict(options)), compiler_options=QUICK)


@cache
def _compiled_pull(name):
    def function(key, x, rate, *others):
        y, backward = jax.vjp(
            lambda x, *o: VARIANTS[name](key, x, rate, *o), x, *others
        )
        return y, backward(jnp.ones_like(y))

    return jax.jit(function, compiler_options=QUICK)


def pulled(case):
    """(key, rate, cotangent, *arrays) -> y and the gradients in (rate, *arrays)."""

    def function(key, rate, cotangent, *arrays):
        y, pull = jax.vjp(partial(case.draw, key), rate, *arrays)
        return y, pull(cotangent)

    return function


@cache
def compiled(name):
    """`pulled` of the case with this text under jit, and a list of its traces."""
    case = next(case for case in CASES if str(case) == name)
    traces = []

    def function(*arguments):
        traces.append(name)
        return pulled(case)(*arguments)

    # Quick to compile; what is fully optimised is compared with it.
    return jax.jit(function, compiler_options=QUICK), traces


def run(case, key, rate, *arrays):
    """`pulled` with a cotangent of ones, compiled once a shape and dtype."""
    out = jax.eval_shape(case.plain, *arrays)
    ones = jnp.ones(out.shape, out.dtype)
    return compiled(str(case))[0](key, jnp.float32(rate), ones, *arrays)
