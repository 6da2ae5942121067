"""TensorBoard's events, written as they come: a full disk is met where it is handled.

`SummaryWriter` of tensorboardX hands them to a thread. Where that dies of a full disk
the run waits for it for ever.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from training.runtime.processes import leads

FLUSH_SECONDS = 10.0

Add = Callable[[str, Mapping[str, float], int], None]


@contextlib.contextmanager
def open_events(workdir: Path, start: int) -> Iterator[Add]:
    """Yield a function that adds the values of a split at a step, by their tags.

    Each split is one of TensorBoard's runs: train and test are curves of one picture,
    as they have the same tags. TensorBoard forgets what an earlier process wrote of
    later steps. Of many processes the first writes.
    """
    if not leads():
        yield lambda split, values, step: None
        return
    files: dict[str, RecordWriter] = {}
    flushed = time.monotonic()

    def add(split: str, values: Mapping[str, float], step: int) -> None:
        nonlocal flushed
        if split not in files:
            files[split] = _open_file(workdir / "tensorboard" / split, start)
            stack.callback(files[split].close)
        for tag, value in values.items():
            _write(files[split], Event(step=step, summary=scalar(tag, value)))
        if time.monotonic() - flushed > FLUSH_SECONDS:
            for file in files.values():
                file.flush()
            flushed = time.monotonic()

    # All are closed, even where closing one finds the disk full.
    with contextlib.ExitStack() as stack:
        yield add


def _open_file(directory: Path, start: int) -> RecordWriter:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"events.out.tfevents.{time.time():.0f}.{start}"
    file = RecordWriter(str(path))
    _write(file, Event(file_version="brain.Event:2"))
    _write(file, Event(step=start, session_log={"status": "START"}))
    return file


def _write(file: RecordWriter, event: Any) -> None:
    event.wall_time = time.time()
    file.write(event.SerializeToString())
