"""Checkpoints with Orbax, and the lock that keeps a second process out."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Sharding, SingleDeviceSharding

from training.record.digests import digest
from training.record.files import Damaged
from training.runtime.devices import gathered
from training.runtime.processes import by_leader, leads
from training.state import State, steps_done

KEPT = 3


class InUse(ValueError):
    """Another process is running in a workdir."""


class Position(NamedTuple):
    """Where the record stands when a state is saved.

    Attributes:
        metrics: the text of the metrics file, which can be lost or cut short later.
        seconds: how long the run has taken.
    """

    metrics: str = ""
    seconds: float = 0.0


class Saved(NamedTuple):
    """The newest checkpoint that is whole, and the steps of those after it."""

    state: State
    position: Position
    damaged: list[int]


def open_checkpoints(workdir: Path, read_only: bool = False) -> ocp.CheckpointManager:
    """Return the manager of a workdir's checkpoints; saves in the background."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else KEPT,
        save_interval_steps=0 if read_only else 1,
        create=not read_only,
        read_only=read_only,
    )
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(checkpoints: ocp.CheckpointManager, state: State, position: Position) -> None:
    """Save the state after `state.step` steps and its position, with their digest."""
    step = steps_done(state)
    if step in checkpoints.all_steps():
        return
    found = _digest(state, position)
    record = {"digest": found, "position": position._asdict()}
    checkpoints.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(_parts(state)), record=ocp.args.JsonSave(record)
        ),
    )


def resume(
    checkpoints: ocp.CheckpointManager, like: State, sharding: Sharding
) -> tuple[State, Position]:
    """Return the state to go on from: the newest that is whole, or else the first.

    Damaged checkpoints after it are moved to `damaged/`, so that their steps can be
    saved again.

    Raises:
        Damaged: there are checkpoints, and all are damaged.
    """
    saved = newest_whole(checkpoints, like, sharding)
    if saved is None:
        return like, Position()
    if saved.damaged:
        _set_aside(Path(checkpoints.directory), saved.damaged)
        multihost_utils.sync_global_devices("damaged checkpoints are set aside")
        checkpoints.reload()
    return saved.state, saved.position


def newest_whole(
    checkpoints: ocp.CheckpointManager, like: State, sharding: Sharding
) -> Saved | None:
    """Return the newest checkpoint that is whole; None where none was saved.

    Nothing is changed; one line names a damaged checkpoint.

    Raises:
        Damaged: there are checkpoints, and all are damaged.
    """
    steps = sorted(checkpoints.all_steps(), reverse=True)
    for step in steps:
        try:
            state, position = _restore(checkpoints, step, like, sharding)
        except Exception as error:  # A damaged file can raise anything.
            reason = (str(error).splitlines() or [repr(error)])[0][:200]
            print(f"checkpoint {step} is damaged ({reason})", file=sys.stderr)
            continue
        return Saved(state, position, [other for other in steps if other > step])
    if steps:
        raise Damaged(
            f"all checkpoints in {checkpoints.directory} are damaged: {steps}. Nothing "
            "was changed; give another --workdir to start anew."
        )
    return None


def saved_arrays(workdir: Path, step: int) -> tuple[Any, Any]:
    """Return the parameters and statistics that any run has saved, on one device.

    Raises:
        Damaged: there is no whole checkpoint of this step.
    """
    directory = (workdir / "checkpoints" / str(step) / "state").absolute()
    here = SingleDeviceSharding(jax.devices()[0])
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            target = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=here
                ),
                dict(checkpointer.metadata(directory).item_metadata.tree),
            )
            state = checkpointer.restore(directory, target)
    except Exception as error:  # A damaged file can raise anything.
        reason = (str(error).splitlines() or [repr(error)])[0][:200]
        raise Damaged(f"{directory} holds no whole checkpoint ({reason}).") from None
    return state["params"], state["stats"]


def _restore(
    checkpoints: ocp.CheckpointManager, step: int, like: State, sharding: Sharding
) -> tuple[State, Position]:
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        _parts(like),
    )
    restored = checkpoints.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore()
        ),
    )
    state, record = State(**restored["state"]), restored["record"]
    position = Position(**record["position"])
    if _digest(state, position) != record["digest"]:
        raise ValueError("its digest differs from the one saved with it")
    return state, position


def _parts(state: State) -> dict[str, Any]:
    """The parts that are saved; an average only where there is one."""
    # Checkpoints of earlier versions hold none.
    parts = state._asdict()
    return {name: parts[name] for name in parts if name != "average" or parts[name]}


def _digest(state: State, position: Position) -> str:
    """Return a digest of all that a checkpoint holds."""
    text = json.dumps(position).encode()
    return digest((gathered(state), np.frombuffer(text, np.uint8)))


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
    # What a link points to is not of this run.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(workdir / "lock", flags, 0o666), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(
                f"--workdir={workdir}: another process is running there."
            ) from None
        yield
