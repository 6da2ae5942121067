"""What an abstract pass shows about a network: its sites, and what masks need."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
from jax.extend.core import Jaxpr

from dropout.carried import ACTED, CALLED, OWN, Carried, Counts, Notes, Sharing, Sizes
from dropout.kinds import kind_of
from dropout.occurrences import Occurrence, occurrences
from dropout.recording import Site

Shapes = list[tuple[int, ...]]
Marks = dict[tuple[str, str], Occurrence]

# `(carried, sizes of stacks) -> the program of one pass`, of one framework.
Program = Callable[[Carried, Mapping[str, Sizes]], Jaxpr]


@dataclass(frozen=True)
class Recorded:
    """What is known about the sites of a network.

    Attributes:
        sites: the sites, in the order of their first calls.
        layers: the rate of each Dropout layer, and the axes that share a mask.
        stacks: how many layers each stacked module holds.
        numbered: the sites that are called several times in a pass.
        called: the sites whose keys only the caller's key tells apart.
        refused: the sites whose layers cannot be told apart, with a message each.
    """

    sites: tuple[Site, ...]
    layers: Mapping[str, tuple[float, Sharing]]
    stacks: Mapping[str, Sizes]
    numbered: frozenset[str]
    called: frozenset[str]
    refused: Mapping[str, str]


def record(
    program: Program, branches: tuple[str, ...], leaves: Mapping[str, Shapes]
) -> Recorded:
    """Trace a network abstractly; nothing is computed.

    The first trace shows which modules hold stacked layers: inside of a loop over them
    their arrays have lost an axis. The second one gives each layer its key.

    Args:
        program: traces one pass.
        branches: patterns of the modules whose outputs are branches.
        leaves: the shapes of the arrays of each module, outside of the pass.
    """
    first, none = Notes(), dict.fromkeys(leaves, ())
    program(Carried(branches=branches, counts=Counts(), notes=first), none)
    stacks = _stacks(leaves, first.leaves)
    notes = Notes()
    carried = Carried(
        key=jax.random.key(0), branches=branches, counts=Counts(), notes=notes
    )
    found = occurrences(program(carried, stacks))
    return _digest(found, notes, stacks)


def _digest(
    found: tuple[Occurrence, ...], notes: Notes, stacks: Mapping[str, Sizes]
) -> Recorded:
    marks: Marks = {}
    for occurrence in found:
        what, _, name = occurrence.name.partition(" ")
        marks[what, name] = occurrence
    # A key that no iteration changes may be marked outside of its loop too (`nn.scan`
    # hoists it); what is acted on is where the site is.
    acted = f"{ACTED} "
    names = [
        occurrence.name.removeprefix(acted)
        for occurrence in found
        if occurrence.name.startswith(acted)
    ]
    sites = list(dict.fromkeys(_site(name) for name in names))
    unclear = [name for name in names if not _told_apart(marks, OWN, name)]
    helped = {name for name in unclear if _told_apart(marks, CALLED, name)}
    again = {name for name, count in Counter(names).items() if count > 1}
    per_site = Counter(_site(name) for name in set(names))
    return Recorded(
        sites=tuple(_with_reader(sites, notes)),
        layers=notes.layers,
        stacks=stacks,
        numbered=frozenset(site for site, count in per_site.items() if count > 1),
        called=frozenset(_site(name) for name in helped),
        refused={
            **{_site(name): _alike(name) for name in unclear if name not in helped},
            **{_site(name): _repeated(name) for name in again},
            **{site: _outside(site) for site in notes.outside},
        },
    )


def _told_apart(marks: Marks, what: str, name: str) -> bool:
    """Whether a key differs in each iteration of a loop and each row of a vmap."""
    if (what, name) not in marks:
        return False
    key, acted = marks[what, name], marks[ACTED, name]
    return key.enclosing <= key.varying and key.axes >= acted.axes


def _site(name: str) -> str:
    return name.rpartition("#")[0]


def _alike(name: str) -> str:
    return (
        f"{_site(name)!r} is called in a loop or a vmap in which all its calls would "
        "share a mask; expected the layers stacked along axis 0 as its input (Linen: "
        "split_rngs={'params': True}), or another site."
    )


def _outside(site: str) -> str:
    return (
        f"{site!r} is called without the number of its layer; expected calls inside a "
        "loop over the stacked layers alone."
    )


def _repeated(name: str) -> str:
    return (
        f"{_site(name)!r} is called in a function whose cached trace runs several "
        "times, so that all its calls would share a mask; expected a module of its own "
        "for each call."
    )


def _with_reader(names: list[str], notes: Notes) -> list[Site]:
    """The sites, each with the next kernel site to be called as its reader."""
    sites, reader = [], ""
    for name in reversed(names):
        reader = name if kind_of(name) == "kernel" else reader
        sites.append(Site(name, notes.shapes[name], reader))
    return sites[::-1]


def _stacks(
    outside: Mapping[str, Shapes], inside: Mapping[str, Shapes]
) -> dict[str, Sizes]:
    """How many layers each module holds, by what its arrays lose inside of a loop."""
    called = {
        path: _lost(outside[path], shapes)
        for path, shapes in inside.items()
        if outside[path]
    }
    return {
        path: called[path] if path in called else _of_neighbours(path, called)
        for path in outside
    }


def _lost(outer: Shapes, inner: Shapes) -> Sizes:
    """The leading axes that all shapes have lost."""
    count = len(outer[0]) - len(inner[0]) if inner else 0
    same = all(before[count:] == after for before, after in zip(outer, inner))
    return outer[0][:count] if same and count > 0 else ()


def _of_neighbours(path: str, called: Mapping[str, Sizes]) -> Sizes:
    """The sizes for a module without arrays: those of what is nearest to it."""
    while path:
        path = path.rpartition("/")[0]
        if path in called:
            return called[path]
        below = {sizes for name, sizes in called.items() if name.startswith(f"{path}/")}
        if len(below) == 1:
            return below.pop()
    return ()
