"""Checkpoints with Orbax, and the lock that keeps a second process out."""

import contextlib
import fcntl
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Sharding

from training.record.digests import digest
from training.runtime.processes import by_leader, leads
from training.state import State, steps_done

KEPT = 3


class InUse(ValueError):
    """Another process is running in a workdir."""


class Position(NamedTuple):
    """Where the record stands when a state is saved.

    Attributes:
        metrics_bytes: the length of the metrics file.
        seconds: how long the run has taken.
    """

    metrics_bytes: int = 0
    seconds: float = 0.0


def open_checkpoints(workdir: Path) -> ocp.CheckpointManager:
    """Return the manager of a workdir's checkpoints; saves in the background."""
    options = ocp.CheckpointManagerOptions(max_to_keep=KEPT)
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(checkpoints: ocp.CheckpointManager, state: State, position: Position) -> None:
    """Save the state after `state.step` steps, with its digest and its position."""
    step = steps_done(state)
    if step in checkpoints.all_steps():
        return
    record = {"digest": digest(state), "position": position._asdict()}
    checkpoints.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
        ),
    )


def restore_latest(
    checkpoints: ocp.CheckpointManager, like: State, sharding: Sharding
) -> tuple[State, Position] | None:
    """Return the newest undamaged state with its position; None if none was saved.

    A damaged checkpoint is moved aside, to `damaged/`, and reported in one line.

    Raises:
        ValueError: there are checkpoints, and all are damaged.
    """
    steps = sorted(checkpoints.all_steps(), reverse=True)
    for step in steps:
        try:
            found = _restore(checkpoints, step, like, sharding)
        except Exception as error:  # A damaged file can raise anything.
            reason = (str(error).splitlines() or [repr(error)])[0][:200]
            print(f"checkpoint {step} is damaged ({reason})", file=sys.stderr)
            continue
        damaged = [other for other in steps if other > step]
        _set_aside(Path(checkpoints.directory), damaged)
        if damaged:
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")
            checkpoints.reload()
        return found
    if steps:
        raise ValueError(
            f"all checkpoints in {checkpoints.directory} are damaged: {steps}. Nothing "
            "was changed; give another --workdir to start anew."
        )
    return None


def _restore(
    checkpoints: ocp.CheckpointManager, step: int, like: State, sharding: Sharding
) -> tuple[State, Position]:
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        like,
    )
    restored = checkpoints.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore()
        ),
    )
    state, record = restored["state"], restored["record"]
    if digest(state) != record["digest"]:
        raise ValueError("its digest differs from the one saved with it")
    return state, Position(**record["position"])


@by_leader
def _set_aside(directory: Path, steps: list[int]) -> None:
    """Move damaged checkpoints away, so that training can save at their steps."""
    aside = directory.parent / "damaged"
    for step in steps:
        aside.mkdir(exist_ok=True)
        shutil.move(directory / str(step), aside / f"{step}-{time.time_ns()}")


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold the workdir's lock, which the system frees when the process ends.

    Of the processes of one run the first holds it.

    Raises:
        InUse: another process has it.
    """
    if not leads():
        yield
        return
    with (workdir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"--workdir={workdir}: another process is running there."
            ) from None
        yield
