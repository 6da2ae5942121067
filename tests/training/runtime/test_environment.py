"""What the environment says besides the flags changes no run, or is refused."""

import os
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from paths import ROOT
from small_run import train

from dropout.grammar import parse_call
from training.canonical import canonical
from training.config import Config
from training.experiment import mask_key, prepare
from training.runtime.environment import recorded_settings, write_or_check_environment


def start(code, **changes):
    """What Python says to a program in another environment; None unsets."""
    wanted = {**os.environ, **changes}
    environment = {name: text for name, text in wanted.items() if text is not None}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def test_keys_do_not_depend_on_the_default_generator(small):
    """0 -> threefry2x32 of JAX: the key words of seed 7 are 0 and 7."""
    config = canonical(replace(small, seed=7, workdir="unused"))
    usual = prepare(config)
    with jax.default_prng_impl("rbg"):
        experiment = prepare(config)
        ours = experiment.network.initial(experiment.keys["params"])
    for name, key in experiment.keys.items():
        assert str(jax.random.key_impl(key)) == "threefry2x32"
        np.testing.assert_array_equal(
            *map(jax.random.key_data, (key, usual.keys[name]))
        )
    theirs = usual.network.initial(usual.keys["params"])
    for leaf, other in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_array_equal(leaf, other)
    np.testing.assert_array_equal(experiment.train_ids, usual.train_ids)
    assert str(jax.random.key_impl(mask_key(experiment))) == "threefry2x32"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_threefry_partitionable", False),
        ("jax_enable_x64", True),
        ("jax_random_seed_offset", 1),
        ("jax_disable_jit", True),
    ],
)
def test_a_setting_under_which_masks_would_differ_is_refused(small, name, value):
    before = jax.config.values[name]
    try:
        jax.config.update(name, value)
        with pytest.raises(ValueError, match=f"{name.upper()}={value} .*{before}"):
            prepare(canonical(replace(small, workdir="unused")))
    finally:
        jax.config.update(name, before)


@pytest.mark.slow
def test_a_run_goes_on_only_under_the_settings_that_it_began_with(small, tmp_path):
    train(small, tmp_path)
    (tmp_path / "summary.json").unlink()
    with (
        jax.default_matmul_precision("bfloat16"),
        pytest.raises(ValueError, match="PRECISION=None .* which is bfloat16 now"),
    ):
        train(small, tmp_path)
    assert train(small, tmp_path)["steps"] == 16


def test_flags_of_xla_are_part_of_a_run_but_those_that_move_nothing(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XLA_FLAGS", "")
    write_or_check_environment(tmp_path)
    monkeypatch.setenv(
        "XLA_FLAGS", "--xla_force_host_platform_device_count=2 --xla_dump_to=/x"
    )
    write_or_check_environment(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert recorded_settings()["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=true"
    with pytest.raises(ValueError, match="XLA_FLAGS=unset .* --xla_cpu_enable_fast"):
        write_or_check_environment(tmp_path)


def test_without_a_home_the_cache_has_to_be_named(monkeypatch):
    def nobody(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", classmethod(nobody))
    with pytest.raises(ValueError, match="^--cache_dir is empty.*DIRECTORY.$"):
        canonical(Config())
    assert canonical(Config(cache_dir="/of/mine")).cache_dir == "/of/mine"


@pytest.mark.parametrize("backend", ["nonsense", "module://matplotlib_inline.backend"])
@pytest.mark.slow
def test_a_backend_that_is_not_here_ends_no_import(backend):
    done = start("import train, studies.report, pages.figures", MPLBACKEND=backend)
    assert done.returncode == 0, done.stderr[-400:]


def test_a_backend_that_is_here_is_kept():
    code = "import training.record.drawing, matplotlib; print(matplotlib.get_backend())"
    assert start(code, MPLBACKEND="svg").stdout == "svg\n"


@pytest.mark.slow
def test_optimised_python_refuses_what_python_refuses():
    code = (
        "from dropout.grammar import parse_call\n"
        "for text in ('mlp(512)', 'adam(0.1)', '5', 'a(**{})', 'a.b(c=1)', 'f()()'):\n"
        "    try: parse_call(text)\n"
        "    except ValueError as error: print(str(error).count('cannot read'))"
    )
    done = start(code, PYTHONOPTIMIZE="1")
    assert done.stdout == "1\n" * 6, done.stderr
    assert parse_call("mlp(widths=(3,))").options == (("widths", (3,)),)


@pytest.mark.parametrize("text", ["mlp(512)", "f(x=1, x=2)", "5", "f(**{'x': 1})"])
def test_a_call_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="expected name or name"):
        parse_call(text)
