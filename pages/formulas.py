r"""Formulas in the plain text of docstrings, typeset as TeX.

A docstring says `y = m x / q, m ~ Bernoulli(q)` between words. What reads as a formula
is set as `$y = \frac{m x}{q}$`; words stay as they are. The grammar is the one of the
docstrings: a product is a space, `/` divides the products around it, and `_` and `^`
start a subscript and an exponent.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

TOKEN = re.compile(
    r"\d+(?:\.\d+)?(?:e-\d+)?|length_scale|[A-Za-z]+\d*|\.\.\.|<=|>=|[-+*/^_=~<>()\[\],|]|`[^`]*`|\"[^\"]*\"|\S"
)
GREEK = {"alpha", "beta", "gamma", "theta", "pi"}
FUNCTIONS = {"max", "min", "log", "exp", "cos"}
FONTS = {"N": r"\mathcal{N}", "U": r"\mathcal{U}", "E": r"\mathbb{E}", "sum": r"\sum"}
WORDS = {
    "rate", "sigmoid", "logit", "std", "Bernoulli", "Var", "round", "floor", "sqrt",
    "score", "first", "second", "new", "step", "start", "end", "total", "until",
    "every", "phase", "temperature", "decay", "slope", "kept", "conv",
    "out", "length_scale", "period",
}  # fmt: skip
NAMES = GREEK | FUNCTIONS | set(FONTS) | WORDS
RELATIONS = {"=": "=", "~": r"\sim", "<=": r"\le", ">=": r"\ge", "<": "<", ">": ">"}
SIGNS = {"+": "+", "-": "-"}
BRACKETS = {"(": ")", "[": "]", "|": "|"}
OPERATORS = {*RELATIONS, *SIGNS, "/", "^", "_", "["}


class Token(NamedTuple):
    """One token, with its position in the text."""

    text: str
    start: int
    end: int


TexTokens = tuple[Token, ...]
Parsed = tuple[str, TexTokens]  # TeX, and the tokens that follow it.


class NotAFormula(ValueError):
    """Tokens that are words, or a formula that ends in the middle."""


def typeset(text: str) -> str:
    """Return the text with every formula replaced by TeX between dollar signs."""
    tokens = tokens_of(text)
    pieces, position = [], 0
    while tokens:
        found = longest_formula(tokens)
        if found is None:
            tokens = tokens[1:]
            continue
        tex, rest = found
        last = tokens[len(tokens) - len(rest) - 1]
        pieces += [text[position : tokens[0].start], f"${tex}$"]
        position, tokens = last.end, rest
    return "".join([*pieces, text[position:]])


def tokens_of(text: str) -> TexTokens:
    """Return the tokens of a text."""
    return tuple(Token(m[0], *m.span()) for m in TOKEN.finditer(text))


def longest_formula(tokens: TexTokens) -> Parsed | None:
    """Return the longest formula that starts at the first token, if there is one.

    A single name or number, or a list in brackets, is not a formula.
    """
    if tokens[0].text in SIGNS:
        return None
    try:
        tex, rest = statement(tokens)
    except NotAFormula:
        return None
    used = tokens[: len(tokens) - len(rest)]
    calls = any(a.text in NAMES and joined(a, b, "(") for a, b in zip(used, used[1:]))
    if not calls and not OPERATORS & {token.text for token in used}:
        return None
    return tex, rest


def statement(tokens: TexTokens) -> Parsed:
    """Read sums between relations: `y = x`, `a_1 <= ... <= a_n`."""
    tex, tokens = expression(tokens)
    while tokens and tokens[0].text in RELATIONS:
        try:
            right, rest = expression(tokens[1:])
        except NotAFormula:
            break
        tex, tokens = f"{tex} {RELATIONS[tokens[0].text]} {right}", rest
    return tex, tokens


def expression(tokens: TexTokens) -> Parsed:
    """Read quotients between signs."""
    sign = SIGNS[tokens[0].text] if tokens and tokens[0].text in SIGNS else ""
    tex, tokens = quotient(tokens[1:] if sign else tokens)
    tex = sign + tex
    while tokens and tokens[0].text in SIGNS:
        try:
            right, rest = quotient(tokens[1:])
        except NotAFormula:
            break
        tex, tokens = f"{tex} {SIGNS[tokens[0].text]} {right}", rest
    return tex, tokens


def quotient(tokens: TexTokens) -> Parsed:
    """Read products, each divided by the next."""
    tex, tokens = product(tokens)
    while tokens and tokens[0].text == "/":
        below, tokens = product(tokens[1:])
        tex = rf"\frac{{{bare(tex)}}}{{{bare(below)}}}"
    return tex, tokens


def product(tokens: TexTokens) -> Parsed:
    """Read factors side by side."""
    tex, tokens = power(tokens)
    while True:
        try:
            factor, rest = power(tokens)
        except NotAFormula:
            break
        if tokens[0].text[0].isdigit():  # "temperature 2": words, and no product
            break
        tex, tokens = rf"{tex} \, {factor}", rest
    if tex.removeprefix("\\") in FUNCTIONS:
        raise NotAFormula
    return tex, tokens


def power(tokens: TexTokens) -> Parsed:
    """Read a factor with its subscript and its exponent."""
    tex, tokens = atom(tokens)
    for mark in ("_", "^"):
        if tokens and tokens[0].text == mark:
            raised, tokens = raised_part(tokens[1:])
            tex = f"{tex}{mark}{{{raised}}}"
    return tex, tokens


def raised_part(tokens: TexTokens) -> Parsed:
    """Read what stands above or below: `2`, `-1/2`, `kept`, or a sum in brackets."""
    sign = "-" if tokens and tokens[0].text == "-" else ""
    tokens = tokens[1:] if sign else tokens
    tex, rest = atom(tokens)
    if len(rest) > 1 and joined(tokens[0], rest[0], "/"):
        return f"{sign}{tex}/{rest[1].text}", rest[2:]
    return sign + bare(tex), rest


def atom(tokens: TexTokens) -> Parsed:
    """Read a number, a name, a function of something, or a list in brackets."""
    if not tokens:
        raise NotAFormula
    first, rest = tokens[0], tokens[1:]
    word = first.text
    if first.text in BRACKETS:
        return bracketed(tokens)
    if first.text == "...":
        return r"\ldots", rest
    if word[0].isdigit():
        return word, rest
    raised = word.isalpha() and bool(rest) and joined(first, rest[0], "^")
    if not (word in NAMES or re.fullmatch(r"[A-Za-z]\d*", word) or raised):
        raise NotAFormula
    if rest and (joined(first, rest[0], "(") or joined(first, rest[0], "[")):
        argument, rest = bracketed(rest)
        if word == "sqrt":
            return rf"\sqrt{{{bare(argument)}}}", rest
        return name(word) + argument, rest
    return name(word), rest


def bracketed(tokens: TexTokens) -> Parsed:
    """Read a list in brackets."""
    opening, parts = tokens[0].text, []
    rest = tokens
    while not parts or (rest and rest[0].text == ","):
        part, rest = statement(rest[1:])
        parts.append(part)
    if not rest or rest[0].text != BRACKETS[opening]:
        raise NotAFormula
    inner = ", ".join(parts)
    return rf"\left{opening}{inner}\right{BRACKETS[opening]}", rest[1:]


def name(word: str) -> str:
    """Return a name in its font: one letter slanted, a word upright."""
    if word in FONTS:
        return FONTS[word]
    if word in GREEK | FUNCTIONS:
        return "\\" + word
    letter = word.rstrip("0123456789")
    digits = word[len(letter) :]
    upright = letter.replace("_", r"\_")
    letter = letter if len(letter) == 1 else rf"\text{{{upright}}}"
    return f"{letter}_{{{digits}}}" if digits else letter


def bare(tex: str) -> str:
    """Return TeX without brackets around all of it, since a fraction needs none."""
    inner = re.fullmatch(r"\\left\((.*)\\right\)", tex)
    if inner is None or any(depth < 0 for depth in depths(inner[1])):
        return tex
    return inner[1]


def depths(tex: str) -> Iterator[int]:
    """Yield how many brackets are open after each bracket."""
    depth = 0
    for bracket in re.findall(r"\\(left|right)", tex):
        depth += 1 if bracket == "left" else -1
        yield depth


def joined(first: Token, second: Token, mark: str) -> bool:
    """Return whether a mark follows a token without a space."""
    return second.text == mark and first.end == second.start
