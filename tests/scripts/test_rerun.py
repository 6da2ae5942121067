"""Repeating a run from its record, and saying since when one differs."""

import json
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

from evaluation import rerun


def changed(finished, directory, name, change):
    """A copy of the finished run in which the text of one file is changed."""
    workdir = directory / "changed"
    shutil.copytree(finished[0], workdir)
    path = workdir / name
    path.write_text(change(path.read_text()))
    return workdir


@pytest.mark.slow
def test_a_rerun_in_a_process_of_its_own_is_identical(finished, tmp_path):
    def old(text):  # Records of an earlier version name the cache of their machine.
        return f"{text}--cache_dir=/proc/another/machine\n"

    workdir = changed(finished, tmp_path, "run.flags", old)
    command = [sys.executable, "scripts/rerun.py", str(workdir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("identical: 8 lines of metrics, parameters ")
    assert finished[1]["params_digest"][:16] in last


def test_what_differs_is_named_with_the_step_since_when(finished, tmp_path):
    assert rerun.differences(finished[0], finished[0]) == []

    def other_loss(text):
        lines = [json.loads(line) for line in text.splitlines()]
        for line in lines[5:]:
            line["loss"] += 1
        return "".join(json.dumps(line) + "\n" for line in lines)

    workdir = changed(finished, tmp_path, "metrics.jsonl", other_loss)
    (found,) = rerun.differences(finished[0], workdir)
    assert found.startswith("metrics since step 12 (test): loss ")


def test_other_parameters_and_circumstances_are_named(finished, tmp_path):
    def other(text):
        summary = json.loads(text)
        summary["params_digest"] = "0" * 64
        summary["devices"]["count"] = 3
        return json.dumps(summary)

    workdir = changed(finished, tmp_path, "summary.json", other)
    (found,) = rerun.differences(finished[0], workdir)
    assert found.startswith("params_digest: 000") and "was" in found
    (why,) = rerun.circumstances(finished[0], workdir)
    assert why.startswith("devices") and "'count': 3" in why


def test_members_are_compared_one_by_one(finished, tmp_path):
    def population(digest):
        def members(text):
            one = {**json.loads(text), "member": 0}
            steps = {"steps": one["steps"]}
            return json.dumps(
                {**steps, "members": [one, {**one, **digest, "member": 1}]}
            )

        return members

    same = changed(finished, tmp_path / "same", "summary.json", population({}))
    other = population({"params_digest": "0" * 64})
    other = changed(finished, tmp_path / "other", "summary.json", other)
    (found,) = rerun.differences(same, other)
    assert found.startswith("member 1: params_digest: 000") and "was" in found
    assert len(rerun.matches(same)) == 1 + 2 * 2
    line = {"step": 4, "split": "train", "member": 1, "loss": 1.0}
    (found,) = rerun.first_difference([line], [{**line, "loss": 2.0}])
    assert found == "metrics since step 4 (train, member 1): loss 2.0, was 1.0"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("summary.json", "{", "summary.json is damaged"),
        ("summary.json", "[1]", "summary.json is damaged"),
        ("summary.json", "{}", "has no 'steps'; expected a finished run"),
        ("metrics.jsonl", "{\n", "metrics.jsonl is damaged"),
        ("run.flags", "--epochs=many\n", "--epochs=many: expected int"),
    ],
)
def test_a_damaged_record_is_refused(finished, tmp_path, name, content, words):
    workdir = changed(finished, tmp_path, name, lambda text: content)
    with pytest.raises(ValueError, match=words):
        rerun.repeat(workdir, tmp_path / "again", "", "")


def test_missing_lines_are_a_difference():
    line = {"step": 4, "split": "train", "loss": 1.0}
    assert rerun.first_difference([line], [line]) == []
    (found,) = rerun.first_difference([line], [])
    assert found.startswith("metrics since step 4 (train)")
