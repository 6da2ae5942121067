"""The pages in docs/ say what the code does: tables are of today, examples run."""

import re

import jax
import pytest
from paths import ROOT

from dropout import VARIANTS, parse
from pages.table import variants_page

DOCS = ROOT / "docs"


def test_table_of_variants_is_up_to_date():
    page = (DOCS / "variants.md").read_text()
    assert page == variants_page(), "run python scripts/catalogue.py > docs/variants.md"


def test_table_of_variants_has_each_once_with_all_its_cells():
    rows = re.findall(
        r"^\| \[`(\w+)`\]\((.*?)\) \| (.*) \|$", variants_page(), re.MULTILINE
    )
    assert [name for name, _, _ in rows] == list(VARIANTS)
    for name, path, rest in rows:
        assert f"def {name}(" in (DOCS / path).read_text()
        what, at, _, *others = re.split(r"(?<!\\) \| ", rest)
        assert len(others) == 5 and all((what, at, *others)), name


def examples():
    page = (DOCS / "library.md").read_text()
    return re.findall(
        r"^## (.*?)\n.*?^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize(("title", "code"), examples(), ids=lambda text: text[:12])
def test_examples_of_use_as_a_library_run(title, code):
    namespace = {}
    exec(code, namespace)
    noisy, plain = namespace["noisy"], namespace["plain"]
    assert noisy.shape == plain.shape == (4, 2)
    assert jax.numpy.isfinite(noisy).all() and (noisy != plain).any()


def test_there_is_an_example_for_each_kind_of_code():
    titles = ["A function", "A Flax NNX module", "A Flax Linen module"]
    assert [title for title, _ in examples()] == titles


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FILES = r"\b(?:tests|scripts|configs|benchmarks|studies)/[a-z_0-9/]+\.(?:py|flags)\b"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_files_that_a_page_names_exist(page):
    for name in re.findall(FILES, page.read_text()):
        assert (ROOT / name).is_file(), name


def test_the_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([\w./-]+)\)", (ROOT / "README.md").read_text())
    assert len(links) > 20  # `make docs` looks at the links of all other pages
    for link in links:
        assert (ROOT / link).is_file(), link


def test_the_readme_is_a_page_long_and_its_examples_run():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(code, {})
    for plan in re.findall(r"`(?:[^`]*--dropout=')?([\w*/]+:\w+:[\d.]+)'?`", text):
        parse(plan)
