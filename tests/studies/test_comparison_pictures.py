"""Pictures of a comparison: the numbers that they show, and files for an article."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from studies.comparison import compare
from studies.comparison_pictures import (
    flag_curves,
    numeric_flags,
    plot_differences,
    plot_flag,
)
from studies.statistics import paired_t
from training.record.pictures import COLUMN, save_pdf, save_svg

ERRORS = {
    "none": (0.050, 0.052, 0.049, 0.051),
    "a $x_1$ plan": (0.040, 0.043, 0.038, 0.041),
    "b": (0.049, 0.053, 0.047, 0.053),
}


@pytest.fixture(scope="module")
def lines():
    table = pl.DataFrame(
        [
            {"arm": arm, "run": "r", "stop": "best_validation", "seed": seed,
             "test_error": error, "gap": 0.0, "nll": 1.0, "ece": 0.0,
             "ece_floor": 0.0, "epochs_to_target": None}
            for arm, found in ERRORS.items() for seed, error in enumerate(found)
        ]
    )  # fmt: skip
    return compare(table, Path(), {arm: "none" for arm in list(ERRORS)[1:]})


def test_the_figure_shows_each_difference_with_its_interval(lines):
    (axes,) = plot_differences(lines).axes
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2]
    shown = [line.get_xdata() for line in bars if line.get_ydata()[0] in (0, 1)][1:]
    for ends, arm in zip(shown, list(ERRORS)[1:], strict=True):
        expected = paired_t(100 * np.subtract(ERRORS[arm], ERRORS["none"]))
        assert tuple(ends) == pytest.approx(expected.difference[1:])
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [p.get_markerfacecolor() == "white" for p in points] == [False, True]


def test_figures_are_as_wide_as_a_column_and_their_text_is_text(lines, tmp_path):
    figure = plot_differences(lines)
    assert figure.get_figwidth() == COLUMN
    save_svg(figure, tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    assert re.search(r"<text[^>]*>a \$x_1\$ plan</text>", svg)
    for name in ("a.pdf", "b.pdf"):
        save_pdf(plot_differences(lines), tmp_path / name)
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType, embedded
    assert pdf == (tmp_path / "b.pdf").read_bytes()


def rows(points):
    names = ("dropout", "train_examples", "weight_decay")
    return pl.DataFrame(
        [
            {"arm": str(point), "seed": seed, "test_error": error / 100,
             **dict(zip(names, point))}
            for *point, errors in points for seed, error in enumerate(errors)
        ]
    )  # fmt: skip


def test_arms_that_agree_in_all_else_are_a_curve_over_a_flag():
    table = rows(
        [("none", 200, 0.0, (5, 7)), ("fc", 200, 0.0, (4, 5)),
         ("none", 1000, 0.0, (3, 3)), ("fc", 1000, 0.0, (2, 3))]
    )  # fmt: skip
    assert numeric_flags(table) == ["train_examples"]
    first, second = flag_curves(table, "train_examples")
    assert (first.label, first.values) == ("none", [200, 1000])
    np.testing.assert_allclose(first.errors, [(5, 7), (3, 3)])
    np.testing.assert_allclose(second.errors, [(4, 5), (2, 3)])


def test_points_of_a_random_search_are_points():
    table = rows([("none", 200, 0.1, (5, 7)), ("none", 300, 0.2, (4, 5))])
    assert numeric_flags(table) == ["train_examples", "weight_decay"]
    curves = flag_curves(table, "weight_decay")
    assert [curve.values for curve in curves] == [[0.1], [0.2]]
    (axes,) = plot_flag(table, "weight_decay").axes
    assert axes.get_legend() is None and axes.get_xlabel() == "--weight_decay"
