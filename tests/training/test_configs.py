"""Every flagfile in configs/ and its recipes parses, and its plan fits its model."""

import pytest
from model_cases import site_names
from paths import ROOT
from sampling import sampled

from dropout import parse, resolve
from training.canonical import canonical
from training.flag_text import parse_flag_lines

FOLDERS = ROOT / "configs", ROOT / "configs" / "recipes"
CONFIGS = sorted(path for folder in FOLDERS for path in folder.glob("*.flags"))
SLOW = ("resnet", "vit_small")
FAST = [str(path) for path in CONFIGS if not path.stem.startswith(SLOW)]
IMAGES = {
    "digits": (28, 28, 1),
    "mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "alice": (64, 61, 1),
    "imagenet2012": (224, 224, 3),
}


@pytest.mark.parametrize("path", sampled(CONFIGS, FAST), ids=lambda path: path.stem)
def test_a_config_fits(path):
    lines = path.read_text().splitlines()
    flags = [line for line in lines if line and not line.startswith("#")]
    config = canonical(parse_flag_lines("\n".join(flags)))
    found = site_names(config.model, IMAGES[config.dataset])
    plan = parse(config.dropout)
    assert bool(resolve(plan, found)) == bool(plan.rules)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_what_it_is(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("# Source:", "# Command:", "# Expected:", "# Obtained:", "# Time:"):
        assert any(line.startswith(word) for line in header), word


def test_there_are_configs():
    assert CONFIGS
