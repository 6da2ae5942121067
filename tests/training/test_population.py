"""Populations: each member is its solo run, whatever becomes of the others."""

import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from small_run import PLAN, train

from training.canonical import canonical
from training.data.batches import batches_from
from training.experiment import Experiment, prepare
from training.lines import frozen_members
from training.members import Member, members_of
from training.record.metrics_log import read_metrics
from training.restore import restore
from training.run import train_population
from training.runtime.devices import resolve_mesh
from training.state import State, empty_totals

MEMBERS = (
    Member(seed=0, rate_factor=1.0, learning_rate=0.01, weight_decay=0.0),
    Member(seed=1, rate_factor=0.5, learning_rate=0.02, weight_decay=1e-2),
    Member(seed=7, rate_factor=1.5, learning_rate=0.01, weight_decay=0.0),
    Member(seed=0, rate_factor=0.0, learning_rate=0.005, weight_decay=1e-3),
)


@pytest.fixture(scope="module")
def config(small):
    """Members see different examples, in different orders."""
    return replace(small, train_examples=72, validation_examples=20, epochs=5)


@pytest.fixture(
    scope="module",
    params=[
        ("mlp(widths=(4,))", "input:bernoulli:0.1@late fc1:bernoulli:0.5@early"),
        ("cnn(widths=(2, 3), dense=8)", PLAN),
    ],
    ids=["mlp", "cnn"],
)
def population(config, tmp_path_factory, request):
    """A finished population: its configuration, its workdir and its summary."""
    workdir = tmp_path_factory.mktemp("populations") / "four"
    config = replace(config, model=request.param[0], dropout=request.param[1])
    return config, workdir, train_population(config, MEMBERS, workdir)


@pytest.mark.slow
def test_a_member_is_its_solo_run(population, tmp_path):
    (config, workdir, summary), number = population, 1
    member = summary["members"][number]
    solo = train(replace(config, **MEMBERS[number]._asdict()), tmp_path)
    assert member["masks_digest"] == solo["masks_digest"]
    assert member["steps"] == solo["steps"] == 15
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy"):
        np.testing.assert_allclose(member[name], solo[name], rtol=1e-4)
    assert_same_params(workdir, number, restore(str(tmp_path))[1])
    lines = [line for line in read_metrics(workdir) if line["member"] == number]
    for line, alone in zip(lines, read_metrics(tmp_path), strict=True):
        assert (line.pop("member"), line.pop("seed")) == (number, member["seed"])
        assert line.keys() == alone.keys() and line["split"] == alone["split"]
        numbers = [name for name in line if name != "split"]
        np.testing.assert_allclose(
            [line[n] for n in numbers], [alone[n] for n in numbers], rtol=1e-4
        )


def assert_same_params(workdir, number, solo):
    members = restore(str(workdir))[1]
    for mine, its in zip(*map(jax.tree.leaves, (members.params, solo.params))):
        np.testing.assert_allclose(mine[number], its, atol=1e-5)


@pytest.mark.slow
def test_a_population_compiles_once(population):
    assert population[2]["compilations"] == 1


@pytest.fixture(scope="module")
def quick(config):
    """A network that compiles quickly; its second member does not stay finite."""
    return replace(
        config,
        model="mlp(widths=(4,))",
        dropout="*:bernoulli:0.2",
        optimizer="sgd",
        train_examples=0,
        validation_examples=0,
    )


WILD = (MEMBERS[0], MEMBERS[1]._replace(learning_rate=1e9), *MEMBERS[2:])


@pytest.fixture(scope="module")
def wild(quick, tmp_path_factory):
    """A finished population one of whose members is frozen."""
    workdir = tmp_path_factory.mktemp("populations") / "wild"
    return workdir, train_population(quick, WILD, workdir)


