"""Writes the report of studies and evaluated runs: a page of HTML, and in Markdown.

    python scripts/report.py WORKDIRS... [--out=DIR]

Each of WORKDIRS is that of compare.py, sweep.py or suggest.py, or of a run that
evaluate.py has evaluated. --out (default: the first of them) gets `report.html`, which
needs no other file, and `report.md` with its pictures in `report-images/`.
"""

import sys
from pathlib import Path

from absl import app, flags, logging

from studies.report import write_report

OUT = flags.DEFINE_string("out", "", "where the report goes (default: first workdir)")


def main(argv: list[str]) -> None:
    """Writes the report and says where it is; usage errors are one line."""
    logging.set_verbosity(logging.FATAL)
    directories = list(map(Path, argv[1:]))
    if not directories:
        sys.exit("report.py: expected workdirs of studies or evaluated runs.")
    try:
        print(write_report(directories, Path(OUT.value or directories[0])))
    except ValueError as error:
        sys.exit(f"report.py: {error}")


if __name__ == "__main__":
    app.run(main)
