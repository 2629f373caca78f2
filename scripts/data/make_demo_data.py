"""Make small synthetic videos and photographs in every layout that the project reads, without any download.

    python scripts/data/make_demo_data.py demo/data

Textured objects move, rotate, deform and occlude one another in front of a moving textured background.  A seed always gives
the same data.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dataset.generated import Writer, add_generation_flags, generate
from util.errors import one_line_errors
from util.flags import Parser

HEIGHT, WIDTH = 128, 224
VERSION = 2  # of the data; increase it with every change to the output
CATEGORIES = ("amoeba", "clover", "gear", "pebble", "starfish", "urchin")  # with 2 to 7 bumps
UNSEEN = ("gear", "urchin")  # categories that YouTube's training videos lack
FPS_STRIDE = 5  # YouTube-VOS annotates every fifth frame


class Sprite:
    """An object's appearance and motion.  Lengths are in pixels, angles in radians, times in frames."""

    def __init__(self, rng: np.random.Generator, category: str, enters: int, length: int) -> None:
        """enters: the first frame with it; length: that of the video"""
        size = np.array([WIDTH, HEIGHT])
        self.category, self.enters = category, enters
        self.bumps = 2 + CATEGORIES.index(category)
        self.radius = rng.uniform(0.17, 0.26) * HEIGHT
        self.texture = _texture(rng, 128, contrast=1.0)
        self.bump_height = rng.uniform(0.15, 0.3)  # as a fraction of the radius
        self.centre = size * rng.uniform(0.4, 0.6, 2)  # of the path
        self.swing = size * rng.uniform(0.2, 0.36, 2)
        self.frequency = rng.choice([-1, 1], 2) * rng.uniform(0.2, 0.45, 2) * 2 * np.pi / length
        self.phase = rng.uniform(0, 2 * np.pi, 2)
        self.spin = rng.uniform(-1, 1) * 2 * np.pi / length
        self.pulse = rng.uniform(1, 3) * 2 * np.pi / length  # how fast the outline deforms

    def draw(self, t: int, image: np.ndarray, labels: np.ndarray, number: int) -> None:
        """Draw frame t over a picture (H, W, 3) float32 and its label map (H, W), where the object gets this number."""
        cx, cy = self.centre + self.swing * np.sin(self.frequency * t + self.phase)
        reach = self.radius * (1 + 1.5 * self.bump_height) + 1
        left, right = max(0, int(cx - reach)), min(WIDTH, int(cx + reach) + 2)
        top, bottom = max(0, int(cy - reach)), min(HEIGHT, int(cy + reach) + 2)
        if left >= right or top >= bottom:
            return
        image, labels = image[top:bottom, left:right], labels[top:bottom, left:right]
        dy, dx = np.mgrid[top:bottom, left:right].astype(np.float32)
        dx, dy = dx - np.float32(cx), dy - np.float32(cy)
        angle = np.float32(self.spin * t)
        u = np.cos(angle) * dx + np.sin(angle) * dy
        v = np.cos(angle) * dy - np.sin(angle) * dx
        bumps = np.cos(self.bumps * np.arctan2(v, u) + 0.5 * np.sin(self.pulse * t))
        height = self.bump_height * (1 + 0.5 * np.sin(1.7 * self.pulse * t))
        inside = self.radius * (1 + height * bumps) - np.hypot(u, v)  # pixels to the outline
        opacity = np.clip(inside + 0.5, 0, 1)[..., None]  # antialiased over one pixel
        middle = self.texture.shape[0] / 2
        image += opacity * (_sample(self.texture, u + middle, v + middle) - image)
        labels[inside > 0] = number


