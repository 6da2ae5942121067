"""Signals that ask a run to stop: it ends its step, saves, and says how to go on."""

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A run stopped on request, with its state saved."""


@contextlib.contextmanager
def stop_requests() -> Iterator[list[signal.Signals]]:
    """A list that grows with each signal that asks to stop, while the block runs.

    Only the main thread can receive signals; in another the list stays empty.
    """
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {
        number: signal.signal(
            number, lambda found, _: received.append(signal.Signals(found))
        )
        for number in SIGNALS
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
