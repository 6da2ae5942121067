"""Initial weights from a file or a run, and parameters that stay as they are."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import train

from dropout.grammar import parse_call
from training.canonical import canonical
from training.config import Config
from training.experiment import prepare
from training.freezing import check_patterns, trained, with_frozen
from training.network import build
from training.restore import restore
from training.start import start_state
from training.weights import flat, read_weights, weights_of_run, with_weights

CALL, IMAGE = parse_call("mlp(widths=(3, 4))"), (2, 3, 1)


def network(classes, seed=0):
    return build(CALL, IMAGE, classes, jax.random.key(seed))


def from_arrays(arrays, classes=5, call=CALL):
    return with_weights(network(classes), call, classes, "there.npz", arrays)


def beginning(found):
    """The parameters that a run of key 0 begins with, by their paths."""
    return flat(found.initial(jax.random.key(0))[0])


@pytest.fixture(scope="module")
def arrays():
    """Those of another seed."""
    return {name: np.asarray(item) for name, item in flat(network(5, 1).params).items()}


def test_arrays_by_our_paths_replace_the_random_ones(arrays, tmp_path):
    np.savez(tmp_path / "there.npz", **arrays)
    found = from_arrays(read_weights(str(tmp_path / "there.npz")))
    for path, leaf in beginning(found).items():
        np.testing.assert_array_equal(leaf, arrays[path])
    assert found.origin == "initial weights: 6 arrays of there.npz"


@pytest.mark.slow
def test_a_classifier_for_other_classes_is_new(arrays):
    found, fresh = from_arrays(arrays, classes=7), network(7)
    for path, leaf in beginning(found).items():
        expected = flat(fresh.params)[path] if path.startswith("out") else arrays[path]
        np.testing.assert_array_equal(leaf, expected)
    assert found.origin.endswith("new classifier out: 7 classes here, 5 there")


def test_arrays_in_another_precision_become_float32(arrays):
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    for leaf in beginning(from_arrays(halves)).values():
        assert leaf.dtype == jnp.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fc1/bias": None}, "no array for fc1/bias"),
        ({"more": np.ones(2)}, "the network has no array more"),
        ({"fc1/bias": np.ones(4)}, r"fc1/bias is of shape \(4,\) there, and of \(3,\)"),
        ({"out/kernel": np.ones((3, 9))}, r"out/kernel is of shape \(3, 9\)"),
    ],
)
def test_what_does_not_fit_is_one_line(arrays, change, words):
    changed = {n: a for n, a in {**arrays, **change}.items() if a is not None}
    with pytest.raises(ValueError, match=words):
        from_arrays(changed)


def test_names_of_a_library_are_known_for_some_networks(arrays):
    with pytest.raises(ValueError, match="known for resnet_imagenet, vit, vit_small"):
        from_arrays({"features.0.weight": np.ones(3)})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("weights.pth", b"", "expected .npz or .safetensors"),
        ("weights.npz", b"PK\x03\x04", "weights.npz is damaged"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_weights(str(tmp_path / name))


def test_patterns_match_the_first_segments_of_a_path():
    params = network(5).params
    for patterns, expected in {
        "": {"fc1", "fc2", "out"},
        "fc*": {"fc1", "fc2"},
        "out fc1": {"fc1", "out"},
        "*/bias": set(),
    }.items():
        chosen = trained(params, patterns)
        assert {name for name in chosen if chosen[name]["kernel"]} == expected
    assert trained(params, "*/bias")["fc1"] == {"kernel": False, "bias": True}
    with pytest.raises(ValueError, match="no parameter matches 'fcc1', did|'fcc1'"):
        check_patterns(params, "out fcc1")


def test_a_negative_zero_stays_one():
    before = {"a": {"kernel": jnp.array([-0.0])}, "b": {"kernel": jnp.ones(1)}}
    after = jax.tree.map(lambda leaf: leaf + 0.0, before)
    kept = with_frozen("b", before, after)["a"]["kernel"]
    assert jnp.signbit(kept).all() and not jnp.signbit(after["a"]["kernel"]).any()


def tuned(config):
    """Weight decay, max-norm and a learned variant beside what is trained."""
    return replace(
        config, dropout="conv2:spatial_concrete:0.2 fc:bernoulli:0.5",
        train_only="fc out", weight_decay=0.1, max_norm=0.2, clip_norm=1.0, epochs=1,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_what_is_not_trained_stays_bit_for_bit(small, tmp_path, optimizer):
    config = replace(tuned(small), optimizer=optimizer, workdir=str(tmp_path / "run"))
    experiment = prepare(canonical(config))
    before = flat(jax.device_get(start_state(experiment).params))
    train(config, config.workdir)
    after = flat(jax.device_get(restore(config.workdir)[1].params))
    moved = {path for path in before if (before[path] != after[path]).any()}
    assert moved == {"fc/kernel", "fc/bias", "out/kernel", "out/bias"}
    assert any(path.startswith("dropout/conv2") for path in before)


@pytest.mark.slow
def test_a_run_goes_on_from_the_weights_of_another(small, finished, tmp_path):
    """It begins with them; its record names them, and needs them no more."""
    workdir, summary = finished
    config = replace(small, init=str(workdir), epochs=1, seeds="0:2", mesh="members:1")
    experiment = prepare(canonical(replace(config, workdir=str(tmp_path / "new"))))
    given = weights_of_run(workdir)
    state = jax.device_get(start_state(experiment))
    for path, leaf in flat(state.params).items():
        for member in leaf:
            np.testing.assert_array_equal(member, given[path])
    found = train(config, tmp_path / "new")
    assert found["files"] == {str(workdir): summary["params_digest"]}
    gone = tmp_path / "gone.flags"
    flags = (tmp_path / "new" / "run.flags").read_text()
    gone.write_text(flags.replace(str(workdir), "gone"))
    gone.rename(tmp_path / "new" / "run.flags")
    assert restore(str(tmp_path / "new"))[1].step[0] == found["steps"]


def test_a_population_is_no_beginning(tmp_path):
    Path(tmp_path / "summary.json").write_text(json.dumps({"steps": 3, "members": []}))
    with pytest.raises(ValueError, match="not of a population"):
        canonical(Config(init=str(tmp_path)))
