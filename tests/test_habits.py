"""Workflows, hooks, templates and the citation are valid, and run what `make` has."""

import re
import subprocess
import sys

import pytest
import yaml
from paths import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {
    GITHUB / "ISSUE_TEMPLATE" / "config.yml"
})  # fmt: skip
SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "github-issue-forms": FORMS,
    "github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "citation-file-format": [ROOT / "CITATION.cff"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schema(schema):
    check = ["check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    command = [sys.executable, "-m", *check, *SCHEMAS[schema]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hooks_are_valid_and_are_the_commands_of_make_lint():
    path = ROOT / ".pre-commit-config.yaml"
    command = [sys.executable, "-m", "pre_commit", "validate-config", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    lint = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
    for hook in yaml.safe_load(path.read_text())["repos"][0]["hooks"]:
        assert f"\t{hook['entry']}" in lint


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_targets_of_make_alone(path):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for command in re.findall(r"- run: (.*)", path.read_text()):
        make, target, *_ = command.split()
        assert make == "make" and target in targets, command
