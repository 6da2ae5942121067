"""The pages of the evidence, whose generated parts are filled from what came out."""

from pathlib import Path

from pages.evidence import (
    CLAIMS,
    ROOT,
    claim_section,
    gate_files,
    overview,
    study_section,
)
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
    if page == "claims":
        paths = gate_files(CLAIMS)
        sections = {n: claim_section(p, CLAIM.format(n)) for n, p in paths.items()}
        return {"overview": overview(paths.values()), **sections}
    paths = gate_paths()
    sections = {n: study_section(p, STUDY.format(n)) for n, p in paths.items()}
    return {"overview": overview(paths.values()), **sections, **study_tables()}


def study_tables() -> dict[str, str]:
    """Return the tables of the reference study, by name."""
    return {
        "noise": noise_table(),
        "seeds": seeds_table(),
        "where": where_table(),
        "how much": much_table(),
        "when": when_table(),
    }
