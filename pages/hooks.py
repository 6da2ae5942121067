"""The site's hooks for MkDocs: generated pages, links to code, and formulas.

`mkdocs.yml` names this file; MkDocs calls the functions by their names.
"""

import html
import re
from functools import cache
from pathlib import Path

# The extra `docs` brings these; continuous integration checks types without it.
from latex2mathml.converter import convert  # pyright: ignore
from mkdocs.config.defaults import MkDocsConfig  # pyright: ignore
from mkdocs.exceptions import PluginError  # pyright: ignore
from mkdocs.structure.files import File, Files  # pyright: ignore
from mkdocs.structure.pages import Page  # pyright: ignore

from dropout import VARIANTS
from pages.figures import variant_png
from pages.reference import reference_pages

ROOT = Path(__file__).parent.parent
TEXTS = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)*)([\w./-]+\.py)\)")
FORMULA = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that are made from the code."""
    for path, content in generated().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Point links to code to the reference, or replace them by their text."""
    depth = page.file.src_uri.count("/")
    return LINK.sub(lambda link: link_to_code(link, depth), markdown)


def on_page_content(
    html_text: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Turn formulas into MathML, which browsers show without a script."""
    return FORMULA.sub(lambda found: convert(html.unescape(found[1])), html_text)


@cache
def generated() -> dict[str, str | bytes]:
    """Return the generated pages and pictures, by their path within `docs/`."""
    texts = {page: rooted((ROOT / name).read_text()) for page, name in TEXTS.items()}
    pictures = {
        f"reference/variants/{name}.png": variant_png(entry)
        for name, entry in VARIANTS.items()
    }
    return {**texts, **reference_pages(), **pictures}


def rooted(markdown: str) -> str:
    """Return a text from the repository's root, with links that work in `docs/`."""
    return markdown.replace("](docs/", "](")


def link_to_code(link: re.Match, depth: int) -> str:
    """Return a link to a variant's section, or the text of another link to code.

    Raises:
        PluginError: the file does not exist.
    """
    text, up, path = link.groups()
    if not (ROOT / path).is_file() or up != "../" * (depth + 1):
        raise PluginError(f"link {link[0]} points to no file of the repository.")
    if text.strip("`") in VARIANTS:
        return f"[{text}]({'../' * depth}reference/variants.md#{text.strip('`')})"
    return text
