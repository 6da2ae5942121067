"""The test of a claim: its runs, after its gates were committed, and its verdict."""

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from studies.claims import (
    FAILS,
    HOLDS,
    Claim,
    Gate,
    Outcome,
    outcome_of,
    read_claim,
    verdict_of,
)
from studies.evidence import BySeed, run_evidence, study_evidence
from studies.selection import POINTS
from studies.study import RESULTS
from training.members import parse_seeds
from training.record.files import make_directory, write_atomically
from training.record.versions import versions

BEGUN = "begun.json"  # In the directory of the runs: the gates that they began with.
MEASURES = "measures.parquet"
GATES, FLAGS, VERDICTS = ".gates.toml", ".flags", ".verdicts.jsonl"


class Commit(NamedTuple):
    """The commit that last changed a file: its name, and its time in seconds."""

    name: str
    time: float


def reproduce(path: Path, seeds: str, data_dir: str, out: str) -> list[Outcome]:
    """Run what a claim asks for, decide its gates, and keep the verdict.

    Args:
        path: the claim's file, NAME.gates.toml.
        seeds: the seeds; empty for those of the claim.
        data_dir: the directory of the prepared data sets; may be empty.
        out: the directory of the runs; empty for runs/claims/NAME-SEEDS.

    Raises:
        ValueError: the gates are not committed, are younger than the runs or were
            changed since, or a command fails.
    """
    claim = read_claim(path)
    seeds = seeds or claim.seeds
    name = path.name.removesuffix(GATES)
    given = out or f"runs/claims/{name}-{seeds.replace(':', '-').replace(',', '_')}"
    directory = make_directory("out", given)
    begun = begin_or_resume(directory, path)
    for command in expanded(claim, seeds, data_dir, directory):
        print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
        if subprocess.run([sys.executable, *command[1:]]).returncode:
            raise ValueError(f"{shlex.join(command)} failed.")
    found = evidence_of(claim, directory)
    outcomes = [*tested(claim.tests), *(outcome_of(x, found) for x in claim.gates)]
    keep(path, seeds, begun, outcomes)
    # Rows at other seeds stay with the runs: the pages show those of the claim.
    beside = path if seeds == claim.seeds else directory / path.name
    if claim.study:
        keep_tables(beside, Path(claim.study.replace("{out}", str(directory))))
    elif found:
        keep_measures(beside, found)
    return outcomes


def tested(tests: str) -> list[Outcome]:
    """Run tests of the repository, and return whether they pass as a gate."""
    if not tests:
        return []
    # An empty -m: a claim is not decided without those of its tests that are slow.
    options = ["-n", "0", "-q", "-m", ""]
    command = [sys.executable, "-m", "pytest", *options, *shlex.split(tests)]
    status = subprocess.run(command).returncode
    gate = Gate(f"{tests} passes", [], "every_seed_below", 1)
    return [Outcome(gate, (float(status),), HOLDS if status == 0 else FAILS)]


def begin_or_resume(directory: Path, path: Path) -> dict[str, Any]:
    """Note the gates that the runs of a directory begin with, or check that they did.

    Raises:
        ValueError: the gates are not committed, or are not those of the runs.
    """
    commit, found = committed(path), gates_digest(path)
    begun = directory / BEGUN
    if begun.exists():
        record = json.loads(begun.read_text())
        if record["gates"] != found:
            raise ValueError(
                f"{path} is younger than the runs in {directory}: it was changed after "
                "they began. Give another --out, where they run again."
            )
        spent = record["spent"] + _last_change(directory) - record["since"]
        return _begun(begun, {**record, "spent": spent, "since": time.time()})
    if any(directory.iterdir()):
        raise ValueError(
            f"{directory} holds runs that are older than their gates; expected an "
            "empty directory, since gates are fixed before the runs."
        )
    now = time.time()
    if commit.time > now:
        raise ValueError(f"{path} was committed at a later time than now.")
    record = {"gates": found, "commit": commit.name, "began": now}
    return _begun(begun, {**record, "spent": 0.0, "since": now})


