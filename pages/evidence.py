"""What came out of claims and of the reference study, from what is beside the gates."""

import json
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pages.generated import table
from studies.claims import Claim, Gate, read_claim
from studies.reproduction import GATES, MEASURES, VERDICTS
from studies.statistics import interval
from studies.study import RESULTS
from studies.verdicts import estimate

ROOT = Path(__file__).parent.parent
CLAIMS, STUDIES = (ROOT / "configs" / name for name in ("claims", "studies"))
NOT_RUN = "not run yet"
PERCENT = "error, %"  # How the names of errors among the measures end.
FEW = 5  # The most seeds whose values are all shown.
SMALL = 0.05  # Values that are all below it need more digits.
Verdict = dict[str, Any]


def gate_files(directory: Path) -> dict[str, Path]:
    """Return the files of gates in a directory, by name."""
    found = sorted(directory.glob(f"*{GATES}"))
    return {path.name.removesuffix(GATES): path for path in found}


def verdicts_of(path: Path) -> list[Verdict]:
    """Return all verdicts about a file of gates, the oldest first."""
    kept = path.with_name(path.name.removesuffix(GATES) + VERDICTS)
    if not kept.exists():
        return []
    return [json.loads(line) for line in kept.read_text().splitlines()]


def deciding(path: Path) -> Verdict | None:
    """Return the first verdict at the seeds of the file; later ones repeat it."""
    seeds = read_claim(path).seeds
    return next((x for x in verdicts_of(path) if x["seeds"] == seeds), None)


def overview(paths: Iterable[Path]) -> str:
    """Return the table of claims: what is said, and the verdict."""
    rows = []
    for path in paths:
        name, claim = path.name.removesuffix(GATES), read_claim(path)
        verdict = deciding(path)
        shown = f"**{verdict['verdict']}**" if verdict else NOT_RUN
        rows.append((f"[{name}](#{name})", claim.claim, shown))
    return table(("name", "claim", "verdict"), rows)


def claim_section(path: Path, command: str) -> str:
    """Return what a paper says, how it is tested, and what came out at each gate."""
    claim = read_claim(path)
    facts = (
        f"- *Paper*: {claim.source}.",
        f"- *Published*: {claim.published}.",
        f"- *How sure we are of it*: {claim.certainty}.",
    )
    return _section(claim, path, command, facts) + _errors(path)


def _errors(path: Path) -> str:
    """Return the table of the arms' test errors, if their rows are kept."""
    found = errors_by_arm(path)
    if not found:
        return ""
    cells = [(f"`{arm}`", estimate(interval(v), 2, "")) for arm, v in found.items()]
    return "\n\n" + table(("arm", "test error, %"), cells)


def errors_by_arm(path: Path) -> dict[str, np.ndarray]:
    """Return the test errors over seeds of each arm, or of each arm and rule.

    They are in percent, and there are none where no rows are beside the gates.
    """
    name = path.name.removesuffix(GATES)
    results, measures = (path.with_name(f"{name}.{x}") for x in (RESULTS, MEASURES))
    if results.exists():
        rows = pl.read_parquet(results)
        return {
            str(arm): 100 * own["test_error"].to_numpy()
            for (arm,), own in rows.group_by("arm", maintain_order=True)
        }
    return _errors_by_rule(measures) if measures.exists() else {}


def _errors_by_rule(measures: Path) -> dict[str, np.ndarray]:
    """Return the errors of rules by arm, or those that training ended with."""
    rows = pl.read_parquet(measures).filter(pl.col("measure").str.ends_with(PERCENT))
    evaluated = rows.filter(measure=f"scaling: {PERCENT}")["arm"].unique()
    again = (pl.col("measure") == f"test {PERCENT}") & pl.col("arm").is_in(evaluated)
    by_arm = rows.filter(~again).group_by("arm", "measure", maintain_order=True)
    return {
        f"{arm}{rule}": own["value"].to_numpy()
        for (arm, measure), own in by_arm
        if (rule := _rule(str(measure))) is not None
    }


