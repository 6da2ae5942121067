"""Exports networks and calls them: exported_models.py STRIPES.npz OUT.npz MODEL...

A process of its own, as the symbol for the number of images is no `int`, as which the
type checks of the tests take the lengths of arrays. `OUT.npz` holds what the program of
each network gives, and what evaluation gives with the same arrays.
"""

import sys
from functools import partial

import jax
import numpy as np
from jax import export

from evaluation import inference
from evaluation.export import export_run
from evaluation.predictions import Run, held_out, predict_part, prepare_inference
from training.canonical import canonical
from training.config import Config
from training.experiment import prepare
from training.start import state_shapes

SAMPLES, IMAGES = 2, 5
QUICK = {"xla_backend_optimization_level": 0}


def run_of(dataset: str, model: str) -> Run:
    """A network that drops at its input and at its last kernel, with any arrays."""
    plan = "" if ":" in model else "input:bernoulli:0.2 out/kernel:dropconnect:0.3"
    config = Config(
        dataset=dataset, model=model, dropout=plan, batch_size=8, mesh="data:1"
    )
    experiment = prepare(canonical(config))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state_shapes(experiment))
    random = np.random.default_rng(0)
    return Run(
        experiment,
        state._replace(
            params=jax.tree.map(lambda x: uniform(random, x, -0.3, 0.3), state.params),
            stats=jax.tree.map(lambda x: uniform(random, x, 0.5, 1.0), state.stats),
        ),
    )


def uniform(random, leaf, least: float, largest: float):
    """Numbers in place of an array of floats."""
    return random.uniform(least, largest, leaf.shape).astype(leaf.dtype)


def both(run: Run, images: int) -> np.ndarray:
    """What the program gives, and what evaluation gives."""
    inputs = held_out(run, "test", IMAGES)
    program = export.deserialize(bytearray(export_run(run, "mc", SAMPLES, images)))
    call = jax.jit(program.call, compiler_options=QUICK)
    predict = prepare_inference(run, "mc", SAMPLES, IMAGES)
    ours = predict_part(run, predict, inputs)
    return np.stack([call(inputs.images, inputs.ids, np.int32(0)), ours])


if __name__ == "__main__":
    inference.compiled = partial(jax.jit, compiler_options=QUICK)
    dataset, out, *models = sys.argv[1:]
    found = {}
    for model in models:
        run = run_of(dataset, model)
        try:
            found[model] = both(run, 0)
        except ValueError as error:
            print(f"{model}: {error}")
            found[model] = both(run, IMAGES)
    np.savez(out, **found)