def _begun(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    write_atomically(path, json.dumps(record) + "\n")
    return record


def _last_change(directory: Path) -> float:
    """Return when an attempt that was killed, and said nothing, did its last work."""
    return max(file.stat().st_mtime for file in directory.rglob("*"))


def committed(path: Path) -> Commit:
    """Return the commit that last changed the gates of a claim.

    Raises:
        ValueError: they are not in the repository, or have later changes.
    """
    files = [file.name for file in _files(path)]
    changed = _git(path.parent, "status", "--porcelain", "--", *files)
    # A repository without any commit has no log to ask for.
    last = ["log", "-1", "--format=%H %ct", "--", *files]
    found = "" if changed else _git(path.parent, *last)
    if not found:
        raise ValueError(
            f"{path} is not committed as it is; commit the gates before the runs."
        )
    name, seconds = found.split()
    return Commit(name, float(seconds))


def _files(path: Path) -> list[Path]:
    """Return the files that fix a claim's test: the gates, and flags beside them."""
    flags = path.with_name(path.name.removesuffix(GATES) + FLAGS)
    return [path, flags] if flags.exists() else [path]


def gates_digest(path: Path) -> str:
    """Return a digest of the files that fix a claim's test."""
    content = b"\0".join(file.read_bytes() for file in _files(path))
    return hashlib.sha256(content).hexdigest()


def _git(directory: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=directory, capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def expanded(
    claim: Claim, seeds: str, data_dir: str, directory: Path
) -> list[list[str]]:
    """Return the words of each command; one with {seed} is repeated for every seed."""
    data = f"--data_dir={data_dir}" if data_dir else ""
    commands = []
    for command in claim.commands:
        for seed in parse_seeds(seeds) if "{seed}" in command else (0,):
            values = {"{out}": str(directory), "{seeds}": seeds, "{seed}": str(seed)}
            words = shlex.split(command.replace("{data}", shlex.quote(data)))
            for name, value in values.items():
                words = [word.replace(name, value) for word in words]
            commands.append([word for word in words if word])
    return commands


def evidence_of(claim: Claim, directory: Path) -> dict[str, BySeed]:
    """Return the measures of the arms of a claim whose runs are finished."""
    out = str(directory)
    if claim.study:
        return study_evidence(Path(claim.study.replace("{out}", out)))
    return {
        arm: run_evidence(_matching(pattern.replace("{out}", out)))
        for arm, pattern in claim.arms.items()
    }


def _matching(pattern: str) -> list[Path]:
    path = Path(pattern)
    return sorted(path.parent.glob(path.name))


def keep(
    path: Path, seeds: str, begun: dict[str, Any], outcomes: list[Outcome]
) -> None:
    """Add the verdict to NAME.verdicts.jsonl, which keeps all, failures included."""
    seconds = begun["spent"] + time.time() - begun["since"]
    record = {
        "verdict": verdict_of(outcomes),
        "seeds": seeds,
        **{name: begun[name] for name in ("gates", "commit", "began")},
        "minutes": round(seconds / 60, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gates_found": [
            {"says": o.gate.says, "verdict": o.verdict, "values": o.values}
            for o in outcomes
        ],
        "versions": versions(),
    }
    name = path.name.removesuffix(GATES) + VERDICTS
    with path.with_name(name).open("a") as file:
        file.write(json.dumps(record) + "\n")


def keep_tables(path: Path, study: Path) -> None:
    """Copy the rows of a study, and the points of a sweep, beside its gates."""
    for name in (RESULTS, POINTS):
        if (study / name).exists():
            own = path.with_name(f"{path.name.removesuffix(GATES)}.{name}")
            shutil.copyfile(study / name, own)


def keep_measures(path: Path, found: dict[str, BySeed]) -> None:
    """Write the measures of runs that are no study beside their gates."""
    rows = [
        {"arm": arm, "seed": seed, "measure": name, "value": float(value)}
        for arm, by_seed in found.items()
        for seed, measures in by_seed.items()
        for name, value in measures.items()
    ]
    name = path.name.removesuffix(GATES)
    pl.DataFrame(rows).write_parquet(path.with_name(f"{name}.{MEASURES}"))


def outcome_lines(outcomes: list[Outcome]) -> list[str]:
    """Return a line for each gate, and one for the claim."""
    lines = []
    for gate, values, verdict in outcomes:
        kind = "" if gate.decides else " (shown, does not decide)"
        numbers = ", ".join(f"{value:.4g}" for value in values)
        rule = f"{gate.criterion} = {gate.bound}"
        lines.append(f"{verdict}{kind}: {gate.says} [{rule}; by seed: {numbers}]")
    return [*lines, f"The claim: {verdict_of(outcomes)}."]
