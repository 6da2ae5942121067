"""Signals that ask a run to stop: it ends its step, saves, and says how to resume."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A run stopped on request, with its state saved."""


@contextlib.contextmanager
def stop_requests() -> Iterator[list[signal.Signals]]:
    """A list that grows with each signal that asks to stop, while the block runs.

    Only the main thread can receive signals; in another one the list stays empty.
    It also stays empty in a run of many processes, where JAX itself listens, and stops
    them together.
    """
    received: list[signal.Signals] = []
    main = threading.current_thread() is threading.main_thread()
    if not main or jax.process_count() > 1:
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
