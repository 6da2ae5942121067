"""The setup of JAX for every entry point, and the options of compilation."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from models.convolution import compiler_options
from training.config import Config
from training.members import members_of
from training.record.files import make_directory
from training.runtime.devices import (
    keep_freed_memory,
    request_cpu_devices,
    resolve_mesh,
)
from training.runtime.processes import Launch, join

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
# Reading a program from the cache takes longer than compiling what is quicker.
SHORTEST_CACHED_SECONDS = 0.5


def set_up(config: Config, launch: Launch) -> Config:
    """Set up JAX before its first operation; return the configuration with its mesh.

    Raises:
        ValueError: a cache directory that cannot be written, processes that do not
            respond, or a mesh that this machine does not have.
    """
    make_directory("cache_dir", config.cache_dir)
    set_up_process(config, join(launch))
    members = len(members_of(config)) if config.seeds else 0
    return replace(config, mesh=resolve_mesh(config.mesh, members))


def set_up_process(config: Config, processes: int = 1) -> None:
    """Set the cache, the devices and the XLA flags, before the backend starts."""
    keep_freed_memory()
    request_cpu_devices(config.mesh, processes)
    if config.deterministic:
        before = os.environ["XLA_FLAGS"] if "XLA_FLAGS" in os.environ else ""
        if DETERMINISTIC not in before:
            os.environ["XLA_FLAGS"] = f"{before} {DETERMINISTIC}".strip()
    use_compilation_cache(config.cache_dir)


def use_compilation_cache(cache_dir: str) -> None:
    """Keep compiled programs in a directory, where the next process finds them."""
    jax.config.update("jax_compilation_cache_dir", f"{cache_dir}/xla")
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs", SHORTEST_CACHED_SECONDS
    )


def compiled(function: Callable[..., Any], donate: tuple[int, ...] = ()) -> Any:
    """Return `function` under `jax.jit` with the compiler options of this backend.

    Args:
        function: a pure function of arrays.
        donate: the arguments whose memory the result may use.
    """
    return jax.jit(function, donate_argnums=donate, compiler_options=compiler_options())
