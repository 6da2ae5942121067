"""Plans in networks that know nothing of them: what the frameworks have in common.

`dropout.nnx`, `dropout.linen` and `dropout.equinox` each find the modules of a network
and call `drop` at their sites:

| site | what it is |
|---|---|
| `input` | the first input of the network, where it is floating |
| `blocks/0/attn` | the output of a module, its first array if there are several |
| `blocks/0/attn/kernel` | the kernel of a layer that is linear in it |
| `blocks/0/attn/weights` | the weights of an attention layer (Flax) |
| `blocks/0/drop` | a Dropout layer of the network |

A module output that `branches` names is `<path>/branch` instead: there `drop_path`,
`layerdrop` and `shakedrop` can act. A Dropout layer without a rule does what its author
wrote, with keys by name; with a rule it does what the rule says. Whether it draws is
the `mode`, never the layer's own flag. A site that is called several times in one pass
draws for each call; inside a loop over stacked layers, for each layer.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, Key

from dropout.grammar import Call
from dropout.keys import fold
from dropout.kinds import ACTIVATIONS, identity, kind_of
from dropout.occurrences import SPLIT, Occurrence, mark, occurrences
from dropout.plan import CONSTANT, Plan, Row, matches, parse, resolve
from dropout.sites import NO_PARAMETERS, Generator, Mode, Moment, Site, bind
from dropout.variants.entry import Parameters

Rates = Mapping[str, Any]
Sharing = tuple[int, ...]


class Calls:
    """Counts the calls of each site while a pass is traced, and notes their shapes.

    All are equal: what a module carries is compared to find a trace that is cached, and
    a count must not be the reason for which none is found.
    """

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.owners: dict[str, str] = {}
        self.layers: dict[str, tuple[float, Sharing]] = {}
        self.leaves: dict[str, list[tuple[int, ...]]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calls)

    def __hash__(self) -> int:
        return 0


def static(default: Any = None) -> Any:
    """Return a field that is part of the structure of a tree, not of its leaves."""
    return field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Carried:
    """What the modules of a network carry through one pass, as a tree.

    Arrays travel as leaves of the modules, and not in closures: a transform whose trace
    is cached, such as `nnx.remat` of a method, then sees those of each pass.

    Attributes:
        key: the key of the moment, into which the numbers of stacked layers are folded:
            one per layer, of which a loop over layers takes its own.
        moment: examples, epoch, step and draw; None without a moment.
        rates: the rate, or the parameters, at each site with a row.
        rows: the rows, whose rates are in `rates`.
        sharing: the axes that share a mask at Dropout layers without a rule.
        numbered: the sites that are called several times in one pass.
        outside: the sites that take their number from the key of the caller.
        path: the path of the module that carries this.
        branches: patterns of module outputs that are branches.
        mode: as in `bind`.
        bits: as in `bind`.
        calls: the calls so far.
        recording: whether sites are recorded instead of acted on.
    """

    key: Key[Array, "*layers"]
    moment: tuple[Any, Any, Any, Any] | None
    rates: Rates
    rows: tuple[Row, ...] = static(())
    sharing: tuple[tuple[str, Sharing], ...] = static(())
    numbered: frozenset[str] = static(frozenset())
    outside: frozenset[str] = static(frozenset())
    path: str = static("")
    branches: tuple[str, ...] = static(())
    mode: Mode = static("train")
    bits: Generator = static("hash")
    calls: Calls = static()
    recording: bool = static(False)
