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
from jax.experimental import multihost_utils
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
    axis = "members" if members else "data"
    if jax.process_count() > 1 and text != f"{axis}:{available}":
        raise ValueError(
            f"--mesh={text}: {jax.process_count()} processes train on all their "
            f"devices, {axis}:{available}"
            f"{', which must divide the number of --seeds' if members else ''}."
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
    """Return the rows of a batch that the devices of this process hold.

    Over members all of them: each process has the values of all members.
    """
    if jax.process_count() == 1 or mesh.shape["data"] == 1:
        return slice(rows)
    index, per_device = jax.process_index(), rows // mesh.size
    own = [k for k, d in enumerate(mesh.devices.flat) if d.process_index == index]
    return slice(own[0] * per_device, (own[-1] + 1) * per_device)


def put(tree: Any, sharding: Sharding) -> Any:
    """Return a tree of arrays on all devices, from each process's own rows of them.

    What is spread over members each process gives as a whole.
    """
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
    array = np.asarray(leaf)
    if isinstance(sharding, NamedSharding) and "members" in sharding.spec:
        return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)
    return jax.make_array_from_process_local_data(sharding, array)


def gathered(tree: Any) -> Any:
    """Return a tree in which every process has the values of all members.

    With several processes it must be called in all of them at the same point. Arrays
    that this process holds as a whole stay as they are.
    """
    return jax.tree.map(_gathered, tree)


def _gathered(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_replicated:
        return leaf
    if leaf.is_fully_addressable:
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_gathered(jax.random.key_data(leaf)))
    return multihost_utils.process_allgather(leaf, tiled=True)
