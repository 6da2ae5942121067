"""TensorBoard's events, written at once, so that a full disk raises an error here.

`SummaryWriter` of tensorboardX hands events to a thread. If a full disk ends that
thread, the run waits for it for ever.
"""

import contextlib
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboardX.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar, text

from training.record.trackers import RUN, Tracker

FLUSH_SECONDS = 10.0
RGB_AND_ALPHA = 4

Write = Callable[[str, int, Any], None]


@contextlib.contextmanager
def open_tensorboard(
    workdir: Path, start: int, settings: Mapping[str, Any]
) -> Iterator[Tracker]:
    """Yield a tracker that writes events into `tensorboard/` in the workdir.

    Each split is one of TensorBoard's runs: train and test are curves of one picture,
    as they have the same tags. The configuration and pictures are in the run `run`.
    TensorBoard forgets what an earlier process wrote of later steps.
    """
    with _open_files(workdir / "tensorboard", start) as write:

        def add_scalars(split: str, values: Mapping[str, float], step: int) -> None:
            for tag, value in values.items():
                write(split, step, scalar(tag, value))

        def add_picture(path: Path, step: int) -> None:
            write(RUN, step, _picture(path))

        flags = "".join(f"    --{name}={value}\n" for name, value in settings.items())
        if flags:
            write(RUN, start, text("configuration", flags))
        yield Tracker(add_scalars, add_picture)


@contextlib.contextmanager
def _open_files(directory: Path, start: int) -> Iterator[Write]:
    """Yield a function that writes a summary at a step into the file of a run."""
    files: dict[str, RecordWriter] = {}
    flushed = time.monotonic()

    def write(run: str, step: int, summary: Any) -> None:
        nonlocal flushed
        if run not in files:
            files[run] = _open_file(directory / run, start)
            stack.callback(files[run].close)
        _write(files[run], Event(step=step, summary=summary))
        if time.monotonic() - flushed > FLUSH_SECONDS:
            for file in files.values():
                file.flush()
            flushed = time.monotonic()

    # All are closed, even where closing one finds the disk full.
    with contextlib.ExitStack() as stack:
        yield write


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


def _picture(path: Path) -> Any:
    content = path.read_bytes()
    width, height = struct.unpack_from(">II", content, 16)  # of a PNG file's header
    image = Summary.Image(
        height=height,
        width=width,
        colorspace=RGB_AND_ALPHA,
        encoded_image_string=content,
    )
    return Summary(value=[Summary.Value(tag=path.stem, image=image)])
