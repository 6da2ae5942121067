"""Seeds of their own for the subset, the parameters, the data's order, the masks."""

import zlib
from dataclasses import replace

import jax
import numpy as np
import pytest

from studies.arms import parse_arms, trials
from studies.populations import population
from studies.tasks import group
from training.canonical import canonical
from training.data.batches import epoch_ids
from training.experiment import mask_key, prepare
from training.members import Member, members_of

OWN = ("subset_seed", "init_seed", "data_seed", "mask_seed")


def prepared(small, **changes):
    values = {
        "model": "mlp(widths=(3,))",
        "dropout": "*:bernoulli:0.5",
        "seed": 5,
        "train_examples": 60,
        "validation_examples": 20,
        "augment": "flip",
    }
    return prepare(canonical(replace(small, **{**values, **changes})))


@pytest.fixture(scope="module")
def usual(small):
    return prepared(small)


def parts(experiment):
    """What each seed decides: parameters, the order of the data, masks, the subset."""
    params = jax.tree.leaves(experiment.network.initial(experiment.keys["params"]))
    return {
        "init_seed": np.concatenate([np.ravel(leaf) for leaf in params]),
        "data_seed": [
            epoch_ids(experiment, 1),
            jax.random.key_data(experiment.keys["data"]),
        ],
        "mask_seed": jax.random.key_data(mask_key(experiment)),
        "subset_seed": [experiment.train_ids, experiment.validation_ids],
    }


def same(first, second):
    return jax.tree.all(jax.tree.map(np.array_equal, first, second))


@pytest.mark.parametrize("name", OWN)
def test_a_seed_of_its_own_changes_one_thing(usual, small, name):
    before, after = parts(usual), parts(prepared(small, **{name: 6}))
    changed = [part for part in before if not same(before[part], after[part])]
    # An epoch visits the examples that there are: the subset decides their order too.
    assert changed == (["data_seed", name] if name == "subset_seed" else [name])


def test_what_has_no_seed_of_its_own_stays_with_the_seed(usual, small):
    own = dict.fromkeys(OWN[1:], 5)
    before, after = parts(usual), parts(prepared(small, seed=6, **own))
    assert same(before["mask_seed"], after["mask_seed"])
    assert same(before["init_seed"], after["init_seed"])
    assert not same(before["subset_seed"], after["subset_seed"])


def test_seeds_that_are_not_given_are_the_seed(usual, small):
    assert same(parts(usual), parts(prepared(small, **dict.fromkeys(OWN, 5))))
    for name, key in usual.keys.items():
        by_hand = jax.random.fold_in(
            jax.random.key(5, impl="threefry2x32"), zlib.crc32(name.encode())
        )
        assert same(jax.random.key_data(key), jax.random.key_data(by_hand))


def test_the_members_of_a_population_vary_their_masks_alone(small):
    config = {"seed": 0, "seeds": "5,5,5", "mask_seeds": "5:8", "mesh": "members:1"}
    members = prepared(small, **config).members
    first, *others = map(parts, members)
    for other in others:
        different = [name for name in first if not same(first[name], other[name])]
        assert different == ["mask_seed"]


def test_lists_of_seeds_are_read_and_written(small):
    given = canonical(replace(small, seeds="0:3", init_seeds="4,4,9", data_seed=2))
    assert members_of(given) == tuple(
        Member(seed, 1.0, 0.01, 0.0, -1, init, 2, -1)
        for seed, init in zip(range(3), (4, 4, 9))
    )
    assert canonical(given) == given


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_seeds": "0:2"}, "--init_seeds=0:2: expected --seeds"),
        ({"seeds": "0:3", "mask_seeds": "0:2"}, "2 seeds for 3 members"),
        ({"seeds": "0:2", "data_seeds": "a"}, "--data_seeds=a: expected START:STOP"),
        ({"seeds": "0:2", "data_seeds": "0,1", "data_seed": 3}, "expected one of them"),
        ({"mask_seed": -2}, "--mask_seed=-2: expected a number in"),
    ],
)
def test_seeds_that_do_not_fit_are_refused(small, changes, message):
    with pytest.raises(ValueError, match=message):
        canonical(replace(small, **changes))


def test_arms_with_and_without_a_seed_of_their_own_share_a_program(small, tmp_path):
    base = canonical(replace(small, dropout="*:bernoulli:0.5", workdir="", mesh=""))
    arms = parse_arms(base, "", "all --mask_seed=-1; masks --mask_seed=7")
    (task,) = group(trials(arms, (0, 3)), 8)
    members = members_of(population(task, tmp_path))
    assert [member.mask_seed for member in members] == [0, 7, 3, 7]
    assert [member.seed for member in members] == [0, 0, 3, 3]
