"""Exported networks: what one file computes where nothing but JAX is installed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import flatbuffers
import jax
import numpy as np
import pytest
from jax import export
from model_cases import TINY
from paths import ROOT

from dropout import identity, parse
from evaluation import predictions
from evaluation.export import export_run
from evaluation.other_plans import with_plan
from evaluation.predictions import (
    held_out,
    predict_part,
    prepare_inference,
)
from models.convolution import plain_operations

CASES = {
    "mc": "",
    "scaling": "",
    "shared_mc": "conv1:dropblock(block_size=3):0.3 fc:bernoulli:0.5",
    "mc, kernels of examples": "conv2/kernel:bernoulli(unit='example'):0.2",
}
SAMPLES = 3
# In a process of its own: the symbol for the number of images is no `int`, as which the
# type checks of these tests take the lengths of arrays.
EXPORT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from dropout import parse
from evaluation import predictions
from evaluation.export import export_run
from evaluation.other_plans import with_plan
from evaluation.predictions import load_runs
(run,) = load_runs(sys.argv[1])
for name, plan in json.loads(sys.argv[3]).items():
    changed = with_plan(run, parse(plan)) if plan else run
    rule = name.partition(",")[0]
    program = export_run(changed, rule, int(sys.argv[4]))
    Path(sys.argv[2], name).write_bytes(program)
"""
# Of unlike kinds; the last one takes the length of its batch.
UNLIKE = (
    "lstm(units=5)", "wrn(depth=10, width=1)", "own_cases:Nested",
)  # fmt: skip
# A text model gives logits at each position, and no prediction of an image.
OTHERS = tuple(text for text in TINY if text not in UNLIKE and text != "char_rnn")
# JAX, NumPy and what reads the file: no directory, variable or link leads to us.
ELSEWHERE = """
import importlib.util, sys
sys.path += sys.argv[3:]
import jax, numpy
from jax import export
predictor = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
given = numpy.load(sys.argv[2])
found = predictor.call(given["images"], given["ids"], 0)
numpy.save(sys.argv[2] + ".found", numpy.asarray(found))
ours = ("dropout", "models", "training", "evaluation")
assert not any(map(importlib.util.find_spec, ours))
assert not {"flax", "optax", "orbax"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def files(finished, tmp_path_factory):
    """A directory with an exported program for each case."""
    path = tmp_path_factory.mktemp("exported")
    arguments = [finished[0], path, json.dumps(CASES), str(SAMPLES)]
    command = [sys.executable, "-c", EXPORT, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def test_plain_operations_are_traced_where_they_are_asked_for(run):
    network, state = run.experiment.network, run.state

    def traced():
        def plain(images):
            return network.forward(state.params, state.stats, images, identity)[0]

        return jax.jit(plain).lower(np.zeros((2, 10, 10, 1), np.float32)).as_text()

    with plain_operations():
        assert traced().count("stablehlo.reduce_window") == 2
    assert traced().count("stablehlo.reduce_window") == 0


@pytest.mark.slow
def test_the_program_takes_any_batch_on_any_platform_through_plain_convolutions(files):
    found = export.deserialize(bytearray((files / "mc").read_bytes()))
    assert found.platforms == ("cpu", "cuda", "tpu")
    images, ids, seed = found.in_avals
    assert images.shape[1:] == (10, 10, 1) and images.dtype == np.uint8
    assert ids.shape == images.shape[:1] and not isinstance(ids.shape[0], int)
    assert seed.shape == () and found.out_avals[0].shape[::2] == (SAMPLES, 3)
    text = str(found.mlir_module())
    # JAX writes a convolution once for each platform.
    for operation, count in (("convolution", 2 * 3), ("reduce_window", 2)):
        assert len(re.findall(rf'= "?stablehlo\.{operation}\b', text)) == count


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_program_says_what_evaluation_says(run, files, name):
    run = with_plan(run, parse(CASES[name])) if CASES[name] else run
    rule = name.partition(",")[0]
    found = export.deserialize(bytearray((files / name).read_bytes()))
    test = held_out(run, "test", 0)
    ours = predict_part(run, prepare_inference(run, rule, SAMPLES), test)
    for count in (30, 7) if name == "mc" else (30,):
        theirs = np.asarray(found.call(test.images[:count], test.ids[:count], 0))
        # One unit that is dropped in one of the two alone would show.
        np.testing.assert_allclose(theirs, ours[:, :count], rtol=0, atol=1e-5)
    if rule != "scaling":
        other = np.asarray(found.call(test.images, test.ids, 1))
        assert np.abs(other - ours).max() > 0.1


@pytest.mark.slow
def test_the_file_gives_the_same_bits_where_only_jax_is(finished, run, tmp_path):
    out, given = tmp_path / "predictor.stablehlo", tmp_path / "given.npz"
    command = [
        sys.executable, "scripts/export.py", str(finished[0]), f"--out={out}",
        "--rule=mc", "--samples=4",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    test = held_out(run, "test", 0)
    np.savez(given, images=test.images, ids=test.ids)
    packages = {str(Path(m.__file__).parent.parent) for m in (jax, flatbuffers, np)}
    command = [sys.executable, "-I", "-S", "-c", ELSEWHERE, out, given, *packages]
    bare = {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=tmp_path, env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    elsewhere = np.load(f"{given}.found.npy")
    # Nor does the file say where it was written.
    assert str(ROOT).encode() not in out.read_bytes()
    predictor = export.deserialize(bytearray(out.read_bytes()))
    here = np.asarray(predictor.call(test.images, test.ids, 0))
    np.testing.assert_array_equal(elsewhere, here)
    ours = predict_part(run, prepare_inference(run, "mc", 4), test)
    np.testing.assert_allclose(elsewhere, ours, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "models", [UNLIKE, pytest.param(OTHERS, marks=pytest.mark.long)], ids=len
)
def test_every_network_can_be_exported(models, tmp_path):
    write_pictures(tmp_path / "pictures.npz")
    command = [
        sys.executable, "tests/evaluation/exported_models.py",
        tmp_path / "pictures.npz", tmp_path / "found.npz", *models,
    ]  # fmt: skip
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "models")))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    refused = "expected x.shape[0] in place of len(x) in its code, or --images=N"
    assert done.stdout.count(refused) == ("own_cases:Nested" in models)
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == set(models)
        for exported, ours in found.values():
            scale = max(1, np.abs(ours).max())
            np.testing.assert_allclose(exported, ours, rtol=0, atol=1e-5 * scale)
            assert np.abs(ours[0] - ours[1]).max() > 1e-3


def write_pictures(path):
    """Noise, large enough for every network."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 16, 16, 1), np.uint8)
    labels = np.arange(12) % 3
    np.savez(
        path, train_images=images, train_labels=labels, test_images=images,
        test_labels=labels,
    )  # fmt: skip


def test_a_rule_that_does_not_fit_is_refused(run):
    with pytest.raises(ValueError, match="--rule=gaussian: the run's plan has no"):
        export_run(run, "gaussian", 2)


def test_a_run_on_text_is_refused(monkeypatch):
    """It has a label at each position."""
    texts = SimpleNamespace(
        fetch=lambda ids: (np.zeros((1, 9, 9, 1)), np.zeros((1, 9)))
    )
    experiment = SimpleNamespace(data=SimpleNamespace(test=texts))
    monkeypatch.setattr(predictions, "restore", lambda *_: (experiment, None))
    with pytest.raises(ValueError, match="runs/alice: a run on text; expected one on"):
        predictions.load_runs("runs/alice")
