"""Devices: one mesh, over which the rows of a batch are spread, or the members."""

from math import gcd

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXES = ("members", "data")


def parse_mesh(text: str) -> tuple[int, int]:
    """The numbers of devices along `AXES` in `members:N` or `data:N`.

    Raises:
        ValueError: `text` has another form.
    """
    axis, _, count = text.partition(":")
    if axis not in AXES or not count.isdecimal() or int(count) < 1:
        raise ValueError(
            f"--mesh={text}: expected data:N, or members:N with --seeds, with N >= 1."
        )
    return (int(count), 1) if axis == "members" else (1, int(count))


def request_cpu_devices(mesh: str) -> None:
    """Lets the CPU appear as the devices of a mesh; before the first JAX operation."""
    if mesh:
        jax.config.update("jax_num_cpu_devices", max(parse_mesh(mesh)))


def resolve_mesh(text: str, members: int = 0) -> str:
    """The mesh that is meant: where none is given all devices, or as many as divide
    the members of a population.

    Raises:
        ValueError: more devices than there are, or members that they do not divide.
    """
    available = jax.device_count()
    if not text:
        return f"members:{gcd(members, available)}" if members else f"data:{available}"
    over_members, over_data = parse_mesh(text)
    if max(over_members, over_data) > available:
        raise ValueError(f"--mesh={text}: this machine has {available} device(s).")
    if over_members > 1 and (not members or members % over_members):
        raise ValueError(
            f"--mesh={text}: expected a number of --seeds that it divides, not "
            f"{members}."
        )
    return text


def make_mesh(text: str) -> Mesh:
    """The mesh of a resolved description."""
    shape = parse_mesh(text)
    return Mesh(np.array(jax.devices()[: max(shape)]).reshape(shape), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def over_members(mesh: Mesh) -> NamedSharding:
    """The first axis, the members of a population, spread over the devices."""
    return NamedSharding(mesh, PartitionSpec("members"))


def over_rows(mesh: Mesh) -> NamedSharding:
    """The second axis, the rows of each micro-batch, spread over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def over_member_rows(mesh: Mesh) -> NamedSharding:
    """The members and the rows of each of their micro-batches, spread likewise."""
    return NamedSharding(mesh, PartitionSpec("members", None, "data"))
