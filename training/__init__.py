"""From a configuration to a trained network, its checkpoints and its record."""

import contextlib
import os
import sys


def _import_matplotlib() -> None:
    """Import it although the environment may name a backend that is not here.

    A notebook names its own to its subprocesses, and the import raises where the
    notebook's package is missing. Figures here are files, which need no backend.
    """
    wanted = os.environ.pop("MPLBACKEND", "")
    import matplotlib

    if wanted:
        os.environ["MPLBACKEND"] = wanted
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = wanted


if "matplotlib" not in sys.modules:
    _import_matplotlib()
