"""The generated parts of a page that is written by hand."""

import re
from collections.abc import Iterable, Mapping

BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"


def filled(page: str, parts: Mapping[str, str]) -> str:
    """Return a page with the text of each part between its two comments.

    A part that the page does not name is left out.

    Raises:
        ValueError: the page names a part that is not given.
    """

    def part(match: re.Match[str]) -> str:
        name = match[1]
        if name not in parts:
            raise ValueError(f"no part {name!r}; expected one of {', '.join(parts)}.")
        return f"{BEGIN.format(name)}\n{parts[name]}\n{END}"

    return re.sub(BEGIN.format("(.+?)") + ".*?" + END, part, page, flags=re.DOTALL)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown, in whose cells only bars are escaped."""
    cells = [tuple(columns), *rows]
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in cells]
    lines.insert(1, " | ".join(["---"] * len(cells[0])))
    return "\n".join(f"| {line} |" for line in lines)
