"""The profile of some steps: `--profile=START:STOP`, for TensorBoard and Perfetto."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from training.runtime.processes import leads

FORM = re.compile("([0-9]{1,12}):([0-9]{1,12})")


class Window(NamedTuple):
    """The steps that a profile shows: from `start` steps done until `stop` are."""

    start: int
    stop: int


def parse_profile(text: str) -> Window | None:
    """Return the window that a text names; None for an empty text.

    Raises:
        ValueError: the text has another form than START:STOP with START < STOP.
    """
    if not text:
        return None
    found = FORM.fullmatch(text)
    window = Window(*map(int, found.groups())) if found else Window(0, 0)
    if window.start >= window.stop:
        raise ValueError(
            f"--profile={text}: expected START:STOP, numbers of steps with START < "
            "STOP, e.g. 20:25."
        )
    return window


@contextlib.contextmanager
def open_profiler(
    window: Window | None, workdir: Path
) -> Iterator[Callable[[int], None]]:
    """Yield a function of the steps done, which begins and ends the trace.

    The trace is in `plugins/profile/` in the workdir, where TensorBoard looks for it,
    with a `perfetto_trace.json.gz`. It shows the device and the runtime of JAX, but no
    functions of Python. Of several processes only the first one writes it.
    """
    running = False
    options = jax.profiler.ProfileOptions()
    # JAX's tracer of Python hooks into every thread, which slows the host and has
    # crashed a process whose other threads came and went.
    options.python_tracer_level = 0

    def profile(done: int) -> None:
        nonlocal running
        wanted = window is not None and window.start <= done < window.stop and leads()
        if wanted and not running:
            jax.profiler.start_trace(
                workdir, create_perfetto_trace=True, profiler_options=options
            )
        elif running and not wanted:
            jax.profiler.stop_trace()
        running = wanted

    try:
        yield profile
    finally:
        if window is not None:
            profile(window.stop)
