"""What a run takes from the environment besides its flags: settings of JAX and XLA."""

import json
import os
from pathlib import Path

import jax

from training.record.files import parse_object, read_text, write_atomically

# With another value of one of these a run would draw other masks, or could not start.
REQUIRED = {
    "jax_threefry_partitionable": True,
    "jax_enable_x64": False,
    "jax_random_seed_offset": 0,
    "jax_disable_jit": False,
}
# These move the last digits of a number. A run keeps those that it began with.
SETTINGS = (
    "jax_default_matmul_precision",
    "jax_high_dynamic_range_gumbel",
    "jax_softmax_custom_jvp",
    "jax_allow_f16_reductions",
    "jax_disable_most_optimizations",
)
VARIABLES = ("XLA_FLAGS", "NVIDIA_TF32_OVERRIDE")
# Flags of XLA that change no number.
WITHOUT_EFFECT = ("--xla_force_host_platform_device_count", "--xla_dump")


def check_settings() -> None:
    """Raise ValueError for a setting of JAX that would change the masks of a run."""
    for name, expected in REQUIRED.items():
        found = _setting(name, expected)
        if found != expected:
            raise ValueError(
                f"{name.upper()}={found} in the environment: expected {expected}, "
                "which the masks and the order of the data depend on."
            )


def write_or_check_environment(workdir: Path) -> None:
    """Write `environment.json`, or check that the run there began with the same.

    Raises:
        ValueError: a setting differs, or the file is damaged.
    """
    path, found = workdir / "environment.json", recorded_settings()
    if not path.exists():
        write_atomically(path, json.dumps(found, indent=2, sort_keys=True) + "\n")
        return
    before = parse_object(path, read_text(path))
    for name in sorted(before.keys() | found.keys()):
        old, new = (_text_of(each, name) for each in (before, found))
        if old != new:
            raise ValueError(
                f"--workdir={workdir} holds a run that began with {name.upper()}={old} "
                f"in the environment, which is {new} now; expected the same."
            )


def recorded_settings() -> dict[str, str]:
    """Return the settings that move the last digits of a run's numbers."""
    settings = {name: str(_setting(name, None)) for name in SETTINGS}
    variables = {
        name: _effective(os.environ[name]) for name in VARIABLES if name in os.environ
    }
    return settings | {name: text for name, text in variables.items() if text}


def _setting(name: str, otherwise: object) -> object:
    """The value of a setting, or `otherwise` where this JAX has none of the name."""
    return jax.config.values[name] if name in jax.config.values else otherwise


def _effective(flags: str) -> str:
    kept = [each for each in flags.split() if not each.startswith(WITHOUT_EFFECT)]
    return " ".join(sorted(kept))


def _text_of(settings: dict[str, str], name: str) -> str:
    return settings[name] if name in settings else "unset"
