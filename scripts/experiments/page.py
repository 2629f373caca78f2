"""Write a page with the claims, and every table and picture that the experiments have left in a folder.

python -m scripts.experiments.page demo/experiments
"""

import argparse
import sys
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from evaluation.tables import cell, columns_of
from scripts.experiments.claims import RULE, picture_of
from scripts.experiments.claims import table as claim_rows
from util.errors import InputError, one_line_errors, shorten
from util.files import read_json, write_atomically
from util.flags import Parser

STYLE = (
    "body { font: 16px/1.4 sans-serif; margin: 1rem auto; max-width: 75rem; padding: 0 1rem } div { overflow-x: auto } "
    "table { border-collapse: collapse } td, th { border: 1px solid #999; padding: .2rem .5rem; text-align: right } "
    "img { max-width: 100%; display: block; margin: 1rem 0 }"
)


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__, prog="python -m scripts.experiments.page")
    result.add_argument("folder", metavar="DIR", help="folder in which the experiments wrote; index.html goes there")
    return result


@one_line_errors
def main() -> None:
    folder = Path(parser().parse_args().folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    introduction, drawn = claims_of(folder)
    sections = []
    for path in sorted(folder.rglob("*.json")):
        content = read_json(path)
        if isinstance(content, dict) and {"title", "rows"} <= content.keys():
            rows = content["rows"]
            if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
                raise InputError(f"{path}: expected rows as in a table of the experiments, found {shorten(rows)}")
            picture = path.with_suffix(".png")
            drawn.add(picture)
            shown = image(picture, folder) if picture.is_file() else ""
            heading = f"<h2>{escape(str(content['title']))} ({escape(path.parent.name)})</h2>"
            sections.append(f"{heading}{table(rows)}{shown}")
    masks = {path.parent for path in folder.rglob("run.json")}  # results, whose pictures are label maps
    for path in sorted(folder.rglob("*.png")):
        if path not in drawn and not masks & {*path.parents}:
            sections.append(f"<h2>{escape(path.stem)}</h2>{image(path, folder)}")
    page = f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Experiments</title><style>{STYLE}</style>\n'
    page += f"<h1>Experiments</h1>\n{introduction}\n" + "\n".join(sections) + "\n"
    write_atomically(folder / "index.html", lambda file: file.write(page.encode(errors="backslashreplace")))
    print(f"page: {folder / 'index.html'}, {len(sections)} tables and pictures")


def claims_of(folder: Path) -> tuple[str, set[Path]]:
    """The introduction, the table of claims and their plots, where `claims` has been run; and which pictures these are."""
    path = folder / "results.json"
    if not path.is_file():
        return "", set()
    results = read_json(path)
    text = ["<p><strong>A quick run on made-up data: its numbers mean nothing.</strong></p>"] * (results["grade"] == "quick")
    recipe = results["recipe"]
    videos = "; ".join(f"{name}: {', '.join(names)}" for name, names in results["videos"].items())
    text.append(
        "<p>A small replication of the paper's claims. Networks of ResNet-18, which differ in what a claim is about, were "
        f"trained for {recipe['iterations'][0]} iterations on photographs and {recipe['iterations'][1]} on "
        f"videos, with {recipe['batch_size']} crops of {recipe['crop']} pixels each, and scored at "
        f"{escape(cell(results['size'] or 'the own size'))} pixels on {escape(videos)}. "
        f"Processor: {escape(results['processor'])}, {results['threads']} threads. "
        "The paper's networks are larger and were trained hundreds of times longer, so its figures and ours differ: what is "
        "compared is the direction of each difference.</p>"
        f"<p>{escape(RULE)} Ours: mean ± standard deviation (runs).</p>"
    )
    rows = []
    for row, claim in zip(claim_rows(results), results["claims"], strict=True):
        files = {name: sha256 for side in claim["sides"] for name, sha256 in side["files"].items()}
        named = [f"{name}\u00a0({sha256[:8]})" for name, sha256 in files.items()]
        ours = row["ours"].replace(" ± ", "\u00a0±\u00a0").replace(" (", "\u00a0(")  # which stay on one line
        rows.append({**row, "ours": ours, "command": row["command"].replace("`", ""), "networks": ", ".join(named) or None})
    pictures = [picture_of(folder, section) for section in dict.fromkeys(claim["section"] for claim in results["claims"])]
    pictures = [picture for picture in pictures if picture.is_file()]
    return "\n".join([*text, table(rows), *(image(picture, folder) for picture in pictures)]), set(pictures)


def table(rows: list[dict[str, Any]]) -> str:
    columns = columns_of(rows)
    lines = ["".join(f'<th scope="col">{escape(name)}</th>' for name in columns)]
    lines += ["".join(f"<td>{escape(cell(row.get(name)))}</td>" for name in columns) for row in rows]
    return f"<div><table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table></div>"


def image(path: Path, folder: Path) -> str:
    return f'<img alt="{escape(path.stem)}" src="{quote(path.relative_to(folder).as_posix())}">'


if __name__ == "__main__":
    sys.exit(main())
