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
from rich.text import Text

Item = TypeVar("Item")

NUMBERS = "loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:6.2%}"


class Pace(ProgressColumn):
    """A column of images per second, computed when the bar is drawn: 0.1 ms."""

    def render(self, task: Task) -> Text:
        """Return the pace of the last steps."""
        return Text(f"{(task.speed or 0) * task.fields['images']:,.0f} images/s")


def progress_bar() -> Progress:
    """Return a bar over steps with loss, accuracy, images per second and the time left.

    A task has the fields `loss`, `accuracy` and `images`, those of a step.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.completed}/{task.total} steps"),
        BarColumn(),
        TextColumn(NUMBERS),
        Pace(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


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
