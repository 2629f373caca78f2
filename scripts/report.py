"""Write a web page about results: sortable scores, J and F over time, and the worst frames next to the ground truth.

python scripts/report.py out/davis --davis_path ../DAVIS/2017 --against out/other --output report.html
"""

import argparse
import base64
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dataset.video import Video
from evaluation.score_tables import davis_scores
from evaluation.scores import ScoringJob, score_videos
from evaluation.truth import add_processes_flag, add_truth_flags, frames_by_object, read_truth
from util.errors import InputError, one_line_errors
from util.files import write_atomically
from util.flags import Parser, positive_int
from util.guards import refuse_existing
from util.label_map import colour_map
from util.picture import as_jpeg, draw_mask
from util.progress import progress_bar

COLUMNS = ("J&F", "J mean", "J recall", "J decay", "F mean", "F recall", "F decay")
MOST_OTHERS = 3  # the page has as many kinds of dashes
THUMBNAIL_WIDTH = 240  # pixels; 30 videos with 8 frames in three rows then take less than 15 MB
JPEG_QUALITY = 80


class Result(NamedTuple):
    """A folder of results and its scores from `evaluation.score_tables.davis_scores`."""

    folder: Path
    total: dict[str, Any]
    sequences: dict[str, Any]
    jobs: list[ScoringJob]


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("results", metavar="RESULTS", help="folder with <video>/<frame>.png")
    result.add_argument(
        "--against", nargs="+", default=[], metavar="DIR", help=f"other results, shown beside them, at most {MOST_OTHERS}"
    )
    add_truth_flags(result, required=False)
    result.add_argument(
        "--frames",
        type=positive_int,
        default=8,
        metavar="N",
        help="number of frames drawn per video: half the worst, half evenly spaced",
    )
    add_processes_flag(result)
    result.add_argument("--output", default="report.html", metavar="HTML", help="file to write")
    result.add_argument("--overwrite", action="store_true", help="replace a file that is no report")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    if Path(arguments.output).is_dir():
        raise InputError(f"--output {arguments.output}: expected a file to write, found a folder")
    refuse_existing(arguments.output, overwrite=arguments.overwrite, mark=b'content="STCN report"')
    if len(arguments.against) > MOST_OTHERS:
        raise InputError(f"--against: expected at most {MOST_OTHERS} folders, found {len(arguments.against)}")
    folders = [Path(folder) for folder in (arguments.results, *arguments.against)]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder with results, found none")
    truth = read_truth(arguments).of(folders[0])
    jobs = [truth.jobs(folder) for folder in folders]  # check all folders before scoring any
    results = []
    for folder, of_folder in zip(folders, jobs, strict=True):
        tree = davis_scores(score_videos(of_folder, processes=arguments.processes))
        results.append(Result(folder, tree["global"], tree["sequences"], of_folder))
    videos = [video for video in truth.videos if video.name in results[0].sequences]
    text = page(truth.title, videos, results, arguments.frames)
    write_atomically(arguments.output, lambda file: file.write(text.encode(errors="backslashreplace")))
    print(f"report: {arguments.output}")


def page(title: str, videos: Sequence[Video], results: Sequence[Result], frames: int) -> str:
    """The whole page.  `results` has one or more entries; the first is compared with the others."""
    sequences = results[0].sequences
    videos = sorted(videos, key=lambda video: sequences[video.name]["J&F"])
    anchors = {video.name: f"sequence-{i}" for i, video in enumerate(videos)}
    sections = []
    with progress_bar(len(videos), "videos drawn") as bar:
        for video in videos:
            sections.append(section(video, results, anchors[video.name], frames))
            bar.increment()
    named = len(results) > 2
    others = [text for of in results[1:] for text in (f"J&F against{f' {of.folder.name}' if named else ''}", "Difference")]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "colour": colour}
    return environment.get_template("report.html.j2").render(
        title=f"{title}: {' against '.join(str(result.folder) for result in results)}",
        columns=["Sequence", "Object", *COLUMNS, *others],
        rows=table(results, anchors),
        total=cells([result.total for result in results]),
        sections=sections,
    )


