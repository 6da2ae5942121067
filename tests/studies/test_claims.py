"""Claims: their files fit the code, their gates decide, and gates come before runs."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from model_cases import site_names
from paths import ROOT

from dropout import parse, resolve
from studies.arms import changed, compared_arms
from studies.claims import (
    CRITERIA,
    FAILS,
    HOLDS,
    UNDECIDED,
    Gate,
    Outcome,
    outcome_of,
    read_claim,
    verdict_of,
)
from studies.evidence import run_evidence, study_evidence
from studies.families import arm_of, families, points_of
from studies.reproduction import BEGUN, expanded, outcome_lines, reproduce
from studies.space import parse_space
from training.canonical import canonical
from training.config import Config
from training.flag_text import parse_flag_lines

CLAIMS = sorted((ROOT / "configs" / "claims").glob("*.gates.toml"))
STUDIES = sorted((ROOT / "configs" / "studies").glob("*.gates.toml"))
SHAPES = {
    "mnist": (28, 28, 1),
    "data/fashion_mnist.npz": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "digits": (28, 28, 1),
}
STUDY_FLAGS = ("arms", "plans", "versus", "margin", "members", "seeds")
SWEEP_FLAGS = ("plan", "space", "sampler", "samples", "test_seeds")


def flags_of(words):
    """The flags of a command: those of its flagfile, then its own."""
    own = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    flagfile = own.pop("flagfile", None)
    if flagfile is None:
        return Config(), own
    lines = [x for x in (ROOT / flagfile).read_text().splitlines() if x[:1] == "-"]
    lines = [x if "=" in x else f"{x}=true" for x in lines]
    return parse_flag_lines("\n".join(lines)), own


def configurations(words):
    """What a command trains, by arm."""
    base, own = flags_of(words)
    study = {name: own.pop(name) for name in STUDY_FLAGS if name in own}
    space = {name: own.pop(name) for name in SWEEP_FLAGS if name in own}
    base = changed(base, own)
    if "sweep.py" in words[1]:
        return chosen(base, space)
    if "compare.py" not in words[1]:
        return {own["workdir"]: canonical(replace(base, workdir=""))}
    texts = [study[name] if name in study else "" for name in ("plans", "arms")]
    arms = compared_arms(canonical(replace(base, workdir="")), *texts)
    return {arm.name: arm.config for arm in arms}


def chosen(base, flags):
    """What a sweep may choose, by the plan of the family: its first point."""
    found = families(flags["plan"], parse_space(flags["space"]), "none")
    first = {f: points_of(f, flags["sampler"], 1, 0)[0] for f in found}
    return {f.plan: arm_of(f, base, sample).config for f, sample in first.items()}


@pytest.mark.parametrize(
    "path", [*CLAIMS, *STUDIES], ids=lambda path: path.name.partition(".")[0]
)
def test_a_claim_has_commands_that_fit_and_gates_about_its_arms(path, tmp_path):
    claim = read_claim(path)
    trained = {}
    for words in expanded(claim, claim.seeds, "/data", tmp_path):
        assert (ROOT / words[1]).is_file() and words[0] == "python"
        if "evaluate" not in words[1] and "recalibrate" not in words[1]:
            trained |= configurations(words)
    for config in trained.values():
        found = site_names(config.model, SHAPES[config.dataset])
        plan = parse(config.dropout)
        assert bool(resolve(plan, found)) == bool(plan.rules)
    arms = trained if claim.study else claim.arms
    for gate in claim.gates:
        named = [arm for _, arm, _ in gate.contrast] + list(gate.relative_to[:1])
        assert set(named) <= set(arms), gate.says
    assert claim.tests or any(gate.decides for gate in claim.gates)


def test_there_are_ten_claims():
    assert len(CLAIMS) == 10


@pytest.mark.parametrize(
    ("criterion", "bound", "values", "verdict"),
    [
        ("every_seed_above", 0.15, (0.2, 0.16), HOLDS),
        ("every_seed_above", 0.15, (0.2, 0.14), FAILS),
        ("every_seed_below", 2.2, (1.8, 2.1), HOLDS),
        ("every_seed_below", 2.2, (1.8, 2.3), FAILS),
        ("mean_between", [0.1, float("inf")], (0.0, 0.4), HOLDS),
        ("mean_between", [-0.1, 0.1], (0.0, 0.4), FAILS),
        ("interval_above", 0.0, (1.0, 1.1, 0.9), HOLDS),
        ("interval_above", 0.0, (-1.0, -1.1, -0.9), FAILS),
        ("interval_above", 0.0, (1.0, -1.1, 0.9), UNDECIDED),
        ("interval_below", 0.0, (-1.0, -1.1, -0.9), HOLDS),
        ("equal_within", 0.1, (0.01, -0.01, 0.0), HOLDS),
        ("equal_within", 0.1, (0.5, 0.51, 0.49), FAILS),
        ("equal_within", 0.1, (0.2, -0.2, 0.1), UNDECIDED),
    ],
)
def test_a_criterion_decides(criterion, bound, values, verdict):
    assert CRITERIA[criterion](np.array(values), bound) == verdict


EVIDENCE = {
    "a": {0: {"error": 4.0, "other": 2.0}, 1: {"error": 5.0}, 2: {"error": 1.0}},
    "b": {0: {"error": 3.0}, 1: {"error": 3.0}},
}


def test_a_contrast_is_taken_at_each_seed_that_all_arms_have():
    difference = [[1, "a", "error"], [-2, "b", "error"]]
    gate = Gate("a gains", difference, "every_seed_below", 0.0)
    assert outcome_of(gate, EVIDENCE).values == (-2.0, -1.0)
    ratio = gate._replace(relative_to=["b", "error"])
    assert outcome_of(ratio, EVIDENCE).values == (-2 / 3, -1 / 3)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ([1, "a", "eror"], "unknown measure of a 'eror'; did you mean 'error'"),
        ([1, "c", "error"], "unknown arm 'c'"),
    ],
)
def test_a_gate_about_what_was_not_measured_is_named(term, message):
    gate = Gate("?", [term], "every_seed_above", 0.0)
    with pytest.raises(ValueError, match=message):
        outcome_of(gate, EVIDENCE)


def test_a_claim_holds_if_all_gates_do_that_decide():
    gate = Gate("?", [], "every_seed_above", 0.0)
    reported = gate._replace(decides=False)
    holds, fails = Outcome(gate, (), HOLDS), Outcome(gate, (), FAILS)
    open_, aside = Outcome(gate, (), UNDECIDED), Outcome(reported, (), FAILS)
    assert verdict_of([holds, aside]) == HOLDS
    assert verdict_of([holds, open_]) == UNDECIDED
    assert verdict_of([open_, fails]) == FAILS
    assert outcome_lines([holds, aside])[-1] == "The claim: holds."


MAKE = """
import json, pathlib, sys
out, seeds = pathlib.Path(sys.argv[1]), sys.argv[2].split(",")
(out / "arm").mkdir(exist_ok=True)
runs = [{"seed": int(s), "test_accuracy": 0.98, "train_accuracy": 1.0,
         "test_loss": 0.1, "steps": 1} for s in seeds]
