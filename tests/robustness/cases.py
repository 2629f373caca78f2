"""Bad input for every script: each case must end as stated, with one line, and change nothing outside its output.

    PYTHONPATH=.:tests bash tests/robustness/sandbox.sh FOLDER python tests/robustness/cases.py FOLDER [PATTERN] [--every N]

Run it only in the sandbox: a bug that a case finds must not damage the machine.
"""

import argparse
import contextlib
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import good
import numpy as np
import torch
from breaks import bomb, code, many
from conftest import run_script
from good import SIZE, checkpoint, labels, picture
from PIL import Image

LIMIT = 120  # seconds for a case
NET = ("--model", "net.pth", "--size", "48")
TINY = (
    "--key_backbone",
    "resnet18",
    "--key_dim",
    "8",
    "--value_dim",
    "32",
    "--no_pretrained",
    "--crop",
    "32",
    "-i",
    "1",
    "-b",
    "1",
)
DATA = ("--static_root", "static", "--bl_root", "BL30K", "--yv_root", "YouTube", "--davis_root", "DAVIS")


class Case(NamedTuple):
    """A call of `breaks()`, then of the script, in a copy of the good tree (the current folder)."""

    name: str
    command: tuple
    status: int = 2
    says: str = r"error: "  # a regular expression for the last line of standard error (status 0: for the output)
    breaks: Callable[[], object] = lambda: None
    right: Callable[[], bool] = lambda: True  # what must hold afterwards


def davis(*flags: object) -> tuple:
    return ("eval_davis", "--davis_path", "DAVIS", "--output", "out", *NET, *flags)


def youtube(*flags: object) -> tuple:
    return ("eval_youtube", "--yv_path", "YouTube", "--output", "out", *NET, *flags)


def own(*flags: object) -> tuple:
    return ("eval_youtube", "--yv_path", "own", "--output", "out", *NET, *flags)


def film(*flags: object, video: str = "film.mp4") -> tuple:
    return ("segment_video", video, "--mask", "mask.png", "--output", "out", *NET, *flags)


def train(*flags: object) -> tuple:
    return (
        "train",
        "--id",
        "x",
        "--save_dir",
        "out",
        "--stage",
        "3",
        "--device",
        "cpu",
        "--num_workers",
        "0",
        *DATA,
        *TINY,
        *flags,
    )


def path(name: str) -> Path:
    return Path(name)


def write(name: str, content: bytes | str) -> Callable[[], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda: (path(name).parent.mkdir(parents=True, exist_ok=True), path(name).write_bytes(data))


def save(name: str, image: Image.Image, **options: object) -> Callable[[], object]:
    return lambda: image.save(name, **options)


def link(name: str, target: str) -> Callable[[], object]:
    def do() -> None:
        if path(name).is_dir():
            shutil.rmtree(name)
        path(name).unlink(missing_ok=True)
        path(name).parent.mkdir(parents=True, exist_ok=True)
        path(name).symlink_to(target)

    return do


def cut(name: str, size: int = 100) -> Callable[[], object]:
    return lambda: path(name).write_bytes(path(name).read_bytes()[:size])


def masks(folder: str) -> int:
    return len(list(Path("out", folder).rglob("*.png")))


def both(*steps: Callable[[], object]) -> Callable[[], object]:
    return lambda: [step() for step in steps]


def copied(name: str, *parts: str) -> Callable[[], object]:
    """DAVIS's list names another copy of the video `ant` too, called `name`."""
    places = (ANT, str(Path(FIRST).parent), *parts)
    listed = write("DAVIS/ImageSets/2017/val.txt", f"ant\n{name}\n")
    return both(listed, lambda: [shutil.copytree(place, Path(place).parent / name) for place in places])


def renamed(place: str, name: bytes) -> Callable[[], object]:
    return lambda: path(place).rename(path(place).parent / os.fsdecode(name))


def disk(size: str) -> Callable[[], object]:
    """Mount a separate disk at `out`; it goes away with the sandbox."""

    def do() -> None:
        path("out").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "out"], check=True)

    return do


