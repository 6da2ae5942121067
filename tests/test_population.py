"""Populations: each member is its solo run, whatever becomes of the others."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from small_run import train

from training.config import canonical, members_of
from training.experiment import restore
from training.members import Member
from training.record import read_metrics
from training.run import train_population

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


@pytest.fixture(scope="module")
def population(config, tmp_path_factory):
    """A finished population: its workdir and its summary."""
    workdir = tmp_path_factory.mktemp("populations") / "four"
    return workdir, train_population(config, MEMBERS, workdir)


@pytest.mark.parametrize("number", [1, 2])
def test_a_member_is_its_solo_run(config, population, number, tmp_path):
    workdir, summary = population
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


def test_a_population_compiles_once(population):
    assert population[1]["compilations"] == 1


def test_a_member_that_is_not_finite_is_frozen_and_no_other(config, tmp_path, capfd):
    """An infinite learning rate: the parameters after the first step are not finite."""
    wild = [MEMBERS[0], MEMBERS[1]._replace(learning_rate=1e9)]
    config = replace(config, model="mlp(widths=(4,))", dropout="none", optimizer="sgd")
    summary = train_population(config, wild, tmp_path / "wild")
    calm = train_population(config, [MEMBERS[0]], tmp_path / "calm")
    assert summary["frozen"] == [1]
    assert summary["members"][0] | {"member": 0} == calm["members"][0]
    last = summary["members"][1]
    assert 0 < last["skipped"] < last["steps"] == 15
    assert "member 1 (seed 1) stays as it is: the " in capfd.readouterr().err
    state = restore(str(tmp_path / "wild"))[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    written = [line["member"] for line in read_metrics(tmp_path / "wild")]
    assert written.count(1) < written.count(0)
    assert summary["test_loss"] == calm["test_loss"]


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
