"""What a run takes: images per second, learning rate and memory, for trackers alone.

They are in no metrics file, because reruns are compared by it bit for bit.
"""

import resource
import sys

import jax
import jax.numpy as jnp

from dropout.grammar import parse_call
from training.experiment import Experiment, peak_learning_rate
from training.optimizer import learning_rate

MEGABYTE = 1e6
# `ru_maxrss` counts bytes on macOS, and units of 1024 bytes elsewhere.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def resources(
    experiment: Experiment, step: int, images_per_second: float | None
) -> dict[str, float]:
    """Return the values of a tracker's line after `step` steps, by name.

    Memory is the most that was in use so far, in megabytes: of this process, and of its
    first device where the device counts it.
    """
    speed = (
        {} if images_per_second is None else {"images_per_second": images_per_second}
    )
    return {**speed, **learning_rates(experiment, step - 1), **memory()}


def learning_rates(experiment: Experiment, step: int) -> dict[str, float]:
    """Return the learning rate at a step, one for each member of a population."""
    found = {}
    for number, run in enumerate(experiment.runs):
        schedule = parse_call(run.config.learning_rate_schedule)
        peak = peak_learning_rate(run.config)
        member = f"member{number}/" if experiment.members else ""
        with jax.numpy_dtype_promotion("standard"):
            rate = learning_rate(schedule, peak, run.timeline.total)(step)
        found[f"{member}learning_rate"] = float(jnp.asarray(rate))
    return found


def memory() -> dict[str, float]:
    """Return the most memory that was in use so far, in megabytes."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    counted = jax.local_devices()[0].memory_stats() or {}
    found = {"host_memory_mb": used / MEGABYTE}
    if "peak_bytes_in_use" in counted:
        found["device_memory_mb"] = counted["peak_bytes_in_use"] / MEGABYTE
    return found
