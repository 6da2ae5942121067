"""The page of the design names what there is: files, functions, few words."""

import re

import pytest
from paths import ROOT

PAGE = (ROOT / "docs" / "design.md").read_text()
WALKS = re.findall(
    r"^### ([^\n]*): (\d+) files\n```mermaid\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize(
    ("title", "count", "figure"), WALKS, ids=lambda text: text[:12]
)
def test_a_walk_has_the_files_and_functions_that_its_figure_names(title, count, figure):
    boxes = re.findall(r'^  \w+\["(.*?)<br>(.*?)"\]$', figure, re.MULTILINE)
    assert len({path for path, _ in boxes}) == len(boxes) == int(count) <= 8
    for path, text in boxes:
        code = (ROOT / path).read_text()
        for name in re.findall(r"(\w+)\(\)", text):
            assert re.search(rf"^def {name}\b", code, re.MULTILINE), (path, name)


def test_there_are_four_walks():
    assert len(WALKS) == 4


def test_every_path_on_the_page_exists():
    for path in re.findall(r"`([\w./]+/[\w./]*)`", PAGE):
        assert (ROOT / path).exists(), path


def test_the_glossary_has_at_most_forty_words():
    table = PAGE.partition("## Glossary")[2].partition("\n## ")[0]
    words = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert 20 <= len(words) <= 40
