"""The tutorials run as they stand, from the first block to the last."""

import os
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest
from paths import ROOT
from sampling import sampled

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
SHORTER = [str(path) for path in TUTORIALS if path.stem != "bring_a_network"]
PRODUCES = {
    "bring_a_network": ("runs/mine/evaluation.md", "runs/mine-compared/table.md"),
    "own_network": (),
    "uncertainty": ("runs/unsure/evaluation-uncertain.png", "unsure.csv"),
    "which_dropout": ("runs/which/report.html", "runs/rates/table.md"),
}


def blocks(text):
    """The language and text of each block that is to be run."""
    return re.findall(r"^```(python|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def arranged(directory: Path):
    """A directory from which the checkout's scripts run, and write nothing into it."""
    for name in ("train.py", "scripts"):
        (directory / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}


def test_there_are_the_tutorials_that_the_site_lists():
    assert [path.stem for path in TUTORIALS] == sorted(PRODUCES)
    assert all(blocks(path.read_text()) for path in TUTORIALS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sampled(TUTORIALS, SHORTER, pytest.mark.long), ids=lambda path: path.stem
)
def test_every_block_runs(path, tmp_path):
    environment = arranged(tmp_path)
    programs = {"python": [sys.executable, "-c"], "bash": ["bash", "-ec"]}
    for language, group in groupby(blocks(path.read_text()), lambda block: block[0]):
        text = "\n".join(code for _, code in group)
        command = [*programs[language], text]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for name in PRODUCES[path.stem]:
        assert (tmp_path / name).is_file()
