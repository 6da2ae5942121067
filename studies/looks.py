"""The looks at a study: the seeds at which its table was shown."""

import json
from pathlib import Path

from training.record.files import Damaged, write_atomically

LOOKS = "looks.json"


def look(directory: Path, seeds: tuple[int, ...]) -> tuple[str, ...]:
    """Note that the table of these seeds is shown; return what to say of earlier looks.

    Raises:
        Damaged: the record of the looks is damaged.
    """
    found = read_looks(directory)
    if list(seeds) not in found:
        found.append(list(seeds))
        write_atomically(directory / LOOKS, json.dumps(found) + "\n")
    return remarks(found)


def read_looks(directory: Path) -> list[list[int]]:
    """Return the seeds of each look at a study, none if it was never shown.

    Raises:
        Damaged: the record is damaged.
    """
    path = directory / LOOKS
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text())
        return [[int(seed) for seed in seeds] for seeds in found]
    except (ValueError, TypeError) as error:
        raise Damaged(
            f"{path} is damaged ({error!r}); expected a list of lists of seeds. Delete "
            "it and rerun the study's command."
        ) from None


def remarks(looks: list[list[int]]) -> tuple[str, ...]:
    """Return a remark on tests that were repeated after more seeds."""
    if len(looks) < 2:
        return ()
    counts = ", ".join(str(len(seeds)) for seeds in looks)
    return (
        f"This study was looked at {len(looks)} times, with {counts} seeds. Its "
        "p-values and intervals hold for a single look at a number of seeds fixed "
        "before: who adds seeds until p is below 0.05 finds differences that are not "
        "there (python scripts/coverage.py). Confirm a difference at fresh seeds.",
    )
