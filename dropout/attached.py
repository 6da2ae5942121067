"""Attach plans to networks without sites: what all frameworks have in common.

`dropout.nnx`, `dropout.linen` and `dropout.equinox` find the modules of a network and
make sites of them:

| site | what it is |
|---|---|
| `input` | the first input of the network, if it is an array of floats |
| `blocks/0/attn` | the output of a module, or the first array of a tuple |
| `blocks/0/attn/branch` | the output of a module that is declared to be a branch |
| `blocks/0/act/output` | the output of a module called `act` that is inside another |
| `blocks/0/attn/kernel` | the kernel of a linear layer, or the table of an embedding |
| `blocks/0/attn/weights` | the weights of an attention layer (Flax) |
| `blocks/0/drop` | a Dropout layer of the network |

A Dropout layer that no rule wins does what its author wrote, but its keys follow from
its name. One that a rule wins does what the rule says. The mode of the pass decides
whether it drops, and never the layer's own flag. A site that is called several times
in one pass has a mask for each call, and a site inside a loop over stacked layers one
for each layer. Where the layers cannot be told apart, a rule that wins the site is an
error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from dropout.carried import Carried, Counts, Sharing, Sizes
from dropout.grammar import Call
from dropout.moment import Generator, Moment
from dropout.plan import CONSTANT, Plan, parse
from dropout.recorded import Program, Recorded, Shapes, record
from dropout.recording import Site
from dropout.rows import Row, resolve
from dropout.sites import NO_PARAMETERS, Mode, bind
from dropout.variants.entry import Parameters

# `(carried, sizes of stacks, model, inputs) -> output`, of one framework.
CallNetwork = Callable[[Carried, Mapping[str, Sizes], Any, tuple], Any]


@dataclass(frozen=True)
class Attached:
    """A network with a plan. Printing it lists the sites and the rows.

    A schedule acts through `rows`: `rows_at(attached.rows, step, timeline)`, where the
    step may be traced.

    Attributes:
        rows: the resolved plan, and a row for each Dropout layer that no rule wins.
        recorded: what is known about the sites.
        layers: the Dropout layers that no rule wins.
        branches: patterns of the modules whose outputs are branches.
        run: one pass, as the framework makes it.
    """

    rows: tuple[Row, ...]
    recorded: Recorded
    layers: frozenset[str]
    branches: tuple[str, ...]
    run: CallNetwork

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of the network, in the order of their first calls."""
        return self.recorded.sites

    def __call__(
        self,
        model: Any,
        *inputs: Any,
        moment: Moment | None = None,
        mode: Mode = "train",
        rows: tuple[Row, ...] | None = None,
        bits: Generator = "hash",
        params: Mapping[str, Parameters] = NO_PARAMETERS,
    ) -> Any:
        """Run the network with the plan; what follows `inputs` is as in `bind`.

        Args:
            model: the network, or for Linen its variables.
            inputs: the inputs of the network.
            moment: the pass for which masks are drawn.
            mode: what is done at sites with a row.
            rows: the rows at the rates of a step; those of the plan if not given.
            bits: the generator of random bits.
            params: the parameters of learned variants, and what else a variant needs
                of a run, by site.

        Raises:
            ValueError: what `bind` refuses, or rows for other sites.
        """
        rows = self.rows if rows is None else rows
        _check_sites(rows, self.rows)
        bind(rows, moment, mode, bits, params)
        carried = Carried(
            key=None if moment is None else moment.key,
            run=None if moment is None else moment.run,
            moment=None if moment is None else _numbers(moment),
            rates={row.site: _rate(row, params) for row in rows},
            rows=tuple(row._replace(rate=0.0) for row in rows),
            layers=self.layers,
            numbered=self.recorded.numbered,
            called=self.recorded.called,
            branches=self.branches,
            mode=mode,
            bits=bits,
            counts=Counts() if self.recorded.numbered else None,
        )
        return self.run(carried, self.recorded.stacks, model, inputs)

    def with_rows(self, rows: tuple[Row, ...]) -> "Attached":
        """Return the network with other rows at its sites, as another plan has them.

        A Dropout layer without a row does nothing.

        Raises:
            ValueError: a row at a site that cannot have a mask of its own in each call.
        """
        _check_own_masks(rows, self.recorded)
        own = {row.site: row for row in self.rows if row.site in self.layers}
        layers = frozenset(
            row.site
            for row in rows
            if row.site in own and own[row.site]._replace(rate=row.rate) == row
        )
        return replace(self, rows=rows, layers=layers)

    def __str__(self) -> str:
        texts = {row.site: _text(row) for row in self.rows}
        names = [site.name for site in self.sites]
        width = max(map(len, names), default=0)
        return "\n".join(
            f"{name:{width}}  {texts[name] if name in texts else '-'}" for name in names
        )


def assemble(
    plan: Plan | str,
    branches: tuple[str, ...],
    run: CallNetwork,
    program: Program,
    leaves: Mapping[str, Shapes],
) -> Attached:
    """Record a network and put a plan into it.

    Args:
        plan: the plan, or its text.
        branches: patterns of the modules whose outputs are branches.
        run: one pass, as the framework makes it.
        program: an abstract pass, as the framework traces it.
        leaves: the shapes of the arrays of each module; empty where modules hold none.

    Raises:
        ValueError: what `resolve` refuses, or a row at a site that cannot have a mask
            of its own in each of its calls.
    """
    recorded = record(program, branches, leaves)
    names = tuple(site.name for site in recorded.sites)
    rows = {row.site: row for row in resolve(_parsed(plan), names)}
    authors = {
        site: _row_of_layer(site, rate, sharing)
        for site, (rate, sharing) in recorded.layers.items()
        if site not in rows and rate != 0
    }
    rows |= authors
    ordered = tuple(rows[name] for name in names if name in rows)
    _check_own_masks(ordered, recorded)
    return Attached(ordered, recorded, frozenset(authors), branches, run)


def _check_own_masks(rows: tuple[Row, ...], recorded: Recorded) -> None:
    for row in rows:
        if row.site in recorded.refused:
            raise ValueError(recorded.refused[row.site])


def _parsed(plan: Plan | str) -> Plan:
    return parse(plan) if isinstance(plan, str) else plan


def _row_of_layer(site: str, rate: float, sharing: Sharing) -> Row:
    """What the author of a Dropout layer wrote, as a row."""
    unit = "batch" if 0 in sharing else "example"
    return Row(site, Call("bernoulli"), unit, rate, CONSTANT)


def _check_sites(rows: tuple[Row, ...], own: tuple[Row, ...]) -> None:
    given, expected = ([row.site for row in some] for some in (rows, own))
    if given != expected:
        raise ValueError(
            f"rows for {', '.join(given) or 'no site'}; expected those of the attached "
            f"plan, {', '.join(expected) or 'none'}: rows_at(attached.rows, ...)."
        )


def _numbers(moment: Moment) -> tuple:
    numbers = (moment.examples, moment.epoch, moment.step, moment.draw)
    return tuple(map(jnp.asarray, numbers))


def _rate(row: Row, params: Mapping[str, Parameters]) -> Any:
    """What acts at a site: the row's rate, learned parameters, or both, as arrays."""
    rate: Any = row.rate
    if row.site in params:
        given = dict(params[row.site])
        rate = {"rate": rate, **given} if "start" in given else given
    return jax.tree.map(jnp.asarray, rate)


def _text(row: Row) -> str:
    schedule = "" if row.schedule == CONSTANT else f"@{row.schedule}"
    return f"{row.variant}:{row.rate}{schedule} per {row.unit}"
