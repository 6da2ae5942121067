"""Inference rules: how a trained network with dropout predicts, sample by sample.

| inference rule | at a site with dropout |
|---|---|
| `plain` | the plain network, without dropout |
| `scaling` | weight scaling: the plain network where dropout scales in training, the largest value times 1 - rate in max-pooling dropout |
| `pooling` | each variant's own evaluation: probabilistic weighted pooling at windows, weight scaling elsewhere |
| `mc` | Monte-Carlo: a mask for each example and sample |
| `shared_mc` | Monte-Carlo: one thinned network per sample, the same for all examples |
| `gaussian` | Monte-Carlo, where products with dropped kernels are sampled from a Gaussian with their moments |
"""  # noqa: E501

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, Num

from dropout import VARIANTS, Moment, Row, kind_of
from dropout.sites import Mode
from evaluation.measures import Samples
from evaluation.streamed_images import chunks_of
from training.experiment import Experiment
from training.objective import Objective
from training.record.progress import steps_shown
from training.runtime.compilation import compiled
from training.runtime.devices import replicated
from training.scoring import test_logits
from training.state import State

MODES: dict[str, Mode] = {
    "plain": "eval",
    "scaling": "scaling",
    "pooling": "eval",
    "mc": "mc",
    "shared_mc": "shared_mc",
    "gaussian": "gaussian",
}
SAMPLED = ("mc", "shared_mc", "gaussian")
MEMORY = 2**29  # The bytes that a chunk of images may take on an accelerator.
# On a CPU, prediction takes half the time if chunks stay in the cache
# (`python scripts/bench_inference.py`).
CACHE = 2**22
CHUNK = 512  # The number of images per chunk, if that many fit.

PredictSamples = Callable[..., Float[Array, "samples n classes"]]
Predict = Callable[[Any, Key[Array, ""], Any, Any], Samples]


def check_inference_rule(inference: str, rows: tuple[Row, ...]) -> None:
    """Check that an inference rule exists and that the plan has sites for it.

    Raises:
        ValueError: the rule does not exist, or the plan has no site for it.
    """
    if missing := missing_for(inference, rows):
        raise ValueError(f"--rule={inference}: {missing}.")


def missing_for(inference: str, rows: tuple[Row, ...]) -> str:
    """Return what a plan lacks for an inference rule, which is empty where it fits.

    Raises:
        ValueError: the rule does not exist.
    """
    if inference not in MODES:
        raise ValueError(f"--rule={inference}: expected one of {', '.join(MODES)}.")
    if inference in SAMPLED and not rows:
        return "the run has no dropout"
    if inference == "pooling" and "window" not in {kind_of(row.site) for row in rows}:
        return "the run's plan has no site of kind window"
    if inference == "gaussian" and not any(
        kind_of(row.site) == "kernel" and VARIANTS[row.variant.name].moment_matched
        for row in rows
    ):
        return "the run's plan has no dropconnect, bernoulli or gaussian at a kernel"
    return ""


def make_predict_samples(
    objective: Objective, inference: str, samples: int
) -> PredictSamples:
    """Return a function (state, key, images, examples) -> log-probabilities, to jit.

    Sample t of an example is a function of the key, t and the example's id. The layers
    before the first site with dropout do not depend on t and are computed once. The
    rates are those of the last completed step. Inference rules without masks have one
    sample.
    """
    draws = jnp.arange(samples if inference in SAMPLED else 1, dtype=jnp.int32)
    if inference == "plain":
        objective = objective._replace(rows=())

    def predict_samples(
        state: State,
        key: Key[Array, ""],
        images: Num[Array, "n height width channels"],
        examples: Int[Array, " n"],
    ) -> Float[Array, "samples n classes"]:
        def sample(draw: Int[Array, ""]) -> Float[Array, "n classes"]:
            moment = Moment(
                key, examples, epoch=0, step=0, draw=draw + 1, run=objective.run_key
            )
            logits, _ = test_logits(objective, state, images, MODES[inference], moment)
            return jax.nn.log_softmax(logits.astype(jnp.float32))

        return jax.vmap(sample)(draws)

    return predict_samples


def compile_predict(
    experiment: Experiment,
    state: State,
    inference: str,
    samples: int,
    most: int = CHUNK,
) -> Predict:
    """Compile an inference rule once, for chunks of `most` images or as many as fit.

    The returned function takes (state, key, images, examples), with arrays of any
    length, shows its progress, and returns log-probabilities as a NumPy array.
    """
    function = make_predict_samples(experiment.objective, inference, samples)
    return compile_in_chunks(experiment, function, state, inference, most)


def compile_in_chunks(
    experiment: Experiment,
    function: PredictSamples,
    state: Any,
    description: str,
    most: int = CHUNK,
) -> Predict:
    """Compile a function (state, key, images, examples) as `compile_predict` does.

    The state is any tree of arrays.
    """
    mesh = experiment.mesh
    rows = NamedSharding(mesh, PartitionSpec("data"))
    program, size = _fitting_program(experiment, function, state, most)

    def predict(state, key, images, examples) -> Samples:
        key, parts = jax.device_put(key, replicated(mesh)), []
        starts = range(0, len(examples), size)
        chunks = chunks_of(images, size)
        for start in steps_shown(starts, f"{description}, {len(examples)} images"):
            chunk = next(chunks), np.asarray(examples[start : start + size])
            padded = [_padded(array, size) for array in chunk]
            found = program(state, key, *jax.device_put(padded, rows))
            parts.append(np.asarray(found)[:, : len(chunk[1])])
        return np.concatenate(parts, axis=1)

    return predict


def _fitting_program(
    experiment: Experiment, function: PredictSamples, state: Any, most: int
) -> tuple[Any, int]:
    """Return the compiled program and the number of images that it takes at a time."""
    image, _ = experiment.data.test.fetch(np.zeros(1, np.int32))
    jitted = compiled(function)
    rows = NamedSharding(experiment.mesh, PartitionSpec("data"))

    def program_for(size: int) -> Any:
        arguments = [
            jax.ShapeDtypeStruct((size, *shape), dtype, sharding=rows)
            for shape, dtype in ((image.shape[1:], image.dtype), ((), jnp.int32))
        ]
        key = jax.eval_shape(partial(jax.random.key, impl="threefry2x32"), 0)
        return jitted.lower(state, key, *arguments).compile()

    return _fit_into_memory(program_for, most, experiment.mesh)


def _fit_into_memory(
    program_for: Callable[[int], Any], most: int, mesh: Mesh
) -> tuple[Any, int]:
    memory = CACHE if mesh.devices.flat[0].platform == "cpu" else MEMORY
    size = most + -most % mesh.size
    program = program_for(size)
    needed = program.memory_analysis().temp_size_in_bytes
    if needed <= memory:
        return program, size
    fitting = size * memory // (needed * mesh.size) * mesh.size
    size = max(mesh.size, int(fitting))
    return program_for(size), size


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(array)
    return np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)])
