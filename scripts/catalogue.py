"""Prints the page with the table of all variants.

python scripts/catalogue.py > docs/variants.md
"""

from pages.table import variants_page
from training.runtime.main import expect_no_arguments, run_main


def main(arguments: list[str]) -> None:
    """Print the page."""
    expect_no_arguments(arguments)
    print(variants_page(), end="")


if __name__ == "__main__":
    run_main(main)
