"""Says in one line what JAX's runtime says in fifty when another process is lost.

The runtime ends a process from a thread of its own then, and asks no Python. So what a
process of many writes on stderr goes through this program, in a process beside it.
"""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator

OURS = "train.py: "
RUNTIME = ("coordination_service", "preemption_sync_manager", "client.h:")
FATAL = "the JAX distributed service detected fatal errors"
LOST = (
    f"{OURS}another process is lost, or has not come within --host_timeout; the same "
    "commands, all of them, go on from the last saved step.\n"
)


def filter_stderr() -> None:
    """Send all that this process will write on stderr through `clear`."""
    command = [sys.executable, "-I", "-S", __file__]
    filtering = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert filtering.stdin is not None
    os.dup2(filtering.stdin.fileno(), sys.stderr.fileno())
    filtering.stdin.close()


def clear(lines: Iterable[str]) -> Iterator[str]:
    """The lines; what the runtime says of other processes, once there are no more.

    Of a lost process one line remains, and none where the program has said why it ends.
    """
    held, ours = [], False
    for line in lines:
        ours = ours or line.startswith(OURS)
        if line.startswith(OURS) or not (held or any(s in line for s in RUNTIME)):
            yield line
        else:
            held.append(line)
    if not ours:
        yield from [LOST] if any(FATAL in line for line in held) else held


if __name__ == "__main__":
    assert isinstance(sys.stdin, io.TextIOWrapper)
    sys.stdin.reconfigure(errors="replace")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for clear_line in clear(sys.stdin):
        print(clear_line, end="", file=sys.stderr, flush=True)
