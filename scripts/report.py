"""Writes a report of studies and evaluated runs, in HTML and in Markdown.

    python scripts/report.py WORKDIRS... [--out=DIR]

Each of WORKDIRS is the workdir of compare.py, sweep.py or suggest.py, or of a run that
evaluate.py has evaluated. The report is written to --out, by default the first workdir:
`report.html`, which needs no other file, and `report.md` with its pictures in
`report-images/`.
"""

from pathlib import Path

from absl import flags

from studies.report import write_report
from training.runtime.main import run_main

OUT = flags.DEFINE_string(
    "out", "", "directory for the report (default: the first workdir)"
)


def main(arguments: list[str]) -> None:
    """Write the report and print its path."""
    if not arguments:
        raise ValueError("expected workdirs of studies or evaluated runs.")
    print(write_report(list(map(Path, arguments)), Path(OUT.value or arguments[0])))


if __name__ == "__main__":
    run_main(main)
