"""Options of flags have domains, and text that no flagfile can hold is refused."""

import time
from dataclasses import replace

import pytest

from dropout import parse
from dropout.grammar import lies_in, parse_call, split_outside
from dropout.schedules import check_schedule
from training.canonical import canonical
from training.config import Config
from training.flag_text import flag_lines, parse_flag_lines
from training.members import parse_seeds


def refused(words, **changes):
    with pytest.raises(ValueError) as raised:
        canonical(replace(Config(), **changes))
    message = str(raised.value)
    assert "\n" not in message and len(message) < 500
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("flag", "call", "interval"),
    [
        ("optimizer", "adam(b1=2)", "[0, 1)"),
        ("optimizer", "adam(b2=1.0)", "[0, 1)"),
        ("optimizer", "adamw(b1=-0.1)", "[0, 1)"),
        ("optimizer", "adam(eps=0.0)", "(0, 1e9]"),
        ("optimizer", "adam(eps=1e999)", "(0, 1e9]"),
        ("optimizer", "sgd(momentum=-5)", "[0, 1)"),
        ("learning_rate_schedule", "cosine(warmup=1.0)", "[0, 1)"),
        ("learning_rate_schedule", "cosine(warmup=-0.1)", "[0, 1)"),
        ("learning_rate_schedule", "cosine(end=1.5)", "[0, 1]"),
        ("learning_rate_schedule", "stepped(at=(1.5,))", "[0, 1]"),
        ("learning_rate_schedule", "stepped(at=(0.5, -0.5))", "[0, 1]"),
        ("learning_rate_schedule", "stepped(factor=-1)", "[0, 1]"),
        ("augment", "mixup(alpha=0)", "(0, 1e6]"),
        ("augment", "pad_crop(padding=-1)", "[0, 4096]"),
        ("augment", "pad_crop(padding=10000000000)", "[0, 4096]"),
        ("consistency", "rdrop(alpha=-1)", "[0, 1e9]"),
        ("model", f"mlp(widths=({10**24},))", "[1, 1048576]"),
        ("model", "mlp(widths=(3, 0))", "[1, 1048576]"),
        ("model", f"wrn(depth={6 * 10**30 + 4})", "[1, 4096]"),
        ("model", f"lstm(units={10**400})", "[1, 1048576]"),
        ("model", "vit(heads=-2)", "[1, 1048576]"),
    ],
)
def test_an_option_outside_its_domain_is_refused(flag, call, interval):
    refused(
        [call[: call.index("(")], f"expected a number in {interval}"], **{flag: call}
    )


@pytest.mark.parametrize(
    ("flag", "call"),
    [
        ("optimizer", "adam(b1=0.0, b2=0.5)"), ("optimizer", "sgd(momentum=0)"),
        ("learning_rate_schedule", "cosine(warmup=0.0)"),
        ("learning_rate_schedule", "stepped(at=(0.0, 1.0), factor=0.0)"),
        ("model", "mlp(widths=())"), ("augment", "pad_crop(padding=0)"),
    ],
)  # fmt: skip
def test_the_bounds_of_a_domain_are_accepted(flag, call):
    assert getattr(canonical(replace(Config(), **{flag: call})), flag)


@pytest.mark.parametrize(
    "schedule",
    [f"exponential(decay={10**400})", "curriculum(gamma=1e999)", f"step(by={10**30})"],
)
def test_numbers_that_no_array_holds_are_refused(schedule):
    refused(["(", "expected a"], dropout_schedule=schedule)


@pytest.mark.parametrize(
    "call", ["linear(start=0.9, end=0.1)", "decay(start=20, end=10, unit='steps')"]
)
def test_a_ramp_that_ends_before_it_starts_is_refused(call):
    refused([call.partition("(")[0], "start", "end"], dropout_schedule=call)
    # Alone, a start may lie after the steps of any other run.
    check_schedule(parse_call("linear(start=5000, unit='steps')"))


@pytest.mark.parametrize(
    ("number", "interval", "inside"),
    [
        (0, "[0, 1)", True), (1, "[0, 1)", False), (1, "[0, 1]", True),
        (0, "(0, 1]", False), (-1, "[0, 1]", False), (2, "[0, 1]", False),
        (float("nan"), "[0, 1]", False), (float("inf"), "[0, 1]", False),
    ],
)  # fmt: skip
def test_intervals_leave_out_the_bounds_at_round_brackets(number, interval, inside):
    assert lies_in(number, interval) == inside


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"0:{10**27}", "at most 4096"),
        (f"{10**27}:0", "START < STOP"),
        ("0:" + "9" * 5000, "START:STOP"),
        ("٣:٥", "START:STOP"),
        ("0:4096,9", "at most 4096"),
    ],
)
def test_seeds_of_any_length_are_read_or_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_seeds(text)


def test_seeds_are_what_they_say():
    assert parse_seeds("7, 3:6") == (7, 3, 4, 5)
    assert len(parse_seeds("0:4096")) == 4096


@pytest.mark.parametrize("name", ["workdir", "dataset", "data_dir", "cache_dir"])
@pytest.mark.parametrize("character", "\n\r\x0b\x0c\x1b\x1c\x85\u2028\u2029\udc80\0")
def test_text_that_a_flagfile_or_a_terminal_would_read_otherwise(name, character):
    refused([f"--{name}=", "single line"], **{name: f"a{character}b"})


@pytest.mark.parametrize("text", ["ordinary", "with space", "é ü 日本", "a=b--c", "#a"])
def test_other_text_is_read_back(text):
    config = canonical(replace(Config(), workdir=text, data_dir=text))
    assert parse_flag_lines(flag_lines(config)).workdir == text


def test_comments_and_blank_lines_are_no_flags():
    text = "# of the paper\n\n--seed=3\r\n  \n// twice\n--workdir=a\x85b\n"
    assert parse_flag_lines(text) == replace(Config(), seed=3, workdir="a\x85b")


@pytest.mark.slow
def test_a_long_plan_is_read_in_time_that_grows_with_its_length():
    """Four times the length takes less than ten times as long, and at most 3 s."""

    def seconds(rules):
        text = " ".join(f"s{number}:bernoulli:0.5" for number in range(rules))
        begin = time.perf_counter()
        assert len(parse(text).rules) == rules
        return time.perf_counter() - begin

    seconds(10)
    short, long = seconds(500), seconds(2000)
    assert long < 10 * short + 0.5


def test_splitting_heeds_parentheses():
    assert split_outside("a b(c d) e", " ") == ["a", "b(c d)", "e"]
    assert split_outside("", " ") == [""] and split_outside(" a", " ") == ["", "a"]
    begin = time.process_time()
    assert split_outside("x" * 10**6 + ":y", ":")[1] == "y"
    assert time.process_time() - begin < 5
