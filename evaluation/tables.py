"""Figures of many videos: the walk over a data set that resumes, and tables, JSON files and curves of what it found."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from dataset.video import Video
from evaluation.results import stamp_of
from util.errors import InputError
from util.files import read_json, write_atomically, write_json
from util.progress import progress_bar

matplotlib.use("agg")  # draws into files, on machines without a screen too

LINES = ("-", "--", ":", "-.")  # which tell curves apart in grey as well
Row = dict[str, Any]


def over_videos(
    path: Path,
    settings: dict[str, Any],
    videos: Sequence[Video],
    work: Callable[[Video, Callable[[], Any]], Any],
    *,
    overwrite: bool = False,
    more: Callable[[Video], Sequence[Path]] = lambda video: (),
    steps: Callable[[Video], int] = len,
    unit: str = "frames",
) -> dict[str, Any]:
    """What `work(video, on_step)` says of each video, by name, as values that JSON knows; `unit` is the name of its
    `steps(video)` steps, and `more(video)` are files that it reads besides.

    The file at `path` is written after each video, so that the same run goes on when it was stopped; a video whose frames,
    masks, truth or other files have changed is done again.  Raises `InputError` when the file was left by other settings or
    edited since, unless `overwrite`.
    """
    done: dict[str, Any] = {}
    inputs = {video.name: stamp_of(video, with_truth=True, more=more(video)) for video in videos}
    stamps: dict[str, str | None] = {}
    if path.is_file():
        old = read_json(path)
        if isinstance(old, dict) and old == _signed(settings, old.get("videos"), old.get("inputs")):
            stamps = old["inputs"]
            done = {name: found for name, found in old["videos"].items() if inputs.get(name, stamps[name]) == stamps[name]}
        elif not overwrite:
            raise InputError(
                f"{path}: was made with other settings or by an earlier version, or edited; --overwrite replaces it"
            )
    waiting = [video for video in videos if video.name not in done]
    with progress_bar(sum(map(steps, waiting)), f"{unit} of {path.stem}", shown=bool(waiting)) as bar:
        for video in waiting:
            done[video.name], stamps[video.name] = work(video, bar.increment), inputs[video.name]
            write_json(path, _signed(settings, done, {name: stamps[name] for name in done}))
    return {video.name: done[video.name] for video in videos}


def _signed(settings: dict[str, Any], videos: Any, inputs: Any) -> dict[str, Any]:
    """What `over_videos` writes, with a checksum, so that it trusts only figures that it wrote itself."""
    content = {"settings": settings, "videos": videos, "inputs": inputs}
    return {**content, "sha256": hashlib.sha256(json.dumps([*content.values()]).encode()).hexdigest()}


def report(folder: str | Path, name: str, title: str, rows: Sequence[Row], figure: Figure | None = None, **more: Any) -> None:
    """Write `<name>.json` (title, rows, and `more`) and `<name>.png`, and print the rows as a table."""
    folder = Path(folder)
    if figure is not None:
        write_figure(folder / f"{name}.png", figure)
    write_json(folder / f"{name}.json", {"title": title, "rows": list(rows), **more})
    print(f"{title}\n\n{markdown(rows)}\n")
    print("\n".join(f"{path}" for path in (folder / f"{name}.png", folder / f"{name}.json") if path.is_file()))


def write_figure(path: str | Path, figure: Figure) -> None:
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=110)
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))


def markdown(rows: Sequence[Row]) -> str:
    """A table of the `columns_of` the rows."""
    columns = columns_of(rows)
    lines = [columns, ["---"] * len(columns), *([cell(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Each name that any row has, in order, but those of tables in tables."""
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if not isinstance(value, dict)))


def cell(value: object) -> str:
    """A number with three digits or more, `-` for `None`."""
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return "-" if value is None else str(value)


def grey(index: int) -> Mapping[str, Any]:
    """How matplotlib draws the curve of this number: told apart by line and by shade."""
    return {"linestyle": LINES[index % len(LINES)], "color": str(0.2 * (index % 4)), "linewidth": 1.8}
