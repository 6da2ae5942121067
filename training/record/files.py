"""Files of the run record: written whole or not at all, and read with care."""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.runtime.processes import by_leader

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SQLITE_FULL = "database or disk is full"


class Damaged(ValueError):
    """A file of a record that is missing, cut short or not of this record."""


@contextlib.contextmanager
def space_needed(workdir: Path) -> Iterator[None]:
    """Raise an error of one line if the block runs out of space.

    Raises:
        ValueError: no space is left, whichever library noticed it.
    """
    try:
        yield
    except Exception as error:
        if says_no_space(error):
            raise ValueError(
                f"no space is left to write to {workdir}; what was saved before is "
                "whole. Once there is space, rerun the same command to resume."
            ) from error
        raise


def says_no_space(error: BaseException) -> bool:
    """Return whether an error comes from a full disk, whichever library met it."""
    # Libraries wrap what the system said in errors of their own, or only quote it.
    quoted = "\n".join(traceback.format_exception(error))
    return any(text in quoted for text in (*map(os.strerror, NO_SPACE), SQLITE_FULL))


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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name to write to; the whole file then replaces `path`.

    Of processes that write the same file at once, the last one's file stays. A symbolic
    link at `path` is replaced, and what it points to is left alone.
    """
    name = f".{path.stem}-{secrets.token_hex(8)}.partial{path.suffix}"
    temporary = path.with_name(name)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # Not every file system can sync a directory.
        _sync(path.parent)


@by_leader
def remove_partial_files(workdir: Path) -> None:
    """Remove what a process that was killed had begun to write with `replacing`.

    The caller holds the workdir's lock, so that nobody writes such a file now.
    """
    for path in workdir.glob(".*.partial*"):
        path.unlink(missing_ok=True)


@by_leader
def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def _sync(path: Path) -> None:
    """Wait until a file is on the disk, or a power cut after its rename may lose it."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process is in a block with the lock at `path`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o666), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_summary(workdir: Path) -> dict[str, Any]:
    """Return the summary of a finished run.

    Raises:
        Damaged: the file is damaged, or says no step.
    """
    path = workdir / "summary.json"
    found = parse_object(path, read_text(path))
    if "steps" not in found:
        raise Damaged(f"{path} has no 'steps'; expected a finished run.")
    return found


def read_text(path: Path) -> str:
    """Return the text of a file of the record.

    Raises:
        Damaged: the file is missing or damaged.
    """
    try:
        return path.read_text()
    except (FileNotFoundError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def parse_object(path: Path, text: str) -> dict[str, Any]:
    """Return the JSON object that a text of a file holds.

    Raises:
        Damaged: the file is damaged.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(found, dict):
        raise _damaged(path, repr(text[:40]))
    return found


def _damaged(path: Path, reason: str) -> Damaged:
    return Damaged(
        f"{path} is damaged ({reason}); expected JSON. Move it away and rerun the "
        "same command to write it again."
    )
