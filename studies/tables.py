"""Tables of a comparison: on the terminal and in Markdown."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from studies.comparison import HEADER, NOTE, Line, cells, conclusion


def show(lines: list[Line], console: Console) -> None:
    """Prints the table, a section a quantity, and what follows from the first."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(HEADER[0], overflow="fold")
    for name in HEADER[1:]:
        table.add_column(name, no_wrap=True, justify="right")
    for name, rows in cells(lines).items():
        table.add_section()
        table.add_row(f"[bold]{name}[/bold]")
        for row in rows:
            table.add_row(*map(escape, row))
    console.print(table)
    for sentence in conclusion(lines):
        console.print(sentence, highlight=False, markup=False)
    console.print(NOTE, style="dim", highlight=False)


def markdown(lines: list[Line]) -> str:
    """The same as Markdown, what follows first."""
    parts = ["\n".join(f"- {sentence}" for sentence in conclusion(lines))]
    for name, rows in cells(lines).items():
        parts.append(f"**{name}**\n\n{markdown_table(HEADER, rows)}")
    return "\n\n".join([*parts, NOTE]) + "\n"


def markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown, bars within cells kept."""
    lines = [header, ("---",) * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
