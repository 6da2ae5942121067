"""Trackers: programs that show a run, beside its own record, while it is training.

Each is a function (workdir, start, settings) -> context manager of a `Tracker` in a
module that is imported when the tracker is named: its client need not be installed.
"""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dropout.grammar import suggest
from training.record.files import says_no_space
from training.runtime.processes import leads

# The module and the function that open each tracker.
TRACKERS = {
    "tensorboard": ("training.record.tensorboard", "open_tensorboard"),
    "wandb": ("training.record.with_wandb", "open_wandb"),
    "mlflow": ("training.record.with_mlflow", "open_mlflow"),
}
NONE = "none"
RUN = "run"  # In the place of a split, for what belongs to none.
PROJECT = "dropout-laboratory"  # What runs are filed under where several are kept.
LONGEST_REASON = 200

AddScalars = Callable[[str, Mapping[str, float], int], None]
AddPicture = Callable[[Path, int], None]
Attempt = Callable[..., Any]


class Tracker(NamedTuple):
    """What a run tells a tracker.

    Attributes:
        add_scalars: adds the values of a split at a step, by their tags.
        add_picture: adds a PNG file at a step.
    """

    add_scalars: AddScalars
    add_picture: AddPicture


def parse_trackers(text: str) -> tuple[str, ...]:
    """Return the trackers that `--tracker` names, each once.

    Raises:
        ValueError: one does not exist.
    """
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if list(names) == [NONE]:
        return ()
    for name in names:
        if name not in TRACKERS:
            raise ValueError(
                f"--tracker={text}: unknown tracker {name!r}"
                f"{suggest(name, (*TRACKERS, NONE))}."
            )
    return tuple(names)


def trackers_text(names: tuple[str, ...]) -> str:
    """Return the text that `parse_trackers` reads."""
    return ",".join(names) or NONE


@contextlib.contextmanager
def open_trackers(
    names: tuple[str, ...], workdir: Path, start: int, settings: Mapping[str, Any]
) -> Iterator[Tracker]:
    """Yield one tracker for all that are named, which the first process alone uses.

    A tracker that fails is left out from then on, after one line on stderr: the run
    and its record do not depend on it. Only a full disk ends the run,
    since the record needs the disk too.

    Args:
        names: the names of the trackers.
        workdir: the directory of the run.
        start: the steps that are done.
        settings: the configuration of the run, by flag.
    """
    with contextlib.ExitStack() as stack:
        opened: list[tuple[Attempt, Tracker]] = []
        for name in names if leads() else ():
            attempt = attempts(name)
            manager = attempt(_manager, name, workdir, start, settings)
            tracker = attempt(manager.__enter__) if manager else None
            if tracker:
                stack.callback(attempt, manager.__exit__, None, None, None)
                opened.append((attempt, tracker))

        def add_scalars(split: str, values: Mapping[str, float], step: int) -> None:
            for attempt, tracker in opened:
                attempt(tracker.add_scalars, split, values, step)

        def add_picture(path: Path, step: int) -> None:
            for attempt, tracker in opened:
                attempt(tracker.add_picture, path, step)

        yield Tracker(add_scalars, add_picture)


def attempts(name: str) -> Attempt:
    """Return a function that calls another one, until a call fails.

    The first failure is told in one line; there is no call after it.
    """
    failed = False

    def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal failed
        if failed:
            return None
        try:
            return function(*arguments)
        except Exception as error:  # Each client has its own kinds.
            if says_no_space(error):
                raise
            failed = True
            print(_warning(name, error), file=sys.stderr)
            return None

    return attempt


def identity_in(path: Path, new: Callable[[], str]) -> str:
    """Return the id that a file holds, or a new one, so that a run keeps its id."""
    if not path.exists():
        path.write_text(new())
    return path.read_text()


def _manager(
    name: str, workdir: Path, start: int, settings: Mapping[str, Any]
) -> contextlib.AbstractContextManager[Tracker]:
    module, function = TRACKERS[name]
    return getattr(importlib.import_module(module), function)(workdir, start, settings)


def _warning(name: str, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
    install = "; pip install -e '.[trackers]' installs it"
    missing = install if isinstance(error, ImportError) else ""
    return f"--tracker={name} is left out from here on ({reason}){missing}."
