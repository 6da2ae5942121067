"""Files of the run record: written whole or not at all, and read with care."""

import contextlib
import errno
import json
import os
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.config import Config
from training.flag_text import differences, flag_lines, parse_flag_lines
from training.runtime.processes import by_leader

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def claim(workdir: Path, config: Config) -> None:
    """Write `run.flags`, or check that the run recorded there is the same.

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
    """Raise an error of one line if the block runs out of space.

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
                "whole. Once there is space, rerun the same command to resume."
            ) from error
        raise


def make_directory(flag: str, path: str) -> Path:
    """Return a flag's directory, made where it is missing.

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
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text)
    os.replace(temporary, path)


def read_summary(workdir: Path) -> dict[str, Any]:
    """Return the summary of a finished run.

    Raises:
        ValueError: the file is damaged.
    """
    path = workdir / "summary.json"
    return parse_object(path, read_text(path))


def read_text(path: Path) -> str:
    """Return the text of a file of the record.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return path.read_text()
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def parse_object(path: Path, text: str) -> dict[str, Any]:
    """Return the JSON object that a text of a file holds.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(found, dict):
        raise _damaged(path, repr(text[:40]))
    return found


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is damaged ({reason}); expected JSON. Move it away and rerun the "
        "same command to write it again."
    )
