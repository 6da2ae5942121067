"""Records of a study that are damaged, killed or shared: healed, or refused."""

import json
import shutil
import threading
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from studies.arms import parse_arms
from studies.engines import run_tasks
from studies.outcomes import append
from studies.records import read_record, whole
from studies.study import Study, collect, open_study, pending
from training.canonical import canonical
from training.record.files import Damaged


def finish(study):
    open_study(study)
    run_tasks(pending(study, 8), study.directory)
    return collect(study)


@pytest.fixture(scope="module")
def undisturbed(small, tmp_path_factory):
    """Two arms of one program at two seeds: four runs in one population."""
    quick = replace(small, model="mlp(widths=(4,))", optimizer="sgd", epochs=2)
    arms = parse_arms(canonical(quick), "*:bernoulli:0.2; *:bernoulli:0.5", "")
    study = Study("?", arms, (3, 5), tmp_path_factory.mktemp("s"), 0.0, "command", {})
    return study, finish(study)


@pytest.fixture
def study(undisturbed, tmp_path):
    """A copy that a test may damage."""
    shutil.copytree(undisturbed[0].directory, tmp_path / "study")
    return undisturbed[0]._replace(directory=tmp_path / "study")


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def last_line_lost(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def of_another_step(path):
    arrays = {**np.load(path)}
    np.savez(path, **{**arrays, "step": arrays["step"] - 1})


DAMAGES = {
    "lost predictions": ("predictions.npz", lambda path: path.unlink()),
    "cut predictions": ("predictions.npz", lambda path: cut(path, 100)),
    "empty predictions": ("predictions.npz", lambda path: cut(path, 0)),
    "predictions of another step": ("predictions.npz", of_another_step),
    "lost summary": ("summary.json", lambda path: path.unlink()),
    "cut summary": ("summary.json", lambda path: cut(path, 10)),
    "empty object": ("summary.json", lambda path: path.write_text("{}")),
    "steps alone": ("summary.json", lambda path: path.write_text('{"steps": 8}')),
    "lost metrics": ("metrics.jsonl", lambda path: path.unlink()),
    "cut metrics": ("metrics.jsonl", lambda path: cut(path, 100)),
    "a lost line": ("metrics.jsonl", last_line_lost),
    "a lost plan": ("plan.txt", lambda path: path.unlink()),
}


def workdirs(study):
    return [study.directory / trial.run for trial in study.trials]


def measures(table):
    """All columns but the times, and the paths of this copy."""
    return table.drop("seconds", "seconds_to_target", strict=False).to_dicts()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_not_whole(study, damage):
    name, change = DAMAGES[damage]
    workdir = workdirs(study)[0]
    assert whole(workdir)
    change(workdir / name)
    assert not whole(workdir)
    assert [len(task.trials) for task in pending(study, 8)] == [4]


def test_damaged_records_are_written_again_without_training(study, undisturbed):
    for workdir, damage in zip(
        workdirs(study), ("cut predictions", "lost summary", "a lost line")
    ):
        name, change = DAMAGES[damage]
        change(workdir / name)
    (study.directory / "results.parquet").write_text("junk")
    (population,) = study.directory.glob("population-*")
    before = {p: p.stat().st_mtime_ns for p in population.glob("checkpoints/*/*")}
    untouched = workdirs(study)[3] / "summary.json"
    written = untouched.stat().st_mtime_ns
    assert measures(finish(study)) == measures(undisturbed[1])
    assert all(map(whole, workdirs(study))) and untouched.stat().st_mtime_ns == written
    assert list(study.directory.glob("population-*")) == [population]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert len(pl.read_parquet(study.directory / "results.parquet")) == 4


@pytest.mark.slow
def test_a_damaged_population_is_trained_again(study, undisturbed, capfd):
    (population,) = study.directory.glob("population-*")
    files = [p for p in (population / "checkpoints").rglob("*") if p.is_file()]
    for path in files:
        cut(path, 5)
    shutil.rmtree(workdirs(study)[1])
    assert measures(finish(study)) == measures(undisturbed[1])
    assert all(map(whole, workdirs(study)))
    assert len(list(study.directory.glob("damaged-population-*"))) == 1
    assert "training it again" in capfd.readouterr().err


def test_a_population_of_earlier_seeds_is_not_mixed_with_new_ones(study):
    shutil.rmtree(workdirs(study)[0])
    more = study._replace(seeds=(3, 5, 6))
    assert [len(task.trials) for task in pending(more, 8)] == [4, 2]
    few = study._replace(seeds=(3,))  # The population has runs that are not asked for.
    assert [len(task.trials) for task in pending(few, 8)] == [1]


def test_a_study_does_not_go_on_with_other_data(study, small):
    arrays = {**np.load(small.dataset)}
    before = small.dataset + ".before"
    shutil.copy(small.dataset, before)
    try:
        np.savez(
            small.dataset, **{**arrays, "test_labels": arrays["test_labels"][::-1]}
        )
        with pytest.raises(ValueError, match="the data are not those with which"):
            finish(study._replace(seeds=(3, 5, 7)))
    finally:
        shutil.move(before, small.dataset)


def test_records_of_two_steps_are_never_one_row(study):
    workdir = workdirs(study)[0]
    of_another_step(workdir / "predictions.npz")
    with pytest.raises(Damaged, match="predictions are those of step 7.*about step 8"):
        read_record(workdir)


def test_shards_that_write_in_the_same_moment_lose_no_row(tmp_path):
    def write(shard):
        for number in range(10):
            run = f"{shard}-{number}"
            append(
                tmp_path / "results.parquet", [{"run": run, "arm": "a", "stop": "last"}]
            )

    threads = [threading.Thread(target=write, args=(shard,)) for shard in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = pl.read_parquet(tmp_path / "results.parquet")["run"].to_list()
    assert sorted(found) == [f"{s}-{n}" for s in "abc" for n in range(10)]


def test_every_record_says_its_step(study):
    workdir = workdirs(study)[0]
    assert json.loads((workdir / "summary.json").read_text())["steps"] == 8
    assert int(np.load(workdir / "predictions.npz")["step"]) == 8
