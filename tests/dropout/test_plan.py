"""The grammar of plans, their resolution, and what a malformed one says."""

import pytest

from dropout import VARIANTS, Row, Span, parse, resolve
from dropout.grammar import Call
from dropout.rows import matches

SITES = ("input", "conv1/kernel", "conv1", "pool1", "conv2/kernel", "conv2", "fc")

PLANS = (
    "none",
    "fc:bernoulli:0.5",
    "conv*:bernoulli:0.1 fc:bernoulli:0.5@early(until=0.2)",
    "conv*:bernoulli:0.0..0.3",
    "conv*:bernoulli:0.1,0.25 fc:bernoulli:1.0",
    "fc:bernoulli(unit='batch'):0.5@early(unit='steps', until=500)",
    "fc:bernoulli:0.5@piecewise(boundaries=(0.2, 0.4), factors=(0, 1.0, 0.5))",
)


@pytest.mark.parametrize("text", PLANS)
def test_the_text_of_a_plan_reads_back_as_the_plan(text):
    plan = parse(text)
    assert parse(str(plan)) == plan
    assert str(parse(str(plan))) == str(plan)


def test_a_text_is_read_once():
    assert parse("fc:bernoulli:0.25") is parse("fc:bernoulli:0.25")


@pytest.mark.parametrize("text", ["", "none", "  none "])
def test_no_dropout_is_written_none(text):
    assert str(parse(text)) == "none"
    assert resolve(parse(text), SITES) == ()


def test_white_space_and_order_of_options_do_not_matter():
    spaced = parse("  fc:bernoulli:.5@early( unit='steps',\n until=7 )   ")
    assert str(spaced) == "fc:bernoulli:0.5@early(unit='steps', until=7)"


def test_the_default_schedule_is_that_of_rules_without_one():
    plan = parse("conv1:bernoulli:0.1 fc:bernoulli:0.5@late(start=0.1)", "linear")
    assert [str(rule.schedule) for rule in plan.rules] == ["linear", "late(start=0.1)"]
    assert parse(str(plan)) == plan


@pytest.mark.parametrize(
    ("pattern", "site", "expected"),
    [
        ("conv*", "conv1", True),
        ("conv*", "conv1/kernel", False),
        ("conv*/kernel", "conv1/kernel", True),
        ("block*/branch", "block3/branch", True),
        ("*", "fc/pre", False),
        ("*/*", "fc/pre", True),
        ("CONV1", "conv1", False),
        ("conv*/act", "conv1/act", True),
        ("conv1/*", "conv1/act", False),
        ("*/*", "fc/act", False),
        ("*", "act", True),
        ("conv[12]", "conv2", True),
    ],
)
def test_patterns_match_segment_by_segment(pattern, site, expected):
    assert matches(pattern, site) is expected


def test_the_first_rule_that_matches_wins():
    rows = resolve(parse("conv2:bernoulli:0.4 conv*:bernoulli:0.1"), SITES)
    assert {row.site: row.rate for row in rows} == {"conv1": 0.1, "conv2": 0.4}


def test_rows_come_in_the_order_of_the_model():
    rows = resolve(parse("fc:bernoulli:0.4 conv*:bernoulli:0.1"), SITES)
    assert [row.site for row in rows] == ["conv1", "conv2", "fc"]


def test_a_span_is_linear_over_the_sites_that_its_rule_wins():
    sites = tuple(f"block{i}/branch" for i in range(1, 6))
    rows = resolve(parse("block3/branch:bernoulli:0.9 */*:bernoulli:0.0..0.3"), sites)
    rates = [row.rate for row in rows]
    assert rates == pytest.approx([0.0, 0.1, 0.9, 0.2, 0.3])


def test_a_span_over_one_site_is_its_end():
    assert resolve(parse("fc:bernoulli:0.1..0.3"), SITES)[0].rate == 0.3
    assert parse("fc:bernoulli:0.1..0.3").rules[0].rate == Span(0.1, 0.3)


def test_a_list_gives_one_rate_per_site():
    rows = resolve(parse("conv*:bernoulli:0.1,0.25"), SITES)
    assert [row.rate for row in rows] == [0.1, 0.25]


def test_masks_of_kernels_belong_to_batches_unless_a_rule_says_otherwise():
    each = "conv1/kernel:bernoulli:0.1 conv2/kernel:bernoulli(unit='example'):0.1"
    units = [row.unit for row in resolve(parse(each), SITES)]
    assert units == ["batch", "example"]
    assert resolve(parse("fc:bernoulli:0.5"), SITES) == (
        Row("fc", Call("bernoulli"), "example", 0.5, Call("constant")),
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fc", ["'fc'", "sites:variant:rate"]),
        ("fc:bernoulli", ["sites:variant:rate"]),
        ("fc:bernouli:0.5", ["'bernouli'", "'bernoulli'", *VARIANTS]),
        ("fc:bernoulli:-0.1", ["-0.1", "[0, 1]"]),
        ("fc:bernoulli:1.5", ["1.5", "[0, 1]"]),
        ("fc:bernoulli:nan", ["nan", "[0, 1]"]),
        ("fc:bernoulli:half", ["'half'", "a number"]),
        ("conv*:bernoulli:0.1..1.2", ["1.2", "[0, 1]"]),
        ("fc:bernoulli(size=3):0.5", ["'size'", "bernoulli"]),
        ("fc:bernoulli(3):0.5", ["bernoulli(3)", "option=value"]),
        ("fc:bernoulli(unit='row'):0.5", ["'row'", "'example'", "'batch'"]),
        ("fc:bernoulli(unit=open('x')):0.5", ["option=value"]),
        ("fc:bernoulli:0.5@erly", ["'erly'", "'early'"]),
        ("fc:bernoulli:0.5@early(till=0.2)", ["'till'", "until"]),
        ("fc:bernoulli:0.5@early(until=2)", ["until=2", "[0, 1]"]),
        ("fc:bernoulli:0.5@early(until=-3, unit='steps')", ["-3", "[0, inf)"]),
        ("fc:bernoulli:0.5@early(unit='days')", ["'days'", "'epochs'"]),
        ("fc:bernoulli:0.5@early@late", ["early@late"]),
        ("fc:bernoulli:0.5@piecewise(factors=(1,))", ["1 factors", "one factor more"]),
    ],
)
def test_a_malformed_rule_is_one_line_that_says_what_is_allowed(text, names):
    with pytest.raises(ValueError) as raised:
        parse(text)
    message = str(raised.value)
    assert "\n" not in message
    assert all(name in message for name in names), message


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fcc:bernoulli:0.5", ["'fcc'", "'fc'", *SITES]),
        ("fc:bernoulli:0.5 f*:bernoulli:0.1", ["'f*:bernoulli:0.1'", "wins no site"]),
        ("fc:bernoulli:0.5 fc:bernoulli:0.5", ["wins no site"]),
        ("conv*:bernoulli:0.1,0.2,0.3", ["3 rates", "2 sites", "conv1, conv2"]),
    ],
)
def test_a_plan_that_does_not_fit_the_sites_says_why(text, names):
    with pytest.raises(ValueError) as raised:
        resolve(parse(text), SITES)
    assert all(name in str(raised.value) for name in names), raised.value


def test_a_variant_is_refused_where_it_cannot_act():
    kinds = {"window": "pool1/window", "state": "lstm/state", "branches": "b/branches"}
    for kind, site in kinds.items():
        assert kind not in VARIANTS["bernoulli"].kinds
        with pytest.raises(ValueError, match=f"cannot act at '{site}'.*{kind}"):
            resolve(parse(f"{site}:bernoulli:0.5"), (site,))
