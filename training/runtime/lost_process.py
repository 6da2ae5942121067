"""Replaces the fifty lines of JAX's runtime on a lost process by one line.

The runtime then ends the process from a thread of its own, without calling Python. So
whatever a process of several writes on stderr is piped through this program.
"""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator

OURS = "train.py: "
RUNTIME = ("coordination_service", "preemption_sync_manager", "client.h:", "gloo::")
FATAL = (
    "the JAX distributed service detected fatal errors",
    # The collectives of CPUs abort where a message of the lost process was cut short.
    "terminate called after throwing an instance of 'gloo::",
)
LOST = (
    f"{OURS}another process is lost, or has not come within --host_timeout; the same "
    "commands go on from the last saved step.\n"
)


def filter_stderr() -> None:
    """Send all that this process will write on stderr through `clear`."""
    command = [sys.executable, "-I", "-S", __file__]
    filtering = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert filtering.stdin is not None
    os.dup2(filtering.stdin.fileno(), sys.stderr.fileno())
    filtering.stdin.close()


def clear(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines, but hold back what the runtime says of other processes.

    A lost process gets one line at the end, unless the program itself has said why it
    ends.
    """
    held, ours = [], False
    for line in lines:
        ours = ours or line.startswith(OURS)
        if line.startswith(OURS) or not (held or any(s in line for s in RUNTIME)):
            yield line
        else:
            held.append(line)
    if not ours:
        lost = any(text in line for line in held for text in FATAL)
        yield from [LOST] if lost else held


if __name__ == "__main__":
    assert isinstance(sys.stdin, io.TextIOWrapper)
    sys.stdin.reconfigure(errors="replace")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for clear_line in clear(sys.stdin):
        print(clear_line, end="", file=sys.stderr, flush=True)