class Scene:
    """A video: sprites, later ones on top of earlier ones, in front of a panning background."""

    def __init__(self, rng: np.random.Generator, *, categories: list[str], enters: list[int], length: int) -> None:
        self.background = _texture(rng, 2 * WIDTH, contrast=0.5)
        self.pan = rng.uniform(-1, 1, 2) * np.array([WIDTH, HEIGHT]) * 0.4 / length
        self.pan_start = np.array([WIDTH, WIDTH]) / 2 + rng.uniform(-20, 20, 2)
        self.sprites = [Sprite(rng, category, enter, length) for category, enter in zip(categories, enters, strict=True)]

    def render(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame t: picture (H, W, 3) uint8 RGB and label map (H, W) uint8, sprites numbered from 1."""
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        offset = self.pan_start + t * self.pan
        image = _sample(self.background, x + offset[0], y + offset[1])
        labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        for number, sprite in enumerate(self.sprites, start=1):
            if t >= sprite.enters:
                sprite.draw(t, image, labels, number)
        return np.clip(image, 0, 255).astype(np.uint8), labels


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


class DemoWriter(Writer):
    """Writes videos and photographs of sprites."""

    def photograph(self, path: str, category: str) -> None:
        """Write `<path>.jpg` and its mask `<path>.png` (0/255 greyscale), with one object."""
        rng = self.rng(path)
        scene = Scene(rng, categories=[category], enters=[0], length=60)
        image, labels = scene.render(int(rng.integers(60)))
        self.picture(f"{path}.jpg", image)
        self.mask(f"{path}.png", labels * np.uint8(255), grey=True)

    def scene(self, name: str, objects: int, *, length: int, categories=CATEGORIES, late: int = 0) -> Scene:
        """A scene with `objects` objects; the last `late` of them enter in mid-video."""
        rng = self.rng(name)
        chosen = [str(category) for category in rng.choice(categories, objects)]
        enters = [0] * (objects - late) + [FPS_STRIDE * (i + 2) for i in range(late)]
        return Scene(rng, categories=chosen, enters=enters, length=length)


def described(scene: Scene, ids: list[int], length: int) -> dict:
    """A video's entry in YouTube-VOS's `meta.json`: each object from the frame where it enters."""
    frames = [f"{t:05d}" for t in range(0, length, FPS_STRIDE)]
    objects = zip(ids[1:], scene.sprites, strict=False)
    return {"objects": {str(i): {"category": s.category, "frames": frames[s.enters // FPS_STRIDE :]} for i, s in objects}}


def write_static(writer: DemoWriter) -> None:
    for category in CATEGORIES:
        for i in range(1, 11):
            writer.photograph(f"static/fss/{category}/{i}", category)
    for name, count in (("ecssd", 30), ("DUTS-TR", 30), ("DUTS-TE", 10), ("HRSOD_small", 10), ("BIG_small", 5)):
        for i in range(count):
            writer.photograph(f"static/{name}/{i:04d}", CATEGORIES[i % len(CATEGORIES)])


def write_bl30k(writer: DemoWriter) -> None:
    for i in range(6):
        scene = writer.scene(f"bl{i}", 3 + i % 3, length=30)
        writer.frames(scene.render, f"BL30K/JPEGImages/bl{i}", f"BL30K/Annotations/bl{i}", range(30))


def write_davis(writer: DemoWriter) -> None:
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
                    scene.render,
                    f"{root}JPEGImages/480p/{name}",
                    f"{root}Annotations/480p/{name}",
                    range(30),
                    grey=year == "2016",
                    first_only=part == "test-dev/",
                )


def write_youtube(writer: DemoWriter) -> None:
    length, sparse = 41, [0, 2, 5, 7]
    seen = [category for category in CATEGORIES if category not in UNSEEN]
    train, valid = {}, {}
    for i in range(8):
        name = f"yt-train{i}"
        scene = writer.scene(name, 1 + i % 3, length=length, categories=seen, late=int(i % 3 == 2))
        root = "YouTube/train_480p"
        writer.frames(
            scene.render, f"{root}/JPEGImages/{name}", f"{root}/Annotations/{name}", range(0, length, FPS_STRIDE), ids=sparse
        )
        train[name] = described(scene, sparse, length)
    writer.text("YouTube/train_480p/meta.json", json.dumps({"videos": train}, indent=1))
    for i in range(3):
        name = f"yt-valid{i}"
        scene = writer.scene(name, 2 + i % 2, length=length, late=1 + i // 2)
        writer.frames(scene.render, f"YouTube/all_frames/valid_all_frames/JPEGImages/{name}", None, range(length))
        writer.frames(scene.render, f"YouTube/valid/JPEGImages/{name}", None, range(0, length, FPS_STRIDE))
        for enter in sorted({sprite.enters for sprite in scene.sprites}):  # a mask of those that enter alone
            entering = [i if sprite.enters == enter else 0 for i, sprite in zip(sparse[1:], scene.sprites, strict=False)]
            labels = np.array([0, *entering], np.uint8)[scene.render(enter)[1]]
            writer.mask(f"YouTube/valid/Annotations/{name}/{enter:05d}.png", labels, grey=False)
        valid[name] = described(scene, sparse, length)
    writer.text("YouTube/valid/meta.json", json.dumps({"videos": valid}, indent=1))


def write_all(root: Path, *, seed: int) -> Writer:
    writer = DemoWriter(root, seed)
    for write in (write_static, write_bl30k, write_davis, write_youtube):
        write(writer)
    return writer


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    add_generation_flags(result, "demo data")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    record = {"demo data": VERSION, "seed": arguments.seed}
    generate(Path(arguments.folder), record, partial(write_all, seed=arguments.seed), overwrite=arguments.overwrite)


if __name__ == "__main__":
    sys.exit(main())
