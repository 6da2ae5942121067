"""Files of a user's own: modules that register, and what a record says of them."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dropout import (
    SCHEDULES,
    VARIANTS,
    Timeline,
    Variant,
    factor_at,
    parse,
    register_schedule,
    register_variant,
)
from dropout.grammar import parse_call
from evaluation.rerun import file_changes
from studies.report import _plugins
from training.canonical import canonical
from training.config import Config
from training.default_workdir import default_workdir
from training.own_files import file_digests
from training.record.same_run import changed_files, write_or_check_files

PLUGIN = """
from dropout import Variant, bernoulli, register_schedule, register_variant
from dropout.factors import Time

def scaled(key, x, rate, *, scale: float = 1.0):
    return bernoulli(key, x, rate) * scale

def ramp(step, total, *, end: Time = 1.0):
    return step / end

register_variant(Variant(scaled))
register_schedule(ramp)
"""


@pytest.fixture(autouse=True)
def own_directory(monkeypatch, tmp_path):
    """A directory of its own, in which what a test registers is gone after it."""
    kept = [(registry, dict(registry)) for registry in (VARIANTS, SCHEDULES)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    parse.cache_clear()
    for registry, before in kept:
        registry.clear()
        registry.update(before)


def test_a_plugin_brings_variants_and_schedules():
    Path("plugin_a.py").write_text(PLUGIN)
    plan = "fc:scaled(scale=2.0):0.5@ramp(end=0.5)"
    with pytest.raises(ValueError, match="unknown schedule 'ramp'"):
        canonical(Config(dropout=plan))
    assert canonical(Config(plugins="plugin_a", dropout=plan)).dropout == plan
    assert VARIANTS["scaled"].draw.__module__ == "plugin_a"
    call = parse_call("ramp(end=0.5)")
    assert factor_at(call, 25, Timeline(100, 10)) == 0.5  # 25 of 50 steps


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        ("plugin_none", ["--plugins=plugin_none", "PYTHONPATH"]),
        ("plugin_b, plugin_c", ["variant 'scaled' of plugin_c", "another name"]),
    ],
)
def test_a_plugin_that_does_not_fit_is_one_line(plugins, words):
    for name in ("plugin_b", "plugin_c"):
        Path(f"{name}.py").write_text(PLUGIN)
    with pytest.raises(ValueError) as caught:
        canonical(Config(plugins=plugins))
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def without_inputs():
    """A variant has three inputs."""


def without_types(key, x, rate, *, scale=1.0):
    """Options of flags have types."""


def test_a_function_of_another_form_is_refused():
    for function in (without_inputs, without_types, lambda key, x, rate: x):
        with pytest.raises(ValueError, match=r"called as \(key, x, rate, \*, option"):
            register_variant(Variant(function))
    with pytest.raises(ValueError, match=r"called as \(step, total, \*, option"):
        register_schedule(without_types)


def test_a_name_with_a_dot_is_told_of_the_colon():
    with pytest.raises(ValueError, match="package.module:Name, with a colon"):
        canonical(Config(model="my_net.Net(width=3)"))


def own_model(text):
    """A module, whose file counts, whatever is in it."""
    Path("my_net.py").write_text(f"def Net(classes, rngs): {text}")
    return Config(model="my_net:Net", plugins="my_net")


def test_a_run_with_a_changed_file_is_another_run():
    first = default_workdir(own_model("pass"))
    assert first.startswith("runs/digits-my_net-Net-")
    assert default_workdir(own_model("pass")) == first
    assert default_workdir(own_model("return 1")) != first


def test_a_workdir_keeps_to_the_files_that_it_began_with():
    path = Path("files.json")
    config = own_model("pass")
    write_or_check_files(path, config)
    recorded = json.loads(path.read_text())
    assert recorded == file_digests(config.model, config.plugins, "")
    write_or_check_files(path, config)
    own_model("return 1")
    assert changed_files(path, config) == ["my_net has changed"]
    with pytest.raises(ValueError, match="my_net has changed since"):
        write_or_check_files(path, config)
    write_or_check_files(Path("other.json"), Config())
    assert not Path("other.json").exists()


def test_a_rerun_names_the_file_that_changed():
    def record(name, summary):
        Path(name).mkdir()
        (Path(name) / "summary.json").write_text(json.dumps({"steps": 1, **summary}))
        return Path(name)

    one = record("one", {"files": {"my_net": "12ab"}})
    other, none = record("other", {"files": {"my_net": "34cd"}}), record("none", {})
    assert file_changes(one, one) == file_changes(none, none) == []
    assert file_changes(one, other) == ["my_net has changed: 34cd, was 12ab"]
    assert file_changes(none, one) == ["my_net has changed: 12ab, was None"]


def test_a_report_loads_the_plugins_of_each_arm():
    arms = [{"flags": f"--model=cnn\n--plugins={text}\n"} for text in "aab"]
    assert _plugins({"arms": arms}) == ["a", "b"]


def test_a_flag_of_a_file_that_is_missing_says_what_is_expected():
    with pytest.raises(ValueError, match="--init=none.npz: expected a file"):
        canonical(replace(Config(), init="none.npz"))
