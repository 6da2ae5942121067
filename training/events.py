"""TensorBoard's events, written as they come: a full disk is met where it is handled.

`SummaryWriter` of tensorboardX hands them to a thread. Where that dies of a full disk
the run waits for it for ever.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from training.hosts import leads

FLUSH_SECONDS = 10.0

Add = Callable[[Mapping[str, float], int], None]


@contextlib.contextmanager
def open_events(workdir: Path, start: int) -> Iterator[Add]:
    """What adds the values of a step, by their tags, from step `start` on.

    TensorBoard forgets what an earlier process wrote of later steps. Of many processes
    the first writes.
    """
    if not leads():
        yield lambda values, step: None
        return
    directory = workdir / "tensorboard"
    directory.mkdir(exist_ok=True)
    events = EventsWriter(str(directory / "events"), f".{start}")
    flushed = time.monotonic()

    def add(values: Mapping[str, float], step: int) -> None:
        nonlocal flushed
        for tag, value in values.items():
            summary = scalar(tag, value)
            events.write_event(Event(step=step, wall_time=time.time(), summary=summary))
        if time.monotonic() - flushed > FLUSH_SECONDS:
            events.flush()
            flushed = time.monotonic()

    begin = SessionLog(status=SessionLog.START)
    events.write_event(Event(step=start, wall_time=time.time(), session_log=begin))
    try:
        yield add
    finally:
        events.close()