(out / "arm" / "summary.json").write_text(json.dumps({"members": runs, "steps": 1}))
(out / "arm" / "metrics.jsonl").write_text("")
"""
CLAIM = """
claim = "?"
source = "?"
published = "?"
certainty = "?"
protocol = "?"
seeds = "3,4"
commands = ["python {script} {{out}} {{seeds}}"]
[arms]
arm = "{{out}}/arm"
[[gates]]
says = "the error is small"
contrast = [[1, "arm", "test error, %"]]
every_seed_below = {bound}
"""


def git(directory, *words):
    name = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(
        ["git", *name, *words], cwd=directory, check=True, capture_output=True
    )


@pytest.fixture
def repository(tmp_path):
    """A repository with one claim, whose runs take no time, not yet committed."""
    directory = tmp_path / "repository"
    directory.mkdir()
    git(directory, "init", "-q")
    script = tmp_path / "make.py"
    script.write_text(MAKE)
    path = directory / "small.gates.toml"
    path.write_text(CLAIM.format(script=script, bound=2.5))
    return path


def commit(path):
    git(path.parent, "add", path.name)
    git(path.parent, "commit", "-qm", "gates")


def verdicts(path):
    text = path.with_name("small.verdicts.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_gates_that_are_not_committed_are_refused(repository, tmp_path):
    with pytest.raises(ValueError, match="commit the gates before the runs"):
        reproduce(repository, "", "", str(tmp_path / "out"))
    commit(repository)
    repository.write_text(repository.read_text() + "# changed\n")
    with pytest.raises(ValueError, match="commit the gates before the runs"):
        reproduce(repository, "", "", str(tmp_path / "out"))


def test_gates_younger_than_their_runs_are_refused_and_failures_kept(
    repository, tmp_path
):
    out = tmp_path / "out"
    commit(repository)
    (found,) = reproduce(repository, "", "", str(out))
    assert found.values == pytest.approx((2.0, 2.0)) and found.verdict == HOLDS
    text = repository.read_text().replace("2.5", "1.5")
    repository.write_text(text)
    commit(repository)
    with pytest.raises(ValueError, match="younger than the runs"):
        reproduce(repository, "", "", str(out))
    (out / BEGUN).unlink()
    with pytest.raises(ValueError, match="older than their gates"):
        reproduce(repository, "", "", str(out))
    reproduce(repository, "7", "", str(tmp_path / "fresh"))
    first, second = verdicts(repository)
    assert (first["verdict"], second["verdict"]) == (HOLDS, FAILS)
    assert (first["seeds"], second["seeds"]) == ("3,4", "7")
    assert first["gates"] != second["gates"]
    (kept,) = repository.parent.glob("*.parquet")  # That of the claim's own seeds.
    rows = pl.read_parquet(kept).filter(measure="test error, %")
    assert rows["seed"].to_list() == [3, 4]
    assert rows["value"].to_list() == pytest.approx([2.0, 2.0])
    assert (tmp_path / "fresh" / kept.name).exists()


def test_the_minutes_of_a_killed_attempt_count(repository, tmp_path):
    """It worked from 60 to 30 minutes ago; what lies between is no work."""
    out, now = tmp_path / "out", time.time()
    commit(repository)
    reproduce(repository, "", "", str(out))
    begun = json.loads((out / BEGUN).read_text())
    (out / BEGUN).write_text(json.dumps({**begun, "since": now - 60 * 60}))
    for file in out.rglob("*"):
        os.utime(file, (now, now - 30 * 60))
    reproduce(repository, "", "", str(out))
    assert verdicts(repository)[-1]["minutes"] == pytest.approx(30, abs=1)


def test_a_command_that_fails_is_named(repository, tmp_path):
    commit(repository)
    shutil.move(tmp_path / "make.py", tmp_path / "gone.py")
    with pytest.raises(ValueError, match=r"make\.py .* failed"):
        reproduce(repository, "", "", str(tmp_path / "out"))


@pytest.mark.parametrize(("asserted", "verdict"), [("True", HOLDS), ("False", FAILS)])
def test_a_claim_about_tests_is_what_they_say(asserted, verdict, repository, tmp_path):
    test = tmp_path / "test_identity.py"
    test.write_text(f"def test_identity():\n    assert {asserted}\n")
    head = repository.read_text().partition("[arms]")[0]
    repository.write_text(f'{head}tests = "{test}"\ngates = []\n')
    commit(repository)
    (found,) = reproduce(repository, "", "", str(tmp_path / "out"))
    assert found.verdict == verdict == verdicts(repository)[0]["verdict"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("every_seed_below", "every_seed_under", "expected one of every_seed_above"),
        ('"arm", "test', '"harm", "test', "unknown arm 'harm'"),
        ("protocol", "protocoll", "holds no claim"),
        ("claim =", "claim", "holds no claim"),
    ],
)
def test_a_file_that_is_no_claim_is_refused(repository, old, new, message):
    repository.write_text(repository.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_claim(repository)


def test_the_measures_of_runs_and_members_are_found_by_seed(tmp_path):
    run = {"test_accuracy": 0.9, "train_accuracy": 1.0, "test_loss": 0.5}
    members = [{**run, "seed": 8, "compression": 40.0}, {**run, "seed": 9}]
    summary = {"members": members, "steps": 1}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    lines = [
        {"split": "test", "step": 1, "member": member, "variance_shift/norm1": shift,
         "variance_shift/norm2": 1.0}
        for member, shift in ((0, 0.5), (1, 1.5))
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    member = tmp_path / "member-1"
    member.mkdir()
    scores = {"mc": {"accuracy": 0.95, "ECE": 0.1}}
    record = {"rules": scores, "seed": 9}
    (member / "evaluation.json").write_text(json.dumps(record))
    (member / "evaluation-samples.csv").write_text(
        "inference,samples,error\nmc,4,0.07\n"
    )
    found = run_evidence([tmp_path])
    assert found[8]["compression"] == 40 and found[8]["largest variance shift"] == 2
    assert found[9]["largest variance shift"] == 1.5
    assert found[9]["test error, %"] == pytest.approx(10)
    assert found[9]["mc: error, %"] == pytest.approx(5) and found[9]["mc: ECE"] == 0.1
    assert found[9]["mc: error after 4 samples, %"] == pytest.approx(7)


STUDY = {"gap": None, "nll": 0.2, "ece": None, "ece_floor": None}


def test_the_measures_of_a_study_are_those_of_its_table(tmp_path):
    row = {**STUDY, "arm": "a", "seed": 3, "test_error": 0.04, "gap": 0.03}
    pl.DataFrame([row]).write_parquet(tmp_path / "results.parquet")
    (found,) = study_evidence(tmp_path)["a"].values()
    own = {name: found[name] for name in found if "spread" not in name}
    assert own == pytest.approx(
        {"test error, %": 4, "train-test gap, %": 3, "NLL": 0.2, "train error, %": 1}
    )


def test_a_spread_is_the_distance_from_the_median_over_seeds(tmp_path):
    rows = [
        {**STUDY, "arm": "a", "seed": seed, "test_error": error}
        for seed, error in ((3, 0.01), (5, 0.02), (8, 0.07))
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "results.parquet")
    found = study_evidence(tmp_path)["a"]
    spreads = [found[seed]["spread of test error, %"] for seed in (3, 5, 8)]
    assert spreads == pytest.approx([1, 0, 5])
    assert "train error, %" not in found[3]  # Its run has not evaluated it.


def test_what_a_sweep_chose_is_named_by_its_family(tmp_path):
    rows = [{**STUDY, "arm": "fc:bernoulli:0.31", "seed": 7, "test_error": 0.03}]
    pl.DataFrame(rows).write_parquet(tmp_path / "results.parquet")
    points = {
        "arm": ["fc:bernoulli:0.2", "fc:bernoulli:0.31"],
        "family": ["fc:bernoulli:{rate}"] * 2,
        "chosen": [False, True],
    }
    pl.DataFrame(points).write_parquet(tmp_path / "tuning.parquet")
    assert list(study_evidence(tmp_path)) == ["fc:bernoulli:{rate}"]
