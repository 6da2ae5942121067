"""The small language of flags: `name` or `name(option=value, ...)`.

Values are Python literals, read with `ast.literal_eval`; nothing is executed. Plans,
schedules, models, optimisers and learning-rate schedules all share it. The name of a
network of a user's own is `package.module:name`.
"""

import ast
import difflib
import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

# What Python's parser raises for text that is nested too deeply.
TOO_DEEP = (MemoryError, RecursionError)


MODULE = re.compile(r"\s*((?:\w+\.)*\w+:)(.*)", re.DOTALL)
HELD = "[-1e18, 1e18]"  # numbers that fit into 64 bits


@dataclass(frozen=True)
class Interval:
    """The numbers that an option may be: `Annotated[float, Interval("[0, 1)")]`.

    A round bracket leaves its bound out.
    """

    text: str


@dataclass(frozen=True)
class Call:
    """A name with its options in canonical order; hashable, and read from its text."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        if not self.options:
            return self.name
        options = ", ".join(f"{name}={value!r}" for name, value in self.options)
        return f"{self.name}({options})"


def parse_call(text: str) -> Call:
    """Read `name` or `name(option=value, ...)`, with or without `package.module:`.

    Raises:
        ValueError: `text` has another form, or a value is not a literal.
    """
    found = MODULE.fullmatch(text)
    module, rest = found.groups() if found else ("", text)
    try:
        call = _call_of(ast.parse(rest.strip(), mode="eval").body)
        return Call(module + call.name, call.options)
    except (SyntaxError, ValueError, TypeError, *TOO_DEEP):
        raise ValueError(
            f"cannot read {text!r}: expected name or name(option=value, ...)."
        ) from None


def _call_of(node: ast.expr) -> Call:
    if isinstance(node, ast.Name):
        return Call(node.id)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError("neither a name nor a call of one")
    names = [keyword.arg for keyword in node.keywords if keyword.arg]
    if node.args or len(set(names)) < len(node.keywords):
        raise ValueError("an argument without a name, or an option given twice")
    values = [ast.literal_eval(keyword.value) for keyword in node.keywords]
    return Call(node.func.id, tuple(sorted(zip(names, values))))


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a one-character separator that stands outside parentheses."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == separator and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def lookup(kind: str, name: str, registry: Mapping[str, Any]) -> Any:
    """Return the entry called `name`, or raise ValueError with the nearest name."""
    if name not in registry:
        raise ValueError(f"unknown {kind} {name!r}{suggest(name, registry)}.")
    return registry[name]


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return the end of an error message: the nearest name, if any, and all names."""
    allowed = list(allowed)
    near = difflib.get_close_matches(name, allowed, n=1)
    nearest = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{nearest} allowed: {', '.join(allowed) or 'none'}"


def check_options(
    kind: str, call: Call, function: Callable[..., Any], reserved: tuple[str, ...] = ()
) -> None:
    """Check a call's options against the keyword-only parameters of `function`.

    Args:
        kind: what the call names, such as "variant", for messages.
        call: the call to check.
        function: the function whose parameters are the options.
        reserved: further options that are allowed, which the caller checks.

    Raises:
        ValueError: an option that the function does not have, or a value of another
            type or outside the interval with which the option is annotated.
    """
    types_of = option_types(function) if call.options else {}
    for option, value in call.options:
        if option in reserved:
            continue
        if option not in types_of:
            raise ValueError(
                f"{kind} {call.name!r} has no option {option!r}"
                f"{suggest(option, (*types_of, *reserved))}."
            )
        if not _is_of_type(value, types_of[option]):
            raise ValueError(
                f"{call.name}({option}={value!r}): expected "
                f"{_type_text(types_of[option])}."
            )
        _check_numbers(f"{call.name}({option}={value!r})", value, types_of[option])


def lies_in(number: int | float, interval: str) -> bool:
    """Return whether a number lies in an interval such as `[0, 1)`; NaN never does."""
    low, high = map(float, interval[1:-1].split(", "))
    above = number >= low if interval.startswith("[") else number > low
    return above and (number <= high if interval.endswith("]") else number < high)


def _check_numbers(given: str, value: Any, kind: Any) -> None:
    """Check each number of an option: its interval, and that arrays can hold it."""
    if isinstance(value, tuple) and get_origin(kind) is tuple:
        for item in value:
            _check_numbers(given, item, get_args(kind)[0])
    elif isinstance(value, (int, float)):
        limits = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
        texts = [each.text for each in limits if isinstance(each, Interval)]
        for text in (*texts, HELD):
            if not lies_in(value, text):
                raise ValueError(f"{given}: expected a number in {text}.")


def option_types(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only parameters of a function with their annotations."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    keyword_only = (item for item in parameters if item.kind is item.KEYWORD_ONLY)
    return {item.name: hints[item.name] for item in keyword_only}


def _is_of_type(value: Any, expected: Any) -> bool:
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        return _is_of_type(value, arguments[0])
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_is_of_type(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(
            _is_of_type(item, arguments[0]) for item in value
        )
    allowed = (int, float) if expected is float else expected
    return isinstance(value, allowed) and isinstance(value, bool) == (expected is bool)


def _type_text(expected: Any) -> str:
    if get_origin(expected) is Literal:
        return "one of " + ", ".join(map(repr, get_args(expected)))
    if get_origin(expected) is Annotated:
        expected = get_args(expected)[0]
    if get_origin(expected) is tuple:
        return f"tuple[{_type_text(get_args(expected)[0])}, ...]"
    return expected.__name__ if isinstance(expected, type) else str(expected)
