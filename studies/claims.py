"""Published claims as files: the runs that test them, and gates fixed before the runs.

A gate is about a contrast, a sum of measures of arms with coefficients, at each seed,
or about its ratio to another measure. Its criterion is one of `CRITERIA`.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dropout.grammar import lookup
from studies.evidence import BySeed
from studies.statistics import equivalence, interval

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
LEVEL = 0.05
Values = Float[np.ndarray, " seeds"]


class Gate(NamedTuple):
    """A condition that is fixed before the runs.

    Attributes:
        says: the condition in words.
        contrast: coefficient, arm and measure of each term of a sum, at each seed.
        relative_to: arm and measure that the sum is divided by; empty for none.
        criterion: a name in `CRITERIA`.
        bound: its value.
        decides: whether the claim depends on it, or it is only shown.
    """

    says: str
    contrast: list[tuple[float, str, str]]
    criterion: str
    bound: Any
    relative_to: Sequence[str] = ()
    decides: bool = True


class Claim(NamedTuple):
    """A published claim, and how it is tested; the fields of its file.

    Attributes:
        claim: what the paper says, in one sentence.
        source: the paper, with its section, figure or table.
        published: the number that it gives.
        certainty: how the number was checked.
        protocol: in what the runs differ from the paper's.
        seeds: the seeds, as --seeds takes them.
        commands: what to run, with {out}, {seeds}, {data} and, for one run per seed,
            {seed}.
        tests: tests of this repository that have to pass; empty for none.
        study: the directory of a study whose arms the gates name; empty for none.
        arms: for other runs, the workdirs of each arm, which may have a `*`.
    """

    claim: str
    source: str
    published: str
    certainty: str
    protocol: str
    seeds: str
    commands: list[str]
    gates: list[Gate]
    tests: str = ""
    study: str = ""
    arms: Mapping[str, str] = {}


class Outcome(NamedTuple):
    """A gate with the values found, one per seed, and its verdict."""

    gate: Gate
    values: tuple[float, ...]
    verdict: str


def every_seed_above(values: Values, bound: float) -> str:
    """Hold if the value of every seed is above the bound."""
    return HOLDS if (values > bound).all() else FAILS


def every_seed_below(values: Values, bound: float) -> str:
    """Hold if the value of every seed is below the bound."""
    return every_seed_above(-values, -bound)


def mean_between(values: Values, bound: list[float]) -> str:
    """Hold if the mean over seeds is in an interval, whose ends may be infinite."""
    return HOLDS if bound[0] <= values.mean() <= bound[1] else FAILS


def interval_above(values: Values, bound: float) -> str:
    """Hold if the 95 % interval over seeds is above the bound, fail if it is below."""
    found = interval(values)
    if found.low > bound:
        return HOLDS
    return FAILS if found.high < bound else UNDECIDED


def interval_below(values: Values, bound: float) -> str:
    """Hold if the 95 % interval over seeds is below the bound, fail if it is above."""
    return interval_above(-values, -bound)


def equal_within(values: Values, bound: float) -> str:
    """Hold if two one-sided tests say that the mean is within the margin.

    It does not hold if the 95 % interval is outside.
    """
    if equivalence(values, bound) < LEVEL:
        return HOLDS
    found = interval(values)
    outside = found.low > bound or found.high < -bound
    return FAILS if outside else UNDECIDED


CRITERIA: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        every_seed_above,
        every_seed_below,
        mean_between,
        interval_above,
        interval_below,
        equal_within,
    )
}


def read_claim(path: Path) -> Claim:
    """Return the claim in a file.

    Raises:
        ValueError: the file is missing, or lacks a field or has one too many.
    """
    try:
        found = tomllib.loads(path.read_text())
        claim = Claim(**{**found, "gates": [_gate(gate) for gate in found["gates"]]})
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} holds no claim: {error!r}.") from None
    for gate in claim.gates:
        check_arms(claim, gate)
    return claim


def _gate(found: dict[str, Any]) -> Gate:
    criteria = [name for name in found if name in CRITERIA]
    if len(criteria) != 1:
        raise ValueError(
            f"gate {found['says']!r}: expected one of {', '.join(CRITERIA)}."
        )
    (criterion,) = criteria
    fields = {name: value for name, value in found.items() if name != criterion}
    return Gate(**fields, criterion=criterion, bound=found[criterion])


def check_arms(claim: Claim, gate: Gate) -> None:
    """Check that a gate names arms of its claim; those of a study are known later.

    Raises:
        ValueError: it names another.
    """
    if claim.study:
        return
    for _, arm, _ in gate.contrast:
        lookup("arm", arm, claim.arms)


def outcome_of(gate: Gate, evidence: dict[str, BySeed]) -> Outcome:
    """Return the verdict of a gate from the measures of each arm.

    Raises:
        ValueError: an arm or a measure is not there.
    """
    sums = {
        seed: sum(
            coefficient * measured(evidence, arm, measure, seed)
            for coefficient, arm, measure in gate.contrast
        )
        for seed in _seeds(gate, evidence)
    }
    if gate.relative_to:
        arm, measure = gate.relative_to
        sums = {
            seed: value / measured(evidence, arm, measure, seed)
            for seed, value in sums.items()
        }
    values = np.array(list(sums.values()))
    verdict = CRITERIA[gate.criterion](values, gate.bound)
    return Outcome(gate, tuple(values.tolist()), verdict)


def _seeds(gate: Gate, evidence: dict[str, BySeed]) -> list[int]:
    """Return the seeds at which all arms of a gate have runs."""
    arms = [arm for _, arm, _ in gate.contrast] + [*gate.relative_to[:1]]
    found = [set(lookup("arm", arm, evidence)) for arm in arms]
    seeds = sorted(set.intersection(*found))
    if not seeds:
        raise ValueError(f"gate {gate.says!r}: its arms have no seed in common.")
    return seeds


def measured(evidence: dict[str, BySeed], arm: str, measure: str, seed: int) -> float:
    """Return a measure of an arm at a seed.

    Raises:
        ValueError: it was not measured.
    """
    return float(lookup(f"measure of {arm}", measure, evidence[arm][seed]))


def verdict_of(outcomes: list[Outcome]) -> str:
    """Return the verdict of a claim: it holds if all gates that decide do."""
    verdicts = [found.verdict for found in outcomes if found.gate.decides]
    for verdict in (FAILS, UNDECIDED):
        if verdict in verdicts:
            return verdict
    return HOLDS
