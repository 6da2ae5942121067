"""Importing this imports Matplotlib, whatever drawing backend the environment names.

It has to come before all other imports of Matplotlib. A run imports it only when it
draws its first picture: it takes a quarter of the time of all imports, and neither
--help nor --dry_run draws (`scripts/bench.py --parts=start`).
"""

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