def _rule(measure: str) -> str | None:
    """Return what follows the arm in a table of errors; training errors have none."""
    if measure == f"test {PERCENT}":
        return ""
    return f", {measure.partition(':')[0]}" if ":" in measure else None


def errors_by_samples(path: Path) -> pl.DataFrame:
    """Return the errors of Monte-Carlo by arm, number of samples and seed, if kept.

    The columns are arm, seed, samples, value (in percent), and scaling, the error of
    weight scaling.
    """
    kept = path.with_name(f"{path.name.removesuffix(GATES)}.{MEASURES}")
    if not kept.exists():
        return pl.DataFrame()
    rows = pl.read_parquet(kept)
    number = pl.col("measure").str.extract(r"^mc: error after (\d+) ").cast(int)
    scaling = rows.filter(measure=f"scaling: {PERCENT}").select(
        "arm", "seed", scaling="value"
    )
    found = rows.with_columns(samples=number).drop_nulls("samples")
    return found.join(scaling, ["arm", "seed"]).sort("arm", "samples", "seed")


def study_section(path: Path, command: str) -> str:
    """Return what a study of our own says before its runs, and what came out."""
    return _section(read_claim(path), path, command, ())


def _section(claim: Claim, path: Path, command: str, facts: tuple[str, ...]) -> str:
    own = (f"- *Our runs*: {claim.protocol}.", f"- *Command*: `{command}`")
    head = (f"> {claim.claim}", "", *facts, *own, "")
    return "\n".join((*head, outcomes(claim, path)))


def outcomes(claim: Claim, path: Path) -> str:
    """Return a table of the gates with what decides, and a line per verdict."""
    verdicts, decides = verdicts_of(path), deciding(path)
    found = decides["gates_found"] if decides else []
    by_gate = {gate["says"]: gate for gate in found}
    rows = [_row(gate, by_gate) for gate in claim.gates]
    rows += [_row_of_tests(gate) for gate in found[: len(found) - len(claim.gates)]]
    lines = table(("gate", "condition", "found", "verdict"), rows)
    return "\n".join((lines, "", *map(_verdict_line, verdicts))).strip()


def _row(gate: Gate, by_gate: dict[str, Verdict]) -> tuple[str, ...]:
    shown = "" if gate.decides else " (shown only)"
    says = f"{gate.says}{shown}"
    if gate.says not in by_gate:
        return (says, condition(gate), "", NOT_RUN)
    found = by_gate[gate.says]
    return (says, condition(gate), _values(found["values"]), found["verdict"])


def _row_of_tests(found: Verdict) -> tuple[str, ...]:
    return (f"`{found['says'].partition(' ')[0]}`", "passes", "", found["verdict"])


def condition(gate: Gate) -> str:
    """Return the criterion of a gate in words."""
    bound = gate.bound
    if gate.criterion == "mean_between":
        low, high = bound
        if high == inf:
            return f"mean at least {low:g}"
        return f"mean {low:g} to {high:g}" if low != -inf else f"mean at most {high:g}"
    words = {
        "every_seed_above": f"above {bound:g} in every seed",
        "every_seed_below": f"below {bound:g} in every seed",
        "interval_above": f"95 % interval above {bound:g}",
        "interval_below": f"95 % interval below {bound:g}",
        "equal_within": f"equal within {bound:g}",
    }
    return words[gate.criterion]


def _values(values: list[float]) -> str:
    """Return a mean with its interval and, of few seeds, the values."""
    digits = 2 if max(map(abs, values)) >= SMALL else 4
    mean = estimate(interval(np.array(values)), digits, "")
    every = f" ({', '.join(f'{value:.{digits}f}' for value in values)})"
    return mean + every * (len(values) <= FEW)


def _verdict_line(verdict: Verdict) -> str:
    versions = verdict["versions"]
    device = " ".join(dict.fromkeys(versions["device"].split()))
    return (
        f"- **{verdict['verdict']}**, seeds {verdict['seeds']}: {verdict['minutes']:g} "
        f"minutes ({verdict['machine']}, jax {versions['jax']}, {device}); "
        f"gates of commit {verdict['commit'][:7]}."
    )
