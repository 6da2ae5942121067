"""Restoring a run: its experiment, and its newest saved state."""

from dataclasses import replace
from pathlib import Path

from training.canonical import canonical
from training.config import Config
from training.experiment import Experiment, prepare, start_state, state_sharding
from training.flag_text import parse_flag_lines
from training.members import members_of
from training.runtime.checkpoints import open_checkpoints, restore_latest
from training.runtime.devices import resolve_mesh
from training.state import State


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
        ValueError: the directory holds no run, or no checkpoint yet.
    """
    path = Path(workdir)
    if not (path / "run.flags").is_file():
        raise ValueError(f"{workdir} holds no run: it has no run.flags.")
    config = parse_flag_lines((path / "run.flags").read_text())
    config = canonical(
        replace(
            config,
            data_dir=data_dir or config.data_dir,
            cache_dir=cache_dir or config.cache_dir,
        )
    )
    experiment = prepare(replace(config, mesh=_mesh_here(config)))
    with open_checkpoints(path) as checkpoints:
        found = restore_latest(
            checkpoints, start_state(experiment), state_sharding(experiment)
        )
    if found is None:
        raise ValueError(f"{workdir} has no checkpoint yet.")
    return experiment, found[0]


def _mesh_here(config: Config) -> str:
    """Return the mesh of a run, or all of this machine's devices if it has fewer."""
    members = len(members_of(config)) if config.seeds else 0
    try:
        return resolve_mesh(config.mesh, members)
    except ValueError:
        return resolve_mesh("", members)
