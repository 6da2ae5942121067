"""What the modules of a network carry through one pass."""

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from dropout.keys import fold
from dropout.kinds import kind_of
from dropout.moment import Generator
from dropout.rows import Row, matches
from dropout.sites import Mode

Sharing = tuple[int, ...]
Sizes = tuple[int, ...]

# Marks of a site's own key, of that key with the caller's, and of what it acts on.
OWN, CALLED, ACTED = "own", "called", "acted"


class Counts:
    """Counts the calls of each site while one pass is traced.

    Two of them are never equal: with a trace that was cached in an earlier pass calls
    would go uncounted.
    """

    def __init__(self):
        self.calls: Counter[str] = Counter()

    def next(self, site: str) -> int:
        """Return how many calls of the site there were before this one."""
        self.calls[site] += 1
        return self.calls[site] - 1


@dataclass(frozen=True, eq=False)
class Notes:
    """What a recording pass writes down, while it is traced.

    Attributes:
        shapes: the shape at each site.
        owners: the path of the module that calls each site.
        layers: at each Dropout layer its rate, and the axes that share a mask.
        leaves: the shapes of each module's arrays, at its call.
        outside: the sites of stacked layers that are called outside of their loop.
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    layers: dict[str, tuple[float, Sharing]] = field(default_factory=dict)
    leaves: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)

    def note_leaves(self, path: str, shapes: list[tuple[int, ...]]) -> None:
        """Keep the shapes of a module's arrays, as seen inside a loop if there is one.

        Inside a loop over layers they lack the axis over which the layers are stacked.
        A call outside of the loop has this axis still, and must not replace them.
        """
        before = self.leaves.setdefault(path, shapes)
        if sum(map(len, shapes)) < sum(map(len, before)):
            self.leaves[path] = shapes


def static(default: Any) -> Any:
    """Return a field that belongs to the structure of a tree and not to its leaves."""
    return field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Carried:
    """What a module carries through one pass, as a tree.

    Arrays are leaves of the modules and not in closures, so that a transform whose
    trace is cached (`nnx.remat` of a method, say) gets those of each pass.

    Attributes:
        key: the key of the moment; at stacked layers one per layer, of which a loop
            over the layers takes its own.
        run: the key of masks that are fixed for a run, like `key` one per layer.
        moment: examples, epoch, step and draw.
        caller: a key that differs where the module is called for another layer.
        rates: the rate, or the parameters, at each site with a row; both with a kernel
            before the first step.
        rows: the rows; their rates are in `rates`.
        layers: the sites of Dropout layers that do what their author wrote.
        numbered: the sites that are called several times in a pass.
        called: the sites whose keys the caller's key tells apart.
        branches: patterns of the modules whose outputs are branches.
        path: the path of the module.
        mode: as in `bind`.
        bits: as in `bind`.
        counts: the calls so far; None where no site is called several times.
        notes: what is recorded; None in a pass that acts.
    """

    # Transforms put specifications of their own in the places of arrays.
    key: Any = None
    run: Any = None
    moment: Any = None
    caller: Any = None
    rates: Any = field(default_factory=dict)
    rows: tuple[Row, ...] = static(())
    layers: frozenset[str] = static(frozenset())
    numbered: frozenset[str] = static(frozenset())
    called: frozenset[str] = static(frozenset())
    branches: tuple[str, ...] = static(())
    path: str = static("")
    mode: Mode = static("train")
    bits: Generator = static("hash")
    counts: Counts | None = static(None)
    notes: Notes | None = static(None)


def stacked(carried: Carried, sizes: Sizes) -> Carried:
    """Return what a stack of layers carries: a key for each, all else alike."""
    if not sizes:
        return carried
    wide = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, sizes + jnp.shape(leaf)), carried
    )
    keys: Any = (carried.key, carried.run)
    for size in sizes:
        keys = jax.tree.map(partial(_per_layer, size), keys)
    return replace(wide, key=keys[0], run=keys[1])


def _per_layer(size: int, key: Key[Array, "..."]) -> Key[Array, "... size"]:
    return jax.vmap(fold, in_axes=(None, 0), out_axes=-1)(key, jnp.arange(size))


def output_site(carried: Carried) -> str:
    """Return the name of the site at a module's output."""
    is_branch = any(matches(pattern, carried.path) for pattern in carried.branches)
    if is_branch:
        return f"{carried.path}/branch"
    # Modules are often called `act`, which is the name of another kind of site.
    taken = kind_of(carried.path) == "act"
    return f"{carried.path}/output" if taken else carried.path


def below(path: str, name: str) -> str:
    """Return the path of what is called `name` in the module at `path`."""
    return f"{path}/{name}" if path else name


def belongs(site: str, path: str) -> bool:
    """Return whether the module at `path` acts at a site."""
    return site in (
        path,
        *(below(path, end) for end in ("kernel", "weights", "branch", "output")),
    )
