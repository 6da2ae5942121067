"""Pictures of a run: the schedule itself, readable names and numbers, literal texts."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from dropout import Timeline, parse, resolve, scale_rates
from training.record.curves import all_rate_curves, plot_curves
from training.record.markdown import fenced, literal
from training.record.pictures import as_label, save_picture
from training.record.rates import label_of, rate_curves

SITES = ("input", "conv1", "conv2", "fc")


def lines(steps_per_epoch, epochs, **others):
    return [
        {"step": steps_per_epoch * epoch, "epoch": float(epoch), "split": split,
         "loss": 2.295 / epoch, "accuracy": 1 - 0.5 / epoch, **others}
        for epoch in range(1, epochs + 1) for split in ("train", "test")
    ]  # fmt: skip


def test_a_switch_within_an_epoch_is_a_step_at_its_place():
    """Two epochs of 20 steps, 0.3 until step 8: at the logged steps the rate is 0."""
    rows = resolve(parse("fc:bernoulli:0.3@early(until=0.2)"), SITES)
    (curve,) = rate_curves([rows], Timeline(40, 20), 40)
    assert curve.sites == ("fc",) and len(curve.epochs) == 41
    np.testing.assert_allclose(curve.high, [0.3] * 8 + [0.0] * 33, rtol=1e-6)
    np.testing.assert_allclose(curve.epochs[[0, 8, 40]], [0, 0.4, 2])
    figure = plot_curves(lines(20, 2), [curve], "title")
    names = [axes.get_ylabel() for axes in figure.axes]
    assert names == ["loss", "accuracy", "dropout rate"]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["train (with dropout)", "test"]
    (drawn,) = figure.axes[2].lines
    assert drawn.get_drawstyle() == "steps-post"


def test_a_million_steps_are_drawn_to_the_width_of_a_pixel():
    rows = resolve(parse("fc:bernoulli:0.5@late(start=0.25)"), SITES)
    (curve,) = rate_curves([rows], Timeline(10**6, 1000), 10**6)
    assert len(curve.epochs) <= 2001
    first = curve.epochs[np.argmax(curve.high > 0)]
    assert first == pytest.approx(250, abs=0.5)  # Of a thousand epochs.


def test_members_span_a_band_and_equal_sites_share_a_curve():
    rows = resolve(parse("conv*:bernoulli:0.2 fc:bernoulli:0.4"), SITES)
    members = [rows, scale_rates(rows, 0.5)]
    convolutions, dense = rate_curves(members, Timeline(10, 5), 10)
    assert convolutions.sites == ("conv1", "conv2") and dense.sites == ("fc",)
    np.testing.assert_allclose(convolutions.low, 0.1, rtol=1e-6)
    np.testing.assert_allclose(convolutions.high, 0.2, rtol=1e-6)


def test_a_learned_rate_is_the_logged_one():
    rows = resolve(parse("fc:concrete:0.1 input:bernoulli:0.2"), SITES)
    logged = lines(5, 3, **{"rate/fc": 0.25})
    plain, learned = all_rate_curves([rows], Timeline(15, 5), logged)
    assert plain.sites == ("input",) and learned.sites == ("fc",)
    assert learned.high.tolist() == [0.25] * 3 and learned.epochs.tolist() == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 12, 35])
def test_many_sites_leave_room_for_the_curves(count):
    sites = tuple(f"block{number}/branch" for number in range(1, count + 1))
    rows = resolve(parse("block*/branch:drop_path:0.1..0.5"), sites)
    curves = rate_curves([rows], Timeline(20, 10), 20)
    assert len(curves) == count
    figure = plot_curves(lines(10, 2), curves, "title")
    figure.draw_without_rendering()
    axes = figure.axes[2]
    assert len(axes.lines) == count
    assert len(axes.get_legend().get_texts()) <= 8
    assert all(each.get_position().width > 0.15 for each in figure.axes)
    legend = axes.get_legend().get_window_extent()
    assert legend.height < figure.bbox.height and legend.x1 <= figure.bbox.x1
    assert legend.x0 >= axes.get_window_extent().x1  # Beside the curves.


def test_numbers_of_a_logarithmic_axis_are_plain():
    figure = plot_curves(lines(10, 2), [], "title")
    assert len(figure.axes) == 2  # There are no rates.
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    texts = [
        t.get_text() for t in axis.get_majorticklabels() + axis.get_minorticklabels()
    ]
    assert any(texts) and not any(re.search(r"\$|\^|times", text) for text in texts)
    assert all(len(text) <= 5 for text in texts), texts


def test_names_of_many_sites_are_short_and_say_how_many():
    assert label_of(("conv1", "conv2")) == "conv1, conv2"
    assert label_of(tuple("abcde")) == "a ... e (5 sites)"


@pytest.mark.parametrize("text", ["$", "$x$", "a$b", r"$\frac$", "_hidden", "a\nb"])
def test_a_text_of_a_user_is_drawn_as_it_is(text):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], label=as_label(text))
    legend = axes.legend()
    axes.set_title(as_label(text))
    figure.draw_without_rendering()  # Mathematics that cannot be read raises.
    (shown,) = legend.get_texts()
    assert shown.get_text().strip().replace(r"\$", "$") == text


def test_a_picture_is_there_in_pixels_and_in_lines(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    save_picture(figure, tmp_path / "a.png")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.svg", "a.pdf"}
    width = int.from_bytes((tmp_path / "a.png").read_bytes()[16:20], "big")
    assert width >= 2 * 150  # Dots per inch.
    first = (tmp_path / "a.svg").read_bytes()
    save_picture(figure, tmp_path / "a.png")
    assert (tmp_path / "a.svg").read_bytes() == first


def test_markdown_shows_what_users_write():
    assert literal("a*b <i> [c](d) #e") == r"a\*b \<i\> \[c\](d) \#e"
    assert fenced(["a", "```", "b"]) == "````\na\n```\nb\n````"
