"""Checkpoints with Orbax, and the lock that keeps a second process out."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import Sharding

from training.step import State

KEPT = 3


class Position(NamedTuple):
    """Where the record stands: the length of its metrics, the seconds so far."""

    metrics_bytes: int = 0
    seconds: float = 0.0


def open_checkpoints(workdir: Path) -> ocp.CheckpointManager:
    """The manager of a workdir's checkpoints; saves in the background."""
    options = ocp.CheckpointManagerOptions(max_to_keep=KEPT)
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(
    checkpoints: ocp.CheckpointManager, state: State, position: Position
) -> None:
    """Saves the state after `state.step` steps, and where the record stands."""
    checkpoints.save(
        int(state.step),
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            position=ocp.args.JsonSave(position._asdict()),
        ),
    )


def restore_latest(
    checkpoints: ocp.CheckpointManager, like: State, sharding: Sharding
) -> tuple[State, Position] | None:
    """The newest state with its position in the record; None where there is none."""
    step = checkpoints.latest_step()
    if step is None:
        return None
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        like,
    )
    restored = checkpoints.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardRestore(target), position=ocp.args.JsonRestore()
        ),
    )
    return restored["state"], Position(**restored["position"])


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the workdir's lock, which the system frees when the process ends.

    Raises:
        ValueError: another process has it.
    """
    with (workdir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"--workdir={workdir}: another process is running there."
            ) from None
        yield
