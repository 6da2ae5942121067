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

EXPECTED = (ValueError, FloatingPointError, OSError, JaxRuntimeError)
HELP = ("--help", "-help", "-h", "--helpshort", "-?")


def run_main(main: Callable[[list[str]], None]) -> None:
    """Run `main(arguments)` with the flags of the command line read.

    An error that a user can mend ends the process with status 1 and one line that
    begins with the name of the script; any other shows its traceback.
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
        sys.exit(f"{script}: {stopped}")
    except EXPECTED as error:
        leave(f"{script}: {error}")
    except Exception as error:  # Each library has its own for a full disk.
        if not says_no_space(error):
            raise
        leave(f"{script}: no space is left; once there is, rerun the same command.")
