"""Devices: one mesh, over which the rows of a batch are spread, or the members."""

import ctypes
import functools
import sys
from collections.abc import Callable
from math import gcd
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

AXES = ("members", "data")
# From malloc.h: M_MMAP_MAX none, M_TRIM_THRESHOLD never, M_TOP_PAD 256 MiB, without
# which the heaps of other threads are given back whole.
GLIBC_MALLOC = {-4: 0, -1: -1, -2: 2**28}


def parse_mesh(text: str) -> tuple[int, int]:
    """Return the numbers of devices along `AXES` in `members:N` or `data:N`.

    Raises:
        ValueError: `text` has another form.
    """
    axis, _, count = text.partition(":")
    if axis not in AXES or not count.isdecimal() or int(count) < 1:
        raise ValueError(
            f"--mesh={text}: expected data:N, or members:N with --seeds, with N >= 1."
        )
    return (int(count), 1) if axis == "members" else (1, int(count))


def request_cpu_devices(mesh: str, processes: int = 1) -> None:
    """Let the CPU appear as the devices of a mesh; call it before JAX starts.

    Raises:
        ValueError: devices that the processes cannot share evenly.
    """
    if mesh:
        count = max(parse_mesh(mesh))
        if count % processes:
            raise ValueError(f"--mesh={mesh}: expected a multiple of {processes}.")
        jax.config.update("jax_num_cpu_devices", count // processes)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed large arrays for the next step.

    Given back to the system at every step, it would be cleared page by page at the
    next. Only the heap of the main thread grows past 64 MiB, so on the CPU computations
    run in the thread that asks for them. No-op elsewhere.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        for parameter, value in GLIBC_MALLOC.items():
            libc.mallopt(parameter, value)
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def resolve_mesh(text: str, members: int = 0) -> str:
    """Return the mesh that a flag means.

    By default it has all devices, or as many as divide the members of a population.

    Raises:
        ValueError: more devices than there are, members that they do not divide, or
            not all the devices of many processes.
    """
    available = jax.device_count()
    if not text:
        text = f"members:{gcd(members, available)}" if members else f"data:{available}"
    over_members, over_data = parse_mesh(text)
    if max(over_members, over_data) > available:
        raise ValueError(f"--mesh={text}: this machine has {available} device(s).")
    if jax.process_count() > 1 and (members or over_data < available):
        raise ValueError(
            f"--mesh={text}: expected data:{available} and no --seeds with "
            f"{jax.process_count()} processes."
        )
    if over_members > 1 and (not members or members % over_members):
        raise ValueError(
            f"--mesh={text}: expected a number of --seeds that it divides, not "
            f"{members}."
        )
    return text


def make_mesh(text: str) -> Mesh:
    """Return the mesh of a resolved description."""
    shape = parse_mesh(text)
    devices = sorted(jax.devices(), key=lambda each: (each.process_index, each.id))
    return Mesh(np.array(devices[: max(shape)]).reshape(shape), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_members(mesh: Mesh) -> NamedSharding:
    """Return the first axis, the members of a population, spread over the devices."""
    return NamedSharding(mesh, PartitionSpec("members"))


def over_rows(mesh: Mesh) -> NamedSharding:
    """Return the second axis, the rows of each micro-batch, spread over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def over_member_rows(mesh: Mesh) -> NamedSharding:
    """Return members and the rows of their micro-batches, spread over the devices."""
    return NamedSharding(mesh, PartitionSpec("members", None, "data"))


def own_rows(mesh: Mesh, rows: int) -> slice:
    """Return the rows of a batch that the devices of this process hold."""
    if jax.process_count() == 1:
        return slice(rows)
    index, per_device = jax.process_index(), rows // mesh.size
    own = [k for k, d in enumerate(mesh.devices.flat) if d.process_index == index]
    return slice(own[0] * per_device, (own[-1] + 1) * per_device)


def put(tree: Any, sharding: Sharding) -> Any:
    """Return a tree of arrays on all devices, from each process's own rows of them."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)


@functools.cache
def putting(sharding: Sharding) -> Callable[[Any], Any]:
    """Return `put` for many trees of the same shapes, in an eighth of its time."""
    if jax.process_count() == 1:
        return jax.jit(lambda tree: tree, out_shardings=sharding)
    return functools.partial(put, sharding=sharding)


def _put(leaf: Any, sharding: Sharding) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding))
    return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))
