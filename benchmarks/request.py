"""What `scripts/bench.py` is asked to measure, and the measuring of it."""

from typing import NamedTuple

from benchmarks.tables import Results
from benchmarks.timing import Calls, measure
from training.canonical import canonical
from training.config import Config


class Request(NamedTuple):
    """The values of the flags of `scripts/bench.py`.

    Attributes:
        models: networks of the training steps.
        batch_sizes: batch sizes of the training steps.
        microbatch: the largest micro-batch of our training steps; larger batches are
            accumulated.
        members: sizes of the populations.
        variants: variants of the operations; none stands for all.
        rows: examples in the array of the operations.
        dtype: of the array of the operations.
        rounds: how often each contestant is timed.
        seconds: the length of one timing.
        dataset: as in `train.py`.
        data_dir: as in `train.py`.
    """

    models: tuple[str, ...] = ("cnn",)
    batch_sizes: tuple[int, ...] = (128,)
    microbatch: int = 128
    members: tuple[int, ...] = (4,)
    variants: tuple[str, ...] = ()
    rows: int = 128
    dtype: str = "float32"
    rounds: int = 15
    seconds: float = 1.0
    dataset: str = "digits"
    data_dir: str = ""


def positive_numbers(flag: str, texts: list[str]) -> tuple[int, ...]:
    """Read the whole numbers of a list flag.

    Raises:
        ValueError: an entry is not a whole number above 0.
    """
    for text in texts:
        if not text.isdecimal() or not int(text):
            raise ValueError(f"--{flag}={text}: expected whole numbers above 0.")
    return tuple(map(int, texts))


def timed(request: Request, title: str, contestants: dict[str, Calls]) -> Results:
    """Time all contestants, for as many rounds and seconds as requested."""
    return measure(title, contestants, request.rounds, request.seconds)


def configuration(
    request: Request, model: str, batch_size: int, dropout: str
) -> Config:
    """Return a run of `train.py` on one device, in micro-batches of at most the size
    requested.

    Raises:
        ValueError: the request or the plan is not one that `train.py` accepts.
    """
    config = Config(
        dataset=request.dataset,
        data_dir=request.data_dir,
        model=model,
        batch_size=batch_size,
        microbatches=max(1, batch_size // request.microbatch),
        dropout=dropout,
        mesh="data:1",
    )
    return canonical(config)
