"""How every script runs its main: grouped help, and each expected error in one line."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from absl import app, flags, logging
from jax.errors import JaxRuntimeError

from training.record.files import says_no_space
from training.runtime.processes import leave
from training.runtime.signals import Stopped

EXPECTED = (ValueError, ArithmeticError, OSError, JaxRuntimeError)
LONGEST_MESSAGE = 800
# EX_TEMPFAIL of sysexits.h: what was stopped on request goes on by the same command.
TO_BE_CONTINUED = 75
HELP = ("--help", "-help", "-h", "--helpshort", "-?")


def run_main(main: Callable[[list[str]], None]) -> None:
    """Run `main(arguments)` with the flags of the command line read.

    An error that a user can mend ends the process with status 1 and one line that
    begins with the name of the script; any other shows its traceback. A run that was
    stopped by a signal, and is saved, ends with status 75.
    """
    if any(argument in HELP for argument in sys.argv[1:]):
        print(help_text(main))
        sys.exit(0)
    app.run(partial(with_errors_in_one_line, main))


def expect_no_arguments(arguments: list[str]) -> None:
    """Raise ValueError if anything but flags was given."""
    if arguments:
        raise ValueError(f"unexpected argument {arguments[0]!r}; flags start with --.")


def help_text(main: Callable[[list[str]], None]) -> str:
    """Return what a script does, and its flags: its own first, then group by group."""
    groups = flags.FLAGS.flags_by_module_dict()
    shared = [name for name in groups if name.islower() and name.isidentifier()]
    own = flags.FLAGS.main_module_help()
    described = sys.modules[main.__module__].__doc__ or ""
    parts = [described, own, *map(flags.FLAGS.module_help, shared)]
    return "\n\n".join(part.strip("\n") for part in parts if part.strip())


def with_errors_in_one_line(main: Callable[[list[str]], None], argv: list[str]) -> None:
    """Call `main` with what follows the script's name; end in one line if it fails."""
    logging.set_verbosity(logging.FATAL)
    script = Path(argv[0]).name
    try:
        main(argv[1:])
    except Stopped as stopped:
        print(f"{script}: {stopped}", file=sys.stderr)
        sys.exit(TO_BE_CONTINUED)
    except EXPECTED as error:
        leave(f"{script}: {brief(str(error))}")
    except Exception as error:  # Each library has its own for a full disk.
        if not says_no_space(error):
            raise
        leave(f"{script}: no space is left; once there is, rerun the same command.")


def brief(message: str) -> str:
    """Return the first line of a message, the middle of a long one left out.

    What is wrong stands at the beginning, and what is allowed at the end. Characters
    that would steer the terminal, which a foreign record may hold, are shown escaped.
    """
    line, half = visible(message.partition("\n")[0]), LONGEST_MESSAGE // 2
    left_out = len(line) - LONGEST_MESSAGE
    if left_out <= 0:
        return line
    return f"{line[:half]} ... ({left_out:,} characters) ... {line[-half:]}"


def visible(text: str) -> str:
    """Return a text with its control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
