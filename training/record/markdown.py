"""Texts of users in Markdown: shown as they are, whatever they contain."""

import re


def literal(text: str) -> str:
    """Escape a text for Markdown: the stars of a plan are no emphasis."""
    return re.sub(r"([\\`*_|\[\]<>&#!~])", r"\\\1", text)


def fenced(lines: list[str]) -> str:
    """Return lines as a block of code, in a fence that none of them can end."""
    text = "\n".join(lines)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
