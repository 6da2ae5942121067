"""The pages of the evidence say what is in the files beside the gates."""

import json
import re

import polars as pl
import pytest

from pages import evidence, evidence_pages, reference_study
from pages.generated import filled, table
from studies.claims import Gate
from studies.reproduction import gates_digest

NAMES = [*evidence_pages.PAGES]
MEASURED = {
    "mc: error, %": 4.0,
    "mc: error after 12 samples, %": 5.0,
    "scaling: error, %": 6.0,
    "train error, %": 1.0,
    "NLL": 0.2,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_up_to_date_and_has_a_section_for_each_file_of_gates(name):
    page = evidence_pages.PAGES[name].read_text()
    parts = evidence_pages.parts(name)
    assert filled(page, parts) == page, "run python scripts/evidence_pages.py"
    assert set(re.findall("<!-- generated: (.+) -->", page)) == set(parts)


def test_every_verdict_is_about_the_gates_as_they_are():
    for path in [
        *evidence.gate_files(evidence.CLAIMS).values(),
        *evidence.gate_files(evidence.STUDIES).values(),
    ]:
        for verdict in evidence.verdicts_of(path)[-1:]:
            assert verdict["gates"] == gates_digest(path), path


def test_a_part_that_is_not_given_is_named():
    page = "before\n<!-- generated: one -->\nold\n<!-- end -->\nafter"
    assert filled(page, {"one": "new"}) == page.replace("old", "new")
    with pytest.raises(ValueError, match="no part 'one'; expected one of two"):
        filled(page, {"two": "new"})


def test_bars_do_not_end_a_cell():
    assert table(["a", "b"], [["|x|", "*y*"]]).splitlines() == [
        "| a | b |", "| --- | --- |", r"| \|x\| | *y* |",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("criterion", "bound", "words"),
    [
        ("mean_between", [0.1, float("inf")], "mean at least 0.1"),
        ("mean_between", [-float("inf"), 0.1], "mean at most 0.1"),
        ("mean_between", [-0.3, 0.3], "mean -0.3 to 0.3"),
        ("interval_above", 0.0, "95 % interval above 0"),
        ("every_seed_below", 2.2, "below 2.2 in every seed"),
    ],
)
def test_a_condition_is_said_in_words(criterion, bound, words):
    assert evidence.condition(Gate("?", [], criterion, bound)) == words


CLAIM = """
claim = "the error is smaller"
source = "A. Author 2000, A title"
published = "?"
certainty = "?"
protocol = "?"
seeds = "0,1"
commands = []
[arms]
arm = "{out}/arm"
[[gates]]
says = "the error is small"
contrast = [[1, "arm", "test error, %"]]
every_seed_below = 2.5
"""


def test_the_first_verdict_decides_and_all_are_listed(tmp_path):
    path = tmp_path / "small.gates.toml"
    path.write_text(CLAIM)
    assert "| not run yet |" in evidence.overview([path])
    found = {"says": "the error is small", "verdict": "holds", "values": [1.0, 2.0]}
    kept = {
        "verdict": "holds", "seeds": "0,1", "minutes": 3.0, "commit": "1234567890",
        "machine": "box", "gates_found": [found],
        "versions": {"jax": "1.0", "device": "cpu cpu"},
    }  # fmt: skip
    failed = {
        **kept,
        "verdict": "does not hold",
        "gates_found": [{**found, "verdict": "does not hold"}],
    }
    lines = [json.dumps(x) for x in ({**kept, "seeds": "7"}, failed, kept)]
    (tmp_path / "small.verdicts.jsonl").write_text("\n".join(lines) + "\n")
    assert "| the error is smaller | **does not hold** |" in evidence.overview([path])
    section = evidence.claim_section(path, "make small")
    # Student's t with one degree of freedom: 12.706 times the standard error, 0.5.
    assert "| 1.50 ± 6.35 (1.00, 2.00) | does not hold |" in section
    assert section.count("seeds 0,1: 3 minutes (box, jax 1.0, cpu)") == 2
    assert section.count("seeds 7: 3 minutes (box") == 1
    measures = [("arm", s, m, v + s) for m, v in MEASURED.items() for s in (0, 1)]
    rows = pl.DataFrame(measures, ["arm", "seed", "measure", "value"], orient="row")
    rows.write_parquet(tmp_path / "small.measures.parquet")
    assert "| `arm, mc` | 4.50 ± 6.35 |" in evidence.claim_section(path, "")
    assert "train" not in evidence.claim_section(path, "")
    by_samples = evidence.errors_by_samples(path)
    wanted = by_samples.select("seed", "samples", "value", "scaling").rows()
    assert wanted == [(0, 12, 5.0, 6.0), (1, 12, 6.0, 7.0)]


def test_the_interval_of_a_deviation_is_that_of_the_chi_squared_table():
    values = pl.Series([0.0, 2.0] * 5).to_numpy()  # Deviation sqrt(10 / 9).
    found, low, high = reference_study.deviation(values)
    # With nine degrees of freedom the quantiles of the table are 2.700 and 19.023.
    assert found == pytest.approx((10 / 9) ** 0.5)
    assert low == pytest.approx((10 / 19.023) ** 0.5, rel=1e-4)
    assert high == pytest.approx((10 / 2.700) ** 0.5, rel=1e-3)


def row(arm, seed, error, plan):
    return {"arm": arm, "seed": seed, "test_error": error, "dropout": plan}


def test_a_gain_is_paired_and_named_by_the_family(tmp_path, monkeypatch):
    monkeypatch.setattr(reference_study, "STUDIES", tmp_path)
    assert reference_study.where_table().count("\n") == 1 + 11  # Nothing has run.
    rows = [
        row("none --learning_rate=0.1", seed, error, "none")
        for seed, error in ((1, 0.05), (2, 0.07))
    ]
    families = [name for name in reference_study.PLACES if name != "none"]
    for family in families:
        plan = family.replace("{rate}", "0.3")
        rows += [row(plan, 1, 0.04, plan), row(plan, 2, 0.05, plan)]
    pl.DataFrame(rows).write_parquet(tmp_path / "where_mnist.results.parquet")
    arms = ["none --learning_rate=0.1", *(f.replace("{rate}", "0.3") for f in families)]
    points = {"arm": arms, "family": ["none", *families], "chosen": [True] * len(arms)}
    pl.DataFrame(points).write_parquet(tmp_path / "where_mnist.tuning.parquet")
    lines = reference_study.where_table().splitlines()
    assert lines[2].startswith("| no dropout | error 6.00 ± 12.71 |")
    # Differences of 1 and 2 points; one half-width is 12.706 / 2.
    assert "| input | +1.50 ± 6.35 | 0.3 |" in lines
