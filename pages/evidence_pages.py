"""The pages of the evidence, whose generated parts are filled from what came out."""

from pathlib import Path

from pages.evidence import CLAIMS, ROOT, claim_section, gate_files, overview
from pages.generated import filled
from pages.reference_study import (
    gate_paths,
    much_table,
    noise_table,
    seeds_table,
    when_table,
    where_table,
)

PAGES = {
    "claims": ROOT / "docs" / "claims.md",
    "reference_study": ROOT / "docs" / "reference_study.md",
}
CLAIM = "make evidence CLAIM={} ARGS=--data_dir=DIR"
STUDY = "python scripts/reproduce.py configs/studies/{}.gates.toml --data_dir=DIR"


def write_page(name: str) -> Path:
    """Fill the generated parts of a page, and return its path."""
    path = PAGES[name]
    path.write_text(filled(path.read_text(), parts(name)))
    return path


def parts(page: str) -> dict[str, str]:
    """Return the generated parts of a page, by name."""
    paths = gate_files(CLAIMS) if page == "claims" else gate_paths()
    command = CLAIM if page == "claims" else STUDY
    sections = {n: claim_section(p, command.format(n)) for n, p in paths.items()}
    tables = {} if page == "claims" else study_tables()
    return {"overview": overview(paths.values()), **sections, **tables}


def study_tables() -> dict[str, str]:
    """Return the tables of the reference study, by name."""
    return {
        "noise": noise_table(),
        "seeds": seeds_table(),
        "where": where_table(),
        "how much": much_table(),
        "when": when_table(),
    }
