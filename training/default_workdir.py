"""The directory of a run's record where `--workdir` names none."""

import hashlib
from pathlib import Path

from dropout.grammar import parse_call
from training.config import FIELDS, Config
from training.own_files import file_digests


def default_workdir(config: Config) -> str:
    """Return `runs/<dataset>-<model>-<digest of the flags that make the run>`.

    Where the run depends on files of the user's own, they are in the digest too: a run
    with a changed file is another run.
    """
    parts = [
        f"{name}={getattr(config, name)}"
        for name, item in FIELDS.items()
        if not item.metadata["resumable"]
    ]
    files = file_digests(config.model, config.plugins, config.init)
    parts += [f"{name}={found}" for name, found in files.items()]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
    dataset = Path(config.dataset).stem.replace(":", "-")
    model = parse_call(config.model).name.replace(":", "-")
    return f"runs/{dataset}-{model}-{digest}"
