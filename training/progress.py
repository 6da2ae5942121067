"""The live progress bar, silent where the output is no terminal."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

NUMBERS = (
    "loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:6.2%}  "
    "{task.fields[pace]:,.0f} images/s"
)


def progress_bar() -> Progress:
    """A bar over steps with loss, accuracy, images per second and the time left."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.completed}/{task.total} steps"),
        BarColumn(),
        TextColumn(NUMBERS),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
