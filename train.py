"""Trains a network with dropout chosen by flags.

python train.py --dataset=digits --dropout='conv*:bernoulli:0.1 fc:bernoulli:0.5'
"""

import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from jax.errors import JaxRuntimeError

from training.config import Config, canonical, members_of
from training.experiment import prepare
from training.record.console import describe, result_line
from training.record.files import make_directory
from training.run import run
from training.runtime.devices import (
    keep_freed_memory,
    request_cpu_devices,
    resolve_mesh,
)
from training.runtime.processes import Place, by_leader, join, leave
from training.runtime.signals import Stopped

DEFINE = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
}
for _field in fields(Config):
    DEFINE[type(_field.default)](_field.name, _field.default, _field.metadata["help"])
COORDINATOR = flags.DEFINE_string(
    "coordinator",
    "",
    "host:port of process 0 of many; auto: as the cluster says (default where SLURM or "
    "Open MPI started several)",
)
PROCESSES = flags.DEFINE_integer("processes", 0, "how many, with --coordinator")
PROCESS_ID = flags.DEFINE_integer("process_id", -1, "which of them this is, from 0")
HOST_TIMEOUT = flags.DEFINE_integer(
    "host_timeout", 100, "seconds until a silent process is lost", lower_bound=1
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the resolved plan and end")


def main(argv: list[str]) -> None:
    """Reads the flags, trains, and prints the result; usage errors are one line."""
    if len(argv) > 1:
        sys.exit(f"train.py: unexpected argument {argv[1]!r}; flags start with --.")
    logging.set_verbosity(logging.FATAL)
    try:
        experiment = prepare(set_up(canonical(given_config()), place()))
        say(describe(experiment))
        if not DRY_RUN.value:
            say(result_line(run(experiment), Path(experiment.config.workdir)))
    except Stopped as stopped:
        sys.exit(f"train.py: {stopped}")
    except (ValueError, FloatingPointError, OSError, JaxRuntimeError) as error:
        leave(f"train.py: {error}")


def given_config() -> Config:
    """The configuration that the flags give, as they are written."""
    given: dict[str, Any] = {
        item.name: flags.FLAGS[item.name].value for item in fields(Config)
    }
    if flags.FLAGS["steps"].present and not flags.FLAGS["epochs"].present:
        given["epochs"] = 0
    return Config(**given)


def place() -> Place:
    """Where the flags say that this process stands among others."""
    return Place(
        COORDINATOR.value, PROCESSES.value, PROCESS_ID.value, HOST_TIMEOUT.value
    )


@by_leader
def say(text: str) -> None:
    """Prints, in one process of many."""
    print(text, flush=True)


def set_up(config: Config, place: Place) -> Config:
    """Sets JAX up before its first operation; the configuration with its mesh."""
    make_directory("cache_dir", config.cache_dir)
    keep_freed_memory()
    request_cpu_devices(config.mesh, join(place))
    if config.deterministic:
        # XLA reads its flags once, when the backend starts.
        flags_before = os.environ["XLA_FLAGS"] if "XLA_FLAGS" in os.environ else ""
        os.environ["XLA_FLAGS"] = f"{flags_before} --xla_gpu_deterministic_ops=true"
    jax.config.update("jax_compilation_cache_dir", f"{config.cache_dir}/xla")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    members = len(members_of(config)) if config.seeds else 0
    return replace(config, mesh=resolve_mesh(config.mesh, members))


if __name__ == "__main__":
    app.run(main)
