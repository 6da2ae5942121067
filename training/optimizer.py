"""Optimisers and learning-rate schedules, from optax, and the max-norm bound."""

from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jax.lax import optimization_barrier as materialize
from jaxtyping import Float

from dropout.grammar import Call, Interval

Params = Any
# Names among the parameters of a network that are not its own layers.
DROPOUT = "dropout"  # the parameters of learned dropout
TELEMETRY = "telemetry"  # zeros, whose gradient is what telemetry sums
Scalar = Float[jax.Array, ""] | float
Fraction = Annotated[float, Interval("[0, 1]")]
BelowOne = Annotated[float, Interval("[0, 1)")]
Positive = Annotated[float, Interval("(0, 1e9]")]


def constant(steps: int, *, warmup: BelowOne = 0.0) -> optax.Schedule:
    """Keep the same learning rate, after a rise over the fraction `warmup`."""
    return after_warmup(optax.constant_schedule(1.0), round(warmup * steps))


def cosine(
    steps: int, *, warmup: BelowOne = 0.05, end: Fraction = 0.0
) -> optax.Schedule:
    """Rise over the fraction `warmup` of the run, then fall to `end` times the peak."""
    rising = round(warmup * steps)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else 1.0,
        peak_value=1.0,
        warmup_steps=rising,
        # In a short run all steps can be those of the warm-up.
        decay_steps=max(steps, rising + 1),
        end_value=end,
    )


def stepped(
    steps: int,
    *,
    at: tuple[Fraction, ...] = (0.5, 0.75),
    factor: Fraction = 0.1,
    warmup: BelowOne = 0.0,
) -> optax.Schedule:
    """Multiply by `factor` at each fraction `at` of the run.

    Fractions that fall on the same step multiply it by as many factors. The rate rises
    from 0 over the fraction `warmup` (Goyal et al. 2017, section 2.2).
    """
    falls = Counter(round(fraction * steps) for fraction in at)
    bounds = {step: factor**count for step, count in falls.items()}
    falling = optax.piecewise_constant_schedule(1.0, bounds)
    return after_warmup(falling, round(warmup * steps))


def after_warmup(schedule: optax.Schedule, steps: int) -> optax.Schedule:
    """Return the schedule, multiplied by step / steps while that is below 1."""
    if not steps:
        return schedule
    return lambda step: schedule(step) * jnp.minimum(step / steps, 1)


def adam(
    rate: optax.Schedule,
    decay: Scalar,
    *,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-8,
) -> optax.GradientTransformation:
    """Return Adam (Kingma & Ba 2015) with coupled weight decay."""
    scaled = scale_by_adam(b1, b2, eps), optax.scale_by_learning_rate(rate)
    return optax.chain(_coupled(decay), *scaled)


def adamw(
    rate: optax.Schedule,
    decay: Scalar,
    *,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-8,
) -> optax.GradientTransformation:
    """Return Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    scaled = scale_by_adam(b1, b2, eps), _coupled(decay)
    return optax.chain(*scaled, optax.scale_by_learning_rate(rate))


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return `optax.scale_by_adam` with each moving average as m + (1 - b) (g - m).

    In b m + (1 - b) g the compiler fuses one of the products with the sum, and the step
    around it decides which one, so that a member of a population would drift away from
    its solo run. Both averages are written to memory before they are used, and not
    computed twice: a step of `mlp` then takes 0.96 of the time.
    """

    def update(updates: Params, state: Any, params: Params = None):
        count = optax.safe_increment(state.count)
        mean = jax.tree.map(lambda g, m: m + (1 - b1) * (g - m), updates, state.mu)
        square = jax.tree.map(
            lambda g, v: v + (1 - b2) * (g * g - v), updates, state.nu
        )
        mean, square = materialize((mean, square))
        first, second = materialize((1 - b1**count, 1 - b2**count))
        scaled = jax.tree.map(
            lambda m, v: (m / first) / (jnp.sqrt(v / second) + eps), mean, square
        )
        return scaled, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2).init, update)


