"""Write a page to look at results with: scores to sort, J and F over time, and the worst frames beside the truth.

python scripts/report.py out/davis --davis_path ../DAVIS/2017 --against out/other --output report.html
"""

import argparse
import base64
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import cv2
import numpy as np

import evaluation.scores as scoring
from dataset.video import Video, davis_videos
from util.errors import InputError, one_line_errors
from util.files import write_atomically
from util.flags import DefaultsFormatter, first_line, positive_int
from util.image import Numbering, colour_map, natural_order
from util.picture import draw_mask
from util.progress import progress_bar

COLUMNS = ("J&F", "J mean", "J recall", "J decay", "F mean", "F recall", "F decay")
THUMBNAIL_WIDTH = 240  # pixels: 30 videos of 8 frames and three rows stay below 15 MB
JPEG_QUALITY = 80


class Result(NamedTuple):
    """A folder of results and its scores, as `evaluation.scores.davis_scores` gives them."""

    folder: Path
    total: dict[str, Any]
    sequences: dict[str, Any]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=first_line(__doc__), formatter_class=DefaultsFormatter)
    result.add_argument("results", metavar="RESULTS", help="folder with <video>/<frame>.png")
    result.add_argument("--against", metavar="DIR", help="other results, shown beside them (default: none)")
    result.add_argument("--davis_path", default="../DAVIS/2017", metavar="DIR", help="DAVIS val, as for eval_davis.py")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="of DAVIS")
    result.add_argument(
        "--frames", type=positive_int, default=8, metavar="N", help="draw so many of each video: half the worst, half spaced"
    )
    result.add_argument("--output", default="report.html", metavar="HTML", help="file to write")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    if Path(arguments.output).is_dir():
        raise InputError(f"--output {arguments.output}: expected a file to write, found a folder")
    folders = [Path(folder) for folder in (arguments.results, arguments.against) if folder is not None]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder of results, found none")
    videos = davis_videos(arguments.davis_path, year=arguments.year)
    jobs = [scoring.davis_jobs(videos, folder) for folder in folders]  # all that is absent is told before any is scored
    scores = [scoring.davis_scores(scoring.score_videos(of_folder)) for of_folder in jobs]
    results = [Result(folder, tree["global"], tree["sequences"]) for folder, tree in zip(folders, scores, strict=True)]
    text = page(f"DAVIS {arguments.year} val", videos, results, arguments.frames)
    write_atomically(arguments.output, lambda file: file.write(text.encode()))
    print(f"report: {arguments.output}")


def page(title: str, videos: Sequence[Video], results: Sequence[Result], frames: int) -> str:
    """The whole page: `results` are one or two, the second what the first is compared with."""
    sequences = results[0].sequences
    videos = sorted(videos, key=lambda video: sequences[video.name]["J&F"])
    anchors = {video.name: f"sequence-{i}" for i, video in enumerate(videos)}
    sections = []
    with progress_bar(len(videos), "videos drawn") as bar:
        for video in videos:
            sections.append(section(video, results, anchors[video.name], frames))
            bar.increment()
    return PAGE.substitute(
        title=escape(f"{title}: {' against '.join(str(result.folder) for result in results)}"),
        table=table(results, anchors),
        sections="\n".join(sections),
    )


def table(results: Sequence[Result], anchors: dict[str, str]) -> str:
    """The scores of each object, the worst first, and their mean."""
    columns = ["Sequence", "Object", *COLUMNS, *(["J&F against", "Difference"] if len(results) == 2 else [])]
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    heads = heads.replace(">J&amp;F<", ' aria-sort="ascending">J&amp;F<')
    rows = []
    for name, sequence in results[0].sequences.items():
        link = f'<th scope="row"><a href="#{anchors[name]}">{escape(name)}</a></th>'
        for number in sequence["objects"]:
            entries = [result.sequences[name]["objects"][number] for result in results]
            rows.append((figures(entries[0])[0], f"<tr>{link}<td>{chip(number)}{number}</td>{cells(entries)}</tr>"))
    rows.sort(key=lambda row: row[0])
    return (
        f'<table id="scores"><caption>Scores of each object, in percent</caption><thead><tr>{heads}</tr></thead>\n<tbody>'
        + "\n".join(row for _, row in rows)
        + f'</tbody>\n<tfoot><tr><th scope="row" colspan="2">Mean over objects</th>'
        f"{cells([result.total for result in results])}</tr></tfoot></table>"
    )


def figures(entry: dict[str, Any]) -> list[float]:
    """What `COLUMNS` names, from an object's scores or the global ones."""
    return [(entry["J"]["mean"] + entry["F"]["mean"]) / 2, *entry["J"].values(), *entry["F"].values()]


def cells(entries: Sequence[dict[str, Any]]) -> str:
    """A row's figures; with a second entry also its J&F and the difference to it."""
    shown = [percent(value) for value in figures(entries[0])]
    if len(entries) == 2:
        ours, other = (figures(entry)[0] for entry in entries)
        shown += [percent(other), f"{100 * (ours - other):+.1f}"]
    return "".join(f"<td>{value}</td>" for value in shown)