def table(results: Sequence[Result], anchors: dict[str, str]) -> list[dict[str, Any]]:
    """The scores of each object, worst first."""
    rows = []
    for name, sequence in results[0].sequences.items():
        for number in sequence["objects"]:
            entries = [result.sequences[name]["objects"][number] for result in results]
            row = {"name": name, "anchor": anchors[name], "number": number, "cells": cells(entries)}
            rows.append((figures(entries[0])[0], row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def figures(entry: dict[str, Any]) -> list[float]:
    """The values for `COLUMNS`, from an object's scores or the global ones."""
    return [(entry["J"]["mean"] + entry["F"]["mean"]) / 2, *entry["J"].values(), *entry["F"].values()]


def cells(entries: Sequence[dict[str, Any]]) -> list[str]:
    """A row's cells; for each further entry, also its J&F and the difference."""
    ours, *others = (figures(entry)[0] for entry in entries)
    compared = [text for other in others for text in (percent(other), f"{100 * (ours - other):+.1f}")]
    return [percent(value) for value in figures(entries[0])] + compared


def section(video: Video, results: Sequence[Result], anchor: str, frames: int) -> dict[str, Any]:
    """One sequence: scores, plots and a strip of frames."""
    frames_of = frames_by_object(results[0].jobs)[video.name]
    scored = {name for of_object in frames_of.values() for name in of_object}
    names = [path.stem for path in video.images if path.stem in scored]
    objects = [aligned(result.sequences[video.name]["objects"], frames_of, names) for result in results]
    means = [frame_means(of_result) for of_result in objects]
    worst = worst_frames(means[0], (frames + 1) // 2)
    spaced = sorted({*np.linspace(0, len(names) - 1, min(frames // 2, len(names))).round().astype(int).tolist()} - {*worst})
    return {
        "anchor": anchor,
        "name": video.name,
        "scores": [percent(result.sequences[video.name]["J&F"]) for result in results],
        "objects": list(objects[0]),
        "folders": [str(result.folder) for result in results] if len(results) > 1 else [],
        "plots": [plot(measure, names, objects, worst) for measure in "JF"],
        **strip(video, results, names, means, worst, spaced),
    }


def aligned(objects: dict[str, Any], frames_of: dict[int, list[str]], names: Sequence[str]) -> dict[str, Any]:
    """The objects' scores with an entry for each of the frames, NaN where an object is not scored."""
    result = {}
    for number, entry in objects.items():
        at = [names.index(name) for name in frames_of[int(number)]][-len(entry["J_frames"]) :]
        filled = {}
        for key in ("J_frames", "F_frames"):
            values = np.full(len(names), np.nan)
            values[at] = entry[key]
            filled[key] = values.tolist()
        result[number] = {**entry, **filled}
    return result


def frame_means(objects: dict[str, Any]) -> np.ndarray:
    """J&F (T,) of each scored frame, averaged over objects; 1 where no object counts yet."""
    values = np.array([entry[key] for entry in objects.values() for key in ("J_frames", "F_frames")])
    values[:, np.isnan(values).all(axis=0)] = 1
    return np.nanmean(values, axis=0)


def worst_frames(scores: np.ndarray, count: int) -> list[int]:
    """Indices of up to `count` low scores, lowest first, spaced out because neighbouring frames look the same."""
    apart = len(scores) // (4 * count)
    chosen: list[int] = []
    for t in np.argsort(scores, kind="stable").tolist():
        if len(chosen) < count and all(abs(t - other) > apart for other in chosen):
            chosen.append(t)
    return chosen


def plot(measure: str, frames: Sequence[str], results: Sequence[dict[str, Any]], marked: Sequence[int]) -> dict[str, Any]:
    """J or F of each object over frames, as coordinates for the template, in units of the view box."""
    left, top, width, height = 30, 28, 360, 140
    last = len(frames) - 1

    def x(t: int) -> float:
        return round(left + width * t / max(1, last), 1)

    def y(value: float) -> float:
        return round(top + height * (1 - value), 1)

    lines = []
    for i, objects in enumerate(results):
        for number, entry in objects.items():
            values = entry[f"{measure}_frames"]
            values = values if last else values * 2  # a single frame becomes a line; a point is invisible
            points = " ".join(f"{x(t)},{y(value)}" for t, value in enumerate(values) if value == value)  # not NaN
            lines.append({"result": i, "number": number, "points": points})
    label = ", ".join(f"object {number} mean {percent(entry[measure]['mean'])}" for number, entry in results[0].items())
    return {
        "measure": measure,
        "label": label,
        "box": f"0 0 {left + width + 20} {top + height + 22}",
        "left": left,
        "width": width,
        "height": height,
        "top": y(1),
        "bottom": y(0),
        "grid": [{"y": y(value), "text": f"{100 * value:g}"} for value in (0, 0.25, 0.5, 0.75, 1)],
        "ticks": [{"x": x(t), "text": frames[t]} for t in sorted({round(last * i / 4) for i in range(5)})],
        "marks": [x(t) for t in marked],
        "lines": lines,
    }


def strip(
    video: Video,
    results: Sequence[Result],
    names: Sequence[str],
    means: Sequence[np.ndarray],
    worst: Sequence[int],
    spaced: Sequence[int],
) -> dict[str, Any]:
    """A table of frames: worst ones first, a row for each result and one for the ground truth."""
    groups = [(title, chosen) for title, chosen in (("Worst frames first", worst), ("Over time", spaced)) if chosen]
    chosen = [t for _, of_group in groups for t in of_group]
    images = {path.stem: path for path in video.images}
    sources: list[tuple[str, Mapping[str, Path], np.ndarray | None]] = []
    for result, scores in zip(results, means, strict=True):
        paths = {path.stem: path for job in result.jobs if job.name == video.name for path in job.results}
        masks = {names[t]: paths[names[t]] for t in chosen}
        sources.append((str(result.folder), masks, scores))
    rows = []
    for source, masks, scores in [*sources, ("truth", video.truth, None)]:
        read = partial(video.read_mask, reader=None if scores is None else video.reader.of_results(masks.values()))
        pictures = []
        for t in chosen:
            score = "" if scores is None else f"J&F {percent(scores[t])}"
            alt = f"{video.name}, frame {names[t]}, {source} {score}".rstrip()
            pictures.append({**thumbnail(images[names[t]], masks[names[t]], read), "alt": alt, "score": score})
        rows.append({"source": source, "pictures": pictures})
    groups = [{"title": title, "span": len(of_group)} for title, of_group in groups]
    return {"groups": groups, "frames": [names[t] for t in chosen], "rows": rows}


def thumbnail(frame: Path, mask: Path, read: Callable[[Path], np.ndarray]) -> dict[str, Any]:
    """A frame with a mask drawn over it, as a base64 JPEG; raises `InputError` if the sizes differ."""
    picture = draw_mask(frame, mask, read)
    height, width = picture.shape[:2]
    size = (THUMBNAIL_WIDTH, max(1, round(height * THUMBNAIL_WIDTH / width)))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return {"width": size[0], "height": size[1], "data": base64.b64encode(as_jpeg(picture, JPEG_QUALITY)).decode()}


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def colour(number: str) -> str:
    """The colour of an object in pictures, as CSS."""
    return f"#{colour_map()[3 * int(number) :][:3].hex()}"


if __name__ == "__main__":
    sys.exit(main())
