"""What a run says while it goes: a line per epoch in a file, one of a terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from dropout import Timeline
from training.canonical import canonical
from training.experiment import prepare
from training.record import progress
from training.record.console import epoch_line
from training.run import run


@pytest.mark.slow
def test_a_line_is_announced_after_each_epoch(small, tmp_path):
    """Whatever is logged between: of 5 steps, 4 are the first epoch."""
    said = []
    config = replace(small, epochs=0, steps=5, log_every=1, workdir=str(tmp_path / "r"))
    summary = run(prepare(canonical(config)), said.append)
    assert len(said) == 2
    assert said[0].startswith("epoch 1/2, step 4/5; train loss ")
    assert said[1].startswith("epoch 2/2, step 5/5; train loss ")
    assert f"test loss {summary['test_loss']:.4f}" in said[1]
    assert said[1].endswith("; 0:00:00 left")


def test_the_line_of_an_epoch():
    latest = {"train": {"loss": 0.5, "accuracy": 0.875}}
    assert epoch_line(Timeline(4400, 1100), 2200, latest, 3723.4) == (
        "epoch 2/4, step 2,200/4,400; train loss 0.5000, accuracy 87.50%; 1:02:03 left"
    )


@pytest.mark.parametrize("total", [44, 12345, 1234567])
@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_is_one_line_of_a_terminal(total, width, monkeypatch):
    out = io.StringIO()
    terminal = Console(file=out, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda **_: terminal)
    monkeypatch.setattr(
        progress.Pace, "render", lambda *_: progress.Text("123,456 images/s")
    )
    bar = progress.progress_bar()
    numbers = progress.numbers_text(1.234e-5, 1.0, 0.9612)
    bar.add_task("", total=total, completed=total // 2, numbers=numbers, images=64)
    shown = terminal.render_lines(bar.get_renderable(), pad=False)
    (line,) = ["".join(part.text for part in parts) for parts in shown]
    for text in (f"{total // 2}/{total}", "accuracy 100.0%, test 96.1%", "images/s"):
        assert text in line
