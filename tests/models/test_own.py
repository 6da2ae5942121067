"""Networks of a user's own: what they get, what is refused, and what they compute."""

import runpy
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import own_cases
import pytest
from flax import nnx
from own_cases import Nested
from paths import ROOT
from variant_cases import QUICK

from dropout import Moment, bind, identity, parse
from dropout.grammar import parse_call
from models import check_model, create
from training.network import build

IMAGE, CLASSES, ROWS = (3, 2, 1), 4, 5
KEY = jax.random.key(3)
PLAN = "stem:bernoulli:0.5 blocks/*/branch:drop_path:0.0..0.5"


@pytest.fixture(autouse=True)
def promotion_as_users_have_it():
    """Flax itself mixes types."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def nested():
    """The network with its plan, built once."""
    return build(parse_call("own_cases:Nested"), IMAGE, CLASSES, KEY, plan=parse(PLAN))


def images(rows=ROWS):
    return jax.random.normal(jax.random.key(1), (rows, *IMAGE))


def test_a_call_of_a_module_reads_as_it_is_written():
    text = "package.module:Name(depth=3)"
    call = parse_call(text)
    assert str(call) == text and call.name == "package.module:Name"
    with pytest.raises(ValueError, match="cannot read"):
        parse_call("package.module.Name")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no_such_module:Net", ["--model=no_such_module", "PYTHONPATH"]),
        ("own_cases.inner:Net", ["there is no module 'own_cases.inner'"]),
        ("own_cases:Nestd", ["no class or function 'Nestd'", "'Nested'"]),
        ("own_cases:NOTHING", ["no class or function 'NOTHING'"]),
        ("own_cases:Nested(depht=3)", ["no option 'depht'", "'depth'"]),
        ("own_cases:NeedsMore", ["'widths' has no default", "(widths=...)", "rngs"]),
        ("own_cases:list_of", ["is a list", "NNX module with __call__(images)"]),
        ("own_cases:TwoInputs", ["takes (images, labels)", "row_weights"]),
        ("own_cases:Both", ["takes `drop` and has Dropout layers"]),
    ],
)
def test_what_is_wrong_is_one_line(text, words):
    call = parse_call(text)
    with pytest.raises(ValueError) as caught:
        check_model(call)
        create(call, IMAGE, CLASSES, KEY)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_network_gets_what_it_names():
    call = parse_call("own_cases:Told(factor=7, classes=2)")
    create(call, IMAGE, CLASSES, KEY)
    channels, classes, key, image, rngs, factor = own_cases.SEEN
    assert (channels, classes, image, factor) == (1, 2, IMAGE, 7)
    assert (jax.random.key_data(key) == jax.random.key_data(KEY)).all()
    assert isinstance(rngs, nnx.Rngs)
    assert create(parse_call("own_cases:shaped"), IMAGE, 9, KEY).out_features == 9


def test_a_network_is_told_whether_it_trains():
    network = build(parse_call("own_cases:Told"), IMAGE, CLASSES, KEY)
    assert [site.name for site in network.sites] == ["fc"]
    for weights, flags in ((None, 1), (jnp.ones(ROWS), 6)):
        arrays = network.params, network.stats, images()
        logits, _ = network.forward(*arrays, identity, weights)
        assert (logits == flags).all()


def test_sites_are_paths_and_own_layers_are_rows(nested):
    names = [site.name for site in nested.sites]
    assert {"input", "stem/kernel", "blocks/1/fc", "blocks/0/branch"} <= set(names)
    rows = {row.site: (row.variant.name, row.rate) for row in nested.rows}
    assert rows == {
        "stem": ("bernoulli", 0.5),
        "blocks/0/drop": ("bernoulli", 0.25),
        "blocks/0/branch": ("drop_path", 0.0),
        "blocks/1/drop": ("bernoulli", 0.25),
        "blocks/1/branch": ("drop_path", 0.5),
    }
    assert nested.params["blocks"]["1"]["fc"]["kernel"].shape == (6, 6)


def plain():
    return Nested(IMAGE, CLASSES, nnx.Rngs(KEY))


def test_at_test_it_is_the_plain_network(nested):
    model = plain()
    model.eval()
    arrays = nested.params, nested.stats, images()
    for drop in (identity, bind(nested.rows, None, "eval")):
        logits, stats = nested.forward(*arrays, drop)
        np.testing.assert_array_equal(logits, model(images()))
    assert (stats["blocks"]["1"]["norm"]["mean"] == 0).all()


def test_in_training_norms_move_as_the_plain_networks_do(nested):
    """Without a rule nothing is dropped, its own layers included."""
    model, weights = plain(), jnp.ones(ROWS)
    model.train()
    for block in model.blocks:
        block.drop.rate = 0.0
    expected = model(images())
    arrays = nested.params, nested.stats, images()
    logits, stats = nested.forward(*arrays, bind((), None, "eval"), weights)
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    moved = stats["blocks"]["1"]["norm"]["mean"]
    np.testing.assert_allclose(moved, model.blocks[1].norm.mean[...], rtol=1e-6)
    assert (moved != 0).any()


@partial(jax.jit, static_argnums=(0, 1), compiler_options=QUICK)
def logits_of(forward, rows, params, stats, x, moment):
    return forward(params, stats, x, bind(rows, moment))[0]


def drawn(network, examples, epoch=1, rows=None):
    moment = Moment(KEY, examples, jnp.int32(epoch), jnp.int32(9))
    arrays = network.params, network.stats, images()[examples]
    rows = network.rows if rows is None else rows
    return logits_of(network.forward, rows, *arrays, moment)


@pytest.mark.slow
def test_masks_follow_the_example(nested):
    """The fourth row among five is dropped as it is alone, and two epochs differ."""

    among, alone = drawn(nested, jnp.arange(ROWS)), drawn(nested, jnp.array([3]))
    np.testing.assert_allclose(among[3], alone[0], rtol=1e-5, atol=1e-6)
    assert (jnp.abs(among - drawn(nested, jnp.arange(ROWS), 2)) > 1e-3).any()


@pytest.mark.slow
def test_another_plan_fits_without_building_it_anew(nested):
    """The own layers stay; the others have the masks that they have without it."""
    _, _, rest = PLAN.partition(" ")
    call, examples = parse_call("own_cases:Nested"), jnp.arange(ROWS)
    none = build(call, IMAGE, CLASSES, KEY, plan=parse(rest))
    found = drawn(nested, examples, rows=none.rows)
    np.testing.assert_array_equal(found, drawn(none, examples))
    assert (found != drawn(nested, examples)).any()


def test_the_skeleton_prints_a_file_of_thirty_lines(capsys):
    runpy.run_module("models.skeleton", run_name="__main__")
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 30
    assert "class Network(nnx.Module)" in text and "__main__" not in text


@pytest.mark.slow
def test_the_file_of_the_skeleton_is_a_network(tmp_path, monkeypatch):
    text = (ROOT / "models" / "skeleton.py").read_text()
    (tmp_path / "my_network.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    call = parse_call("my_network:Network(width=2)")
    check_model(call)
    network = build(call, (5, 6, 3), CLASSES, KEY)
    assert {"conv1", "conv1/kernel", "fc"} <= {site.name for site in network.sites}
