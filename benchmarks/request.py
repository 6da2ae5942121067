"""The request that the flags of `scripts/bench.py` make, and its timing."""

from typing import NamedTuple

from benchmarks.tables import Results
from benchmarks.timing import Calls, measure
from training.canonical import canonical
from training.config import Config


class Request(NamedTuple):
    """The values of the flags of `scripts/bench.py`.

    Attributes:
        models: the networks of the training steps.
        batch_sizes: the batch sizes of the training steps.
        microbatch: the largest micro-batch of our training steps, in examples; larger
            batches are accumulated.
        members: the sizes of the populations.
        variants: the variants of the operations; empty for all.
        rows: the number of examples in the array of the operations.
        dtype: the dtype of the array of the operations.
        rounds: how often each contestant is timed.
        seconds: the length of one timing.
        dataset: the data set, as in `train.py`.
        data_dir: the directory of the data, as in `train.py`.
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
    """Read a list flag of whole numbers.

    Raises:
        ValueError: an entry is not a whole number above 0.
    """
    for text in texts:
        if not text.isdecimal() or not int(text):
            raise ValueError(f"--{flag}={text}: expected whole numbers above 0.")
    return tuple(map(int, texts))


def timed(request: Request, title: str, contestants: dict[str, Calls]) -> Results:
    """Time all contestants for the requested number of rounds and seconds."""
    return measure(title, contestants, request.rounds, request.seconds)


def configuration(
    request: Request, model: str, batch_size: int, dropout: str
) -> Config:
    """Return the configuration of a run of `train.py` on one device.

    Its micro-batches have at most the requested size.

    Raises:
        ValueError: `train.py` does not accept the request or the plan.
    """
    config = Config(
        dataset=request.dataset,
        data_dir=request.data_dir,
        model=model,
        batch_size=batch_size,
        microbatches=max(1, batch_size // request.microbatch),
        dropout=dropout,
        mesh="data:1",
        convolution="windows",
    )
    return canonical(config)