@pytest.mark.parametrize(
    ("on_nan", "members", "frozen"),
    [("stop", 3, {1}), ("skip", 3, set()), ("stop", 0, set())],
)
def test_who_is_frozen(small, on_nan, members, frozen):
    """Members that have skipped a step, if a run would have stopped there."""
    run = Experiment(replace(small, on_nan=on_nan), *[None] * 10)
    skipped = np.int32([0, 2, 0]) if members else np.int32(2)
    state = State(jax.numpy.int32(4), skipped, {}, {}, (), empty_totals())
    assert frozen_members(run._replace(members=(run,) * members), state) == frozen


@pytest.mark.slow
def test_a_member_that_is_not_finite_is_frozen(wild):
    workdir, summary = wild
    assert summary["frozen"] == [1]
    skipped = [member["skipped"] for member in summary["members"]]
    assert 0 < skipped.pop(1) < 20 and not any(skipped)
    params = restore(str(workdir))[1].params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    written = [line["member"] for line in read_metrics(workdir)]
    assert written.count(1) < written.count(0) == 10
    others = [m["test_loss"] for m in summary["members"] if m["member"] != 1]
    np.testing.assert_allclose(summary["test_loss"], np.mean(others))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "backend"),
    [(2, "gpu"), (4, "cpu")],
)
def test_members_over_devices_are_what_they_are_on_one(
    wild, quick, devices, backend, tmp_path, monkeypatch
):
    """In turn, as on the CPU, or vectorised, as elsewhere."""
    monkeypatch.setattr("jax.default_backend", lambda: backend)
    spread = replace(quick, mesh=f"members:{devices}")
    summary = train_population(spread, WILD, tmp_path)
    assert summary["frozen"] == [1]
    for member, expected in zip(summary["members"], wild[1]["members"], strict=True):
        assert member["masks_digest"] == expected["masks_digest"]
        if member["member"] != 1:
            np.testing.assert_allclose(
                member["test_loss"], expected["test_loss"], rtol=1e-5
            )


@pytest.mark.slow
def test_a_population_that_was_killed_ends_bit_for_bit_the_same(wild, quick, tmp_path):
    """As a kill leaves it: no summary, and lines later than the last checkpoint."""
    workdir = tmp_path / "killed"
    shutil.copytree(wild[0], workdir)
    (workdir / "summary.json").unlink()
    for step in (16, 20):
        shutil.rmtree(workdir / "checkpoints" / str(step))
    summary = train_population(quick, WILD, workdir)
    for name in ("frozen", "members", "test_loss"):
        assert summary[name] == wild[1][name]
    texts = [(w / "metrics.jsonl").read_text() for w in (workdir, wild[0])]
    assert texts[0] == texts[1]
    # As if it came from a machine with more devices:
    flags = (workdir / "run.flags").read_text()
    (workdir / "run.flags").write_text(flags.replace("mesh=data:1", "mesh=members:32"))
    states = [restore(str(w))[1] for w in (workdir, wild[0])]
    for first, second in zip(*map(jax.tree.leaves, states)):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_batches_of_a_population_are_those_of_its_members(config, tmp_path):
    mixing = replace(config, seeds="3:5", augment="flip mixup", microbatches=2)
    population = prepare(canonical(mixing))
    together = next(batches_from(population, 4))
    for number, member in enumerate(population.members):
        for all_rows, rows in zip(
            *map(jax.tree.leaves, (together, next(batches_from(member, 4)))),
            strict=True,
        ):
            np.testing.assert_array_equal(raw(all_rows[number]), raw(rows))


