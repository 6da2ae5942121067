"""The pages of the reference, each generated from a registry of the code."""

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields
from itertools import groupby
from pathlib import Path

import dropout
from dropout import SCHEDULES, VARIANTS, Variant
from dropout.grammar import option_types
from pages.families import FAMILIES, family
from pages.formulas import typeset
from pages.sites import models_page
from pages.table import kinds, options, sections, table
from training.config import Config

ROOT = Path(__file__).parent.parent
FRAMEWORKS = ("nnx", "linen", "equinox")  # modules of `dropout` that attach a plan
UNBOUNDED = 10**9  # what a bound of a flag stands for that is there for the type
PARTS = ("Formula", "Mask", "At test", "Domain", "Source")
SITE_OF_KIND = {
    "activation": "conv1",
    "input": "input",
    "kernel": "fc/kernel",
    "window": "pool1/window",
    "state": "lstm/state",
    "branch": "block*/branch",
    "branches": "block*/branches",
    "pre": "fc/pre",
    "logits": "block*/attention/logits",
    "weights": "block*/attention/weights",
    "act": "conv*/act",
}


def reference_pages() -> dict[str, str]:
    """Return the text of each page of the reference, by its path within `docs/`."""
    return {
        "reference/api.md": api_page(),
        "reference/flags.md": flags_page(),
        "reference/schedules.md": schedules_page(),
        "reference/scripts.md": scripts_page(),
        "reference/sites.md": models_page(),
        "reference/variants.md": variants_page(),
    }


def variants_page() -> str:
    """Return the page with a section for each variant."""
    lines = [
        "# Variants",
        "Every variant is a pure function `variant(key, x, rate)`, and is exported by "
        "`dropout` under its name. [One table](../variants.md) compares all of them.",
    ]
    for name, group in groupby(VARIANTS.values(), family):
        lines.append(f"## {FAMILIES[name] if name in FAMILIES else name}")
        for entry in group:
            lines += variant_section(entry)
    return paragraphs(lines)


def variant_section(entry: Variant) -> Iterator[str]:
    """Yield the paragraphs on one variant."""
    described = sections(entry)
    yield f"### {entry.name} {{ #{entry.name} }}"
    yield described["what"]
    yield f"![{entry.name} at rates 0.1, 0.3 and 0.6](variants/{entry.name}.png)"
    site = SITE_OF_KIND[entry.kinds[0]]
    yield f"```\n--dropout='{site}:{entry.name}:{example_rate(entry)}'\n```"
    for part in PARTS:
        yield f"**{part}.** {sentence(typeset(described[part]))}"
    facts = [f"**Acts at.** {kinds(entry)}."]
    given = ", ".join(options(entry))
    yield " ".join([*facts, *([f"**Options.** {given}."] if given else [])])
    for law, reason in entry.exempt.items():
        yield f"**The law *{law}* does not hold:** {reason}."


def sentence(text: str) -> str:
    """Return text that starts with a capital, unless a formula starts it."""
    return text[0].upper() + text[1:]


def example_rate(entry: Variant) -> float:
    """Return a rate within the variant's domain for an example."""
    return 0.2 if entry.learned is None else 0.1


def schedules_page() -> str:
    """Return the page with a section for each schedule."""
    lines = [
        "# Schedules",
        "A schedule multiplies a rate by a factor in [0, 1] that depends on the step. "
        "Write it after the rate, `fc:bernoulli:0.5@early(until=0.2)`. A time is a "
        "fraction of the run; with `unit='steps'` or `unit='epochs'` it is counted in "
        "those. Rates are traced: one compilation serves all schedules.",
        "![Every schedule over a run](../images/schedules.png)",
    ]
    for name, function in SCHEDULES.items():
        text, _, _ = inspect.cleandoc(function.__doc__ or "").partition("\n\nRaises:")
        lines += [f"## {name}", typeset(" ".join(text.split()))]
        given = ", ".join(f"`{option}`" for option in defaults(function))
        lines.append(f"**Options.** {given}." if given else "No options.")
    return paragraphs(lines)


def defaults(function) -> Iterator[str]:
    """Yield each option of a function with its default, as in flags."""
    parameters = inspect.signature(function).parameters
    for name in option_types(function):
        default = parameters[name].default
        required = default is inspect.Parameter.empty
        yield f"{name}=..." if required else f"{name}={default!r}"


def flags_page() -> str:
    """Return the page with a table for each group of flags of `train.py`."""
    lines = [
        "# Flags",
        "Every flag of `python train.py`; `python train.py --help` prints them too. "
        "`--flagfile=FILE` reads flags from a file, and the last of several values "
        "counts.",
    ]
    groups: dict[str, list[Field]] = {}
    for item in fields(Config):
        groups.setdefault(item.metadata["group"], []).append(item)
    for group, items in groups.items():
        lines.append(f"## {group.capitalize()}")
        columns = ("flag", "default", "meaning", "allowed")
        lines.append("\n".join(table(columns, map(flag_cells, items))))
    return paragraphs(lines)


def flag_cells(item: Field) -> tuple[str, ...]:
    """Return the cells of one flag's line."""
    default = str(item.default)
    return (
        f"`--{item.name}`",
        f"`{default}`" if default else "",
        item.metadata["help"],
        allowed_text(item.metadata["allowed"]),
    )


def allowed_text(allowed: tuple) -> str:
    """Return the values that a flag allows, as choices or a range."""
    if not allowed or isinstance(allowed[0], str):
        return ", ".join(f"`{choice}`" for choice in allowed)
    low, high = max(allowed[0], 0), allowed[1]
    return f"at least {low:g}" if high >= UNBOUNDED else f"{low:g} to {high:,}"


def scripts_page() -> str:
    """Return the page with the docstring of each script."""
    lines = [
        "# Scripts",
        "Each script lists its flags with `--help`. The scripts of studies take every "
        "[flag of a run](flags.md) too.",
    ]
    for path in (ROOT / "train.py", *sorted((ROOT / "scripts").glob("*.py"))):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines += [f"## {path.relative_to(ROOT)}", *map(commands, text.split("\n\n"))]
    return paragraphs(lines)


def commands(paragraph: str) -> str:
    """Return a paragraph of a docstring, as a block of code if it has commands."""
    lines = inspect.cleandoc(paragraph)
    return f"```\n{lines}\n```" if lines.startswith("python ") else lines


def api_page() -> str:
    """Return the page on the other functions and classes that `dropout` exports."""
    lines = [
        "# API",
        "What `dropout` exports beside the [variants](variants.md) and "
        "[schedules](schedules.md), which are in the dictionaries `VARIANTS` and "
        "`SCHEDULES` by name.",
        *(f"::: {path}" for path in exported()),
    ]
    modules = [n for n in FRAMEWORKS if (ROOT / "dropout" / f"{n}.py").exists()]
    return paragraphs([*lines, *(f"::: dropout.{module}" for module in modules)])


def exported() -> Iterable[str]:
    """Yield the full path of each exported function and class but the variants."""
    for name in dropout.__all__:
        value = getattr(dropout, name)
        if name not in VARIANTS and callable(value):
            defined = getattr(value, "__module__", "dropout")
            yield f"{defined if defined.startswith('dropout') else 'dropout'}.{name}"


def paragraphs(lines: Iterable[str]) -> str:
    """Return paragraphs as a page."""
    return "\n\n".join(lines) + "\n"
