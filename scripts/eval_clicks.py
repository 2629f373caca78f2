"""Masks from clicks and from boxes: IoU by the number of clicks, and how many clicks an IoU needs.

python scripts/eval_clicks.py --photo_root ../static/ecssd --last 100 --output out/clicks
python scripts/eval_clicks.py --davis_path ../DAVIS/2017 --output out/clicks_davis

The robot clicks on photographs with a mask of one object, or on the objects of first frames of DAVIS, each in turn
(docs/interactive.md).
"""

import argparse
import sys
from collections.abc import Iterator
from statistics import fmean

import util  # isort: skip, since it comes before PyTorch  # noqa: F401

import numpy as np

from dataset.davis import davis_videos
from dataset.own_training import look_at_photographs
from dataset.robot import draw_clicks
from dataset.static import StaticClips, read_photograph
from dataset.video_names import add_videos_flags
from evaluation.cut import Cut, cut_by
from evaluation.flags import add_scribble_flag
from evaluation.metrics import score_masks
from evaluation.rounds import cut_in_box
from evaluation.tables import Row, report
from util.device import device_of, use_threads
from util.errors import InputError, one_line_errors
from util.flags import Parser, positive_int
from util.image import read_image
from util.label_map import object_ids
from util.progress import progress_bar

SHOWN = (1, 2, 3, 5, 10)  # numbers of clicks in the table
WANTED = (85, 90)  # IoU in percent, as the field counts clicks (NoC)


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    data = result.add_mutually_exclusive_group(required=True)
    data.add_argument("--photo_root", metavar="DIR", help="photographs with a mask of one object, as for train.py")
    data.add_argument("--davis_path", metavar="DIR", help="DAVIS val, as for eval_davis.py")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    result.add_argument("--last", type=positive_int, metavar="N", help="only the last N photographs, by name")
    result.add_argument("--clicks", type=positive_int, default=20, metavar="N", help="clicks on an object at most")
    add_scribble_flag(result)
    result.add_argument("--device", default="auto", help="cpu, cuda, cuda:N or mps")
    result.add_argument("--output", required=True, metavar="DIR", help="folder for the table")
    add_videos_flags(result)
    return result


def objects_of(arguments: argparse.Namespace) -> tuple[int, Iterator[tuple[np.ndarray, list[np.ndarray]]]]:
    """How many pictures there are, and each, (H, W, 3) uint8 RGB, with its objects' masks (H, W) bool."""
    if arguments.photo_root is not None:
        if arguments.videos is not None:
            raise InputError("--videos: goes with --davis_path")
        photographs = StaticClips(arguments.photo_root)
        look_at_photographs(photographs, refuse=False)
        pairs = list(zip(photographs.images, photographs.masks, strict=True))[-(arguments.last or 0) :]
        read = (read_photograph(image, mask) for image, mask in pairs)
        return len(pairs), ((image, [grey > 127] if (grey > 127).any() else []) for image, grey in read)
    if arguments.last is not None:
        raise InputError("--last: goes with --photo_root; --videos chooses those of DAVIS")
    videos = davis_videos(arguments.davis_path, year=arguments.year, only=arguments.videos)
    frames = ((video.images[0], video.read_mask(video.truth[video.images[0].stem])) for video in videos)
    return len(videos), ((read_image(path), [labels == i for i in object_ids(labels)]) for path, labels in frames)


def click(cut: Cut, image: np.ndarray, truth: np.ndarray, clicks: int) -> list[float]:
    """The IoU after each click of the robot on an object (H, W) bool, in percent; clicks make the mask together.

    It ends before `clicks` where further ones would change no figure.
    """
    mask, on, off, nothing = np.zeros((4, *truth.shape), bool)
    found = []
    for _ in range(clicks):
        marks = draw_clicks(truth.astype(np.uint8), mask.astype(np.uint8))
        on, off = on | (marks == 1), off | (marks == 0)
        mask = cut(image, nothing, nothing, on, off)
        found.append(100 * score_masks(truth, mask)[0])
        if len(found) >= max(SHOWN) and max(found) >= max(WANTED):
            break
    return found


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    use_threads(None)
    cut = cut_by(arguments.scribble_model, device_of(arguments.device))
    count, pictures = objects_of(arguments)
    by_click, by_box = [], []
    with progress_bar(count, "pictures") as bar:
        for image, objects in pictures:
            for truth in objects:
                by_click.append(click(cut, image, truth, arguments.clicks))
                by_box.append(100 * score_masks(truth, cut_in_box(cut, image, truth))[0])
            bar.increment()
    if not by_click:
        raise InputError("expected objects to click on, found none")
    rows: list[Row] = [{"from": "a box", "IoU": fmean(by_box)}]
    rows += [{"from": f"clicks: {n}", "IoU": fmean(ious[n - 1] for ious in by_click)} for n in SHOWN if n <= arguments.clicks]
    needed = {f"NoC@{wanted}": fmean(clicks_until(ious, wanted) for ious in by_click) for wanted in WANTED}
    report(arguments.output, "clicks", f"Masks of {len(by_click)} objects", rows, None, **needed)
    print(", ".join(f"{name} {value:.2f}" for name, value in needed.items()), f"of at most {arguments.clicks} clicks")


def clicks_until(ious: list[float], wanted: float) -> int:
    """How many clicks it took to reach an IoU; all of them if none did."""
    return next((number for number, iou in enumerate(ious, start=1) if iou >= wanted), len(ious))


if __name__ == "__main__":
    sys.exit(main())
