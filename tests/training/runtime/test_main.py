"""How scripts end: the status tells a stopped run from an error, the line is short."""

import sys

import pytest

from training.runtime.main import (
    LONGEST_MESSAGE,
    brief,
    run_main,
    with_errors_in_one_line,
)
from training.runtime.signals import Stopped


def ends(error):
    """What a script that raises an error ends with."""

    def main(arguments):
        raise error

    with pytest.raises(SystemExit) as ended:
        with_errors_in_one_line(main, ["/of/scripts/train.py"])
    return ended.value.code


def test_a_stopped_run_has_a_status_of_its_own(capsys):
    """EX_TEMPFAIL of sysexits.h, so that a scheduler's script can start it again."""
    assert ends(Stopped("stopped by SIGTERM")) == 75
    assert capsys.readouterr().err == "train.py: stopped by SIGTERM\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_no_error(flag, monkeypatch, capsys):
    def main(arguments):
        raise AssertionError("main was called")

    monkeypatch.setattr(sys, "argv", ["train.py", "--seed=1", flag])
    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("How scripts end:")


def test_an_error_has_status_1_and_its_line():
    # Python ends with status 1, and prints the text, where the code is a text.
    assert ends(ValueError("wrong")) == "train.py: wrong"


@pytest.mark.parametrize(
    "said",
    ["No space left on device (os error 28)", "(sqlite3) database or disk is full"],
)
def test_a_full_disk_is_one_line_whichever_library_met_it(said):
    """Polars and SQLAlchemy raise errors of their own that quote the system."""

    class LibraryError(Exception):
        pass

    assert ends(LibraryError(said)) == (
        "train.py: no space is left; once there is, rerun the same command."
    )


def test_an_error_that_nobody_expects_shows_its_traceback():
    def main(arguments):
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="of ours"):
        with_errors_in_one_line(main, ["train.py"])


def test_a_long_message_keeps_its_beginning_and_its_end():
    whole = f"cannot read {'x' * 10**6}: expected a name."
    said = brief(whole)
    assert len(said) < LONGEST_MESSAGE + 60
    assert said.startswith("cannot read xxx") and said.endswith("x: expected a name.")
    assert "(999,230 characters)" in said
    assert brief("one\ntwo") == "one"


def test_what_steers_a_terminal_is_shown_escaped():
    said = brief("flag --\x1b[2Jseed\x9b1m is not one of \u202ethis version's é.")
    assert said == r"flag --\x1b[2Jseed\x9b1m is not one of \u202ethis version's é."


@pytest.mark.parametrize("more", [0, 1, 2])
def test_only_what_is_too_long_is_shortened(more):
    said = brief("x" * (LONGEST_MESSAGE + more))
    assert (f" ... ({more} characters) ... " in said) == (more > 0)
    assert said.count("x") == LONGEST_MESSAGE
