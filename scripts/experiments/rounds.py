"""Table 6 with whole masks: how J&F grows as the worst frame is corrected, round after round.

python -m scripts.experiments.rounds --davis_path ../DAVIS/2017 --rounds 8

The first round follows the objects from their true masks in the first frame.  Each further round adds the true mask of the
worst frame and follows again between the neighbouring given frames.  This is the loop of DAVIS's interactive track, but with
whole masks where the track has scribbles, so its scores cannot be compared with the track's.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dataset.video import Video
from dataset.video_file import FrameFolder
from evaluation.metrics import score_masks
from evaluation.propagate import Propagation
from model import STCN, VideoSegmenter
from scripts.experiments.common import (
    Row,
    experiment_parser,
    grey,
    labels_of,
    mean,
    network_of,
    over_videos,
    report,
    settings_of,
    videos_of,
)
from util.errors import InputError, names_some, one_line_errors
from util.flags import positive_int
from util.image import object_ids, size_text


def parser():
    result = experiment_parser("rounds", __doc__)
    result.add_argument("--rounds", type=positive_int, default=8, metavar="N", help="number of rounds")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos, folder = videos_of(arguments), Path(arguments.output)
    if absent := [frame for video in videos for frame in video.without_truth]:
        raise InputError(f"{names_some(absent)}: no ground truth")
    rows: list[Row] = []
    for model, label in labels_of(arguments.model).items():
        network = network_of(model, arguments)
        work = partial(rounds_of, network, size=arguments.size, rounds=arguments.rounds)
        settings = settings_of(model, arguments, "rounds")
        found = over_videos(folder / f"rounds_{label}.json", settings, videos, work, overwrite=arguments.overwrite)
        for number in range(arguments.rounds):
            # a short video is finished when all of its frames are given
            done = [of_video[min(number, len(of_video) - 1)] for of_video in found.values()]
            means = {name: mean(of_round[name] for of_round in done) for name in ("J&F", "seconds", "frames")}
            rows.append({"network": label, "round": number + 1, **means})
    areas = {label: mean(row["J&F"] for row in rows if row["network"] == label) for label in {row["network"] for row in rows}}
    report(folder, "rounds", "Table 6 with whole masks: J&F by round", rows, draw(rows), area=areas)


def rounds_of(
    network: STCN, video: Video, on_frame: Callable[[], Any], *, size: int | None, rounds: int
) -> list[dict[str, float]]:
    """For each round: J&F in percent over all frames, seconds so far, and frames that the network has seen so far.

    J&F is the mean over objects of the first frame and over all frames; given frames count, and are perfect.  There are
    fewer rounds if all frames are given before.
    """
    frames = FrameFolder(video.images[0].parent)
    truth = [video.read_mask(video.truth[name]) for name in frames.names]
    if truth[0].shape != frames.size:
        raise InputError(f"{video.name}: expected masks of {size_text(frames.size)}, found {size_text(truth[0].shape)}")
    objects = object_ids(truth[0])
    labels = [np.zeros_like(truth[0]) for _ in truth]
    scores = np.zeros(len(truth))
    given, span = [0], range(len(truth))
    results: list[dict[str, float]] = []
    seconds, seen = 0.0, 0
    while len(results) < rounds:
        start = time.perf_counter()
        masks = {t: np.where(np.isin(truth[t], objects), truth[t], 0) for t in given if t in span}
        propagation = Propagation(
            frames, masks, partial(VideoSegmenter, network, size=size), span=span, stated=dict.fromkeys(masks, objects)
        )
        estimates = {}
        for step in propagation.backwards():
            estimates[step.index] = step.estimate
        for step in propagation.forwards(estimates.__getitem__):
            if step.labels is not None:
                labels[step.index] = step.labels
        for t, mask in masks.items():
            labels[t] = mask
        seconds, seen = seconds + time.perf_counter() - start, seen + propagation.steps
        for t in span:
            scores[t] = np.mean([score_masks(truth[t] == i, labels[t] == i) for i in objects])
        results.append({"J&F": 100 * float(scores.mean()), "seconds": seconds, "frames": float(seen)})
        if len(results) == 1:
            for _ in range(len(frames.names)):
                on_frame()
        others = [t for t in range(len(truth)) if t not in given]
        if not others:
            break
        worst = min(others, key=lambda t: scores[t])
        before = max(t for t in given if t < worst)
        behind = min((t for t in given if t > worst), default=len(truth) - 1)
        given.append(worst)
        span = range(before, behind + 1)
    return results


def draw(rows: list[Row]) -> Figure:
    """J&F by round, and by seconds."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    by_round, by_seconds = figure.subplots(1, 2, sharey=True)
    for i, network in enumerate(dict.fromkeys(row["network"] for row in rows)):
        found = [row for row in rows if row["network"] == network]
        for axes, name in ((by_round, "round"), (by_seconds, "seconds")):
            axes.plot([row[name] for row in found], [row["J&F"] for row in found], marker="o", label=network, **grey(i))
    by_round.set(xlabel="masks given", ylabel="J&F, %")
    by_seconds.set(xlabel="seconds per video")
    by_round.legend()
    for axes in (by_round, by_seconds):
        axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    sys.exit(main())
