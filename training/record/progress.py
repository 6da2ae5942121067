"""The live progress bar, silent where the output is no terminal."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    track,
)
from rich.table import Column
from rich.text import Text

Item = TypeVar("Item")


class Pace(ProgressColumn):
    """A column of images per second, computed when the bar is shown (0.1 ms)."""

    def render(self, task: Task) -> Text:
        """Return the pace of the last steps."""
        return Text(f"{(task.speed or 0) * task.fields['images']:,.0f} images/s")


def progress_bar() -> Progress:
    """Return a bar over steps with numbers, images per second and the time left.

    A task has the fields `numbers`, a text, and `images`, those of a step. The bar
    takes the width that the others leave, so that all fit in one line of a terminal.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.completed}/{task.total}", table_column=Column(no_wrap=True)),
        BarColumn(None, table_column=Column(ratio=1)),
        TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True)),
        Pace(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        console=console,
        expand=True,
        disable=not console.is_terminal,
    )


def numbers_text(loss: float, accuracy: float, test: float | None) -> str:
    """Return the numbers beside the bar: those of a step, and the last test's."""
    tested = "" if test is None else f", test {test:.1%}"
    return f"loss {loss:.3g}, accuracy {accuracy:.1%}{tested}"


def steps_shown(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Return the items, with a bar that moves as they are taken and goes at the end."""
    console = Console(stderr=True)
    return track(
        items,
        description=description,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
