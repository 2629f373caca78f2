"""Make training videos in BL30K's layout from objects cut out of photographs; a seed always gives the same videos.

    python scripts/data/make_clips.py clips --static_root ../static --clips 1000
    python scripts/data/make_clips.py clips --static_root ../static --clips 1000 --davis_root ../DAVIS/2017

The objects move in front of other photographs.  With `--davis_root` or `--yv_root`, the same number of videos again shows
them in front of real videos, whose objects keep their labels.
"""

import argparse
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dataset.generated import Writer, add_generation_flags, generate
from dataset.mask_reader import MaskReader
from dataset.sources import static_sources, video_sources
from dataset.static import read_photograph
from dataset.vos import VideoClips
from util.errors import InputError, one_line_errors
from util.flags import Parser, positive_int
from util.image import read_image, refuse_other_size
from util.label_map import MOST_OBJECTS
from util.progress import progress_bar

VERSION = 2  # of the data; increase it with every change to the output
PHOTO_SIZE = (320, 480)  # height and width of videos made from photographs
PHOTO_LENGTH = 12


class CutOut:
    """An object cut out of a photograph, and its motion.  Lengths are in frame heights, angles in radians."""

    def __init__(self, rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
        """image: (H, W, 3) uint8 RGB; mask: (H, W) uint8, 0 and 1"""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            rows = columns = np.array([0])
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        opacity = cv2.copyMakeBorder(mask[box].astype(np.float32), 4, 4, 4, 4, cv2.BORDER_CONSTANT)
        opacity = cv2.GaussianBlur(opacity, (0, 0), 0.7)
        texture = np.dstack([cv2.copyMakeBorder(image[box], 4, 4, 4, 4, cv2.BORDER_REPLICATE), opacity]).astype(np.float32)
        self.texture = np.ascontiguousarray(texture[:, ::-1]) if rng.random() < 0.5 else texture  # (h, w, 4) RGB and opacity
        self.size = rng.uniform(0.15, 0.5)  # square root of its area
        self.centre = rng.uniform([0.25, 0.25], [PHOTO_SIZE[1] / PHOTO_SIZE[0] - 0.25, 0.75])  # in the middle of the video
        self.drift = rng.normal(0, 0.35, 2)  # over the whole video
        self.swing, self.phase = rng.uniform(0, 0.1, 2), rng.uniform(0, 2 * np.pi, 2)
        self.angle, self.turn = rng.normal(0, 0.15), rng.normal(0, 0.5)  # in the middle of the video; over all of it
        self.growth = rng.normal(0, 0.35)  # logarithm of the growth factor over the whole video
        self.wobble, self.turns = rng.uniform(0, 0.05), rng.uniform(-2, 2)  # relative amplitude; over the whole video
        self.light = rng.uniform(0.75, 1.25) * rng.uniform(0.85, 1.15, 2)  # gain at the start and at the end

    def layer(self, time: float) -> np.ndarray:
        """The object at a time from -0.5 to 0.5: RGB and opacity, (H, W, 4), on an empty frame."""
        texture, (height, width) = self.texture, PHOTO_SIZE
        middle = np.array(texture.shape[1::-1]) / 2
        scale = self.size * height / np.sqrt(max(1, texture[..., 3].sum())) * np.exp(self.growth * time)
        swing = self.swing * np.sin(2 * np.pi * time + self.phase)
        where = height * (self.centre + self.drift * time + swing)
        back = cv2.invertAffineTransform(_placement(where, middle, scale, self.angle + self.turn * time))
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        u, v = (a * x + b * y + c for a, b, c in back.astype(np.float32))
        phase = np.float32(2 * np.pi * self.turns * time)
        u = u + np.float32(self.wobble * middle[0]) * np.sin(np.float32(np.pi / middle[1]) * v + phase)
        v = v + np.float32(self.wobble * middle[1]) * np.sin(np.float32(np.pi / middle[0]) * u - phase)
        if scale < 0.7:  # average first, since remap reads only four pixels
            smaller = [max(1, round(scale * side)) for side in texture.shape[1::-1]]
            u, v = u * np.float32(smaller[0] / texture.shape[1]), v * np.float32(smaller[1] / texture.shape[0])
            texture = cv2.resize(texture, smaller, interpolation=cv2.INTER_AREA)
        layer = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        start, end = self.light
        layer[..., :3] *= np.float32(start + (end - start) * (time + 0.5))
        return layer


class Collage(ABC):
    """A video of cut-outs, later ones on top of earlier ones, in front of a moving background."""

    def __init__(self, cut_outs: Sequence[CutOut], *, behind: int, length: int, shutter: float = 0) -> None:
        """behind: the largest label in the background; shutter: exposure as a fraction of the time between two frames."""
        self.cut_outs, self.behind, self.length, self.shutter = cut_outs, behind, length, shutter

    def render(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame t: picture (H, W, 3) uint8 RGB and label map (H, W) uint8."""
        image, labels = self._background(t)
        image = image.astype(np.float32)
        for number, cut_out in enumerate(self.cut_outs, start=1 + self.behind):
            layer = self._layer(cut_out, t)
            opacity = layer[..., 3:]
            image += opacity * (layer[..., :3] - image)
            labels[opacity[..., 0] > 0.5] = number
        return np.clip(image + 0.5, 0, 255).astype(np.uint8), labels

    def _time(self, t: float) -> float:
        """The time of a frame, from -0.5 at the first frame to 0.5 at the last."""
        return t / (self.length - 1) - 0.5

    def _layer(self, cut_out: CutOut, t: int) -> np.ndarray:
        if not self.shutter:
            return cut_out.layer(self._time(t))
        layers = [cut_out.layer(self._time(t + self.shutter * part)) for part in (-0.5, -0.25, 0, 0.25, 0.5)]
        opacity = sum(layer[..., 3:] for layer in layers)
        colour = sum(layer[..., :3] * layer[..., 3:] for layer in layers) / np.maximum(opacity, 1e-6)
        return np.dstack([colour, opacity / len(layers)])

    @abstractmethod
    def _background(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """The background of frame t: picture (H, W, 3) uint8 RGB and label map (H, W) uint8; both may be modified."""


class PhotoScene(Collage):
    """Cut-outs in front of another photograph; its own object moves with the camera and is labelled half of the time."""

    def __init__(self, rng: np.random.Generator, photographs: Sequence[tuple[Path, Path]], *, length: int) -> None:
        chosen = rng.choice(len(photographs), 1 + int(rng.integers(1, 4)), replace=False)
        self.picture, mask = _photograph(*photographs[chosen[0]])
        self.mask = mask * np.uint8(rng.random() < 0.5)
        self.camera = rng.uniform([-0.2, -0.1, -0.12, -0.2], [0.2, 0.1, 0.12, 0.2])  # x, y, angle, log zoom over the video
        super().__init__([CutOut(rng, *_photograph(*photographs[i])) for i in chosen[1:]], behind=1, length=length)

    def _background(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        time = self._time(t)
        height, width = PHOTO_SIZE
        sides = np.array(self.picture.shape[1::-1])
        # the camera shows little beyond the photograph's edge
        scale = 1.25 * max(width / sides[0], height / sides[1]) * np.exp(self.camera[3] * time)
        where = np.array([width, height]) / 2 + height * self.camera[:2] * time
        matrix = _placement(where, sides / 2, scale, self.camera[2] * time)
        edge = {"dsize": (width, height), "borderMode": cv2.BORDER_REFLECT_101}
        image = cv2.warpAffine(self.picture, matrix, flags=cv2.INTER_AREA, **edge)
        return image, cv2.warpAffine(self.mask, matrix, flags=cv2.INTER_NEAREST, **edge)


class VideoScene(Collage):
    """Up to two cut-outs in front of a part of a real video, whose objects keep their labels; with what `PhotoScene` lacks:
    motion blur (also of the cut-outs), two objects that look the same, and large changes of size.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        photographs: Sequence[tuple[Path, Path]],
        video: Sequence[tuple[Path, Path]],
        *,
        length: int,
    ) -> None:
        step = int(rng.integers(1, 1 + max(1, min(3, (len(video) - 1) // (length - 1)))))
        start = int(rng.integers(max(1, len(video) - step * (length - 1))))
        frames = [video[min(start + step * t, len(video) - 1)] for t in range(length)]
        self.video = frames[:: -1 if rng.random() < 0.5 else 1]
        self.reader = MaskReader.of((mask for _, mask in video), note=None)
        behind = max(int(self.reader.read(mask).max()) for _, mask in frames)
        chosen = rng.choice(len(photographs), int(rng.integers(0, 3)), replace=False)
        if len(chosen) == 2 and rng.random() < 0.4:
            chosen[1] = chosen[0]
        cut_outs = [CutOut(rng, *_photograph(*photographs[i])) for i in chosen]
        for cut_out in cut_outs:
            cut_out.size, cut_out.growth = cut_out.size * rng.uniform(0.5, 1), 1.7 * cut_out.growth
        shutter = rng.uniform(0, 0.8) if rng.random() < 0.5 else 0
        super().__init__(cut_outs[: MOST_OBJECTS - behind], behind=behind, length=length, shutter=shutter)

    def _background(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        picture, mask = self.video[t]
        image, labels, size = read_image(picture), self.reader.read(mask), PHOTO_SIZE[::-1]
        refuse_other_size(mask, labels.shape, image.shape, other="its picture")
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if image.shape[0] > size[1] else cv2.INTER_CUBIC)
        return image, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)


def _photograph(picture: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """The picture (H, W, 3) uint8 RGB and its mask (H, W) uint8, 0 and 1."""
    image, grey = read_photograph(picture, mask)
    return image, (grey > 127).astype(np.uint8)


def _placement(where: np.ndarray, middle: np.ndarray, scale: float, angle: float) -> np.ndarray:
    """The affine matrix (2, 3) that rotates and scales a picture about `middle` and moves that point to `where`."""
    turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turned, where - turned @ middle])


Videos = dict[str, tuple[VideoClips, int]]


def write_clips(root: Path, *, seed: int, photographs: Sequence[tuple[Path, Path]], clips: int, videos: Videos) -> Writer:
    """Write `clips` clips from photographs (with their masks) and, if there are `videos`, as many in front of these."""
    writer = Writer(root, seed)
    real = [source.annotated(i) for source, _ in videos.values() for i in range(len(source))]
    names = [f"photo{i:05d}" for i in range(clips)] + [f"video{i:05d}" for i in range(clips if real else 0)]
    with progress_bar(len(names), "clips") as bar:
        for name in names:
            rng = writer.rng(name)
            if name.startswith("photo"):
                scene = PhotoScene(rng, photographs, length=PHOTO_LENGTH)
            else:
                scene = VideoScene(rng, photographs, real[int(rng.integers(len(real)))], length=PHOTO_LENGTH)
            writer.frames(scene.render, f"BL30K/JPEGImages/{name}", f"BL30K/Annotations/{name}", range(PHOTO_LENGTH))
            bar.increment()
    return writer


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    add_generation_flags(result, "clips")
    result.add_argument(
        "--static_root",
        required=True,
        metavar="DIR",
        help="folder with ecssd, DUTS-TR, ... (required)",
    )
    result.add_argument("--clips", type=positive_int, default=1000, help="number of videos")
    videos = "make as many again in front of the training videos of %s in this folder"
    result.add_argument("--davis_root", default="none", metavar="DIR", help=videos % "DAVIS 2017")
    result.add_argument("--yv_root", default="none", metavar="DIR", help=videos % "YouTube-VOS")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    yv_root, davis_root = (None if root == "none" else root for root in (arguments.yv_root, arguments.davis_root))
    sources: dict = static_sources(arguments.static_root)
    photographs = [pair for source, _ in sources.values() for pair in zip(source.images, source.masks, strict=True)]
    if len(photographs) < 4:
        raise InputError(f"{arguments.static_root}: expected at least 4 photographs, found {len(photographs)}")
    videos: dict = video_sources(yv_root, davis_root) if yv_root or davis_root else {}
    roots = [str(Path(root).resolve()) for root in (arguments.static_root, yv_root, davis_root) if root]
    record = {"demo data": VERSION, "seed": arguments.seed, "from": roots, "clips": arguments.clips}
    write = partial(write_clips, seed=arguments.seed, photographs=photographs, clips=arguments.clips, videos=videos)
    generate(Path(arguments.folder), record, write, overwrite=arguments.overwrite)


if __name__ == "__main__":
    sys.exit(main())
