"""The architecture: imports run one way, and training needs no TensorFlow."""

import ast
import os
import subprocess
import sys

import pytest
from paths import ROOT

# Each may import itself and what stands before it.
LAYERS = ("dropout", "models", "training", "evaluation", "studies", "benchmarks")
ENDS = ("pages", "train.py", "scripts")  # nothing imports them
MAY_IMPORT = {
    **{name: set(LAYERS[: number + 1]) for number, name in enumerate(LAYERS)},
    "pages": {*LAYERS, "pages"},
    "train.py": {"dropout", "models", "training"},
    "scripts": {*LAYERS, "pages"},
}
OURS = {*LAYERS, "pages", "train", "scripts", "tests"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def files(name):
    path = ROOT / name
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_imports_run_one_way(name):
    for path in files(name):
        assert set(imports(path)) & OURS <= MAY_IMPORT[name], path


def test_only_the_convolution_knows_how_it_is_made_fast():
    inner = ROOT / "models" / "convolution"
    for path in {path for name in MAY_IMPORT for path in files(name)}:
        if inner not in path.parents:
            assert "models.convolution." not in path.read_text(), path


# What puts a plan into a network of a framework may import that framework.
FRAMEWORKS = {"nnx.py": "flax", "linen.py": "flax", "equinox.py": "equinox"}


def test_dropout_needs_only_jax():
    allowed = {"jax", "jaxtyping", "numpy", "dropout", *sys.stdlib_module_names}
    for path in files("dropout"):
        its_own = {FRAMEWORKS[path.name]} if path.name in FRAMEWORKS else set()
        assert set(imports(path)) <= allowed | its_own, path


def test_importing_dropout_imports_no_framework():
    code = "import sys, dropout; print({'flax', 'equinox'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_flags_are_read_only_where_main_is():
    may = {ROOT / "training/flags.py", ROOT / "training/runtime/main.py"}
    may |= {ROOT / "studies/flags.py"}
    for path in {path for name in LAYERS for path in files(name)} - may:
        assert "absl" not in imports(path), path


def test_training_imports_nothing_that_its_help_does_not_need():
    late = "{'tensorflow', 'matplotlib', 'tensorboardX', 'sklearn', 'scipy.stats'}"
    code = f"import sys, train; print([m for m in sys.modules if m in {late}])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_reading_the_flags_starts_no_device():
    code = (
        "import jax, train; from training.config import Config; "
        "from training.canonical import canonical; "
        "canonical(Config(mesh='data:2')); "
        "jax.config.update('jax_num_cpu_devices', 2); print(jax.device_count())"
    )
    command = [sys.executable, "-c", code]
    # As a user's machine: without the devices that the tests ask for.
    unset = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=unset)
    assert done.stdout.strip() == "2", done.stderr