def raw(array):
    is_key = jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(array) if is_key else array


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("model", ["cnn", "cnn_same"])
def test_a_member_of_a_real_network_is_its_solo_run(small, model, tmp_path):
    """After 200 steps: loss within 1e-4 relative, accuracy within one image in 1000."""
    config = replace(
        small, dataset="digits", model=model, steps=200, epochs=0, batch_size=64,
        dropout="conv*:bernoulli:0.1 fc:bernoulli:0.5",
    )  # fmt: skip
    members = [Member(0, 1.0, 1e-3, 0.0), Member(1, 0.5, 5e-4, 1e-4)]
    summary = train_population(config, members, tmp_path / "population")
    for member, its in zip(members, summary["members"], strict=True):
        solo = train(replace(config, **member._asdict()), tmp_path / f"{member.seed}")
        assert its["masks_digest"] == solo["masks_digest"]
        for split in ("train", "test"):
            loss, accuracy = f"{split}_loss", f"{split}_accuracy"
            print(model, member, split, its[loss] / solo[loss] - 1)
            np.testing.assert_allclose(its[loss], solo[loss], rtol=1e-4)
            assert abs(its[accuracy] - solo[accuracy]) <= 1e-3


@pytest.mark.long
def test_the_variance_shifts_of_a_member_are_those_of_its_solo_run(small, tmp_path):
    config = replace(
        small, model="resnet(depth=8, width=2)", dropout="*/branch:bernoulli:0.3",
        telemetry=True, epochs=2,
    )  # fmt: skip
    members = [Member(0, 1.0, 1e-3, 0.0), Member(1, 2.0, 1e-3, 0.0)]
    train_population(config, members, tmp_path / "population")
    train(replace(config, **members[1]._asdict()), tmp_path / "solo")
    lines = read_metrics(tmp_path / "population")
    found, others, solo = (
        [shifts(line) for line in each if line["split"] == "test"]
        for each in (lines[1::2], lines[::2], read_metrics(tmp_path / "solo"))
    )
    assert len(found) == 2 and len(found[0]) == 7
    np.testing.assert_allclose(found, solo, rtol=1e-4)
    assert not np.allclose(others, solo, rtol=1e-2)


def shifts(line):
    return [line[name] for name in line if name.startswith("variance_shift/")]


@pytest.mark.parametrize(
    ("mesh", "members", "message"),
    [
        ("members:3", 4, "members:3: expected a number of --seeds that it divides"),
        ("members:2", 0, "members:2: expected a number of --seeds that it divides"),
        ("members:64", 64, "members:64: this machine has 8 device"),
        ("member:2", 4, "member:2: expected data:N, or members:N with --seeds"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(mesh, members, message):
    with pytest.raises(ValueError, match=message):
        resolve_mesh(mesh, members)


def test_a_population_takes_all_devices_that_divide_it():
    assert resolve_mesh("", 6) == "members:2"
    assert resolve_mesh("", 12) == "members:4"
    assert resolve_mesh("") == "data:8"


def test_members_of_a_configuration_and_back(config):
    given = canonical(
        replace(config, seeds="0:2,5", learning_rate=0.1, rate_factors=" 1, 0.5,2.0")
    )
    assert members_of(given) == (
        Member(0, 1.0, 0.1, 0.0),
        Member(1, 0.5, 0.1, 0.0),
        Member(5, 2.0, 0.1, 0.0),
    )
    assert given.rate_factors == "1.0,0.5,2.0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "0-4"}, "--seeds=0-4: expected START:STOP"),
        ({"seeds": "4:4"}, "--seeds=4:4: expected START:STOP with START < STOP"),
        ({"seeds": "0:5000000000"}, "at most 4096 seeds"),
        ({"seeds": "4294967296"}, "--seed=4294967296: expected a number in"),
        ({"seeds": "0:4", "seed": 3}, "--seed=3 --seeds=0:4: expected one"),
        ({"learning_rates": "0.1,0.2"}, "--learning_rates=.*expected --seeds"),
        ({"seeds": "0:3", "rate_factors": "1,2"}, "2 numbers for 3 members"),
        ({"seeds": "0:2", "weight_decays": "1,x"}, "expected numbers with commas"),
        ({"seeds": "0:2", "weight_decays": "0,-1"}, "--weight_decay=-1.0: expected"),
    ],
)
def test_members_that_are_malformed_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        canonical(replace(config, **changes))
