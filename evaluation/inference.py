"""What a network answers under a rule of inference: log-probabilities by sample.

| rule | at a site with dropout |
|---|---|
| `plain` | the plain network, whatever the plan says |
| `scaling` | weight scaling: the plain network where dropout scales in training, the largest value times 1 - rate in max-pooling dropout |
| `pooling` | each variant's own rule at test: probabilistic weighted pooling at windows, weight scaling elsewhere |
| `mc` | Monte-Carlo: a mask for each example and sample |
| `shared_mc` | Monte-Carlo: one network a sample, the same for all examples |
| `gaussian` | Monte-Carlo, with products with dropped kernels drawn from a Gaussian of their moments |
"""  # noqa: E501

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, Num

from dropout import VARIANTS, Drop, Moment, Row, identity, kind_of
from dropout.sites import Mode
from evaluation.measures import Samples
from models.convolution import compiler_options
from training.experiment import Experiment
from training.network import Tree
from training.objective import Objective, drop_at
from training.record.progress import steps_shown
from training.runtime.devices import replicated
from training.state import State

MODES: dict[str, Mode | None] = {
    "plain": None,
    "scaling": "scaling",
    "pooling": "eval",
    "mc": "mc",
    "shared_mc": "shared_mc",
    "gaussian": "gaussian",
}
SAMPLED = ("mc", "shared_mc", "gaussian")
MEMORY = 2**29  # bytes that a chunk of images may take
CACHE = 2**22  # and on a CPU, where what stays in its cache takes half the time
CHUNK = 512  # images, where they fit

Images = Num[Array, "n height width channels"]
Answer = Callable[..., Float[Array, "samples n classes"]]
Predict = Callable[[State, Key[Array, ""], Any, Any], Samples]


def check_rule(rule: str, rows: tuple[Row, ...]) -> None:
    """Checks that a rule exists, and that a plan has what it acts on.

    Raises:
        ValueError: it does not; the message says what is allowed.
    """
    if rule not in MODES:
        raise ValueError(f"--rule={rule}: expected one of {', '.join(MODES)}.")
    variants = {kind_of(row.site): VARIANTS[row.variant.name] for row in rows}
    if rule in SAMPLED and not rows:
        raise ValueError(f"--rule={rule}: the run has no dropout.")
    if rule == "pooling" and "window" not in variants:
        raise ValueError("--rule=pooling: the run's plan has no site of kind window.")
    if rule == "gaussian" and not any(
        kind_of(row.site) == "kernel" and VARIANTS[row.variant.name].moment_matched
        for row in rows
    ):
        raise ValueError(
            "--rule=gaussian: the run's plan has no dropconnect, bernoulli or gaussian "
            "at a kernel."
        )


def make_answer(objective: Objective, rule: str, samples: int) -> Answer:
    """A function to be jitted: (state, key, images, examples) -> log-probabilities.

    Sample t of an example is a function of the key, t and the example's id. What comes
    before the first site with dropout does not depend on t, and is computed once. The
    rates are those of the last step done. Rules that draw nothing have one sample.
    """
    draws = jnp.arange(samples if rule in SAMPLED else 1, dtype=jnp.int32)

    def answer(
        state: State, key: Key[Array, ""], images: Images, examples: Int[Array, " n"]
    ) -> Float[Array, "samples n classes"]:
        last = jnp.maximum(state.step - 1, 0)
        standardised = objective.standardise(images)

        def sample(draw: Int[Array, ""]) -> Float[Array, "n classes"]:
            moment = Moment(key, examples, draw=draw + 1)
            drop = _dropper(objective, rule, state.params, last, moment)
            logits, _ = objective.forward(state.params, state.stats, standardised, drop)
            return jax.nn.log_softmax(logits.astype(jnp.float32))

        return jax.vmap(sample)(draws)

    return answer


def make_predict(
    experiment: Experiment, state: State, rule: str, samples: int, most: int = CHUNK
) -> Predict:
    """Compiles a rule once, for chunks of `most` images, or as many as fit.

    What it returns takes (state, key, images, examples), arrays of any length, shows
    its progress, and gives log-probabilities in NumPy.
    """
    image, _ = experiment.data.test.fetch(np.zeros(1, np.int32))
    answer = make_answer(experiment.objective, rule, samples)
    mesh = experiment.mesh
    rows = NamedSharding(mesh, PartitionSpec("data"))

    def compiled(size: int):
        arguments = [
            jax.ShapeDtypeStruct((size, *shape), dtype, sharding=rows)
            for shape, dtype in ((image.shape[1:], image.dtype), ((), jnp.int32))
        ]
        key = jax.eval_shape(jax.random.key, 0)
        jitted = jax.jit(answer, compiler_options=compiler_options())
        return jitted.lower(state, key, *arguments).compile()

    program, size = _fitting(compiled, most, mesh)

    def predict(state, key, images, examples) -> Samples:
        key, parts = jax.device_put(key, replicated(mesh)), []
        starts = range(0, len(examples), size)
        for start in steps_shown(starts, f"{rule}, {len(examples)} images"):
            chunk = images[start : start + size], examples[start : start + size]
            padded = [_padded(np.asarray(array), size) for array in chunk]
            found = program(state, key, *jax.device_put(padded, rows))
            parts.append(np.asarray(found)[:, : len(chunk[1])])
        return np.concatenate(parts, axis=1)

    return predict


def _dropper(
    objective: Objective,
    rule: str,
    params: Tree,
    last: Int[Array, ""],
    moment: Moment,
) -> Drop:
    mode = MODES[rule]
    if mode is None:
        return identity
    return drop_at(objective, params, last, moment, mode)


def _fitting(compiled: Callable[[int], Any], most: int, mesh: Mesh) -> tuple[Any, int]:
    """The program for as many images as fit, and how many they are."""
    memory = CACHE if mesh.devices.flat[0].platform == "cpu" else MEMORY
    size = most + -most % mesh.size
    program = compiled(size)
    needed = program.memory_analysis().temp_size_in_bytes
    if needed <= memory:
        return program, size
    fitting = size * memory // (needed * mesh.size) * mesh.size
    size = max(mesh.size, int(fitting))
    return compiled(size), size


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(array)
    return np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)])
