"""Samples mutations of `dropout/` and `training/`; counts those that a test notices.

make mutants ARGS='--count=200 --seed=0 --minutes=45'
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from mutation.mutations import Mutation, mutated, mutations_of

ROOT = Path(__file__).parents[2]
PACKAGES = ("dropout", "training")
LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv", "runs", "*.pyc", "node_modules")
SECONDS = 180  # What takes longer, but not without the change, counts as noticed.
FILES = 5  # Files of tests for one mutation, so that 200 take less than an hour.


class FileMutation(NamedTuple):
    """A mutation with the file that it changes."""

    path: Path
    mutation: Mutation


def sample(count: int, seed: int) -> list[FileMutation]:
    """Return mutations, every one as likely as any other."""
    files = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    every = [FileMutation(path, each) for path in files for each in _mutations(path)]
    return random.Random(seed).sample(every, min(count, len(every)))


@cache
def tests_of(path: Path) -> tuple[str, ...]:
    """Return the tests of a file: those that have its name, then those that import it.

    A file that has none is tested by all of its package's.
    """
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = module.removesuffix(".__init__")
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    named = [test for test in found if path.stem in test.stem]
    importing = [test for test in found if f"{module} import" in test.read_text()]
    folder = ROOT / "tests" / path.relative_to(ROOT).parts[0]
    chosen = dict.fromkeys([*named, *importing]) or {folder: None}
    return tuple(str(test.relative_to(ROOT)) for test in chosen)[:FILES]


def outcome(
    copy: Path, chosen: FileMutation, whole: dict[tuple[str, ...], bool]
) -> str:
    """Return what the tests say of a mutation in a copy of the checkout.

    `whole` remembers which tests pass without a mutation.
    """
    tests, target = tests_of(chosen.path), copy / chosen.path.relative_to(ROOT)
    source = target.read_text()
    target.write_text(mutated(source, chosen.mutation))
    try:
        if run_tests(tests, copy) == 0:
            return "survived"
    finally:
        target.write_text(source)
    if tests not in whole:
        whole[tests] = run_tests(tests, copy) == 0
    return "killed" if whole[tests] else "not tested"


def run_tests(tests: tuple[str, ...], copy: Path) -> int:
    """Return pytest's exit status; 1 where it takes too long."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "JAX_PLATFORMS": "cpu"}
    try:
        return subprocess.run(
            command, cwd=copy, env=environment, timeout=SECONDS,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ).returncode  # fmt: skip
    except subprocess.TimeoutExpired:
        return 1


def described(chosen: FileMutation) -> str:
    """Return a mutation in one line."""
    where, change = chosen.path.relative_to(ROOT), chosen.mutation
    before = chosen.path.read_bytes()[change.start : change.stop].decode()
    before = " ".join(before.split())
    return f"{where}:{change.line}: {before} -> {change.text[1:-1]}"


def main(count: int, seed: int, minutes: float, workers: int) -> None:
    """Print each mutation that survives, and the share that is killed."""
    deadline, counts = time.monotonic() + 60 * minutes, Counter()
    whole: dict[tuple[str, ...], bool] = {}
    copies: Queue[Path] = Queue()

    def judge(chosen: FileMutation) -> tuple[FileMutation, str]:
        if time.monotonic() > deadline:
            return chosen, "out of time"
        copy = copies.get()
        try:
            return chosen, outcome(copy, chosen, whole)
        finally:
            copies.put(copy)

    with tempfile.TemporaryDirectory() as scratch:
        for number in range(workers):
            copies.put(shutil.copytree(ROOT, f"{scratch}/{number}", ignore=LEFT_BEHIND))
        with ThreadPoolExecutor(workers) as threads:
            for chosen, said in threads.map(judge, sample(count, seed)):
                counts[said] += 1
                if said != "killed":
                    print(f"{said}: {described(chosen)}", flush=True)
    tested = counts["killed"] + counts["survived"]
    share = counts["killed"] / max(tested, 1)
    print(
        f"{counts['killed']} of {tested} mutants killed ({share:.0%}); {dict(counts)}"
    )


def _mutations(path: Path) -> list[Mutation]:
    return mutations_of(path.read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="mutations to sample")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample")
    parser.add_argument("--minutes", type=float, default=45, help="when to stop")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="at once")
    main(**vars(parser.parse_args()))
