"""Table 6: J&F against seconds on DAVIS's interactive track, by its own rules.

python scripts/eval_interactive.py --davis_path ../DAVIS/2017 --output out/interactive

The track has three sets of scribbles by people for each video, which prepare_davis.py puts beside JPEGImages.  Without them,
the robot draws the first ones too, on each first frame, and the figures say so (docs/interactive.md).
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import util  # isort: skip, since it comes before PyTorch  # noqa: F401

from matplotlib.figure import Figure

from dataset.davis import davis_videos
from dataset.video import Video
from evaluation.cut import Cut, cut_by, cut_digest
from evaluation.flags import add_robot_flags
from evaluation.rounds import Robot, rounds_of
from evaluation.run import segmenter_by_flags
from evaluation.scores import refuse_without_truth
from evaluation.tables import Row, over_videos, report
from evaluation.track import AT, Start, draw_by_track, read_start, summary
from model import VideoSegmenter
from util.device import device_of, timed_on
from util.errors import InputError, names_some, one_line_errors
from util.flags import Parser, positive_int
from util.label_map import object_ids
from util.lock import Lock

INTERACTIONS, SECONDS = 8, 30  # the track's: interactions at most, and seconds for each, times the number of objects


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("--scribbles", metavar="DIR", help="where <video>/001.json and others are, if not beside JPEGImages")
    result.add_argument(
        "--interactions", type=positive_int, default=INTERACTIONS, metavar="N", help="interactions with a video at most"
    )
    add_robot_flags(result)
    return result


def files_of(scribbles: str | None, videos: list[Video]) -> dict[str, list[Path]]:
    """The files of scribbles of each video, by its name."""
    if scribbles is None:
        return {video.name: [] for video in videos}
    files = {video.name: sorted(Path(scribbles, video.name).glob("*.json")) for video in videos}
    if without := [name for name, found in files.items() if not found]:
        raise InputError(f"{scribbles}: no scribbles for {names_some(without)}")
    return files


def samples_of(
    maker: Callable[[], VideoSegmenter],
    starts: dict[str, list[Start | None]],
    video: Video,
    on_step: Callable[[], Any],
    *,
    cut: Cut,
    interactions: int,
) -> dict[str, Any]:
    """The rounds of each start of a video, and the seconds that it may take."""
    limit = float(INTERACTIONS * SECONDS * len(object_ids(video.read_mask(video.truth[video.images[0].stem]))))
    samples = [
        rounds_of(
            maker,
            video,
            on_step,
            give=Robot(cut, 1, draw_by_track(start)).give,
            rounds=interactions,
            start=0 if start is None else start.frame,
            again=True,
            limit=limit,
        )
        for start in starts[video.name]
    ]
    return {"limit": limit, "samples": samples}


def draw(curve: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve["seconds"], curve["J&F"], marker="o", color="0")
    axes.axvline(AT, color="0.6", linestyle=":")
    axes.set(xlabel="seconds for a video", ylabel="J&F, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    return figure


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos = davis_videos(arguments.davis_path, year=2017, only=arguments.videos)
    refuse_without_truth(videos)
    if arguments.scribbles is None:
        beside = videos[0].images[0].parents[3] / "Scribbles"  # of JPEGImages/480p/<video>/00000.jpg
        arguments.scribbles = str(beside) if beside.is_dir() else None
    files = files_of(arguments.scribbles, videos)
    # `None`: the robot draws the first scribbles
    starts: dict[str, list[Start | None]] = {
        video.name: [read_start(path, len(video)) for path in files[video.name]] or [None] for video in videos
    }
    first = "the robot's, on first frames" if arguments.scribbles is None else str(Path(arguments.scribbles).resolve())
    folder, interactions = Path(arguments.output), arguments.interactions
    with Lock(folder, "eval_interactive.py"):
        cut = cut_by(arguments.scribble_model, device_of(arguments.device))
        path = folder / "samples.json"
        maker, settings = segmenter_by_flags(arguments, *(() if arguments.overwrite else (path,)))
        settings |= {"scribble_model": cut_digest(arguments.scribble_model), "interactions": interactions}
        settings |= {"data": str(Path(arguments.davis_path).resolve()), "first scribbles": first} | timed_on()
        found = over_videos(
            path,
            settings,
            videos,
            partial(samples_of, maker, starts, cut=cut, interactions=interactions),
            overwrite=arguments.overwrite,
            more=lambda video: files[video.name],
            steps=lambda video: interactions * len(starts[video.name]),
            unit="interactions",
        )
        samples = [(sample, of_video["limit"]) for of_video in found.values() for sample in of_video["samples"]]
        figures = summary([sample for sample, _ in samples], [limit for _, limit in samples], interactions)
        inner = list(zip(figures["seconds"], figures["J&F"], strict=True))[1:-1]
        rows: list[Row] = [{"interaction": i, "J&F": score, "seconds": seconds} for i, (seconds, score) in enumerate(inner, 1)]
        title = f"DAVIS interactive, {len(samples)} samples, first scribbles: {first}"
        report(folder, "interactive", title, rows, draw(figures), **{name: figures[name] for name in ("auc", f"at_{AT}")})
    print(f"AUC-J&F {figures['auc']:.1f}, J&F@{AT}s {figures[f'at_{AT}']:.1f}")


if __name__ == "__main__":
    sys.exit(main())
