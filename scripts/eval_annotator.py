"""A robot at the page: how good its first masks are, how well they are followed, and what one correction brings.

python scripts/eval_annotator.py --davis_path ../DAVIS/2016 --year 2016 --output out/annotator

For each video: a box around each object of the first frame, then up to three scribbles on what is wrong, Follow, one
correction of the worst frame by scribbles, and Follow again.  All of it goes through a session of the page.  The robot knows
the truth, and draws as in docs/interactive.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import util  # isort: skip, since it comes before PyTorch  # noqa: F401

import cv2
import numpy as np
from scipy.stats import rankdata

from annotation.session import Session
from annotation.worker import Worker
from dataset.davis import davis_videos
from dataset.frame_folder import FrameFolder
from dataset.robot import UNMARKED
from dataset.video import Video
from evaluation.cut import Cut, cut_by, cut_digest
from evaluation.flags import add_check_memory_flag, add_robot_flags
from evaluation.metrics import score_masks
from evaluation.rounds import Robot, cut_in_box, true_masks
from evaluation.run import segmenter_by_flags
from evaluation.scores import refuse_without_truth
from evaluation.tables import Row, over_videos, report
from model import VideoSegmenter
from util.device import device_of
from util.errors import one_line_errors
from util.flags import Parser, positive_int
from util.label_map import object_ids
from util.lock import Lock

LOOKS = 3  # at the first frame, after its boxes
WORSE = 1.0  # points of J that a frame must lose to count as made worse
STEPS = 4  # of the progress bar, for a video


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    result.add_argument("--frames", type=positive_int, default=30, metavar="N", help="only the first N frames of a video")
    add_robot_flags(result, size=240, max_memory_frames=20)
    add_check_memory_flag(result)
    return result


def annotate(
    make_segmenter: Callable[[], VideoSegmenter],
    cut: Cut,
    video: Video,
    on_step: Callable[[], Any],
    *,
    frames: int,
    check_memory: bool = True,
) -> dict[str, Any]:
    """What the robot reaches in a video: IoU of its first masks, of each object, from boxes and after scribbles, and how many
    boxes and scribbles that took; J before and after the correction, mean over objects and frames; which frames that made
    worse, which are less sure since, and J if these keep their old masks; how sure each frame was before the correction, with
    its J.  All but counts and frames in percent.
    """
    folder = FrameFolder(video.images[0].parent, list(video.images[:frames]))
    truth = true_masks(video, folder)
    objects = object_ids(truth[0])
    image = folder.frame(0)
    boxed = np.zeros_like(truth[0])
    for i in objects:
        boxed = box(cut, image, truth[0] == i, boxed, i)
    looked = Robot(cut, LOOKS).look_at(image, truth[0], boxed)
    on_step()
    with tempfile.TemporaryDirectory() as root:
        session = Session(root, folder, folder.paths[0].parent)
        worker = Worker(session, make_segmenter, check_memory=check_memory)
        session.bring(objects, {0: (looked[-1].labels, objects)})
        before = follow(worker, truth, objects)
        sure = [[100 * s, float(j)] for s, j in zip(session.sureness, before, strict=True) if s is not None]
        on_step()
        worst = int(before.argmin())
        found = session.labels(worst)
        session.draw(worst, Robot(cut, 1).give(folder.frame(worst), truth[worst], found)[0])
        on_step()
        after = follow(worker, truth, objects)
        less_sure = [t for t in range(len(truth)) if session.was_sure(t) is not None]
        session.close()
    on_step()
    return {
        "box": jaccard(truth[0], boxed, objects),
        "scribbled": jaccard(truth[0], looked[-1].labels, objects),
        "actions": len(objects) + count_strokes([look.scribbles for look in looked]),
        "followed": float(before.mean()),
        "worst frame": worst,
        "corrected": float(after.mean()),
        "made worse": np.flatnonzero(after < before - WORSE).tolist(),
        "less sure": less_sure,
        "sure": sure,
        "kept": float(np.where(np.isin(np.arange(len(truth)), less_sure), before, after).mean()),
    }


def box(cut: Cut, image: np.ndarray, truth: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
    """The mask (H, W) uint8 after a box around an object (H, W) bool; an object that lies in another keeps its pixels."""
    found = cut_in_box(cut, image, truth)
    free = [i for i in object_ids(labels) if 2 * (found & (labels == i)).sum() <= (labels == i).sum()]
    return np.where(found & np.isin(labels, [0, *free]), np.uint8(number), labels)


def follow(worker: Worker, truth: list[np.ndarray], objects: list[int]) -> np.ndarray:
    """Press Follow, and wait; J of each frame (T,), mean over the objects, in percent."""
    for _ in worker.follow():
        pass
    found = [worker.session.labels(t) for t in range(len(truth))]
    return np.array([np.mean(jaccard(*pair, objects)) for pair in zip(truth, found, strict=True)])


def jaccard(truth: np.ndarray, labels: np.ndarray, objects: list[int]) -> list[float]:
    """J of each object in two label maps (H, W), in percent."""
    return [100 * score_masks(truth == i, labels == i)[0] for i in objects]


def count_strokes(looks: list[np.ndarray]) -> int:
    """How many strokes made these scribbles (H, W) uint8, each of which adds to the one before."""
    count, before = 0, np.full_like(looks[0], UNMARKED)
    for scribbles in looks:
        for label in np.unique(scribbles[scribbles != before]):
            new = (scribbles == label) & (before != label)
            count += cv2.connectedComponents(new.astype(np.uint8))[0] - 1
        before = scribbles
    return count


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos = davis_videos(arguments.davis_path, year=arguments.year, only=arguments.videos)
    refuse_without_truth(videos)
    folder = Path(arguments.output)
    with Lock(folder, "eval_annotator.py"):
        cut = cut_by(arguments.scribble_model, device_of(arguments.device))
        path = folder / "videos.json"
        maker, settings = segmenter_by_flags(arguments, *(() if arguments.overwrite else (path,)))
        settings |= {"version": 2, "frames": arguments.frames, "scribble_model": cut_digest(arguments.scribble_model)}
        settings |= {"data": str(Path(arguments.davis_path).resolve()), "year": arguments.year}
        found = over_videos(
            path,
            settings,
            videos,
            partial(annotate, maker, cut, frames=arguments.frames, check_memory=arguments.check_memory == "on"),
            overwrite=arguments.overwrite,
            steps=lambda _: STEPS,
            unit="steps",
        )
        rank = rank_correlation([pair for of_video in found.values() for pair in of_video["sure"]])
        rows = [row(name, of_video) for name, of_video in found.items()]
        report(folder, "annotator", "A robot at the page", rows, None, **{"rank correlation": rank})
        print(f"rank correlation of how sure a frame is with its J, over all frames: {rank}")


def row(name: str, found: dict[str, Any]) -> Row:
    """A row of the table; several objects and frames in one cell."""
    listed = {key: " ".join(f"{value:.0f}" for value in found[key]) for key in ("box", "scribbled", "made worse", "less sure")}
    return {"video": name, **found, **listed, "sure": rank_correlation(found["sure"])}


def rank_correlation(pairs: list[list[float]]) -> float | None:
    """Spearman's, of [how sure, J]; `None` if there are fewer than three, or one of the two is always the same."""
    if len(pairs) < 3 or any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return None
    return round(float(np.corrcoef(rankdata(pairs, axis=0).T)[0, 1]), 2)


if __name__ == "__main__":
    sys.exit(main())
