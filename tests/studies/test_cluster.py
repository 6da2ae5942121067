"""Tasks on a Ray cluster of two nodes, one of which is killed in the middle."""

import json
import os
import threading
import time
from dataclasses import replace

import jax
import pytest

from studies import cluster
from studies.arms import parse_arms, trials
from studies.cluster import run_on_ray, train_there, write_records
from studies.engines import run_tasks
from studies.tasks import finished, group
from training.canonical import canonical


def test_records_are_written_where_they_are_not_whole(tmp_path, monkeypatch):
    write_records({"a/summary.json": b"1", "b/summary.json": b"2"}, tmp_path)
    monkeypatch.setattr(cluster, "whole", lambda path: path.name == "a")
    write_records({"a/summary.json": b"3", "b/summary.json": b"4"}, tmp_path)
    assert (tmp_path / "a" / "summary.json").read_bytes() == b"1"
    assert (tmp_path / "b" / "summary.json").read_bytes() == b"4"


def test_without_ray_or_a_cluster_one_line_says_so(tmp_path):
    with pytest.raises(ValueError, match="Ray is not installed|no Ray cluster listens"):
        run_on_ray([], tmp_path, "127.0.0.1:1", print)


def test_a_worker_sets_the_xla_flags_of_a_deterministic_run(
    small, tmp_path, monkeypatch
):
    """Before it trains; a second task of the same worker changes nothing."""
    config = replace(small, mesh="", deterministic=True, cache_dir=str(tmp_path))
    (arm,) = parse_arms(canonical(config), "none", "")
    first, second = group(trials([arm], (0, 1)), 1)
    seen = []
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(cluster, "RECORD", ())
    monkeypatch.setattr(
        cluster, "_train_when_free", lambda *_: seen.append(os.environ["XLA_FLAGS"])
    )
    before = jax.config.jax_compilation_cache_dir
    try:
        assert train_there(first, tmp_path) == train_there(second, tmp_path) == {}
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert seen[0].split() == ["--xla_gpu_deterministic_ops=true"]
    assert seen[1] == seen[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_that_is_lost_loses_nothing(small, tmp_path):
    """Eight tasks on two nodes; the first node to finish one lives, the other not."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    base = canonical(replace(small, epochs=30, dropout="fc:bernoulli:0.5"))
    found = trials(parse_arms(base, "", ""), tuple(range(8)))
    tasks = group(found, 1)
    assert len(tasks) == 8
    ray_cluster = cluster_utils.Cluster(True, head_node_args={"num_cpus": 0})
    nodes = [ray_cluster.add_node(num_cpus=1) for _ in range(2)]
    ray_cluster.wait_for_nodes()
    before = {}

    def kill_one_in_the_middle():
        while sum(finished(trial, tmp_path) for trial in found) < 2:
            time.sleep(0.05)
        time.sleep(0.3)
        before.update(predictions(found, tmp_path))
        ray_cluster.remove_node(nodes[0], allow_graceful=False)

    killer = threading.Thread(target=kill_one_in_the_middle)
    killer.start()
    announced = []
    try:
        run_on_ray(tasks, tmp_path, ray_cluster.address, announced.append)
    finally:
        killer.join()
        ray_cluster.shutdown()
    assert sorted(map(str, announced)) == sorted(map(str, tasks))
    assert 2 <= len(before) < 8, "the node was killed in the middle"
    after = predictions(found, tmp_path)
    assert len(after) == 8
    # What was finished was not touched again, and no step is in a record twice.
    assert before.items() <= after.items()
    for trial in found:
        path = tmp_path / trial.run / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        keys = [(line["step"], line["split"]) for line in lines]
        assert len(keys) == len(set(keys)) == 60
    # And all is as it is without a cluster.
    run_tasks(tasks[:2], tmp_path / "here")
    for task in tasks[:2]:
        (trial,) = task.trials
        digests = [
            json.loads((path / trial.run / "summary.json").read_text())["params_digest"]
            for path in (tmp_path, tmp_path / "here")
        ]
        assert digests[0] == digests[1]


def predictions(found, directory):
    paths = [directory / trial.run / "predictions.npz" for trial in found]
    return {path: path.stat().st_mtime_ns for path in paths if path.exists()}
