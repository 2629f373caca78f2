"""Write small made-up videos and photographs in every layout that the project reads; no download, the same for a seed.

    python scripts/make_demo_data.py demo/data
    python scripts/make_demo_data.py clips --from_static ../static --clips 1000
    python scripts/make_demo_data.py clips --from_static ../static --clips 1000 --davis_root ../DAVIS/2017

Textured objects move, turn, deform, cross and hide one another before a moving textured background.  With `--from_static`
it writes training videos in BL30K's layout instead, in which objects cut out of photographs move before other photographs;
with `--davis_root` or `--yv_root` also as many in which they move before real videos, whose objects keep their labels.
"""

import argparse
import json
import os
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from dataset.stages import static_sources, video_sources
from dataset.vos import VideoClips
from util.errors import InputError, one_line_errors
from util.files import make_folder, read_text, refuse_foreign, remove_folder
from util.flags import first_line, non_negative_int, positive_int
from util.image import colour_map, read_image, read_label_map, write_label_map
from util.progress import progress_bar

HEIGHT, WIDTH = 128, 224
VERSION = 2  # of the data: raised with each change of what is written
LISTING = "files.txt"
CATEGORIES = ("amoeba", "clover", "gear", "pebble", "starfish", "urchin")  # by the number of bumps, from 2 to 7
UNSEEN = ("gear", "urchin")  # categories that YouTube's training videos lack
FPS_STRIDE = 5  # YouTube-VOS annotates every fifth frame
PHOTO_SIZE = (320, 480)  # height and width of videos made from photographs
PHOTO_LENGTH = 12


class Sprite(NamedTuple):
    """One object: what it looks like and how it moves.  Lengths are in pixels, angles in radians, times in frames."""

    category: str
    texture: np.ndarray  # (S, S, 3) float32
    radius: float
    bumps: int
    bump_height: float  # as a share of the radius
    centre: np.ndarray  # (2,) x, y of the path's middle
    swing: np.ndarray  # (2,) x, y
    frequency: np.ndarray  # (2,)
    phase: np.ndarray  # (2,)
    spin: float
    pulse: float  # how fast the outline deforms
    enters: int  # the frame before which it is not there


