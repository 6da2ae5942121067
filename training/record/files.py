"""The run record: flags, metrics, summary, events; readable without this project."""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key

from dropout import Moment, Row, Timeline, bind, kind_of, rows_at
from dropout.sites import Generator
from models.layers import pool_2x2
from training.config import Config, differences, flag_lines, parse_flag_lines
from training.runtime.processes import by_leader

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint")


def claim(workdir: Path, config: Config) -> None:
    """Writes `run.flags`, or checks that the run recorded there is the same.

    Raises:
        ValueError: the workdir holds another run, is no directory, or can't be written.
    """
    path = workdir / "run.flags"
    if not path.exists():
        write_atomically(path, flag_lines(config))
        return
    try:
        recorded = parse_flag_lines(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"cannot read {path}: {error} Expected the flags of a run of this version; "
            "give another --workdir."
        ) from None
    changed = differences(recorded, config)
    if changed:
        raise ValueError(
            f"--workdir={workdir} holds a different run: {'; '.join(changed)}. "
            "Give its flags, or another --workdir."
        )


@contextlib.contextmanager
def space_needed(workdir: Path) -> Iterator[None]:
    """Says in one line if the block runs out of space.

    Raises:
        ValueError: there is none left, for whichever of the libraries found out.
    """
    try:
        yield
    except Exception as error:
        # Orbax wraps what the system said in errors of its own, or only quotes it.
        quoted = "\n".join(traceback.format_exception(error))
        if any(os.strerror(code) in quoted for code in NO_SPACE):
            raise ValueError(
                f"no space is left to write to {workdir}; what was saved before is "
                "whole. Once there is space, the same command goes on from there."
            ) from error
        raise


def make_directory(flag: str, path: str) -> Path:
    """A flag's directory, made where it is missing.

    Raises:
        ValueError: it is a file, or cannot be made or written to.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise ValueError(
            f"--{flag}={path}: expected a directory that can be written "
            f"({error.strerror})."
        ) from None
    return Path(path)


@by_leader
def write_atomically(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text)
    os.replace(temporary, path)


@by_leader
def append_line(workdir: Path, line: dict[str, Any]) -> None:
    """Adds one JSON object to `metrics.jsonl`."""
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(finite(line), allow_nan=False) + "\n")


def finite(line: dict[str, Any]) -> dict[str, Any]:
    """A line in which numbers that are not finite are None: JSON has no others."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }


def metrics_size(workdir: Path) -> int:
    """The length of `metrics.jsonl` in bytes."""
    path = workdir / "metrics.jsonl"
    return path.stat().st_size if path.exists() else 0


@by_leader
def truncate_metrics(workdir: Path, size: int) -> None:
    """Takes back the lines that are later than the checkpoint that training goes on."""
    (workdir / "metrics.jsonl").touch()
    os.truncate(workdir / "metrics.jsonl", size)


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`.

    Raises:
        ValueError: the file is damaged.
    """
    path = workdir / "metrics.jsonl"
    return [_object(path, line) for line in _text(path).splitlines()]


def read_summary(workdir: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        ValueError: the file is damaged.
    """
    path = workdir / "summary.json"
    return _object(path, _text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(found, dict):
        raise _damaged(path, repr(text[:40]))
    return found


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is damaged ({reason}); expected JSON. Once it is moved away the same "
        "command writes it again."
    )


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, with the device and the platform."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **found,
        "device": f"{device.platform} {device.device_kind}",
    }


def circumstances(mesh: Mesh) -> dict[str, Any]:
    """What a run's bits depend on besides its flags: code, versions and devices."""
    device = mesh.devices.flat[0]
    return {
        "commit": commit(),
        "devices": {
            "kind": f"{device.platform} {device.device_kind}",
            "count": mesh.size,
            "processes": jax.process_count(),
            "machine": platform.machine(),
        },
        "versions": versions(),
    }


def commit() -> str | None:
    """The git commit of the code, with `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:  # No git here.
        return None
    return found.stdout.strip() or None


def digest(tree: Any) -> str:
    """A SHA-256 over the names, shapes and bytes of a tree's arrays."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(jax.device_get(leaf))
        found.update(f"{jax.tree_util.keystr(path)}{array.shape}{array.dtype}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def masks_digest(
    rows: tuple[Row, ...], timeline: Timeline, key: Key[Array, ""], bits: Generator
) -> str:
    """A digest of what each site's rule makes of a fixed probe of ones.

    The probe is eight examples of shape 4x4x8 at half of the run.
    """
    step = timeline.total // 2
    moment = Moment(key, jnp.arange(8), step // timeline.steps_per_epoch, step)
    drop = bind(rows_at(rows, step, timeline), moment, "train", bits)
    return digest({row.site: drop(row.site, *_probe(row.site)) for row in rows})


def _probe(site: str) -> tuple:
    ones = jnp.ones((8, 4, 4, 8))
    others = {
        "kernel": (jnp.ones((8, 8)), jnp.matmul),
        "window": (pool_2x2,),
        "state": (jnp.zeros_like(ones),),
        "branches": (jnp.zeros_like(ones),),
    }
    kind = kind_of(site)
    return (ones, *others[kind]) if kind in others else (ones,)
