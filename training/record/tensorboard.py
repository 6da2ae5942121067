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

Add = Callable[[Mapping[str, float], int], None]


@contextlib.contextmanager
def open_events(workdir: Path, start: int) -> Iterator[Add]:
    """Yield a function that adds the values of a step, by their tags.

    TensorBoard forgets what an earlier process wrote of later steps. Of many processes
    the first writes.
    """
    if not leads():
        yield lambda values, step: None
        return
    directory = workdir / "tensorboard"
    directory.mkdir(exist_ok=True)
    path = directory / f"events.out.tfevents.{time.time():.0f}.{start}"
    records, flushed = RecordWriter(str(path)), time.monotonic()

    def write(event: Any) -> None:
        event.wall_time = time.time()
        records.write(event.SerializeToString())

    def add(values: Mapping[str, float], step: int) -> None:
        nonlocal flushed
        for tag, value in values.items():
            write(Event(step=step, summary=scalar(tag, value)))
        if time.monotonic() - flushed > FLUSH_SECONDS:
            records.flush()
            flushed = time.monotonic()

    try:
        write(Event(file_version="brain.Event:2"))
        write(Event(step=start, session_log={"status": "START"}))
        yield add
    finally:
        records.close()
