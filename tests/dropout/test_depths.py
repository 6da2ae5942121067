"""Ranges of rates over depth, against rates that were computed by hand."""

import pytest

from dropout import parse, resolve

SITES = ("block1/branch", "block2/branch", "block3/branch", "block4/branch")


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("0.0..0.3", (0, 0.1, 0.2, 0.3)),
        ("huang(0.0..0.2)", (0.05, 0.1, 0.15, 0.2)),
        ("exponential(0.0..0.2)", (0, 0.0519842, 0.1174802, 0.2)),
        ("exponential(0.5..0.25)", (0.5, 0.4350198, 0.3531498, 0.25)),
    ],
)
def test_rates_over_four_blocks(rate, expected):
    plan = parse(f"block*/branch:drop_path:{rate}")
    assert parse(str(plan)) == plan
    assert [row.rate for row in resolve(plan, SITES)] == pytest.approx(
        expected, abs=1e-7
    )
    (alone,) = resolve(plan, SITES[:1])
    assert alone.rate == pytest.approx(expected[-1])


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ("huan(0.0..0.2)", "unknown range over depth 'huan'; did you mean 'huang'"),
        ("huang(0.2)", r"expected a number, a range a..b, huang\(a..b\)"),
        ("huang(0.0..1.2)", "rate 1.2 is outside"),
        ("huang(0.0..x)", "expected a number, a range"),
    ],
)
def test_a_wrong_range_says_what_is_allowed(rate, message):
    with pytest.raises(ValueError, match=message):
        parse(f"block*/branch:drop_path:{rate}")
