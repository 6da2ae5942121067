"""What a training step costs the host: CPU time of all its threads, by way of calling.

On a CPU the step itself is in it, so that a small network shows the rest. Batches that
the host makes are what streamed data need; data in memory are gathered by the step.
"""

import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np

from benchmarks.ours import our_training
from benchmarks.request import Request, configuration
from benchmarks.tables import Results
from benchmarks.timing import Calls, compared, shuffled
from training.data.batches import batches_from, one_ahead
from training.experiment import Experiment, prepare
from training.population import traced_members
from training.programs import compile_step
from training.start import start_state

STEPS = 200  # Of a round; an epoch of the default data set has fewer.
SEVERAL = 32


def measure_host_time(request: Request) -> Iterator[tuple[str, Results]]:
    """Measure the CPU time per step of three ways to call the compiled step."""
    for model, batch_size in itertools.product(request.models, request.batch_sizes):
        config = configuration(request, model, batch_size, "*:bernoulli:0.1")
        experiment = prepare(config)
        several = prepare(replace(config, steps_per_call=SEVERAL))
        contestants = {
            "a batch from the host, then a step": with_batches_made(experiment),
            "one call per step": our_training(experiment),
            f"up to {SEVERAL} steps per call": our_training(several),
        }
        title = f"CPU time of the host per step of {model}, batch {batch_size}"
        yield title, cpu_times(contestants, request.rounds)


def with_batches_made(experiment: Experiment) -> Calls:
    """Return a function that runs steps on batches that the host makes."""
    state = start_state(experiment)
    step, _ = compile_step(experiment, state)
    batches, members = (
        one_ahead(batches_from(experiment, 0)),
        traced_members(experiment),
    )
    current = [state]

    def train(steps: int) -> None:
        for _ in range(steps):
            current[0], metrics = step(current[0], next(batches), members)
            jax.tree.map(np.asarray, metrics)
        jax.block_until_ready(current)

    return train


def cpu_times(contestants: dict[str, Calls], rounds: int) -> Results:
    """Measure all contestants in turn, for `STEPS` steps in every round."""
    for run in contestants.values():
        run(2)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = random.Random(0)
    for _ in range(rounds):
        for name in shuffled(list(contestants), order):
            begin = time.process_time()
            contestants[name](STEPS)
            times[name].append(1e3 * (time.process_time() - begin) / STEPS)
    return compared(times)
