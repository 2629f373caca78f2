"""Figure 6: where points of one frame lie in later frames, by the key affinity alone.

python -m scripts.experiments.correspondences --davis_path ../DAVIS/2017 --videos blackswan --points 300,200 420,240

The source frame is the only memory, and no mask is read by the network.  A point is its cell of 16x16 pixels.  In a
later frame it lies at every peak of the weights that the frame's positions give it; where they are flat it has none.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dataset.video import Video
from model import STCN
from model.similarity import affinity, similarity
from scripts.experiments.common import experiment_parser, labels_of, network_of, videos_of
from util.errors import InputError, one_line_errors
from util.flags import non_negative_int, positive_int
from util.image import read_image
from util.picture import sheet, write_picture
from util.tensors import STRIDE, normalise, padding_to_stride, resize_image, shorter_side_size

DRAWN = 8  # points of a grid, at most
FLAT = 0.1  # weights below this are no peak, so that the point is lost


def parser() -> argparse.ArgumentParser:
    result = experiment_parser("correspondences", __doc__)
    result.add_argument("--source", type=non_negative_int, default=0, metavar="FRAME", help="number of the source frame")
    result.add_argument(
        "--points",
        nargs="+",
        type=point,
        metavar="X,Y",
        help="pixels of the source frame to draw (default: a grid on its objects)",
    )
    result.add_argument("--frames", type=positive_int, default=4, metavar="N", help="number of later frames that are drawn")
    return result


def point(text: str) -> tuple[int, int]:
    """For argparse: X,Y."""
    try:
        x, y = map(int, text.split(","))
    except ValueError:
        x = y = -1
    if min(x, y) < 0:
        raise argparse.ArgumentTypeError(f"expected X,Y in pixels from the upper left corner, found {text!r}")
    return x, y


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos, folder = videos_of(arguments), Path(arguments.output)
    for video in videos:
        if len(video) < arguments.source + 2:
            raise InputError(f"--source {arguments.source}: {video.name} has {len(video)} frames")
    for model, label in labels_of(arguments.model).items():
        network = network_of(model, arguments)
        if network.config.arch == "stm":
            raise InputError(f"{model}: STM's memory keys depend on masks; correspondences between frames need STCN")
        for video in videos:
            path = folder / f"correspondences_{label}_{video.name}.png"
            write_picture(path, draw(network, video, arguments))
            print(path)


def keys_of(network: STCN, frame: np.ndarray, size: int | None) -> Tensor:
    """The frame's key (Ck, h, w)."""
    working = shorter_side_size(frame.shape[0], frame.shape[1], size)
    image = normalise(torch.from_numpy(frame).to(next(network.parameters()).device))
    return network.encode_key(F.pad(resize_image(image, working), padding_to_stride(*working))[None]).key[0]


def weights_of(network: STCN, source: Tensor, query: Tensor) -> Tensor:
    """What each query position reads from each position of the source (equation 1): keys (Ck, h, w) -> (M, h, w)."""
    memory, queries = source.flatten(1).T, query.flatten(1).T
    weights = affinity(similarity(memory[None], queries[None], network.config.similarity))[0]  # (Q, M)
    return weights.T.unflatten(1, query.shape[1:])


def centres(frame: np.ndarray, size: int | None, grid: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (x of each column, y of each row) in the middle of the cells of a key, in a frame of its own size.

    Cells that lie in the padding, beyond the frame, are put on its edge.
    """
    height, width = frame.shape[:2]
    working = shorter_side_size(height, width, size)
    left, _, top, _ = padding_to_stride(*working)
    x = ((np.arange(grid[1]) + 0.5) * STRIDE - left) * width / working[1]
    y = ((np.arange(grid[0]) + 0.5) * STRIDE - top) * height / working[0]
    return x.astype(int).clip(0, width - 1), y.astype(int).clip(0, height - 1)


def peaks_of(weights: Tensor, flat: float) -> list[tuple[int, int]]:
    """Cells (row, column) of a map (h, w) that are no less than their neighbours, half of the largest, and `flat`."""
    around = F.max_pool2d(weights[None, None], 3, stride=1, padding=1)[0, 0]
    found = (weights >= around) & (weights >= weights.max() / 2) & (weights >= flat)
    return [(row, column) for row, column in found.nonzero().tolist()]


@torch.inference_mode()
def draw(network: STCN, video: Video, arguments: argparse.Namespace) -> np.ndarray:
    """The source frame with its points, and later frames with their peaks: (H, W, 3)."""
    later = np.linspace(arguments.source + 1, len(video) - 1, min(arguments.frames, len(video) - 1 - arguments.source))
    chosen = [arguments.source, *dict.fromkeys(later.round().astype(int).tolist())]
    frames = [read_image(video.images[i]) for i in chosen]
    source = keys_of(network, frames[0], arguments.size)
    x, y = centres(frames[0], arguments.size, source.shape[1:])
    if arguments.points:
        places = arguments.points
        for px, py in places:
            if px >= frames[0].shape[1] or py >= frames[0].shape[0]:
                raise InputError(f"--points {px},{py}: {video.name} is {frames[0].shape[1]}x{frames[0].shape[0]} pixels")
    else:
        places = grid_points(video, arguments.source, x, y)
    cells = [(int(np.abs(y - py).argmin()), int(np.abs(x - px).argmin())) for px, py in places]
    pictures = [marked(frames[0], [[(int(x[column]), int(y[row]))] for row, column in cells])]
    for frame in frames[1:]:
        query = keys_of(network, frame, arguments.size)
        weights = weights_of(network, source, query).cpu()
        maps = [weights[row * source.shape[2] + column] for row, column in cells]
        x, y = centres(frame, arguments.size, query.shape[1:])  # frames may differ in size
        found = [[(int(x[j]), int(y[i])) for i, j in peaks_of(weight, FLAT)] for weight in maps]
        pictures.append(marked(frame, found))
    return sheet([pictures], captions=[[video.images[i].stem for i in chosen]], height=240)


def grid_points(video: Video, source: int, x: np.ndarray, y: np.ndarray) -> list[tuple[int, int]]:
    """Up to `DRAWN` cells of the objects in the source frame, evenly spaced; of the whole frame where no mask is there."""
    stem = video.images[source].stem
    mask = video.truth.get(stem) or video.masks.get(stem)
    cells = np.ones((len(y), len(x)), dtype=bool) if mask is None else video.read_mask(mask)[np.ix_(y, x)] != 0
    rows, columns = cells.nonzero()
    spaced = np.linspace(0, len(rows) - 1, min(DRAWN, len(rows))).round().astype(int)
    return [(int(x[columns[i]]), int(y[rows[i]])) for i in spaced]


def marked(frame: np.ndarray, points: Sequence[Sequence[tuple[int, int]]]) -> np.ndarray:
    """A frame with its number at each place of each point."""
    result = frame.copy()
    radius = max(5, frame.shape[0] // 30)
    for number, places in enumerate(points, start=1):
        for place in places:
            cv2.circle(result, place, radius, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(result, place, radius, (0, 0, 0), max(1, radius // 6), cv2.LINE_AA)
            text, scale = str(number), radius / 14
            (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
            corner = (place[0] - width // 2, place[1] + height // 2)
            cv2.putText(result, text, corner, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), max(1, radius // 8), cv2.LINE_AA)
    return result


if __name__ == "__main__":
    sys.exit(main())
