"""The generated pages have everything that the registries have, and say it rightly."""

import re
import subprocess
import sys

import pytest
from paths import ROOT

import dropout
from dropout import SCHEDULES, VARIANTS, parse, resolve
from dropout.grammar import parse_call
from models import MODELS, check_model
from pages import reference, sites
from pages.formulas import typeset
from training.config import Config


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("y = m x / q", r"$y = \frac{m \, x}{q}$"),
        ("x <= 1 / (1 - rate)", r"$x \le \frac{1}{1 - \text{rate}}$"),
        ("c_(t-1) and a_i^2", r"$c_{t - 1}$ and $a_{i}^{2}$"),
        ("(a + b)^-1/2", r"$\left(a + b\right)^{-1/2}$"),
        ("(a) / (b) (c)", r"$\frac{a}{\left(b\right) \, \left(c\right)}$"),
        ("1 - |2 p - 1|", r"$1 - \left|2 \, p - 1\right|$"),
        ("u ~ U(0, 1)", r"$u \sim \mathcal{U}\left(0, 1\right)$"),
        ("a block of k x k", "a block of k x k"),
        ("the mean (n, 1, ..., 1)", "the mean (n, 1, ..., 1)"),
        ("y = the lowest", "y = the lowest"),
        ("with temperature 2/3, at last", r"with temperature $\frac{2}{3}$, at last"),
        ("length - 1 and so on", "length - 1 and so on"),
    ],
)
def test_formulas_are_set_and_words_are_left(text, tex):
    assert typeset(text) == tex


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_its_parts_and_most_have_a_formula(name):
    section = "\n\n".join(reference.variant_section(VARIANTS[name]))
    for part in reference.PARTS:
        assert re.search(rf"\*\*{part}\.\*\* .{{8,}}", section)
    (formula,) = re.findall(r"\*\*Formula\.\*\* (.*)", section)
    refers = formula.startswith(("As alpha", "As concrete", "Candidates", "Area"))
    assert "$" in formula or refers
    assert formula.count("$") % 2 == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_the_example_of_every_variant_is_a_plan_that_resolves(name):
    section = "\n\n".join(reference.variant_section(VARIANTS[name]))
    (plan,) = re.findall(r"^--dropout='(.*)'$", section, re.MULTILINE)
    site = plan.split(":")[0].replace("*", "1")
    assert resolve(parse(plan), (site,))[0].variant.name == name


def test_every_schedule_has_a_section_with_its_options():
    page = reference.schedules_page()
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(SCHEDULES)
    assert "`until=0.5`, `shape='constant'`" in page


def test_every_flag_is_in_the_table_once():
    found = re.findall(r"^\| `--(\w+)` \|", reference.flags_page(), re.MULTILINE)
    assert sorted(found) == sorted(Config.__dataclass_fields__)


def test_every_exported_name_has_an_entry():
    page = reference.api_page()
    for name in set(dropout.__all__) - set(VARIANTS) - {"VARIANTS", "SCHEDULES"}:
        assert re.search(rf"^::: dropout[\w.]*\.{name}$", page, re.MULTILINE), name


@pytest.mark.slow
def test_every_network_has_its_options_and_sites():
    page = sites.models_page()
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(MODELS)
    for text in re.findall(r'^--model="(.*)"$', page, re.MULTILINE):
        check_model(parse_call(text))
    assert "| `block*/conv*/kernel` | kernel | 3x3x16x16 | 18 |" in page


def test_the_patterns_of_a_network_match_each_of_its_sites_once():
    rows = list(sites.site_rows("resnet"))
    names = tuple(site.name for site in sites.sites_of("resnet"))
    assert sum(int(row[3]) for row in rows) == len(names)
    pattern = next(row[0].strip("`") for row in rows if row[0] == "`block*/branch`")
    rows = resolve(parse(f"{pattern}:drop_path:0.0..0.2"), names)
    assert len(rows) == 9


def test_every_script_is_described():
    page = reference.scripts_page()
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    assert len(scripts) > 10
    for path in scripts:
        assert f"## scripts/{path.name}" in page


@pytest.mark.parametrize("name", VARIANTS)
def test_no_brace_follows_a_formula(name):
    """Markdown would read it as attributes of the formula, and show neither."""
    found = re.search(r"\$\{.*", typeset(VARIANTS[name].draw.__doc__ or ""))
    assert found is None, found


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    """Needs the extra `docs`; `make docs` does the same."""
    pytest.importorskip("mkdocs")
    site = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", site]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    page = (site / "reference" / "variants" / "index.html").read_text()
    assert page.count("<math") > 50 and "arithmatex" not in page
    for name in VARIANTS:
        assert f'id="{name}"' in page
        assert (site / "reference" / "variants" / f"{name}.png").stat().st_size > 1000
    # The namespace of MathML is a name; nothing is loaded from it.
    addresses = set(re.findall(r"https?://[\w.]+", page))
    assert addresses <= {"http://www.w3.org"}
