"""A small good data tree in every layout, for cases that break it, and calls of scripts on it."""

import json
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from conftest import build_light_network, write_video
from films import noise, write_film
from PIL import Image

from model import save_network
from util.label_map import write_label_map

SIZE = (48, 64)
NET = ("--model", "net.pth", "--size", "48")
TINY = (
    *("--key_backbone=resnet18", "--key_dim=8", "--value_dim=32", "--no_pretrained", "--crop=32", "--iterations=1"),
    *("--batch_size=1", "--device=cpu", "--num_workers=0"),
)
DATA = ("--static_root", "static", "--bl_root", "BL30K", "--yv_root", "YouTube", "--davis_root", "DAVIS")


def stay_in_the_sandbox() -> None:
    """End the process unless `sandbox.sh` has started it."""
    if "STCN_SANDBOX" not in os.environ:
        sys.exit("error: run this in tests/robustness/sandbox.sh only")


def davis(*flags: object) -> tuple:
    return ("eval_davis", "--davis_path", "DAVIS", "--output", "out", *NET, *flags)


def youtube(*flags: object) -> tuple:
    return ("eval_youtube", "--yv_path", "YouTube", "--output", "out", *NET, *flags)


def own(*flags: object) -> tuple:
    return ("eval_youtube", "--yv_path", "own", "--output", "out", *NET, *flags)


def film(*flags: object, video: str = "film.mp4", mask: str = "mask.png") -> tuple:
    return ("segment_video", video, "--mask", mask, "--output", "out", *NET, *flags)


def train(*flags: object) -> tuple:
    return ("train", "--id", "x", "--save_dir", "out", "--stage", "3", *DATA, *TINY, *flags)


def labels(*ids: int) -> np.ndarray:
    """A label map with an upright bar for each id."""
    result = np.zeros(SIZE, np.uint8)
    for i, number in enumerate(ids):
        result[8:40, 6 + 16 * i : 16 + 16 * i] = number
    return result


def picture(t: int) -> Image.Image:
    return Image.fromarray(noise(t, SIZE))


def build(root: Path) -> None:
    """Write everything that the cases start from below `root`."""
    save_network(build_light_network(), root / "net.pth")
    (root / "notes.txt").write_text("precious")
    davis = root / "DAVIS"
    for name in ("ant", "bee"):
        write_video(davis / "JPEGImages/480p" / name, davis / "Annotations/480p" / name, [labels(1, 2)] * 3)
    for year in ("2016", "2017"):
        (davis / "ImageSets" / year).mkdir(parents=True)
        for image_set in ("train", "val"):
            (davis / "ImageSets" / year / f"{image_set}.txt").write_text("ant\nbee\n")
    youtube = root / "YouTube"
    masks = [labels(5), None, labels(5, 9)]
    write_video(youtube / "all_frames/valid_all_frames/JPEGImages/cow", youtube / "valid/Annotations/cow", masks)
    write_video(youtube / "train_480p/JPEGImages/dog", youtube / "train_480p/Annotations/dog", [labels(3)] * 4)
    objects = {"5": {"category": "cow", "frames": ["00000", "00002"]}, "9": {"category": "x", "frames": ["00002"]}}
    (youtube / "valid/meta.json").write_text(json.dumps({"videos": {"cow": {"objects": objects}}}))
    own = root / "own"
    for name in ("cat", "two words", "größe"):
        write_video(own / "JPEGImages" / name, own / "Annotations" / name, [labels(1), None, None])
    bl30k = root / "BL30K"
    write_video(bl30k / "JPEGImages/eel", bl30k / "Annotations/eel", [labels(1)] * 4)
    ecssd = root / "static/ecssd"
    ecssd.mkdir(parents=True)
    for i in range(4):
        picture(i).save(ecssd / f"{i}.jpg")
        Image.fromarray(255 * labels(1)).save(ecssd / f"{i}.png")
    frames = root / "frames"
    frames.mkdir()
    for t in range(4):
        picture(t).save(frames / f"{t}.png")
    write_label_map(root / "mask.png", labels(1), None)
    np.save(root / "mask.npy", labels(1))
    box = [[6, 8], [16, 8], [16, 40], [6, 40]]
    shape = {
        "imagePath": "00000.png",
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        "shapes": [{"label": "a", "points": box}],
    }
    (root / "mask.json").write_text(json.dumps(shape))
    write_film(root / "film.mp4", [np.asarray(picture(t)) for t in range(8)])
    with zipfile.ZipFile(root / "davis.zip", "w") as archive:
        for path in sorted(davis.rglob("*")):
            archive.write(path, path.relative_to(root))
    with tarfile.open(root / "bl30k.tar", "w") as archive:
        archive.add(bl30k, "BL30K")
    shutil.copytree(davis / "Annotations/480p", root / "results")


def snapshot(here: Path, inside: str | None = None) -> dict[str, tuple]:
    """What is in the tree except `out`, or inside that alone; without contents, which cannot change unseen."""
    found = {}
    for place, folders, files in os.walk(here / (inside or "")):
        if Path(place) == here:
            folders[:] = [name for name in folders if name not in ("out", ".tmp")]
        for name in (*folders, *files):
            there = os.lstat(os.path.join(place, name))
            folder = name in folders
            found[os.path.join(place, name)] = (
                there.st_mode,
                there.st_ino,
                *(() if folder else (there.st_size, there.st_mtime_ns)),
            )
    return found


def checkpoint(path: Path, change) -> None:
    """Rewrite a checkpoint after `change(content)`."""
    content = torch.load(path, weights_only=True)
    torch.save(change(content) or content, path)
