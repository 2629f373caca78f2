"""Rounds of corrections: how J&F grows as the worst frame is given a mask, followed, and looked at again.

python scripts/eval_rounds.py --davis_path ../DAVIS/2017 --output out/rounds
python scripts/eval_rounds.py --davis_path ../DAVIS/2017 --output out/rounds --source masks grabcut network

Masks are the true ones, or are made of a robot's scribbles, by GrabCut or by the scribble network (docs/interactive.md).
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from statistics import fmean

import util  # isort: skip, since it comes before PyTorch  # noqa: F401

import numpy as np
from matplotlib.figure import Figure

from dataset.davis import davis_videos
from dataset.robot import UNMARKED
from dataset.video import Video
from dataset.youtube import youtube_videos
from evaluation.cut import Cut, cut_by, cut_digest
from evaluation.flags import add_robot_flags
from evaluation.metrics import score_masks
from evaluation.rounds import Give, Robot, give_truth, rounds_of
from evaluation.run import segmenter_by_flags
from evaluation.scores import refuse_without_truth
from evaluation.tables import Row, grey, over_videos, report
from util.device import device_of, timed_on
from util.errors import one_line_errors
from util.flags import Parser, positive_int
from util.image import read_image
from util.label_map import object_ids
from util.lock import Lock
from util.picture import overlay, sheet, write_picture
from util.progress import progress_bar

SOURCES = ("masks", "grabcut", "network")
PICTURES = 6  # videos in the picture of first frames


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    result.add_argument(
        "--source",
        nargs="+",
        choices=SOURCES,
        default=["masks"],
        help="where given masks come from: the truth, or a robot's scribbles by GrabCut or by the scribble network",
    )
    result.add_argument("--rounds", type=positive_int, default=8, metavar="N", help="number of rounds")
    result.add_argument(
        "--looks", type=positive_int, default=3, metavar="N", help="times that the robot scribbles on a frame, at most"
    )
    add_robot_flags(result, own=True)
    return result


def videos_of(arguments: argparse.Namespace) -> list[Video]:
    """Raises `InputError` unless every frame of every video has a true mask."""
    if arguments.path is None:
        videos = davis_videos(arguments.davis_path, year=arguments.year, only=arguments.videos)
    else:
        videos = youtube_videos(arguments.path, truth=Path(arguments.path) / "Annotations", only=arguments.videos)
    refuse_without_truth(videos)
    return videos


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos, folder = videos_of(arguments), Path(arguments.output)
    with Lock(folder, "eval_rounds.py"):
        cuts: dict[str, Cut] = {}
        for source, model in (("grabcut", "none"), ("network", arguments.scribble_model)):
            if source in arguments.source:
                cuts[source] = cut_by(model, device_of(arguments.device))
        rows = rounds_by_source(arguments, videos, cuts, folder)
        sources = dict.fromkeys(row["source"] for row in rows)
        areas = {source: fmean(row["J&F"] for row in rows if row["source"] == source) for source in sources}
        if cuts:
            looked, picture = look_at_first_frames(videos, cuts, arguments.looks)
            write_picture(folder / "scribbles.png", picture)
            report(folder, "scribbles", "Masks of first frames from scribbles, by look", looked)
        report(folder, "rounds", "Rounds of corrections: J&F by round", rows, draw(rows), area=areas)


def rounds_by_source(arguments: argparse.Namespace, videos: list[Video], cuts: dict[str, Cut], folder: Path) -> list[Row]:
    """A row for each source of masks and round, of means over the videos."""
    records = () if arguments.overwrite else [folder / f"{source}.json" for source in SOURCES]
    maker, settings = segmenter_by_flags(arguments, *records)
    data = str(Path(arguments.path or arguments.davis_path).resolve())
    settings |= {"rounds": arguments.rounds, "data": data, "year": arguments.year} | timed_on()
    rows: list[Row] = []
    for source in dict.fromkeys(arguments.source):
        give: Give = give_truth
        own = dict(settings)
        if source in cuts:
            give, own["looks"] = Robot(cuts[source], arguments.looks).give, arguments.looks
        if source == "network":
            own["scribble_model"] = cut_digest(arguments.scribble_model)
        found = over_videos(
            folder / f"{source}.json",
            own,
            videos,
            partial(rounds_of, maker, give=give, rounds=arguments.rounds),
            overwrite=arguments.overwrite,
            steps=lambda video: min(arguments.rounds, len(video)),
            unit="rounds",
        )
        for number in range(arguments.rounds):
            # a short video is finished when all of its frames are given
            done = [of_video[min(number, len(of_video) - 1)] for of_video in found.values()]
            means = {name: fmean(of_round[name] for of_round in done) for name in ("J&F", "mask", "seconds", "frames")}
            rows.append({"source": source, "round": number + 1, **means})
    return rows


def draw(rows: list[Row]) -> Figure:
    """J&F by round, and by seconds."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    by_round, by_seconds = figure.subplots(1, 2, sharey=True)
    for i, source in enumerate(dict.fromkeys(row["source"] for row in rows)):
        found = [row for row in rows if row["source"] == source]
        for axes, name in ((by_round, "round"), (by_seconds, "seconds")):
            axes.plot([row[name] for row in found], [row["J&F"] for row in found], marker="os^"[i], label=source, **grey(i))
    by_round.set(xlabel="frames given", ylabel="J&F, %")
    by_round.xaxis.get_major_locator().set_params(integer=True)
    by_seconds.set(xlabel="seconds of computing for a video")
    by_round.legend()
    for axes in (by_round, by_seconds):
        axes.grid(alpha=0.3)
    return figure


def look_at_first_frames(videos: list[Video], cuts: dict[str, Cut], looks: int) -> tuple[list[Row], np.ndarray]:
    """The J&F of masks of first frames after each look, mean over videos; and a picture, after the first and the last look."""
    scores: dict[tuple[str, int], list[float]] = {}
    pictures, captions = [], []
    with progress_bar(len(videos) * len(cuts), "first frames") as bar:
        for video in videos:
            image, truth = read_image(video.images[0]), video.read_mask(video.truth[video.images[0].stem])
            for source, cut in cuts.items():
                looked = Robot(cut, looks).look_at(image, truth, None)
                for number in range(looks):  # fewer are needed where a mask is right before
                    labels = looked[min(number, len(looked) - 1)].labels
                    found = [fmean(score_masks(truth == i, labels == i)) for i in object_ids(truth)]
                    scores.setdefault((source, number + 1), []).append(100 * fmean(found))
                ends = looked[0], looked[-1]
                pictures.append([with_scribbles(overlay(image, look.labels), look.scribbles) for look in ends])
                captions.append([f"{source}, look {number}" for number in (1, len(looked))])
                bar.increment()
    shown = PICTURES * len(cuts)
    rows = [{"source": source, "look": number, "J&F": fmean(found)} for (source, number), found in scores.items()]
    return rows, sheet(pictures[:shown], captions=captions[:shown], height=240)


def with_scribbles(picture: np.ndarray, scribbles: np.ndarray) -> np.ndarray:
    """Scribbles on objects are white, those on the background black."""
    picture = picture.copy()
    picture[(scribbles != UNMARKED) & (scribbles != 0)] = 255
    picture[scribbles == 0] = 0
    return picture


if __name__ == "__main__":
    sys.exit(main())