def first_tensor(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
    """Change the first tensor of the checkpoint."""

    def do(content: dict) -> None:
        name = next(iter(content["network"]))
        content["network"][name] = change(content["network"][name])

    return lambda: checkpoint(path("net.pth"), do)


def entry(part: str, **values: object) -> Callable[[], object]:
    return lambda: checkpoint(path("net.pth"), lambda content: content[part].update(values))


def quietly(command: tuple) -> Callable[[], object]:
    """Run a script before the case."""

    def do() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert run_script(*map(str, command)) == 0

    return do


def made_folder(name: str) -> Callable[[], object]:
    """Put a folder in the place of a file."""
    return lambda: (path(name).unlink(missing_ok=True), path(name).mkdir())


def twice(name: str) -> Callable[[], object]:
    """A tar of BL30K that holds one mask twice, with different content."""

    def do() -> None:
        with tarfile.open(name, "w") as archive:
            for part, size in (("JPEGImages/a/0.jpg", 9), ("Annotations/a/0.png", 5), ("Annotations/a/0.png", 7)):
                info = tarfile.TarInfo(f"BL30K/{part}")
                info.size = size
                archive.addfile(info, io.BytesIO(bytes(size)))

    return do


def zipped(name: str, members: dict[str, str | None]) -> Callable[[], object]:
    """A zip of these files by name; 1 GiB of zeros for `None`."""

    def do() -> None:
        with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for member, source in members.items():
                with archive.open(member, "w") as file:
                    for _ in range(1024 if source is None else 0):
                        file.write(bytes(1 << 20))
                    if source is not None:
                        file.write(path(source).read_bytes())

    return do


def lie() -> None:
    """Let the zip's directory say that its first file takes 1 GB in the archive."""
    content = bytearray(path("davis.zip").read_bytes())
    start = content.index(b"PK\x01\x02")
    content[start + 20 : start + 24] = (10**9).to_bytes(4, "little")
    path("davis.zip").write_bytes(content)


def unharmed() -> bool:
    return not path("escaped").exists()


COPIES = ("copy_first_mask", "--davis_path", "DAVIS", "--output")
TREE = ("--davis_path", "DAVIS", "--output")
ANT, FIRST = "DAVIS/JPEGImages/480p/ant", "DAVIS/Annotations/480p/ant/00000.png"
GREY = Image.fromarray(labels(1, 2))

CASES = [
    # evaluation: frames
    Case(
        "a frame of no bytes", davis(), 1, "", write(f"{ANT}/00001.jpg", b""), lambda: masks("bee") == 3 and masks("ant") == 0
    ),
    Case("a truncated frame", davis(), 1, "", cut(f"{ANT}/00002.jpg", 400), lambda: masks("bee") == 3 and masks("ant") == 0),
    Case("the first frame truncated", davis(), 2, "00000.jpg", cut(f"{ANT}/00000.jpg", 300), lambda: not path("out").exists()),
    Case("text as a frame", davis(), 1, "", write(f"{ANT}/00001.jpg", "hello"), lambda: masks("bee") == 3),
    Case(
        "a frame of another size",
        davis(),
        1,
        "",
        save(f"{ANT}/00001.jpg", picture(1).resize((32, 32))),
        lambda: masks("bee") == 3,
    ),
    Case("a grey frame", davis(), 0, "J&F", save(f"{ANT}/00001.jpg", picture(1).convert("L")), lambda: masks("ant") == 3),
    Case("a CMYK frame", davis(), 0, "J&F", save(f"{ANT}/00001.jpg", picture(1).convert("CMYK")), lambda: masks("ant") == 3),
    Case(
        "a frame of 32-bit numbers",
        davis(),
        1,
        "",
        both(lambda: path(f"{ANT}/00001.jpg").unlink(), save(f"{ANT}/00001.tif", Image.fromarray(np.ones(SIZE, np.float32)))),
        lambda: masks("bee") == 3,
    ),
    Case("two frames of one stem", davis(), 2, "00001", save(f"{ANT}/00001.png", picture(1))),
    Case(
        "a folder called like a frame",
        davis(),
        2,
        "00002.jpg: expected a picture, found a folder",
        both(lambda: path(f"{ANT}/00002.jpg").unlink(), lambda: path(f"{ANT}/00002.jpg").mkdir()),
        lambda: not path("out").exists(),
    ),
    Case(
        "a dangling link as a frame",
        davis(),
        1,
        "no such file",
        link(f"{ANT}/00002.jpg", "nowhere"),
        lambda: masks("bee") == 3,
    ),
    Case("a circle of links as a folder", davis(), 2, "ant", link(ANT, "ant")),
    Case(
        "a video on another disk",  # what is only read may lie anywhere
        davis(),
        0,
        "J&F",
        both(lambda: shutil.move(ANT, "elsewhere"), link(ANT, "../../../elsewhere")),
        lambda: masks("ant") == 3,
    ),
    Case("a file where a video belongs", davis(), 2, "ant", both(lambda: shutil.rmtree(ANT), write(ANT, "x"))),
    Case(
        "a video of one frame",
        own(),
        0,
        "frames",
        lambda: [p.unlink() for p in path("own/JPEGImages/cat").glob("0000[12].jpg")],
        lambda: masks("Annotations/cat") == 1,
    ),
    # evaluation: masks
    Case("a mask of another size", davis(), 2, "mask is", save(FIRST, GREY.resize((10, 10)))),
    Case("an empty mask", davis(), 1, "failed: ant: .*00000.png", save(FIRST, Image.fromarray(labels()))),
    Case("a photograph as a mask", davis(), 2, "one plain", save(FIRST, picture(0))),
    Case("a JPEG that is called PNG", davis(), 2, "JPEG", save(FIRST, GREY, format="JPEG")),
    Case("a mask of no bytes", davis(), 2, "00000.png", write(FIRST, b"")),
    Case(
        "a mask with 254 and 255",
        own(),
        0,
        "frames",
        save("own/Annotations/cat/00000.png", Image.fromarray(labels(254, 255))),
        lambda: set(np.unique(np.array(Image.open("out/Annotations/cat/00001.png")))) <= {0, 254},
    ),
    Case(
        "a white mask",
        own(),
        0,
        "frames",
        save("own/Annotations/cat/00000.png", Image.fromarray(labels(255))),
        lambda: set(np.unique(np.array(Image.open("out/Annotations/cat/00000.png")))) == {0, 1},
    ),
    Case("a mask without its frame", own(), 2, "cat", save("own/Annotations/cat/00009.png", Image.fromarray(labels(1)))),
    Case("videos without masks", own(), 1, "failed: cat", lambda: shutil.rmtree("own/Annotations/cat")),
    Case("masks without a video", own(), 2, "cat", lambda: shutil.rmtree("own/JPEGImages/cat")),
    Case(
        "names with spaces and umlauts",
        own(),
        0,
        "frames",
        right=lambda: masks("Annotations/two words") == masks("Annotations/größe") == 3,
    ),
    Case(
        "a video whose name begins with a dash",
        own(),
        0,
        "frames",
        lambda: [path(f"own/{part}/cat").rename(f"own/{part}/--cat") for part in ("JPEGImages", "Annotations")],
        lambda: masks("Annotations/--cat") == 3,
    ),
    # evaluation: lists
    Case(
        "a list twice the same",
        davis(),
        0,
        "J&F",
        write("DAVIS/ImageSets/2017/val.txt", "ant\nant\n"),
        lambda: masks("ant") == 3,
    ),
    Case(
        "a list with Windows line ends",
        davis(),
        0,
        "J&F",
        write("DAVIS/ImageSets/2017/val.txt", "ant\r\nbee\r\n"),
        lambda: masks("bee") == 3,
    ),
    Case("a list that names run.json", davis(), 2, "run.json", write("DAVIS/ImageSets/2017/val.txt", "run.json\n")),
    Case(
        "a list that names a hidden folder",
        davis(),
        2,
        "dot",
        both(
            write("DAVIS/ImageSets/2017/val.txt", ".ant\n"),
            *[lambda p=p: shutil.copytree(p, f"{Path(p).parent}/.ant") for p in (ANT, str(Path(FIRST).parent))],
        ),
    ),
    Case(
        "a list that is a folder",
        davis(),
        2,
        "val.txt",
        both(lambda: path("DAVIS/ImageSets/2017/val.txt").unlink(), lambda: path("DAVIS/ImageSets/2017/val.txt").mkdir()),
    ),
    Case("no data", ("eval_davis", "--davis_path", "nowhere", "--output", "out", *NET)),
    Case("data that is a file", ("eval_davis", "--davis_path", "notes.txt", "--output", "out", *NET)),
    *[
        Case(f"meta.json: {name}", youtube(), 2, "meta.json", write("YouTube/valid/meta.json", text))
        for name, text in {
            "nothing": "",
            "text": "hello",
            "a list": "[]",
            "a number": "1",
            "null": "null",
            "no objects": '{"videos": {"cow": {}}}',
            "frames that are numbers": '{"videos": {"cow": {"objects": {"5": {"frames": [0]}}}}}',
            "no frames": '{"videos": {"cow": {"objects": {"5": {"frames": []}}}}}',
            "a frame that is not there": '{"videos": {"cow": {"objects": {"5": {"frames": ["00009"]}}}}}',
            "a video above": '{"videos": {"../cow": {"objects": {"5": {"frames": ["00000"]}}}}}',
            "a deep nest": "[" * 50_000,
            "UTF-16": '{"videos": {}}'.encode("utf-16"),
        }.items()
    ],
    # evaluation: output
    Case("output where no file can be made", davis(), 2, "out/.stcn.lock: cannot make this file", link("out", "/proc")),
    Case("a file as output", davis(), 2, "found a file", write("out", "x"), lambda: path("out").read_text() == "x"),
    Case("output below a file", ("eval_davis", "--davis_path", "DAVIS", "--output", "notes.txt/out", *NET), 2, "found a file"),
    Case(
        "somebody's results",
        davis("--overwrite"),
        2,
        "is in the way",
        write("out/ant/00000.png", "precious"),
        lambda: path("out/ant/00000.png").read_text() == "precious",
    ),
    Case("a link in the output", davis("--overwrite"), 2, "plain name|in the way", link("out/ant", "../results/ant")),
    Case("a link to nowhere in the output", davis(), 2, "plain name|in the way", link("out/ant", "../nowhere")),
    Case(
        "output into the data",
        ("eval_davis", "--davis_path", "DAVIS", "--output", "DAVIS/Annotations/480p", "--overwrite", *NET),
        2,
        "holds input",
    ),
    Case(
        "a link in the output of an experiment",
        ("scripts.experiments.schedules", "--davis_path", "DAVIS", *NET, "--every", "2", "--output", "out"),
        2,
        "out: expected a plain name, inside out",
        link("out/net", "../results"),
        lambda: masks("../results") == 6,
    ),
    Case(
        "a folder called like the scores, and a changed frame",
        davis(),
        2,
        "scores.json: expected a file, found a folder",
        both(quietly(davis()), cut("DAVIS/JPEGImages/480p/ant/00002.jpg"), made_folder("out/scores.json")),
        lambda: masks("ant") == 3,
    ),
    Case("a record from elsewhere", davis("--overwrite"), 2, "run.json", write("out/run.json", '{"videos": "../../x"}')),
    Case(
        "a record of a thousand videos above",
        davis("--overwrite"),
        2,
        "run.json",
        write(
            "out/run.json",
            '{"format": "STCN results", "version": 1, "settings": {}, "videos": {"../../x": {"inputs": null, "frames": []}}}',
        ),
    ),
    # checkpoints
    Case("no checkpoint", davis("--model", "nowhere.pth"), 2, "no such checkpoint"),
    Case("text as a checkpoint", davis("--model", "notes.txt"), 2, "notes.txt: expected a checkpoint"),
    Case("a folder as a checkpoint", davis("--model", "frames"), 2, "frames: no such checkpoint"),
    Case("a truncated checkpoint", davis(), 2, "net.pth: expected a checkpoint", cut("net.pth", 5000)),
    Case(
        "a checkpoint with code",
        davis(),
        2,
        "net.pth: expected a checkpoint",
        lambda: __import__("torch").save(Path.home, "net.pth"),
    ),
    Case("a list as a checkpoint", davis(), 2, "net.pth", lambda: __import__("torch").save([1, 2], "net.pth")),
    Case(
        "a checkpoint without a tensor",
        davis(),
        2,
        "net.pth",
        lambda: checkpoint(path("net.pth"), lambda c: c["network"].popitem() and None),
    ),
    Case(
        "a checkpoint of another configuration",
        davis(),
        2,
        "net.pth",
        lambda: checkpoint(path("net.pth"), lambda c: c["config"].update(key_dim=9)),
    ),
    Case(
        "a checkpoint of a stranger's configuration",
        davis(),
        2,
        "net.pth",
        lambda: checkpoint(path("net.pth"), lambda c: c["config"].update(x=9)),
    ),
    Case(
        "a checkpoint of the future",
        davis(),
        2,
        "net.pth",
        lambda: checkpoint(path("net.pth"), lambda c: c.update(version=99)),
    ),
    Case("a long name in a configuration", davis(), 2, r"arch: expected .*x\.\.\.", entry("config", arch="x" * 5000)),
    # numbers
    *[
        Case(f"eval_davis {flag} {value}", davis(flag, value), 2, f"{flag}")
        for flag, value in (
            ("--top", "0"),
            ("--top", "-3"),
            ("--top", "1e9"),
            ("--mem_every", "0"),
            ("--mem_every", "x"),
            ("--max_memory_frames", "0"),
            ("--size", "0"),
            ("--size", "100000"),
            ("--threads", "0"),
            ("--threads", "100000"),
            ("--num_workers", "-1"),
            ("--device", "meta"),
            ("--year", "1999"),
            ("--split", "train"),
            ("--size", "9" * 5000),
        )
    ],
    *[
        Case(f"train {flag} {value}", train(flag, value), 2, f"{flag}")
        for flag, value in (
            ("--lr", "0"),
            ("--lr", "nan"),
            ("--lr", "-1"),
            ("--crop", "0"),
            ("--crop", "33"),
            ("--seed", "-1"),
            ("--stage", "7"),
            ("--save_every", "0"),
            ("--keep", "0"),
            ("--id", "../x"),
            ("--id", ""),
            ("--value_dim", "33"),
            ("--accumulate", "0"),
            ("--spacing", "none"),
            ("--yv_list", "nowhere.txt"),
            ("--load_network", "nowhere.pth"),
            ("--resume", "notes.txt"),
        )
        if flag not in ("--yv_list", "--load_network", "--resume")
    ],
    Case("train from no network", train("--load_network", "nowhere.pth"), 2, "nowhere.pth"),
    Case("train on from text", train("--resume", "notes.txt"), 2, "notes.txt"),
    Case("train on from a network", train("--resume", "net.pth"), 2, "net.pth: expected a training checkpoint"),
    Case("train by a list that is not there", train("--yv_list", "nowhere.txt"), 2, "nowhere.txt"),
    Case("train by a list with a path", train("--yv_list", "list.txt"), 2, "list.txt", write("list.txt", "../x\n")),
    Case("train without data", train("--yv_root", "none", "--davis_root", "none"), 2, "found none"),
    Case(
        "train on a broken mask",
        train("--davis_root", "none"),
        2,
        "20 samples in a row",
        lambda: [p.write_bytes(b"x") for p in path("YouTube/train_480p/Annotations/dog").iterdir()],
    ),
    Case(
        "train into somebody's folder",
        train(),
        0,
        "network: ",
        write("out/x_s3/checkpoint_mine.pth", "precious"),
        lambda: path("out/x_s3/checkpoint_mine.pth").read_text() == "precious" and path("out/x_s3.pth").is_file(),
    ),
    Case("train into a file", train(), 2, "found a file", write("out", "x")),
    Case(
        "train on photographs",
        ("train", "--id", "x", "--save_dir", "out", "--stage", "0", "--device", "cpu", "--num_workers", "0", *DATA, *TINY),
        0,
        "network: ",
        right=lambda: path("out/x_s0.pth").is_file(),
    ),
    Case(
        "train on an empty static set",
        train("--stage", "0"),
        2,
        "static",
        lambda: [p.unlink() for p in path("static/ecssd").iterdir()],
    ),
    # a user's own video
    Case("a film", film(), 0, "out/masks", right=lambda: masks("masks") == 8),
    Case("no film", film(video="nowhere.mp4"), 2, "no such video"),
    Case("text as a film", film(video="notes.txt"), 2, "notes.txt"),
    Case("a truncated film", film(), 2, "film.mp4", cut("film.mp4", 3000), lambda: masks("masks") == 0),
    Case("a film of no bytes", film(), 2, "film.mp4", write("film.mp4", b"")),
    Case("a folder without frames", film(video="own"), 2, "expected frames"),
    Case(
        "a frame of another size in a folder",
        film(video="frames"),
        2,
        "2.png",
        save("frames/2.png", picture(2).resize((32, 32))),
    ),
    Case("a mask for no frame", film("--mask", "99:mask.png"), 2, "0 to 7"),
    Case("a mask for a frame below 0", film("--mask", "-1:mask.png"), 2, "-1:mask.png"),
    Case("a mask that is given twice", film("--mask", "mask.png", "0:mask.png"), 0, "overlay"),
    Case("a mask that is not there", film("--mask", "nowhere.png"), 2, "nowhere.png"),
    Case("a mask that is text", film("--mask", "notes.txt"), 2, "notes.txt"),
    Case(
        "a mask with soft edges",
        film(),
        2,
        "antialiasing",
        save("mask.png", Image.fromarray(255 * labels(1)).resize((16, 12), 2).resize((64, 48), 2)),
    ),
    Case(
        "a mask in a folder of results",
        film("--mask", "out/masks/mask.png", "--overwrite"),
        2,
        "lies where the results go",
        both(lambda: path("out/masks").mkdir(parents=True), lambda: shutil.copy("mask.png", "out/masks/mask.png")),
    ),
    Case(
        "the film as its own overlay",
        film("--overwrite", video="out/overlay.mp4"),
        2,
        "lies where the results go",
        both(lambda: path("out").mkdir(), lambda: shutil.copy("film.mp4", "out/overlay.mp4")),
    ),
    Case(
        "somebody's masks folder",
        film("--overwrite"),
        2,
        "was not made by this project",
        write("out/masks/mine.txt", "precious"),
        lambda: path("out/masks/mine.txt").read_text() == "precious",
    ),
    *[
        Case(f"segment_video {flag} {value}", film(flag, value, video="frames"), 2, flag)
        for flag, value in (
            ("--fps", "0"),
            ("--fps", "1e-9"),
            ("--fps", "1e300"),
            ("--fps", "nan"),
            ("--size", "1"),
            ("--threads", "100000"),
        )
    ],
    Case("a frame beyond the film", ("segment_video", "film.mp4", "--frame", "8", "out/f.png"), 2, "0 to 7"),
    Case(
        "a frame of the film",
        ("segment_video", "film.mp4", "--frame", "7", "out/f.png"),
        0,
        "f.png",
        right=lambda: path("out/f.png").is_file(),
    ),
    Case("a frame over a file", ("segment_video", "film.mp4", "--frame", "0", "mask.png"), 2, "already exists"),
    # scores and pictures
    Case("score of no results", ("score", "--results", "nowhere", "--davis_path", "DAVIS")),
    Case(
        "score with a missing mask",
        ("score", "--results", "out", "--davis_path", "DAVIS"),
        2,
        "no such result",
        both(lambda: shutil.copytree("results", "out"), lambda: path("out/ant/00001.png").unlink()),
    ),
    Case(
        "score with a mask of another size",
        ("score", "--results", "out", "--davis_path", "DAVIS"),
        2,
        "expected the size",
        both(
            lambda: shutil.copytree("results", "out"),
            save("results/ant/00001.png", GREY),
            lambda: GREY.resize((8, 8)).save("out/ant/00001.png"),
        ),
    ),
    Case("score of a wrong split", ("score", "--results", "results", "--davis_path", "DAVIS", "--split", "x"), 2, "--split"),
    Case(
        "perfect scores",
        ("score", "--results", "out", "--davis_path", "DAVIS"),
        0,
        "1.000,1.000",
        lambda: shutil.copytree("results", "out"),
    ),
    Case("report into a folder", ("report", "results", "--davis_path", "DAVIS", "--output", "frames"), 2, "found a folder"),
    Case("report of no results", ("report", "nowhere", "--davis_path", "DAVIS", "--output", "out/r.html"), 2, "nowhere"),
    Case(
        "samples at -1", ("show_samples", "--stage", "0", *DATA, "--progress", "-1", "--output", "out/s.png"), 2, "--progress"
    ),
    Case("no samples", ("show_samples", "--stage", "0", *DATA, "--samples", "0", "--output", "out/s.png"), 2, "--samples"),
    Case(
        "results that are text",
        ("show_results", "--results", "out", "--davis_path", "DAVIS", "--output", "out/r.png"),
        2,
        "00000.png",
        both(lambda: shutil.copytree("results", "out"), lambda: path("out/ant/00000.png").write_text("x")),
    ),
    Case(
        "copies of first masks",
        ("copy_first_mask", "--davis_path", "DAVIS", "--output", "out"),
        0,
        "masks",
        right=lambda: masks("ant") == 3,
    ),
    # data
    Case(
        "check of broken data",
        ("check_data", *DATA, "--davis16_root", "none", "--yv18_root", "none", "--decode", "--num_workers", "0"),
        1,
        "",
        write(f"{ANT}/00001.jpg", b"x"),
    ),
    Case(
        "check of a bad list",
        ("check_data", *DATA, "--davis16_root", "none", "--yv18_root", "none", "--num_workers", "0"),
        1,
        "",
        write("DAVIS/ImageSets/2017/val.txt", "../../etc\n"),
    ),
    Case(
        "check of nothing",
        (
            "check_data",
            *[word for flag in ("static", "bl", "yv", "davis", "davis16", "yv18") for word in (f"--{flag}_root", "nowhere")],
            "--num_workers",
            "0",
        ),
        0,
        "missing",
    ),
    Case("conversion of text", ("convert_weights", "notes.txt", "out/x.pth"), 2, "notes.txt"),
    Case("conversion of another configuration", ("convert_weights", "net.pth", "out/x.pth", "--to", "released"), 2, "net.pth"),
    Case("an archive of another data set", ("prepare_bl30k", "davis.zip", "--output", "out"), 2, "davis.zip"),
    Case("a truncated archive", ("prepare_davis", "davis.zip", "--output", "out"), 2, "davis.zip", cut("davis.zip", 2000)),
    Case("text as an archive", ("prepare_static", "notes.txt", "--output", "out", "--num_workers", "0"), 2, "notes.txt"),
    Case(
        "an archive that cannot be read",
        ("prepare_davis", "davis.zip", "--output", "out"),
        2,
        "davis.zip: cannot read",
        link("davis.zip", "/proc/self/mem"),
    ),
    Case("an archive that lies about its size", ("prepare_davis", "davis.zip", "--output", "out"), 0, "written", lie),
    Case("no archive", ("prepare_youtube", "nowhere.zip", "--output", "out", "--num_workers", "0"), 2, "nowhere.zip"),
    Case(
        "an archive over somebody's files",
        ("prepare_bl30k", "bl30k.tar", "--output", "out"),
        2,
        "differs from",
        write("out/JPEGImages/eel/00000.jpg", "precious"),
        lambda: path("out/JPEGImages/eel/00000.jpg").read_text() == "precious",
    ),
    Case(
        "an archive through a link",
        ("prepare_bl30k", "bl30k.tar", "--output", "out"),
        2,
        "plain name",
        link("out/JPEGImages/eel", "../../frames"),
    ),
    Case(
        "demo data over somebody's files",
        ("make_demo_data", "out", "--overwrite"),
        2,
        "something else",
        write("out/thesis.txt", "precious"),
        lambda: path("out/thesis.txt").read_text() == "precious",
    ),
    Case("demo data as a whole disk", ("make_demo_data", "out"), 2, "out: .*found a disk", disk("4k")),
    Case("demo data into a file", ("make_demo_data", "notes.txt"), 2, "notes.txt"),
    # results over what is not ours
    Case("copies of first masks into the ground truth", (*COPIES, "DAVIS/Annotations/480p"), 2, "holds input"),
    Case("copies of first masks over a network's results", (*COPIES, "out"), 2, "another run", quietly(davis())),
    Case("a network of that name", train(), 2, "x_s3.pth: already exists", write("out/x_s3.pth", "precious")),
    Case(
        "a folder of the network's name",
        train(),
        2,
        "x_s3.pth: already exists",
        lambda: path("out/x_s3.pth").mkdir(parents=True),
    ),
    Case("a list that names scores.json", davis(), 2, "another name", copied("scores.json"), lambda: not path("out").exists()),
    # names
    Case("a run with a long name", train("--id", "n" * 247), 2, "^error: --id", right=lambda: not path("out").exists()),
    Case("output that is no UTF-8", ("eval_davis", *TREE, os.fsdecode(b"out/\xff"), *NET), 0, r"out/\\udcff"),
    Case(
        "scores of a video that is no UTF-8",
        ("score", "--results", "out", "--yv_path", "own"),
        0,
        "1.000",
        both(
            lambda: shutil.rmtree("own/Annotations/cat"),
            lambda: shutil.rmtree("own/JPEGImages/cat"),
            renamed("own/JPEGImages/größe", b"\xff"),
            renamed("own/Annotations/größe", b"\xff"),
            lambda: [shutil.copy(m, m.with_name("00001.png")) for m in list(path("own/Annotations").rglob("00000.png"))],
            lambda: shutil.copytree("own/Annotations", "out"),
        ),
    ),
    Case(
        "a report on frames that are no UTF-8",
        ("report", "results", *TREE, "out/r.html"),
        0,
        "report",
        both(
            *[
                renamed(f"{f}/00001{e}", b"1\xff" + e.encode())
                for f, e in ((ANT, ".jpg"), (str(Path(FIRST).parent), ".png"), ("results/ant", ".png"))
            ]
        ),
    ),
    Case("a folder with a line break", ("eval_davis", "--davis_path", "a\nb", "--output", "out", *NET), 2, r"a\\nb: expected"),
    Case("a frame with a line break", own(), 2, "control", renamed("own/JPEGImages/cat/00001.jpg", b"0\n1.jpg")),
    Case("a film with a colon", film(video="a:1.mp4"), 0, "sheet", renamed("film.mp4", b"a:1.mp4")),
    Case("a film into a folder with a colon", (*film()[:4], "--output", "out/a:1", *NET), 0, "sheet"),
    Case(
        "a folder called like a frame of one's own",
        film(video="frames"),
        2,
        "2.png",
        both(lambda: path("frames/2.png").unlink(), lambda: path("frames/2.png").mkdir()),
    ),
    Case("a sheet into .", ("show_results", "--results", "results", *TREE, "."), 2, "found a folder"),
    Case("samples into nothing", ("show_samples", *DATA, "--output", ""), 2, "found a folder"),
    Case("a conversion into .", ("convert_weights", "net.pth", "."), 2, "found a folder"),
    Case(
        "a frame into a circle of links",
        ("segment_video", "film.mp4", "--frame", "0", "out/f.png"),
        2,
        "out: expected a folder",
        link("out", "out"),
    ),
    Case(
        "clips into a circle of links",
        ("make_clips", "out/clips", "--static_root", "static"),
        2,
        "out/.*symbolic links",
        link("out", "out"),
    ),
    Case(
        "an archive of names that are no UTF-8",
        own("--zip"),
        2,
        "--zip: expected names in UTF-8",
        renamed("own/JPEGImages/cat/00001.jpg", b"0\xff1.jpg"),
        lambda: not path("out").exists(),
    ),
    Case(
        "a record of long settings",
        davis(),
        2,
        r"size was x+\.\.\. \(5000 characters\), is 48",
        both(
            quietly(davis()),
            lambda: path("out/run.json").write_text(
                path("out/run.json").read_text().replace('"size": 48', f'"size": "{"x" * 5000}"')
            ),
        ),
    ),
    # disks
    Case("a checkpoint on a full disk", train(), 2, "No space left", disk("3m")),
    Case("a conversion on a full disk", ("convert_weights", "net.pth", "out/n.pth"), 2, "No space left", disk("3m")),
    Case("an archive on a full disk", ("prepare_davis", "davis.zip", "--output", "out"), 2, "No space left", disk("16k")),
    Case(
        "clips on a full disk",
        ("make_clips", "out/clips", "--static_root", "static", "--clips", "1"),
        2,
        "No space left",
        disk("64k"),
        lambda: not path("out/clips").exists(),
    ),
    Case("copies on a full disk", (*COPIES, "out"), 2, "No space left", disk("8k"), lambda: masks("ant") in (0, 3)),
    # checkpoints
    Case("weights that are no numbers", davis(), 2, "expected finite weights", first_tensor(lambda t: t * torch.nan)),
    Case(
        "training from infinite weights",
        train("--load_network", "net.pth"),
        2,
        "finite",
        first_tensor(lambda t: t * torch.inf),
    ),
    Case(
        "weights beyond float16",
        ("convert_weights", "net.pth", "out/n.pth", "--half"),
        2,
        "65504",
        first_tensor(lambda t: t + 1e6),
    ),
    *[
        Case(f"weights that are {kind}", davis(), 2, "tensors of another kind", first_tensor(change))
        for kind, change in {
            "integers": lambda t: t.long(),
            "complex": lambda t: t.to(torch.complex64),
            "sparse": lambda t: t.to_sparse(),
            "nowhere": lambda t: t.to("meta"),
        }.items()
    ],
    Case(
        "a tensor with a number for a name",
        davis(),
        2,
        "expected an STCN network",
        lambda: checkpoint(path("net.pth"), lambda c: c["network"].update({1: torch.zeros(1)})),
    ),
    Case("an absurd width", davis(), 2, "value_dim: expected at most", entry("config", value_dim=16 * 10**12)),
    # numbers
    *[
        Case(f"{command[0]} {flag} {value}", (*command, flag, value), 2, flag)
        for command, flag, value in (
            (train(), "--seed", 2**70),
            (train(), "--key_dim", 10**12),
            (train(), "--crop", 200_000),
            (train("--bootstrap_start", 5), "--bootstrap_end", 1),
            (("show_samples", *DATA, "--output", "out/s.png"), "--seed", 2**70),
            (("show_samples", *DATA, "--output", "out/s.png"), "--crop", 200_000),
        )
    ],
    Case(
        "ten thousand million frames on a sheet",
        ("show_results", "--results", "results", *TREE, "out/r.png", "--frames", 10**10),
        0,
        "picture",
    ),
    Case(
        "ten thousand million frames in a report", ("report", "results", *TREE, "out/r.html", "--frames", 10**10), 0, "report"
    ),
    # lists and archives
    Case(
        "meta.json: a video twice",
        youtube(),
        2,
        "twice",
        write("YouTube/valid/meta.json", '{"videos": {"cow": {}, "cow": {}}}'),
    ),
    Case(
        "meta.json: an id of two spellings",
        youtube(),
        2,
        "ids",
        write("YouTube/valid/meta.json", '{"videos": {"cow": {"objects": {"05": {"frames": ["00000"]}}}}}'),
    ),
    Case(
        "circles of links in an unpacked archive",
        ("prepare_davis", "DAVIS", "--output", "out"),
        0,
        "written",
        both(link("DAVIS/one", "."), link("DAVIS/two", ".")),
    ),
    Case(
        "a dangling frame in an unpacked archive",
        ("prepare_davis", "DAVIS", "--output", "out"),
        2,
        "00001.jpg: .* dangling link",
        link(f"{ANT}/00001.jpg", "nowhere"),
    ),
    Case("a tar with two files of one name", ("prepare_bl30k", "b.tar", "--output", "out"), 2, "differs from", twice("b.tar")),
    # films
    Case(
        "a playlist as a film",
        film(),
        2,
        "cannot read this video",
        write("film.mp4", "ffconcat version 1.0\nfile '/etc/passwd'\n"),
    ),
    # what may never end, or fill the memory
    Case(
        "a pipe as a frame",
        davis(),
        2,
        "00001.jpg: expected a picture, found a pipe",
        both(lambda: path(f"{ANT}/00001.jpg").unlink(), lambda: os.mkfifo(f"{ANT}/00001.jpg")),
        lambda: not path("out").exists(),
    ),
    *[
        Case(
            f"{what} as {name}",
            command,
            1 if place == FIRST else 2,
            Path(place).name,
            both(lambda p=place: path(p).unlink(), make(place)),
        )
        for name, place, command in (
            ("a list", "DAVIS/ImageSets/2017/val.txt", davis()),
            ("meta.json", "YouTube/valid/meta.json", youtube()),
            ("a mask", FIRST, davis()),
            ("a drawn mask", "mask.png", film()),
            ("a film", "film.mp4", film()),
            ("a network", "net.pth", davis()),
            ("an archive", "davis.zip", ("prepare_davis", "davis.zip", "--output", "out")),
        )
        for what, make in (
            ("a pipe", lambda place: lambda: os.mkfifo(place)),
            ("a device", lambda place: link(place, "/dev/zero")),
        )
    ],
    Case("a device as a frame", davis(), 2, "00001.jpg: expected a picture", link(f"{ANT}/00001.jpg", "/dev/zero")),
    Case("a bomb as a frame", davis(), 1, "", lambda: bomb(path(f"{ANT}/00001.jpg"), 50_000), lambda: masks("bee") == 3),
    Case("a bomb as a mask", davis(), 2, "00000.png: mask is 50000x50000|bomb", lambda: bomb(path(FIRST), 50_000)),
    Case("a bomb as a drawn mask", film(), 2, "mask.png: .*bomb", lambda: bomb(path("mask.png"), 50_000)),
    Case(
        "a bomb in an archive",
        ("prepare_youtube", "y.zip", "--output", "out", "--num_workers", "0"),
        2,
        "00000.jpg: cannot read this image .*bomb",
        both(
            lambda: bomb(path("b.jpg"), 50_000),
            zipped("y.zip", {"train/JPEGImages/a/00000.jpg": "b.jpg", "train/JPEGImages/a/00001.jpg": f"{ANT}/00001.jpg"}),
        ),
        lambda: len(list(path("out").rglob("*.jpg"))) == 1,
    ),
    Case(
        "a small archive of a large file",
        ("prepare_youtube", "y.zip", "--output", "out", "--num_workers", "0"),
        2,
        "00001.jpg: expected at most 256 MiB, found 1024 MiB",
        zipped("y.zip", {"valid/JPEGImages/a/00001.jpg": None, "valid/JPEGImages/a/00000.jpg": f"{ANT}/00000.jpg"}),
        lambda: len(list(path("out").rglob("*.jpg"))) == 1,
    ),
    *[
        Case(f"meta.json: {name}", youtube(), 2, "meta.json", lambda kind=kind: many(path("YouTube/valid/meta.json"), kind))
        for name, kind in {
            "a million numbers": "list",
            "a million entries": "objects",
            "a deep nest of objects": "deep objects",
        }.items()
    ],
    Case(
        "a list of 300 MiB",
        davis(),
        2,
        "val.txt: expected text of at most 256 MiB, found 300 MiB",
        lambda: os.truncate("DAVIS/ImageSets/2017/val.txt", 300 << 20),
    ),
    Case("pickled code as a network", davis(), 2, "net.pth: .*holds code", lambda: code(path("net.pth"), "pickle"), unharmed),
    Case("code in a checkpoint", davis(), 2, "net.pth: .*holds code", lambda: code(path("net.pth"), "zip"), unharmed),
    Case(
        "code to train on from", train("--resume", "net.pth"), 2, "holds code", lambda: code(path("net.pth"), "old"), unharmed
    ),
]


class TookTooLong(BaseException):
    """A case hangs.  Not an `Exception`, so that no handler catches it."""


def stop(number: int, frame: object) -> None:
    for path in Path().rglob("*"):
        if path.is_fifo():  # else a thread that waits for it would keep the process
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    raise TookTooLong


class Stream(io.TextIOWrapper):
    """Standard output like a terminal's: only UTF-8 can be printed.  Standard error escapes the rest, as Python's does."""

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(io.BytesIO(), "utf-8", errors, write_through=True)

    def getvalue(self) -> str:
        return self.buffer.getvalue().decode()


def snapshot(root: Path) -> dict[str, str]:
    """The content of the tree, except `out` and the sandbox's own folder."""
    found = {}
    for place, folders, files in os.walk(root):
        if Path(place) == root:
            folders[:] = [name for name in folders if name not in ("out", ".tmp")]
        for name in [*folders, *files]:
            item = Path(place, name)
            is_file = item.is_file() and not item.is_symlink()
            found[str(item)] = hashlib.sha256(item.read_bytes()).hexdigest() if is_file else "folder or link"
    found.pop(str(root / "out"), None)
    return found


def run(case: Case, here: Path) -> list[str]:
    """What is wrong with the end of a case, or an empty value."""
    os.chdir(here)
    case.breaks()
    before = snapshot(here)
    out, err = Stream(), Stream("backslashreplace")
    problems = []
    signal.alarm(LIMIT)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run_script(*map(str, case.command)) or 0
    except BaseException:
        return [f"traceback: {traceback.format_exc().splitlines()[-1]}"]
    finally:
        signal.alarm(0)
    lines = [line for line in err.getvalue().replace("\r", "\n").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\S+: )?error: ", line)]
    if status != case.status:
        problems.append(f"status {status}, expected {case.status}: {(lines or ['-'])[-1][:200]}")
    if "Traceback" in out.getvalue() + err.getvalue():
        problems.append("a traceback was printed")
    if status == 2 and (len(errors) != 1 or lines[-1] != errors[0]):
        problems.append(f"expected one line of error, found {errors[:3]} and last {lines[-1:]}")
    if status == 2 and lines and len(lines[-1]) > 700:
        problems.append(f"an error of {len(lines[-1])} characters")
    told = (lines or [""])[-1] if status == 2 else out.getvalue()
    if not re.search(case.says, told):
        problems.append(f"expected {case.says!r} in: {told[-300:]}")
    if snapshot(here) != before:
        changed = {name for name, _ in snapshot(here).items() ^ before.items()}
        problems.append(f"touched outside: {sorted(changed)[:3]}")
    if not case.right():
        problems.append("the result is not right")
    if left := [str(p) for p in Path("out").rglob(".*") if re.search(r"\.partial$|\.[0-9a-f]{8}$", p.name)]:
        problems.append(f"left behind: {left[:3]}")
    return problems


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    result.add_argument("folder", type=Path, help="the sandbox's folder")
    result.add_argument("pattern", nargs="?", default="", help="a regular expression for the names of cases")
    result.add_argument("--every", type=int, default=1, metavar="N", help="run each N-th of them")
    return result


def main(words: Sequence[str] | None = None) -> int:
    if "STCN_SANDBOX" not in os.environ:
        print("error: run this in tests/robustness/sandbox.sh only", file=sys.stderr)
        return 125
    arguments = parser().parse_args(words)
    root, pattern = arguments.folder.resolve(), re.compile(arguments.pattern)
    (root / "good").mkdir()
    good.build(root / "good")
    failed = 0
    signal.signal(signal.SIGALRM, stop)
    chosen = [case for case in CASES if pattern.search(case.name)][:: arguments.every]
    for number, case in enumerate(chosen):
        here = root / f"case {number}"
        shutil.copytree(root / "good", here)
        start = time.perf_counter()
        problems = run(case, here)
        os.chdir(root)
        subprocess.run(["umount", here / "out"], capture_output=True)  # if a case mounted a disk there
        shutil.rmtree(here)
        failed += bool(problems)
        mark = "FAILED" if problems else "ok"
        print(f"{mark:<7}{time.perf_counter() - start:6.1f} s  {case.name[:80]}", *problems, sep="\n          ", flush=True)
    print(f"{len(chosen)} cases, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
