"""A workdir holds the record of one run, on the same data and files throughout."""

import json
import os
from dataclasses import replace
from pathlib import Path

from training.config import Config
from training.flag_text import differences, flag_lines, parse_flag_lines
from training.own_files import file_digests
from training.record.files import Damaged, parse_object, read_text, write_atomically

DATA = "data.json"
FILES = "files.json"


def write_or_check(workdir: Path, config: Config, data: str) -> None:
    """Write `run.flags` and the digest of the data, or check those recorded there.

    Raises:
        ValueError: the workdir holds another run, is no directory, or can't be written.
    """
    path = workdir / "run.flags"
    if not path.exists():
        write_atomically(path, flag_lines(config))
    else:
        check_flags(path, config)
    write_or_check_data(workdir / DATA, data)
    write_or_check_files(workdir / FILES, config)


def write_or_check_files(path: Path, config: Config) -> None:
    """Write the digests of the user's own files, or check those recorded there.

    Raises:
        ValueError: a file has changed since the run began.
    """
    changes = changed_files(path, config)
    if changes:
        raise ValueError(
            f"{'; '.join(changes)} since {path.parent} began. Restore what it was, or "
            "give another --workdir."
        )
    found = file_digests(config.model, config.plugins, config.init)
    if found and not path.exists():
        write_atomically(path, json.dumps(found, indent=2) + "\n")


def changed_files(path: Path, config: Config) -> list[str]:
    """Return which of the user's own files differ from those recorded, in words."""
    if not path.exists():
        return []
    recorded = parse_object(path, read_text(path))
    found = file_digests(config.model, config.plugins, config.init)
    return [f"{name} has changed" for name in found if found[name] != recorded[name]]


def recorded_config(path: Path) -> Config:
    """Return the configuration in a flagfile, with the algorithm that the run takes.

    Raises:
        ValueError: a line that is no flag of this version.
    """
    config = parse_flag_lines(path.read_text())
    # Earlier versions had one algorithm for convolutions, and no flag that names it.
    before = config.convolution == "auto"
    return replace(config, convolution="windows") if before else config


def with_recorded_algorithm(config: Config) -> Config:
    """Return a configuration with the algorithm that its run has recorded, if any.

    Where the configuration names one itself, or the record is damaged, it is returned
    as it is.
    """
    path = Path(config.workdir, "run.flags")
    if config.convolution != "auto" or not path.is_file():
        return config
    try:
        return replace(config, convolution=recorded_config(path).convolution)
    except (ValueError, OSError):  # `write_or_check` says what is wrong.
        return config


def check_flags(path: Path, config: Config) -> None:
    """Check that a flagfile holds the flags of a run.

    Raises:
        ValueError: they differ, or the file cannot be read.
    """
    try:
        recorded = recorded_config(path)
    except ValueError as error:
        raise Damaged(
            f"cannot read {path}: {error} Expected the flags of a run of this version; "
            "give another --workdir."
        ) from None
    changed = differences(recorded, config)
    if recorded.convolution != config.convolution:
        changed.append(
            f"--convolution is {config.convolution!r}, was {recorded.convolution!r}"
        )
    if changed:
        raise ValueError(
            f"--workdir={path.parent} holds a different run: {'; '.join(changed)}. "
            "Give its flags, or another --workdir."
        )


def write_or_check_data(path: Path, data: str) -> None:
    """Write the digest of the data into a file, or check the one recorded there.

    Raises:
        ValueError: the data differ.
    """
    check_data(path, data)
    if not path.exists():
        write_atomically(path, json.dumps({"sha256": data}) + "\n")


def check_data(path: Path, data: str) -> None:
    """Check that the data are those of a record; one of an earlier version says none.

    Raises:
        ValueError: they differ.
    """
    if path.exists() and parse_object(path, read_text(path)) != {"sha256": data}:
        raise ValueError(
            f"the data are not those with which {path.parent} began: their digest is "
            f"{data[:16]}, and {path} has another. Restore the data, or give another "
            "--workdir."
        )


def check_no_links(workdir: Path) -> None:
    """Check that nothing that is written into a workdir ends up elsewhere.

    Raises:
        ValueError: it contains a symbolic link, as one that was unpacked can.
    """
    for directory, *names in os.walk(workdir):
        for path in (Path(directory, name) for name in sum(names, [])):
            if path.is_symlink():
                raise ValueError(
                    f"{path} is a symbolic link; expected a record without links, "
                    "which would be followed when the run writes. Remove it."
                )
