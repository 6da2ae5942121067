"""Tables of a comparison: on the terminal and in Markdown."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from studies.comparison import TableLine
from studies.verdicts import cells, conclusion, header, note
from training.record.markdown import literal

LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def show(
    lines: list[TableLine], console: Console, remarks: tuple[str, ...] = ()
) -> None:
    """Print the table, one section per quantity, the conclusion and the remarks.

    If the console is too narrow for the names of the arms, numbers replace them.
    """
    found, columns = cells(lines), header(lines)
    names = [row[0] for row in next(iter(found.values()))]
    labels = {name: name for name in names}
    if _width([columns], *found.values()) > console.width:
        labels = {name: str(number) for number, name in enumerate(names, 1)}
        for name, label in labels.items():
            console.print(Text(f"{label:>3}  {name}", overflow="fold"))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(columns[0])
    for name in columns[1:]:
        table.add_column(_broken(name), no_wrap=True, justify="right")
    for quantity, rows in found.items():
        table.add_section()
        table.add_row(f"[bold]{quantity}[/bold]")
        for name, *values in rows:
            # The last cell can be the name of an arm, too.
            shown = [labels[v] if v in labels else v for v in values]
            table.add_row(Text(labels[name]), *map(Text, shown))
    console.print(table)
    for sentence in conclusion(lines):
        console.print(sentence, highlight=False, markup=False)
    for text in (note(lines), *remarks):
        console.print(text, style="dim", highlight=False, markup=False)


def _width(*parts: list[tuple[str, ...]]) -> int:
    """Return the width of a table in which each column is as wide as its content."""
    rows = [row for part in parts for row in part]
    return sum(
        max(len(line) for cell in column for line in _broken(cell).split("\n")) + 2
        for column in zip(*rows)
    )


def _broken(header: str) -> str:
    """Return a header, split into two lines if it has two parts."""
    return header.replace("p, ", "p,\n")


def markdown(lines: list[TableLine], remarks: tuple[str, ...] = ()) -> str:
    """Return the conclusion, the table and the remarks in Markdown."""
    parts = ["\n".join(f"- {literal(sentence)}" for sentence in conclusion(lines))]
    for name, rows in cells(lines).items():
        parts.append(f"**{name}**\n\n{markdown_table(header(lines), rows)}")
    return "\n\n".join([*parts, *map(literal, (note(lines), *remarks))]) + "\n"


def latex(lines: list[TableLine]) -> str:
    """Return the table as a LaTeX tabular, for the package booktabs."""
    columns = header(lines)
    width = len(columns)
    rows = [
        f"\\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        "\\toprule",
        _latex_row(columns),
    ]
    for quantity, found in cells(lines).items():
        title = f"\\multicolumn{{{width}}}{{l}}{{\\textbf{{{_latex(quantity)}}}}}"
        rows += ["\\midrule", f"{title} \\\\", *map(_latex_row, found)]
    comment = [f"% {text}" for text in (*conclusion(lines), note(lines))]
    return "\n".join([*comment, *rows, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _latex_row(row: tuple[str, ...]) -> str:
    return f"{' & '.join(map(_latex, row))} \\\\"


def _latex(text: str) -> str:
    """Return a text that LaTeX shows as it is."""
    return "".join(LATEX[letter] if letter in LATEX else letter for letter in text)


def markdown_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown, its cells shown literally."""
    lines = [header, ("---",) * len(header), *rows]
    escaped = [[literal(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
