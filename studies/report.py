"""The report of studies and evaluations, in Markdown and as one page of HTML."""

import base64
import json
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import polars as pl
from markdown_it import MarkdownIt

from studies.comparison import compare
from studies.looks import read_looks, remarks
from studies.outcomes import read_results
from studies.pictures import Picture, pictures, save
from studies.study import RESULTS
from studies.tables import markdown
from training.own_files import load_plugins
from training.record.files import replacing, write_atomically
from training.record.markdown import fenced, literal
from training.record.pictures import article_style
from training.record.same_run import check_no_links

STYLE = (Path(__file__).parent / "report.css").read_text()
EVALUATION = "evaluation.md"
STUDY = "study.json"
PLUGINS = "--plugins="  # in the flags of an arm
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MEDIA = {".svg": "image/svg+xml", ".png": "image/png"}


def write_report(directories: list[Path], out: Path) -> Path:
    """Write `report.html`, and `report.md` with its pictures.

    Raises:
        ValueError: a directory holds no study, or a damaged one.
    """
    for directory in directories:
        _check_holds_results(directory)
    images = out / "report-images"
    images.mkdir(parents=True, exist_ok=True)
    sections = [
        section(directory, images, f"study{index}-" if index else "")
        for index, directory in enumerate(directories)
    ]
    text = "\n\n".join(sections)
    write_atomically(out / "report.md", text)
    write_atomically(out / "report.html", page(text, out))
    return out / "report.html"


def section(directory: Path, images: Path, prefix: str) -> str:
    """Return the Markdown of a study or an evaluated run; pictures go to `images`."""
    if not (directory / STUDY).exists():
        return evaluated(directory, images, prefix)
    record, table = read_study(directory)
    seeds = record["seeds"]
    lines = compare(table, directory, record["versus"], record["margin"])
    said = (*record["remarks"], *remarks(read_looks(directory)))
    with article_style():
        made = pictures(table, lines, directory)
        links = [_picture(p._replace(name=prefix + p.name), images) for p in made]
    parts = [
        f"# {literal(record['question'])}",
        f"{len(record['arms'])} arms, {len(seeds)} seeds "
        f"({', '.join(map(str, seeds))}), {len(table)} runs.",
        f"## What was found\n\n{markdown(lines, said)}",
        *links,
        f"## Resolved plans\n\n{_plans(table, directory)}",
        f"## How to repeat it\n\n{fenced([record['command']])}",
        _versions(record["versions"]),
    ]
    return "\n\n".join(parts) + "\n"


def evaluated(directory: Path, images: Path, prefix: str) -> str:
    """Return the page that evaluate.py wrote, with its pictures copied to `images`."""
    check_no_links(directory)  # A page with what a link points to may be passed on.
    text = (directory / EVALUATION).read_text()
    for picture in directory.glob("evaluation-*.png"):
        name = prefix + picture.name
        with replacing(images / name) as temporary:
            shutil.copy(picture, temporary)
        text = text.replace(f"({picture.name})", f"({images.name}/{name})")
    return text + "\n"


def read_study(directory: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """Return a study's record and its rows, arm by arm in the study's order.

    Raises:
        ValueError: a file is damaged.
    """
    table = read_results(directory / RESULTS)
    try:
        record = json.loads((directory / STUDY).read_text())
        load_plugins(",".join(_plugins(record)))
        order = pl.Enum([arm["name"] for arm in record["arms"]])
        is_asked = pl.col("seed").is_in(record["seeds"])
        _check_parts(record, table)
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise ValueError(
            f"{directory / STUDY} is damaged ({error!r}); expected the record of a "
            "study. Rerun the study's command to write it again."
        ) from None
    table = table.filter(pl.col("arm").is_in(order.categories.to_list()), is_asked)
    return record, table.sort(pl.col("arm").cast(order), "seed")


def _plugins(record: dict[str, Any]) -> list[str]:
    """The modules that the arms of a study name, in whatever version it was made."""
    lines = "\n".join(arm["flags"] for arm in record["arms"]).split("\n")
    named = (line.removeprefix(PLUGINS) for line in lines if line.startswith(PLUGINS))
    return list(dict.fromkeys(named))


def _check_parts(record: dict[str, Any], table: pl.DataFrame) -> None:
    """Check that a record and its rows have what this version writes."""
    for name in ("question", "command", "versions", "versus", "margin", "remarks"):
        record[name]
    for name in ("epochs_followed", "ece_floor"):
        table[name]


def _check_holds_results(directory: Path) -> None:
    study = all((directory / name).exists() for name in (STUDY, RESULTS))
    if not study and not (directory / EVALUATION).exists():
        raise ValueError(
            f"{directory} holds no results; expected a workdir of compare.py, sweep.py "
            "or suggest.py, or a run that evaluate.py has evaluated."
        )


def page(text: str, out: Path) -> str:
    """Return a page of HTML that contains its style and pictures."""
    # HTML in a text is shown, never run; the policy holds for links that it may have.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    body = body.replace("<table>", '<div class="wide"><table>')
    body = body.replace("</table>", "</table></div>")
    for suffix, media in MEDIA.items():
        for path in (out / "report-images").glob(f"*{suffix}"):
            encoded = base64.b64encode(path.read_bytes()).decode()
            link = f'src="report-images/{path.name}"'
            body = body.replace(link, f'src="data:{media};base64,{encoded}"')
    title = re.sub(r"\\(.)", r"\1", text.partition("\n")[0].removeprefix("# "))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{STYLE}</style></head>\n"
        f"<body>\n{body}</body></html>\n"
    )


def _picture(picture: Picture, images: Path) -> str:
    links = [
        f"![{picture.title}]({images.name}/{name})" for name in save(picture, images)
    ]
    return "\n\n".join(
        [f"## {picture.title}", "\n".join(links), f"*{picture.caption}*"]
    )


def _plans(table: pl.DataFrame, directory: Path) -> str:
    parts = []
    for arm in table["arm"].unique(maintain_order=True):
        run = table.filter(arm=arm)["run"][0]
        lines = (directory / run / "plan.txt").read_text().splitlines()
        acting = [line for line in lines if not line.endswith("  -")]
        parts.append(f"**{literal(str(arm))}**\n\n{fenced(acting)}")
    return "\n\n".join(parts)


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
