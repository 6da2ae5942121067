"""Writes the results of claims and of the reference study into their pages.

    python scripts/evidence_pages.py

It fills the generated parts of `docs/claims.md` and `docs/reference_study.md` from the
verdicts and rows in `configs/`, and plots `docs/images/claims-*.png` and
`docs/images/reference-*.png`.
"""

from pages.evidence_figures import plot_claims, plot_reference
from pages.evidence_pages import PAGES, write_page
from training.runtime.main import expect_no_arguments, run_main


def main(arguments: list[str]) -> None:
    """Fill the pages, and plot the pictures."""
    expect_no_arguments(arguments)
    for name in PAGES:
        print(write_page(name))
    images = PAGES["claims"].parent / "images"
    for path in (*plot_claims(images), *plot_reference(images)):
        print(path)


if __name__ == "__main__":
    run_main(main)