class Scene:
    """A video: sprites, the later over the earlier, before a background that pans."""

    def __init__(self, rng: np.random.Generator, *, categories: list[str], enters: list[int], length: int) -> None:
        self.background = _texture(rng, 2 * WIDTH, contrast=0.5)
        self.pan = rng.uniform(-1, 1, 2) * np.array([WIDTH, HEIGHT]) * 0.4 / length
        self.pan_start = np.array([WIDTH, WIDTH]) / 2 + rng.uniform(-20, 20, 2)
        self.sprites = [_sprite(rng, category, enter, length) for category, enter in zip(categories, enters, strict=True)]

    def render(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame t: picture (H, W, 3) uint8 RGB and label map (H, W) uint8, sprites numbered from 1."""
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        offset = self.pan_start + t * self.pan
        image = _sample(self.background, x + offset[0], y + offset[1])
        labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        for number, sprite in enumerate(self.sprites, start=1):
            if t >= sprite.enters:
                _draw(sprite, t, image, labels, number)
        return np.clip(image, 0, 255).astype(np.uint8), labels


class CutOut(NamedTuple):
    """An object of a photograph and its path.  Sizes are shares of the frame's height, angles in radians."""

    texture: np.ndarray  # (h, w, 4) float32: RGB and opacity
    size: float  # root of its area
    centre: np.ndarray  # (2,) x, y at the middle of the video, in frame heights
    drift: np.ndarray  # (2,) over the whole video
    swing: np.ndarray  # (2, 2) amplitude and phase of x, y
    turn: tuple[float, float]  # angle at the middle, and over the whole video
    growth: float  # logarithm of how much larger it becomes
    wave: tuple[float, float]  # amplitude and turns over the whole video of a wobble
    light: tuple[float, float]  # gain at the beginning and the end


class Collage(ABC):
    """A video of objects cut out of photographs, the later over the earlier, before something else that moves."""

    def __init__(self, cut_outs: Sequence[CutOut], *, behind: int, length: int, shutter: float = 0) -> None:
        """behind: the last label of what is behind the cut-outs; shutter: open for so much of the time between two frames."""
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
        """From -0.5 at the first frame to 0.5 at the last."""
        return t / (self.length - 1) - 0.5

    def _layer(self, cut_out: CutOut, t: int) -> np.ndarray:
        if not self.shutter:
            return _layer(cut_out, self._time(t))
        layers = [_layer(cut_out, self._time(t + self.shutter * part)) for part in (-0.5, -0.25, 0, 0.25, 0.5)]
        opacity = sum(layer[..., 3:] for layer in layers)
        colour = sum(layer[..., :3] * layer[..., 3:] for layer in layers) / np.maximum(opacity, 1e-6)
        return np.dstack([colour, opacity / len(layers)])

    @abstractmethod
    def _background(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """What the cut-outs move before: picture (H, W, 3) uint8 RGB and label map (H, W) uint8, which may be drawn on."""


class PhotoScene(Collage):
    """Cut-outs before another photograph, whose own object, which moves with the camera, has a number half of the time."""

    def __init__(self, rng: np.random.Generator, photographs: Sequence[tuple[Path, Path]], *, length: int) -> None:
        chosen = rng.choice(len(photographs), 1 + int(rng.integers(1, 4)), replace=False)
        self.picture, mask = _photograph(*photographs[chosen[0]])
        self.mask = mask * np.uint8(rng.random() < 0.5)
        self.camera = rng.uniform([-0.2, -0.1, -0.12, -0.2], [0.2, 0.1, 0.12, 0.2])  # x, y, angle, log zoom over the video
        super().__init__([_cut_out(rng, *_photograph(*photographs[i])) for i in chosen[1:]], behind=1, length=length)

    def _background(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        time = self._time(t)
        height, width = PHOTO_SIZE
        sides = np.array(self.picture.shape[1::-1])
        # so that no camera sees beyond the photograph's edge by much
        scale = 1.25 * max(width / sides[0], height / sides[1]) * np.exp(self.camera[3] * time)
        where = np.array([width, height]) / 2 + height * self.camera[:2] * time
        matrix = _placement(where, sides / 2, scale, self.camera[2] * time)
        edge = {"dsize": (width, height), "borderMode": cv2.BORDER_REFLECT_101}
        image = cv2.warpAffine(self.picture, matrix, flags=cv2.INTER_AREA, **edge)
        return image, cv2.warpAffine(self.mask, matrix, flags=cv2.INTER_NEAREST, **edge)


class VideoScene(Collage):
    """Up to two cut-outs before a part of a real video, whose objects keep their labels.

    Here is what photographs do not have: blur by motion, of the cut-outs too, two objects that look the same, and large
    changes of size.
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
        behind = max(int(_objects(mask).max()) for _, mask in frames)
        chosen = rng.choice(len(photographs), int(rng.integers(0, 3)), replace=False)
        if len(chosen) == 2 and rng.random() < 0.4:
            chosen[1] = chosen[0]
        cut_outs = [_cut_out(rng, *_photograph(*photographs[i])) for i in chosen]
        cut_outs = [c._replace(size=c.size * rng.uniform(0.5, 1), growth=1.7 * c.growth) for c in cut_outs]
        shutter = rng.uniform(0, 0.8) if rng.random() < 0.5 else 0
        super().__init__(cut_outs, behind=behind, length=length, shutter=shutter)

    def _background(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        picture, mask = self.video[t]
        image, size = read_image(picture), PHOTO_SIZE[::-1]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if image.shape[0] > size[1] else cv2.INTER_CUBIC)
        return image, cv2.resize(_objects(mask), size, interpolation=cv2.INTER_NEAREST)


def _objects(mask: Path) -> np.ndarray:
    """A label map without what is not to be judged."""
    labels = read_label_map(mask).labels
    return np.where(labels == 255, 0, labels).astype(np.uint8)


def _photograph(picture: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 RGB and (H, W) uint8, 1 where the object is."""
    return read_image(picture), (read_label_map(mask).labels > 127).astype(np.uint8)


def _cut_out(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> CutOut:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        rows = columns = np.array([0])
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    opacity = cv2.GaussianBlur(cv2.copyMakeBorder(mask[box].astype(np.float32), 4, 4, 4, 4, cv2.BORDER_CONSTANT), None, 0.7)
    texture = np.dstack([cv2.copyMakeBorder(image[box], 4, 4, 4, 4, cv2.BORDER_REPLICATE), opacity]).astype(np.float32)
    if rng.random() < 0.5:
        texture = np.ascontiguousarray(texture[:, ::-1])
    return CutOut(
        texture=texture,
        size=rng.uniform(0.15, 0.5),
        centre=rng.uniform([0.25, 0.25], [PHOTO_SIZE[1] / PHOTO_SIZE[0] - 0.25, 0.75]),
        drift=rng.normal(0, 0.35, 2),
        swing=np.stack([rng.uniform(0, 0.1, 2), rng.uniform(0, 2 * np.pi, 2)]),
        turn=(rng.normal(0, 0.15), rng.normal(0, 0.5)),
        growth=rng.normal(0, 0.35),
        wave=(rng.uniform(0, 0.05), rng.uniform(-2, 2)),
        light=tuple(rng.uniform(0.75, 1.25) * rng.uniform(0.85, 1.15, 2)),
    )


def _layer(cut_out: CutOut, time: float) -> np.ndarray:
    """The object at a time from -0.5 to 0.5: RGB and opacity, (H, W, 4), on an empty frame."""
    texture, (height, width) = cut_out.texture, PHOTO_SIZE
    middle = np.array(texture.shape[1::-1]) / 2
    scale = cut_out.size * height / np.sqrt(max(1, texture[..., 3].sum())) * np.exp(cut_out.growth * time)
    swing = cut_out.swing[0] * np.sin(2 * np.pi * time + cut_out.swing[1])
    where = height * (cut_out.centre + cut_out.drift * time + swing)
    back = cv2.invertAffineTransform(_placement(where, middle, scale, cut_out.turn[0] + cut_out.turn[1] * time))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = (a * x + b * y + c for a, b, c in back.astype(np.float32))
    amplitude, turns = cut_out.wave
    phase = np.float32(2 * np.pi * turns * time)
    u = u + np.float32(amplitude * middle[0]) * np.sin(np.float32(np.pi / middle[1]) * v + phase)
    v = v + np.float32(amplitude * middle[1]) * np.sin(np.float32(np.pi / middle[0]) * u - phase)
    if scale < 0.7:  # averaged first, since remap looks at four pixels only
        smaller = [max(1, round(scale * side)) for side in texture.shape[1::-1]]
        u, v = u * np.float32(smaller[0] / texture.shape[1]), v * np.float32(smaller[1] / texture.shape[0])
        texture = cv2.resize(texture, smaller, interpolation=cv2.INTER_AREA)
    layer = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    start, end = cut_out.light
    layer[..., :3] *= np.float32(start + (end - start) * (time + 0.5))
    return layer


def _placement(where: np.ndarray, middle: np.ndarray, scale: float, angle: float) -> np.ndarray:
    """(2, 3): what puts a picture's middle at a place, turned and scaled."""
    turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turned, where - turned @ middle])


def _sprite(rng: np.random.Generator, category: str, enters: int, length: int) -> Sprite:
    bumps = 2 + CATEGORIES.index(category)
    radius = rng.uniform(0.17, 0.26) * HEIGHT
    return Sprite(
        category=category,
        texture=_texture(rng, 128, contrast=1.0),
        radius=radius,
        bumps=bumps,
        bump_height=rng.uniform(0.15, 0.3),
        centre=np.array([WIDTH, HEIGHT]) * rng.uniform(0.4, 0.6, 2),
        swing=np.array([WIDTH, HEIGHT]) * rng.uniform(0.2, 0.36, 2),
        frequency=rng.choice([-1, 1], 2) * rng.uniform(0.2, 0.45, 2) * 2 * np.pi / length,
        phase=rng.uniform(0, 2 * np.pi, 2),
        spin=rng.uniform(-1, 1) * 2 * np.pi / length,
        pulse=rng.uniform(1, 3) * 2 * np.pi / length,
        enters=enters,
    )


def _draw(sprite: Sprite, t: int, image: np.ndarray, labels: np.ndarray, number: int) -> None:
    cx, cy = sprite.centre + sprite.swing * np.sin(sprite.frequency * t + sprite.phase)
    reach = sprite.radius * (1 + 1.5 * sprite.bump_height) + 1
    left, right = max(0, int(cx - reach)), min(WIDTH, int(cx + reach) + 2)
    top, bottom = max(0, int(cy - reach)), min(HEIGHT, int(cy + reach) + 2)
    if left >= right or top >= bottom:
        return
    image, labels = image[top:bottom, left:right], labels[top:bottom, left:right]
    dy, dx = np.mgrid[top:bottom, left:right].astype(np.float32)
    dx, dy = dx - np.float32(cx), dy - np.float32(cy)
    angle = np.float32(sprite.spin * t)
    u = np.cos(angle) * dx + np.sin(angle) * dy
    v = np.cos(angle) * dy - np.sin(angle) * dx
    bumps = np.cos(sprite.bumps * np.arctan2(v, u) + 0.5 * np.sin(sprite.pulse * t))
    height = sprite.bump_height * (1 + 0.5 * np.sin(1.7 * sprite.pulse * t))
    inside = sprite.radius * (1 + height * bumps) - np.hypot(u, v)  # pixels to the outline
    opacity = np.clip(inside + 0.5, 0, 1)[..., None]  # antialiased over one pixel
    middle = sprite.texture.shape[0] / 2
    image += opacity * (_sample(sprite.texture, u + middle, v + middle) - image)
    labels[inside > 0] = number


def _texture(rng: np.random.Generator, size: int, *, contrast: float) -> np.ndarray:
    """Smooth patches of two colours with grain, (size, size, 3) float32."""
    colours = (rng.uniform(0, 255, (2, 3)) * contrast + 128 * (1 - contrast)).astype(np.float32)
    noise = np.zeros((size, size), dtype=np.float32)
    for cells, weight in ((4, 1.0), (9, 0.8), (20, 0.6)):
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        noise += weight * cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    share = 1 / (1 + np.exp(-4 * noise))[..., None]
    grain = 8 * rng.standard_normal((size, size, 3), dtype=np.float32)
    return colours[0] + share * (colours[1] - colours[0]) + grain


def _sample(texture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return cv2.remap(texture, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


class Writer:
    """Writes scenes below a folder; every video and photograph has randomness of its own, from the seed and its path.

    Each file is first named in the folder's `files.txt`, so that what a stopped run has left can be told from all else.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.seed = seed
        make_folder(root)

    def rng(self, path: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(path.encode())])

    def photograph(self, path: str, category: str) -> None:
        """`<path>.jpg` and `<path>.png`, 0/255 greyscale, of one object."""
        rng = self.rng(path)
        scene = Scene(rng, categories=[category], enters=[0], length=60)
        image, labels = scene.render(int(rng.integers(60)))
        self._jpg(f"{path}.jpg", image)
        self._mask(f"{path}.png", labels * np.uint8(255), grey=True)

    def scene(self, name: str, objects: int, *, length: int, categories=CATEGORIES, late: int = 0) -> Scene:
        """A scene of so many objects, the last `late` of which enter in mid-video."""
        rng = self.rng(name)
        chosen = [str(category) for category in rng.choice(categories, objects)]
        enters = [0] * (objects - late) + [FPS_STRIDE * (i + 2) for i in range(late)]
        return Scene(rng, categories=chosen, enters=enters, length=length)

    def frames(
        self, scene: Scene, images: str, masks: str | None, frames: range, *, ids=range(256), grey=False, first_only=False
    ) -> None:
        """The scene's frames as `<images>/NNNNN.jpg` and `<masks>/NNNNN.png`, sprite i under the id `ids[i]`."""
        lookup = np.array(ids, dtype=np.uint8)
        for t in frames:
            image, labels = scene.render(t)
            self._jpg(f"{images}/{t:05d}.jpg", image)
            if masks is not None and not (first_only and t != frames[0]):
                labels = (labels != 0) * np.uint8(255) if grey else lookup[labels]
                self._mask(f"{masks}/{t:05d}.png", labels, grey=grey)

    def entries(self, scene: Scene, path: str, ids: list[int], length: int) -> dict:
        """Masks of the frames at which objects enter, as YouTube-VOS gives them, and the video's entry in `meta.json`."""
        objects = {}
        annotated = range(0, length, FPS_STRIDE)
        for enter in sorted({sprite.enters for sprite in scene.sprites}):
            entering = [i for i, sprite in enumerate(scene.sprites, start=1) if sprite.enters == enter]
            lookup = np.zeros(256, dtype=np.uint8)
            lookup[entering] = [ids[i] for i in entering]
            self._mask(f"{path}/{enter:05d}.png", lookup[scene.render(enter)[1]], grey=False)
            for i in entering:
                frames = [f"{t:05d}" for t in annotated if t >= enter]
                objects[str(ids[i])] = {"category": scene.sprites[i - 1].category, "frames": frames}
        return {"objects": objects}

    def text(self, path: str, text: str) -> None:
        self._place(path).write_text(text)

    def _jpg(self, path: str, image: np.ndarray) -> None:
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        self._place(path).write_bytes(encoded.tobytes())

    def _mask(self, path: str, labels: np.ndarray, *, grey: bool) -> None:
        write_label_map(self._place(path), labels, None if grey else colour_map())

    def _place(self, path: str) -> Path:
        with open(self.root / LISTING, "a", encoding="utf-8") as listing:
            listing.write(f"{path}\n")
        place = self.root / path
        make_folder(place.parent)
        return place


def write_static(writer: Writer) -> None:
    for category in CATEGORIES:
        for i in range(1, 11):
            writer.photograph(f"static/fss/{category}/{i}", category)
    for name, count in (("ecssd", 30), ("DUTS-TR", 30), ("DUTS-TE", 10), ("HRSOD_small", 10), ("BIG_small", 5)):
        for i in range(count):
            writer.photograph(f"static/{name}/{i:04d}", CATEGORIES[i % len(CATEGORIES)])


def write_bl30k(writer: Writer) -> None:
    for i in range(6):
        scene = writer.scene(f"bl{i}", 3 + i % 3, length=30)
        writer.frames(scene, f"BL30K/JPEGImages/bl{i}", f"BL30K/Annotations/bl{i}", range(30))


def write_photo_clips(writer: Writer, root: str | Path, clips: int, videos: dict[str, tuple[VideoClips, int]]) -> None:
    """`--from_static`: clips from the photographs of all data sets below `root`, and as many before real videos, if any."""
    photographs = []
    for source, _ in static_sources(root).values():
        photographs += [(path, path.with_suffix(".png")) for path in source.images]
    if len(photographs) < 4:
        raise InputError(f"{root}: expected at least 4 photographs, found {len(photographs)}")
    real = [source.annotated(i) for source, _ in videos.values() for i in range(len(source))]
    names = [f"photo{i:05d}" for i in range(clips)] + [f"video{i:05d}" for i in range(clips if real else 0)]
    with progress_bar(len(names), "clips") as bar:
        for name in names:
            rng = writer.rng(name)
            if name.startswith("photo"):
                scene = PhotoScene(rng, photographs, length=PHOTO_LENGTH)
            else:
                scene = VideoScene(rng, photographs, real[int(rng.integers(len(real)))], length=PHOTO_LENGTH)
            writer.frames(scene, f"BL30K/JPEGImages/{name}", f"BL30K/Annotations/{name}", range(PHOTO_LENGTH))
            bar.increment()


def write_davis(writer: Writer) -> None:
    for year, part, sets in (
        ("2016", "", {"2016/train": 2, "2016/val": 2}),
        ("2017", "trainval/", {"2017/train": 8, "2017/val": 4}),
        ("2017", "test-dev/", {"2017/test-dev": 2}),
    ):
        root = f"DAVIS/{year}/{part}"
        for image_set, count in sets.items():
            names = [f"{image_set.split('/')[1]}{i}" for i in range(count)]
            writer.text(f"{root}ImageSets/{image_set}.txt", "".join(f"{name}\n" for name in names))
            for i, name in enumerate(names):
                scene = writer.scene(f"{year}{name}", 1 + i % 3, length=30)
                writer.frames(
                    scene,
                    f"{root}JPEGImages/480p/{name}",
                    f"{root}Annotations/480p/{name}",
                    range(30),
                    grey=year == "2016",
                    first_only=part == "test-dev/",
                )


def write_youtube(writer: Writer) -> None:
    length, sparse = 41, [0, 2, 5, 7]
    seen = [category for category in CATEGORIES if category not in UNSEEN]
    train, valid = {}, {}
    for i in range(8):
        name = f"yt-train{i}"
        scene = writer.scene(name, 1 + i % 3, length=length, categories=seen, late=int(i % 3 == 2))
        root = "YouTube/train_480p"
        writer.frames(
            scene, f"{root}/JPEGImages/{name}", f"{root}/Annotations/{name}", range(0, length, FPS_STRIDE), ids=sparse
        )
        frames = [f"{t:05d}" for t in range(0, length, FPS_STRIDE)]
        train[name] = {
            "objects": {
                str(sparse[i]): {"category": sprite.category, "frames": frames[sprite.enters // FPS_STRIDE :]}
                for i, sprite in enumerate(scene.sprites, start=1)
            }
        }
    writer.text("YouTube/train_480p/meta.json", json.dumps({"videos": train}, indent=1))
    for i in range(3):
        name = f"yt-valid{i}"
        scene = writer.scene(name, 2 + i % 2, length=length, late=1 + i // 2)
        writer.frames(scene, f"YouTube/all_frames/valid_all_frames/JPEGImages/{name}", None, range(length))
        writer.frames(scene, f"YouTube/valid/JPEGImages/{name}", None, range(0, length, FPS_STRIDE))
        valid[name] = writer.entries(scene, f"YouTube/valid/Annotations/{name}", sparse, length)
    writer.text("YouTube/valid/meta.json", json.dumps({"videos": valid}, indent=1))


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=first_line(__doc__))
    result.add_argument("folder", help="where to write; kept as it is when it holds this data already")
    result.add_argument("--seed", type=non_negative_int, default=0, help="of all randomness (default: 0)")
    result.add_argument(
        "--from_static", metavar="DIR", help="write training videos made from the photographs of ecssd, DUTS-TR, ... in it"
    )
    result.add_argument("--clips", type=positive_int, default=1000, help="so many of them (default: 1000)")
    videos = "with --from_static: and as many before the training videos of %s in it (default: none)"
    result.add_argument("--davis_root", default="none", metavar="DIR", help=videos % "DAVIS 2017")
    result.add_argument("--yv_root", default="none", metavar="DIR", help=videos % "YouTube-VOS")
    result.add_argument("--overwrite", action="store_true", help="replace demo data of another seed or version")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    folder = Path(arguments.folder).resolve()
    if not arguments.from_static and (arguments.davis_root, arguments.yv_root) != ("none", "none"):
        raise InputError("--davis_root, --yv_root: go with --from_static only")
    record = {"demo data": VERSION, "seed": arguments.seed}
    if arguments.from_static:
        yv_root, davis_root = (None if root == "none" else root for root in (arguments.yv_root, arguments.davis_root))
        roots = [str(Path(root).resolve()) for root in (arguments.from_static, yv_root, davis_root) if root]
        record |= {"from": roots, "clips": arguments.clips}
        videos = video_sources(yv_root, davis_root) if roots[1:] else {}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = _read_record(folder / "demo.json")
        if found == record:
            print(f"{folder}: holds this data already")
            return
        if found is None or not arguments.overwrite:
            what = "something else" if found is None else "demo data of another seed or version; --overwrite replaces it"
            raise InputError(f"{folder}: expected an empty or new folder, found {what}")
    if not folder.parent.is_dir() and folder.parent.exists():
        raise InputError(f"{folder.parent}: expected a folder, found a file")
    partial = folder.with_name(f".{folder.name}.partial")
    for place in (partial, folder):
        refuse_foreign(place, _listed(place))
    remove_folder(partial, _listed(partial))
    writer = Writer(partial, arguments.seed)
    if arguments.from_static:
        write_photo_clips(writer, arguments.from_static, arguments.clips, videos)
    else:
        write_static(writer)
        write_bl30k(writer)
        write_davis(writer)
        write_youtube(writer)
    writer.text("demo.json", json.dumps(record))
    remove_folder(folder, _listed(folder))
    os.replace(partial, folder)
    print(f"{folder}: written")


def _listed(folder: Path) -> set[str]:
    """The files that `Writer` has put there, itself included."""
    listing = folder / LISTING
    return {LISTING, *read_text(listing).splitlines()} if listing.is_file() and not folder.is_symlink() else set()


def _read_record(path: Path) -> dict | None:
    """What `main` wrote there; `None` when it did not."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "demo data" in found else None


if __name__ == "__main__":
    sys.exit(main())
