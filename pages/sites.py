"""The page that lists the sites of every network, recorded from the networks."""

import inspect
import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from dropout import Site, kind_of, record_sites
from dropout.grammar import Call, option_types
from models import MODELS, constructor, create
from pages.table import table

IMAGE = (28, 28, 1)
CLASSES = 10
COLUMNS = ("sites", "kind", "shape of the first", "how many")


def models_page() -> str:
    """Return the page that describes each network, its options and its sites."""
    size = "x".join(map(str, IMAGE))
    lines = [
        "# Sites of every network",
        f"The sites of each network with its default options, on one image of {size}, "
        "in the order of their calls. Numbers are replaced by `*`, which a plan takes "
        "as it stands. [Where sites lie](../sites.md) says what each name means; "
        "`python train.py --model=MODEL --dropout=none --dry_run` prints them all.",
    ]
    for name in MODELS:
        lines += [f"## {name}", *described(name)]
        lines.append("\n".join(table(COLUMNS, site_rows(name))))
    return "\n\n".join(lines) + "\n"


def described(name: str) -> Iterator[str]:
    """Yield the description of a network, and its options with their defaults."""
    text, _, _ = inspect.cleandoc(MODELS[name].__doc__ or "").partition("\n\nArgs:")
    yield text
    function = constructor(MODELS[name])
    parameters = inspect.signature(function).parameters
    given = (f"{o}={parameters[o].default!r}" for o in option_types(function))
    yield f'```\n--model="{name}({", ".join(given)})"\n```'


def site_rows(name: str) -> Iterator[tuple[str, ...]]:
    """Yield a line for each pattern of sites, in the order of their first calls."""
    patterns: dict[str, list[Site]] = {}
    for site in sites_of(name):
        patterns.setdefault(re.sub(r"\d+", "*", site.name), []).append(site)
    for pattern, found in patterns.items():
        shown = found[0].name if len(found) == 1 else pattern
        shape = "x".join(map(str, found[0].shape))
        yield f"`{shown}`", kind_of(found[0].name), shape, str(len(found))


def sites_of(name: str) -> tuple[Site, ...]:
    """Return the sites of a network, whose parameters are only traced."""

    def call(drop):
        network = create(Call(name), IMAGE, CLASSES, jax.random.key(0))
        return network(jnp.zeros((1, *IMAGE)), drop)

    return record_sites(call)
