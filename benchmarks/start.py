"""What passes before the first step and after the last: CPU time of whole processes.

It is the time that all threads of a process compute, in the user's code and in the
system's, so that a machine that does other things too changes it little.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.request import Request
from benchmarks.tables import Results
from benchmarks.timing import compared

ROOT = Path(__file__).parent.parent
LIBRARIES = "import jax, optax, orbax.checkpoint; from flax import nnx"
# A round compiles every program anew, which takes minutes.
MOST_ROUNDS = 5

Command = Callable[[Path], list[str]]  # From a scratch directory to a command.


def measure_start(request: Request) -> Iterator[tuple[str, Results]]:
    """Measure imports, help and dry runs, and runs of one step, cold and warm."""
    yield from _table(request, "CPU time of imports", imports())
    yield from _table(request, "CPU time of --help and --dry_run", without_steps())
    for model in request.models:
        title = f"CPU time of one step of {model}, an empty cache, and then a full one"
        yield from _table(request, title, one_step(request, model))


def imports() -> dict[str, Command]:
    """Return the commands that import the libraries alone, and then all of ours."""
    code = {
        "jax, optax, orbax.checkpoint, flax.nnx": LIBRARIES,
        "train.py": "import train",
    }
    return {name: _always(["-c", each]) for name, each in code.items()}


def without_steps() -> dict[str, Command]:
    """Return the commands that end before the first step."""
    models = ("cnn", "resnet(depth=20)", "wrn", "vit_tiny", "lstm")
    return {
        "--help": _always(["train.py", "--help"]),
        **{
            name: _always(
                ["train.py", "--dry_run", "--dropout=none", f"--model={name}"]
            )
            for name in models
        },
    }


def one_step(request: Request, model: str) -> dict[str, Command]:
    """Return the commands of a run of one step, by each algorithm, cold and warm.

    A warm run has the cache of the cold one before it.
    """
    return {
        f"{algorithm}, {state}": _training(request, model, algorithm, state)
        for algorithm in ("direct", "windows")
        for state in ("cold", "warm")
    }


def _training(request: Request, model: str, algorithm: str, state: str) -> Command:
    def command(scratch: Path) -> list[str]:
        return [
            "train.py", "--steps=1", f"--model={model}", "--dropout=none",
            f"--convolution={algorithm}", f"--cache_dir={scratch / algorithm}",
            f"--workdir={scratch / f'{algorithm}-{state}'}",
            f"--dataset={request.dataset}", f"--data_dir={request.data_dir}",
        ]  # fmt: skip

    return command


def _always(arguments: list[str]) -> Command:
    return lambda scratch: arguments


def _table(
    request: Request, title: str, commands: dict[str, Command]
) -> Iterator[tuple[str, Results]]:
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(min(request.rounds, MOST_ROUNDS)):
        with tempfile.TemporaryDirectory() as scratch:
            for name, command in commands.items():
                times[name].append(1e3 * cpu_seconds(command(Path(scratch))))
    yield title, compared(times)


def cpu_seconds(arguments: list[str]) -> float:
    """Return the CPU seconds of a process of Python from its start to its end.

    Raises:
        ValueError: it fails; the message ends with the last line that it printed.
    """
    before = _of_children()
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed no error"])[-1]
        raise ValueError(f"{arguments} ended with status {done.returncode}: {last}")
    return _of_children() - before


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