def sgd(
    rate: optax.Schedule,
    decay: Scalar,
    *,
    momentum: BelowOne = 0.9,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Return stochastic gradient descent with momentum and coupled weight decay."""
    return optax.chain(_coupled(decay), optax.sgd(rate, momentum, nesterov))


def lars(
    rate: optax.Schedule,
    decay: Scalar,
    *,
    momentum: BelowOne = 0.9,
    trust: Positive = 1e-3,
) -> optax.GradientTransformation:
    """Return LARS with coupled weight decay, for batches of many thousand examples.

    Before the learning rate and momentum, the step of each kernel w along g is
    multiplied by `trust` |w| / |g|. Other parameters take the steps of `sgd`.
    Source: You et al. 2017, "Large Batch Training of Convolutional Networks".
    """
    return optax.lars(
        rate,
        decay,
        weight_decay_mask=kernels,
        trust_coefficient=trust,
        trust_ratio_mask=kernels,
        momentum=momentum,
    )


def lamb(
    rate: optax.Schedule,
    decay: Scalar,
    *,
    b1: BelowOne = 0.9,
    b2: BelowOne = 0.999,
    eps: Positive = 1e-6,
) -> optax.GradientTransformation:
    """Return LAMB: the steps of `adamw`, of each kernel scaled to the kernel's norm.

    Source: You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT
        in 76 minutes", ICLR.
    """
    scaled = scale_by_adam(b1, b2, eps), _coupled(decay)
    to_norm = optax.masked(optax.scale_by_trust_ratio(), kernels)
    return optax.chain(*scaled, to_norm, optax.scale_by_learning_rate(rate))


LEARNING_RATES: dict[str, Callable[..., optax.Schedule]] = {
    function.__name__: function for function in (constant, cosine, stepped)
}
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    function.__name__: function for function in (adam, adamw, sgd, lars, lamb)
}


def learning_rate(call: Call, peak: Scalar, steps: int) -> optax.Schedule:
    """Return the learning rate as a function of the step; the peak may be traced."""
    factor = LEARNING_RATES[call.name](steps, **dict(call.options))
    return lambda step: materialize(jnp.asarray(peak * factor(step)))


def make_optimizer(
    call: Call, rate: optax.Schedule, weight_decay: Scalar, clip_norm: float
) -> optax.GradientTransformation:
    """Return the optimiser, preceded by a bound on the gradient's norm if there is one.

    Weight decay acts on kernels only; it may be traced.
    """
    inner = OPTIMIZERS[call.name](rate, weight_decay, **dict(call.options))
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    return optax.chain(clip, inner)


def faster_dropout(
    optimizer: optax.GradientTransformation, factor: Scalar
) -> optax.GradientTransformation:
    """Return the optimiser with `factor` times the rate for what variants learn."""

    def of_dropout(params: Params) -> Params:
        return {
            name: jax.tree.map(lambda _, name=name: name == DROPOUT, params[name])
            for name in params
        }

    return optax.chain(optimizer, optax.masked(optax.scale(factor), of_dropout))


def kernels(params: Params) -> Params:
    """Return a tree of booleans that says which leaves are kernels."""
    return jax.tree_util.tree_map_with_path(_is_kernel, params)


def bound_norms(params: Params, max_norm: float) -> Params:
    """Scale each unit's incoming weights down to an l2 norm of at most `max_norm`.

    A unit is an index of a kernel's last axis (Srivastava et al. 2014, section 5.1).
    """

    def bound(path: tuple, leaf: jax.Array) -> jax.Array:
        if not _is_kernel(path, leaf):
            return leaf
        incoming = tuple(range(leaf.ndim - 1))
        norm = jnp.sqrt(jnp.sum(leaf**2, incoming, keepdims=True))
        return leaf * jnp.minimum(1, max_norm / jnp.maximum(norm, 1e-12))

    return jax.tree_util.tree_map_with_path(bound, params)


def _is_kernel(path: tuple, leaf: Any) -> bool:
    return path[-1].key == "kernel"


def _coupled(decay: Scalar) -> optax.GradientTransformation:
    return optax.add_decayed_weights(decay, mask=kernels)
