"""Tables of a comparison: on the terminal and in Markdown."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from studies.comparison import HEADER, NOTE, Line, cells, conclusion
from training.record.markdown import literal


def show(lines: list[Line], console: Console) -> None:
    """Print the table, one section per quantity, and the conclusion.

    If the console is too narrow for the names of the arms, numbers replace them.
    """
    found = cells(lines)
    names = [row[0] for row in next(iter(found.values()))]
    labels = {name: name for name in names}
    if _width(found) > console.width:
        labels = {name: str(number) for number, name in enumerate(names, 1)}
        for name, label in labels.items():
            console.print(Text(f"{label:>3}  {name}", overflow="fold"))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(HEADER[0])
    for name in HEADER[1:]:
        table.add_column(_broken(name), no_wrap=True, justify="right")
    for quantity, rows in found.items():
        table.add_section()
        table.add_row(f"[bold]{quantity}[/bold]")
        for name, *values in rows:
            table.add_row(Text(labels[name]), *map(Text, values))
    console.print(table)
    for sentence in conclusion(lines):
        console.print(sentence, highlight=False, markup=False)
    console.print(NOTE, style="dim", highlight=False)


def _width(found: dict[str, list[tuple[str, ...]]]) -> int:
    """Return the width of a table in which each column is as wide as its content."""
    rows = [HEADER, *(row for rows in found.values() for row in rows)]
    return sum(
        max(len(line) for cell in column for line in _broken(cell).split("\n")) + 2
        for column in zip(*rows)
    )


def _broken(header: str) -> str:
    """Return a header, split into two lines if it has two parts."""
    return header.replace("p, ", "p,\n")


def markdown(lines: list[Line]) -> str:
    """Return the conclusion and the table in Markdown."""
    parts = ["\n".join(f"- {literal(sentence)}" for sentence in conclusion(lines))]
    for name, rows in cells(lines).items():
        parts.append(f"**{name}**\n\n{markdown_table(HEADER, rows)}")
    return "\n\n".join([*parts, NOTE]) + "\n"


def markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown, its cells shown literally."""
    lines = [header, ("---",) * len(header), *rows]
    escaped = [[literal(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
