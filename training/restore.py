"""Restoring a run: its experiment, and its newest saved state."""

import sys
from dataclasses import replace
from pathlib import Path

from training.canonical import canonical
from training.config import Config
from training.experiment import Experiment, prepare
from training.members import members_of
from training.record.digests import data_digest
from training.record.files import Damaged, read_summary
from training.record.same_run import (
    DATA,
    FILES,
    changed_files,
    check_data,
    recorded_config,
)
from training.runtime.checkpoints import newest_whole, open_checkpoints
from training.runtime.devices import resolve_mesh
from training.start import state_shapes, state_sharding
from training.state import State, steps_done


def restore(
    workdir: str, data_dir: str = "", cache_dir: str = ""
) -> tuple[Experiment, State]:
    """Return a run with its newest saved state.

    Args:
        workdir: the directory of its record.
        data_dir: the directory of its data now; if empty, the recorded one.
        cache_dir: the directory of decoded data and programs; if empty, the user's
            cache.

    Raises:
        ValueError: the directory holds no run or no checkpoint yet, the data are not
            those of the run, or the newest whole checkpoint is not that of its summary.
    """
    path = Path(workdir)
    if not (path / "run.flags").is_file():
        raise ValueError(f"{workdir} holds no run: it has no run.flags.")
    config = recorded_config(path / "run.flags")
    config = canonical(
        replace(
            config,
            data_dir=data_dir or config.data_dir,
            cache_dir=cache_dir or config.cache_dir,
        )
    )
    # What the run began with is no longer needed, and may be elsewhere by now.
    config = replace(config, mesh=_mesh_here(config), init="")
    for change in changed_files(path / FILES, config):
        print(f"{workdir}: {change} since the run began.", file=sys.stderr)
    experiment = prepare(config)
    check_data(path / DATA, data_digest(experiment.data))
    return experiment, saved_state(experiment, path)


def saved_state(experiment: Experiment, workdir: Path) -> State:
    """Return the newest state that a run has saved; nothing is changed.

    Raises:
        Damaged: there is none, or it is not the one that the run's summary is about.
    """
    if not (workdir / "checkpoints").is_dir():
        raise Damaged(f"{workdir} has no checkpoint yet.")
    with open_checkpoints(workdir, read_only=True) as checkpoints:
        saved = newest_whole(
            checkpoints, state_shapes(experiment), state_sharding(experiment)
        )
    if saved is None:
        raise Damaged(f"{workdir} has no checkpoint yet.")
    _check_is_the_last(workdir, steps_done(saved.state))
    return saved.state


def _check_is_the_last(workdir: Path, step: int) -> None:
    path = workdir / "summary.json"
    if path.exists() and (last := read_summary(workdir)["steps"]) != step:
        raise Damaged(
            f"the newest whole checkpoint of {workdir} is that of step {step}, and its "
            f"summary is about step {last}. Delete {path} and rerun the command of the "
            "run: it trains the missing steps again."
        )


def _mesh_here(config: Config) -> str:
    """Return the mesh of a run, or all of this machine's devices if it has fewer."""
    members = len(members_of(config)) if config.seeds else 0
    try:
        return resolve_mesh(config.mesh, members)
    except ValueError:
        return resolve_mesh("", members)
