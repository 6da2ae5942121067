"""What the bits of a run depend on besides its flags: versions, code and devices."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

PACKAGES = ("flax", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint")


def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on, and the device."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **found,
        "device": f"{device.platform} {device.device_kind}",
    }


def circumstances(mesh: Mesh) -> dict[str, Any]:
    """Return what a run's bits depend on besides its flags: code and devices."""
    device = mesh.devices.flat[0]
    return {
        "commit": commit(),
        "devices": {
            "kind": f"{device.platform} {device.device_kind}",
            "count": mesh.size,
            "processes": jax.process_count(),
            "machine": platform.machine(),
        },
        "versions": versions(),
    }


def commit() -> str | None:
    """Return the git commit of the code, with `-dirty` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True
        )
    except OSError:  # No git here.
        return None
    return found.stdout.strip() or None
