"""Devices: one mesh, a batch spread over it, everything else on every device."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def parse_mesh(text: str) -> int:
    """The number of devices in `data:N`.

    Raises:
        ValueError: `text` has another form.
    """
    axis, _, count = text.partition(":")
    if axis != "data" or not count.isdecimal() or int(count) < 1:
        raise ValueError(f"--mesh={text}: expected data:N with N >= 1.")
    return int(count)


def request_cpu_devices(mesh: str) -> None:
    """Lets the CPU appear as the devices of a mesh; before the first JAX operation."""
    if mesh:
        jax.config.update("jax_num_cpu_devices", parse_mesh(mesh))


def resolve_mesh(text: str) -> str:
    """The mesh that is meant: all devices where none is given.

    Raises:
        ValueError: more devices than there are.
    """
    available = jax.device_count()
    count = parse_mesh(text) if text else available
    if count > available:
        raise ValueError(f"--mesh={text}: this machine has {available} device(s).")
    return f"data:{count}"


def make_mesh(text: str) -> Mesh:
    """The mesh of a resolved description."""
    count = parse_mesh(text)
    return Mesh(np.array(jax.devices()[:count]), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_rows(mesh: Mesh) -> NamedSharding:
    """The second axis, the rows of each micro-batch, spread over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))