def section(video: Video, results: Sequence[Result], anchor: str, frames: int) -> str:
    """One sequence: its scores, its plots and its strip of frames."""
    objects = [result.sequences[video.name]["objects"] for result in results]
    names = sorted(video.truth, key=natural_order)[1:-1]  # those that are scored
    means = [frame_means(of_result) for of_result in objects]
    worst = worst_frames(means[0], (frames + 1) // 2)
    spaced = sorted({*np.linspace(0, len(names) - 1, frames // 2).round().astype(int).tolist()} - {*worst})
    scores = [percent(result.sequences[video.name]["J&F"]) for result in results]
    legend = [f"<span>{chip(number)}object {number}</span>" for number in objects[0]]
    if len(results) == 2:
        legend += [f"<span>{line} {escape(str(r.folder))}</span>" for line, r in zip("—┄", results, strict=True)]
    legend += ["<span>▾ worst frames, drawn below</span>"]
    plots = "".join(plot(video.name, measure, names, objects, worst) for measure in "JF")
    heading = f'{escape(video.name)} <small>J&amp;F {" against ".join(scores)}, <a href="#scores">all scores</a></small>'
    return (
        f'<section id="{anchor}"><h2>{heading}</h2>\n'
        f'<p class="legend">{"".join(legend)}</p>\n<div class="plots">{plots}</div>\n'
        f"{strip(video, results, names, means, worst, spaced)}</section>"
    )


def frame_means(objects: dict[str, Any]) -> np.ndarray:
    """J&F (T,) of each scored frame, the mean over objects."""
    return np.mean([entry[key] for entry in objects.values() for key in ("J_frames", "F_frames")], axis=0)


def worst_frames(scores: np.ndarray, count: int) -> list[int]:
    """Indices of up to `count` low scores, the lowest first, spread a little: neighbours look the same."""
    apart = len(scores) // (4 * count)
    chosen: list[int] = []
    for t in np.argsort(scores, kind="stable").tolist():
        if len(chosen) < count and all(abs(t - other) > apart for other in chosen):
            chosen.append(t)
    return chosen


def plot(name: str, measure: str, frames: Sequence[str], results: Sequence[dict[str, Any]], marked: Sequence[int]) -> str:
    """J or F of each object over frames as SVG: the first result's lines solid, the second's dashed."""
    left, top, width, height = 30, 28, 360, 140
    last = len(frames) - 1

    def x(t: int) -> float:
        return round(left + width * t / max(1, last), 1)

    def y(value: float) -> float:
        return round(top + height * (1 - value), 1)

    parts = [f'<text x="0" y="10">{measure} in percent</text>']
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="grid" d="M{left},{y(value)}h{width}"/>')
        parts.append(f'<text class="y" x="{left - 5}" y="{y(value) + 4}">{100 * value:g}</text>')
    for t in sorted({round(last * i / 4) for i in range(5)}):
        parts.append(f'<text class="x" x="{x(t)}" y="{y(0) + 16}">{escape(frames[t])}</text>')
    for t in marked:
        parts.append(f'<path class="mark" d="M{x(t)},{y(1) - 1}l-4,-7h8l-4,7v{height + 1}"/>')
    for i, objects in enumerate(results):
        for number, entry in objects.items():
            values = entry[f"{measure}_frames"]
            values = values if last else values * 2  # of a single frame a level line, since a point would not be seen
            points = " ".join(f"{x(t)},{y(value)}" for t, value in enumerate(values))
            parts.append(f'<polyline class="of-{i}" style="--colour:{colour(number)}" points="{points}"/>')
    label = ", ".join(f"object {number} mean {percent(entry[measure]['mean'])}" for number, entry in results[0].items())
    return (
        f'<svg role="img" viewBox="0 0 {left + width + 20} {top + height + 22}" '
        f'aria-label="{escape(name)}, {measure} over frames: {label}">{"".join(parts)}</svg>'
    )


def strip(
    video: Video,
    results: Sequence[Result],
    names: Sequence[str],
    means: Sequence[np.ndarray],
    worst: Sequence[int],
    spaced: Sequence[int],
) -> str:
    """Frames as columns, the worst first; a row for each result and one for the truth."""
    groups = [(title, chosen) for title, chosen in (("Worst frames first", worst), ("Over time", spaced)) if chosen]
    chosen = [t for _, of_group in groups for t in of_group]
    images = {path.stem: path for path in video.images}
    heads = "".join(f'<th scope="colgroup" colspan="{len(of_group)}">{title}</th>' for title, of_group in groups)
    numbers = "".join(f'<th scope="col">{escape(names[t])}</th>' for t in chosen)
    sources: list[tuple[str, Mapping[str, Path], np.ndarray | None]] = []
    for result, scores in zip(results, means, strict=True):
        masks = {names[t]: result.folder / video.name / f"{names[t]}.png" for t in chosen}
        sources.append((str(result.folder), masks, scores))
    rows = []
    for source, masks, scores in [*sources, ("truth", video.truth, None)]:
        row = f'<tr><th scope="row">{escape(source)}</th>'
        read = partial(video.read_mask, numbering=None if scores is None else Numbering.of(masks.values()))
        for t in chosen:
            score = "" if scores is None else f"J&F {percent(scores[t])}"
            alt = f"{video.name}, frame {names[t]}, {source} {score}".rstrip()
            row += f"<td>{thumbnail(images[names[t]], masks[names[t]], read, alt)}{escape(score)}</td>"
        rows.append(f"{row}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="frames of {escape(video.name)}"><table class="strip">'
        f'<thead><tr><td></td>{heads}</tr><tr><th scope="row">frame</th>{numbers}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def thumbnail(frame: Path, mask: Path, read: Callable[[Path], np.ndarray], alt: str) -> str:
    """A frame with a mask drawn over, as an image element that holds its JPEG; raises `InputError` if the sizes differ."""
    picture = draw_mask(frame, mask, read)
    height, width = picture.shape[:2]
    size = (THUMBNAIL_WIDTH, max(1, round(height * THUMBNAIL_WIDTH / width)))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    data = base64.b64encode(jpeg.tobytes()).decode()
    return f'<img width="{size[0]}" height="{size[1]}" alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def colour(number: str) -> str:
    """The colour in which an object is drawn."""
    return f"#{colour_map()[3 * int(number) :][:3].hex()}"


def chip(number: str) -> str:
    return f'<i class="chip" style="--colour:{colour(number)}"></i>'


PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c1e21; --quiet: #5c636b; --paper: #fff; --band: #f1f3f5; --line: #d5d9de;
  --link: #0b57d0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --quiet: #a2a9b1; --paper: #16181b; --band: #22262a; --line: #3a4046; --link: #8ab4f8; }
  polyline, .chip { --shown: color-mix(in srgb, var(--colour) 65%, white); }  /* a dark red is lost on black */
}
body { margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem); max-width: 140rem; background: var(--paper); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 small, .legend, caption { color: var(--quiet); font-weight: normal; font-size: .9rem; }
a { color: var(--link); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.scroll { overflow-x: auto; max-width: 100%; }
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 1rem; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; padding-bottom: .4rem; }
#scores :is(th, td) { padding: .25rem .5rem; text-align: right; white-space: nowrap; }
#scores :is(th:first-child, thead th:nth-child(2), tbody td:nth-child(2)) { text-align: left; }
#scores thead th { background: var(--band); padding: 0; }
#scores tbody tr:nth-child(even) { background: var(--band); }
#scores tbody th { font-weight: normal; }
#scores tfoot { border-top: 2px solid var(--line); font-weight: bold; }
#scores button { all: unset; box-sizing: border-box; width: 100%; padding: .35rem .5rem; cursor: pointer; }
#scores button:focus-visible { outline: 2px solid var(--link); outline-offset: -2px; }
#scores thead button::after { content: " ↕"; color: var(--quiet); }
#scores [aria-sort=ascending] button::after { content: " ↑"; color: inherit; }
#scores [aria-sort=descending] button::after { content: " ↓"; color: inherit; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.chip { display: inline-block; width: .8em; height: .8em; margin-right: .45em; border-radius: 2px;
  background: var(--shown, var(--colour)); }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: .75rem; }
svg { flex: 1 1 18rem; max-width: 36rem; min-width: 0; font-size: 11px; fill: var(--quiet); }
svg .x { text-anchor: middle; }
svg .y { text-anchor: end; }
.grid { stroke: var(--line); }
.mark { stroke: var(--quiet); stroke-opacity: .5; }
polyline { fill: none; stroke: var(--shown, var(--colour)); stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.of-1 { stroke-dasharray: 3 4; stroke-width: 1.6; }
.strip { font-size: .85rem; }
.strip :is(th, td) { padding: .15rem .25rem; text-align: left; font-weight: normal; vertical-align: top; }
.strip thead { color: var(--quiet); }
.strip thead [scope=colgroup] { font-weight: bold; }
.strip tr > :first-child { position: sticky; left: 0; min-width: 4rem; max-width: 7rem; background: var(--paper);
  color: var(--quiet); overflow-wrap: anywhere; }
.strip img { display: block; }
</style>
</head>
<body>
<h1>$title</h1>
<div class="scroll" tabindex="0" role="region" aria-label="scores">
$table
</div>
$sections
<script>
const heads = [...document.querySelectorAll("#scores thead th")];
const body = document.querySelector("#scores tbody");
const order = new Intl.Collator(undefined, { numeric: true }).compare;
heads.forEach((head, column) => {
  const button = document.createElement("button");  // made here: without a script there is nothing to press
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const text = (row) => row.cells[column].textContent;
    body.append(...[...body.rows].sort((a, b) => sign * (text(a) - text(b) || order(text(a), text(b)))));
  });
});
</script>
</body>
</html>
""")


if __name__ == "__main__":
    sys.exit(main())
