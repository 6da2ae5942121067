"""The package builds, passes the index's checks, and works in a bare environment."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from paths import ROOT

import dropout

NEWER = [f"python3.{minor}" for minor in (14, 13, 12)]


def run(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def runs(python):
    try:
        return not subprocess.run([python, "-c", "import ensurepip"]).returncode
    except FileNotFoundError:
        return False


def pythons():
    """Return this Python, and the newest other one that is found."""
    installed = Path.home().glob(".pyenv/versions/3.1[2-9].*/bin/python3")
    newer = filter(runs, [*NEWER, *map(str, sorted(installed, reverse=True))])
    return sorted({sys.executable, next(newer, sys.executable)})


def examples():
    page = (ROOT / "docs" / "library.md").read_text()
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", directory, cwd=ROOT)
    return directory


def test_the_changelog_has_the_version():
    assert f"## {dropout.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {dropout.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_constraints_name_one_version_per_environment_and_no_address():
    text = (ROOT / "constraints.txt").read_text()
    assert text.startswith("#") and "uv pip compile --universal" in text
    assert "//" not in text
    for line in filter(lambda line: not line.startswith("#"), text.splitlines()):
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^;]+)?", line), line
    assert re.search(r"^jax==0\.10\.2 ; python_full_version < '3\.12'$", text, re.M)


@pytest.mark.slow
def test_wheel_and_sdist_pass_the_checks_of_the_index(built):
    run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone_and_its_types(built):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dropout"}
    assert "dropout/py.typed" in names


@pytest.mark.slow
def test_the_sdist_holds_all_modules_of_the_wheel(built):
    (sdist,) = built.glob("*.tar.gz")
    (wheel,) = built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    modules = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("dropout/")}
    assert modules <= sources


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons())
def test_the_wheel_serves_the_examples_in_a_bare_environment(built, python, tmp_path):
    (wheel,) = built.glob("*.whl")
    run(python, "-m", "venv", tmp_path / "venv")
    bare = tmp_path / "venv" / "bin" / "python"
    install = (bare, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt")
    run(*install, wheel)
    run(bare, "-c", "import dropout; print(dropout.__version__)", cwd=tmp_path)
    function, *with_flax = examples()
    run(bare, "-W", "error", "-c", function, cwd=tmp_path)
    run(*install, "flax")
    for code in with_flax:
        run(bare, "-c", code, cwd=tmp_path)
