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
from typing import Any, NamedTuple

import good
import numpy as np
import torch
from breaks import bomb, code, many
from conftest import run_script
from good import checkpoint, labels, picture
from PIL import Image

LIMIT = 120  # seconds for a case
NET = ("--model", "net.pth", "--size", "48")
TINY = (
    *("--key_backbone=resnet18", "--key_dim=8", "--value_dim=32", "--no_pretrained", "--crop=32", "--iterations=1"),
    *("--batch_size=1", "--device=cpu", "--num_workers=0"),
)
DATA = ("--static_root", "static", "--bl_root", "BL30K", "--yv_root", "YouTube", "--davis_root", "DAVIS")


class Case(NamedTuple):
    """A call of `breaks()`, then of the script, in a copy of the good tree (the current folder)."""

    name: str
    command: tuple
    says: str = "error: "  # a regular expression for the last line of standard error (status 0: for the output)
    breaks: Callable[[], object] = lambda: None
    right: Callable[[], bool] = lambda: True  # what must hold afterwards
    status: int = 2


def davis(*flags: object) -> tuple:
    return ("eval_davis", "--davis_path", "DAVIS", "--output", "out", *NET, *flags)


def youtube(*flags: object) -> tuple:
    return ("eval_youtube", "--yv_path", "YouTube", "--output", "out", *NET, *flags)


def own(*flags: object) -> tuple:
    return ("eval_youtube", "--yv_path", "own", "--output", "out", *NET, *flags)


def film(*flags: object, video: str = "film.mp4") -> tuple:
    return ("segment_video", video, "--mask", "mask.png", "--output", "out", *NET, *flags)


def train(*flags: object) -> tuple:
    return ("train", "--id", "x", "--save_dir", "out", "--stage", "3", *DATA, *TINY, *flags)


def prepare(name: str, archive: str) -> tuple:
    return (f"prepare_{name}", archive, "--output", "out")


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


def removed(name: str) -> Callable[[], object]:
    return lambda: path(name).unlink()


def masks(folder: str) -> int:
    return len(list(Path("out", folder).rglob("*.png")))


def made(folder: str, count: int) -> Callable[[], bool]:
    return lambda: masks(folder) == count


def absent(name: str) -> Callable[[], bool]:
    return lambda: not path(name).exists()


def there(name: str) -> Callable[[], bool]:
    return lambda: path(name).is_file()


def kept(name: str) -> Callable[[], bool]:
    return lambda: path(name).read_text() == "precious"


def pictures(count: int) -> Callable[[], bool]:
    return lambda: len(list(path("out").rglob("*.jpg"))) == count


def both(*steps: Callable[[], object]) -> Callable[[], object]:
    return lambda: [step() for step in steps]


def copied(name: str, *parts: str) -> Callable[[], object]:
    """DAVIS's list names another copy of the video `ant` too, called `name`."""
    places = (ANT, str(Path(FIRST).parent), *parts)
    listed = write(LIST, f"ant\n{name}\n")
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

    return in_file(do)


def in_file(change: Callable[[dict], object]) -> Callable[[], object]:
    return lambda: checkpoint(path("net.pth"), change)


def entry(part: str, **values: object) -> Callable[[], object]:
    return in_file(lambda content: content[part].update(values))


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


def results() -> None:
    shutil.copytree("results", "out")


def works(*arguments: Any, **options: Any) -> Case:
    return Case(*arguments, **options, status=0)


def broken(name: str, breaks: Callable[[], object]) -> Case:
    """A frame of `ant` is: the other video is finished, and this one is not."""
    return Case(name, davis(), "", breaks, lambda: masks("bee") == 3 and masks("ant") == 0, status=1)


TREE = ("--davis_path", "DAVIS", "--output")
COPIES, SCORE = ("copy_first_mask", *TREE), ("score", *TREE[:2], "--results")
SAMPLES, CHECK = ("show_samples", *DATA, "--output"), ("check_data", *DATA, "--davis16_root=none", "--yv18_root=none")
ANT, FIRST = "DAVIS/JPEGImages/480p/ant", "DAVIS/Annotations/480p/ant/00000.png"
FRAME, LAST, LIST, META = f"{ANT}/00001.jpg", f"{ANT}/00002.jpg", "DAVIS/ImageSets/2017/val.txt", "YouTube/valid/meta.json"
GREY = Image.fromarray(labels(1, 2))

CASES = [
    # evaluation: frames
    broken("a frame of no bytes", write(FRAME, b"")),
    broken("a truncated frame", cut(LAST, 400)),
    Case("the first frame truncated", davis(), "00000.jpg", cut(f"{ANT}/00000.jpg", 300), absent("out")),
    broken("text as a frame", write(FRAME, "hello")),
    broken("a frame of another size", save(FRAME, picture(1).resize((32, 32)))),
    works("a grey frame", davis(), "J&F", save(FRAME, picture(1).convert("L")), made("ant", 3)),
    Case(
        "a folder called like a frame",
        davis(),
        "00002.jpg: expected a picture, found a folder",
        made_folder(LAST),
        absent("out"),
    ),
    Case("a dangling link as a frame", davis(), "no such file", link(LAST, "nowhere"), made("bee", 3), status=1),
    Case("a circle of links as a folder", davis(), "ant", link(ANT, "ant")),
    # what is only read may lie anywhere
    works(
        "a video on another disk",
        davis(),
        "J&F",
        both(lambda: shutil.move(ANT, "elsewhere"), link(ANT, "../../../elsewhere")),
        made("ant", 3),
    ),
    Case("a file where a video belongs", davis(), "ant", both(lambda: shutil.rmtree(ANT), write(ANT, "x"))),
    works(
        "a video of one frame",
        own(),
        "frames",
        lambda: [p.unlink() for p in path("own/JPEGImages/cat").glob("0000[12].jpg")],
        made("Annotations/cat", 1),
    ),
    # evaluation: masks
    Case("an empty mask", davis(), "failed: ant: .*00000.png", save(FIRST, Image.fromarray(labels())), status=1),
    Case("a mask of no bytes", davis(), "00000.png", write(FIRST, b"")),
    works(
        "a mask with 254 and 255",
        own(),
        "frames",
        save("own/Annotations/cat/00000.png", Image.fromarray(labels(254, 255))),
        lambda: set(np.unique(np.array(Image.open("out/Annotations/cat/00001.png")))) <= {0, 254},
    ),
    works(
        "a white mask",
        own(),
        "frames",
        save("own/Annotations/cat/00000.png", Image.fromarray(labels(255))),
        lambda: set(np.unique(np.array(Image.open("out/Annotations/cat/00000.png")))) == {0, 1},
    ),
    Case("videos without masks", own(), "failed: cat", lambda: shutil.rmtree("own/Annotations/cat"), status=1),
    works(
        "names with spaces and umlauts",
        own(),
        "frames",
        right=lambda: masks("Annotations/two words") == masks("Annotations/größe") == 3,
    ),
    works(
        "a video whose name begins with a dash",
        own(),
        "frames",
        lambda: [path(f"own/{part}/cat").rename(f"own/{part}/--cat") for part in ("JPEGImages", "Annotations")],
        made("Annotations/--cat", 3),
    ),
    # evaluation: lists
    works("a list twice the same", davis(), "J&F", write(LIST, "ant\nant\n"), made("ant", 3)),
    works("a list with Windows line ends", davis(), "J&F", write(LIST, "ant\r\nbee\r\n"), made("bee", 3)),
    Case("a list that names run.json", davis(), "run.json", write(LIST, "run.json\n")),
    Case(
        "a list that names a hidden folder",
        davis(),
        "dot",
        both(
            write(LIST, ".ant\n"),
            *[lambda p=p: shutil.copytree(p, f"{Path(p).parent}/.ant") for p in (ANT, str(Path(FIRST).parent))],
        ),
    ),
    Case("a list that is a folder", davis(), "val.txt", made_folder(LIST)),
    Case("no data", davis("--davis_path", "nowhere")),
    Case("data that is a file", davis("--davis_path", "notes.txt")),
    *[
        Case(f"meta.json: {name}", youtube(), "meta.json", write(META, text))
        for name, text in {
            "nothing": "",
            "no frames": '{"videos": {"cow": {"objects": {"5": {"frames": []}}}}}',
            "a frame that is not there": '{"videos": {"cow": {"objects": {"5": {"frames": ["00009"]}}}}}',
            "a video above": '{"videos": {"../cow": {"objects": {"5": {"frames": ["00000"]}}}}}',
            "a deep nest": "[" * 50_000,
            "UTF-16": '{"videos": {}}'.encode("utf-16"),
        }.items()
    ],
    # evaluation: output
    Case("output where no file can be made", davis(), "out/.stcn.lock: cannot make this file", link("out", "/proc")),
    Case("a file as output", davis(), "found a file", write("out", "x"), lambda: path("out").read_text() == "x"),
    Case("output below a file", davis("--output", "notes.txt/out"), "found a file"),
    Case(
        "somebody's results",
        davis("--overwrite"),
        "is in the way",
        write("out/ant/00000.png", "precious"),
        kept("out/ant/00000.png"),
    ),
    Case("a link in the output", davis("--overwrite"), "plain name|in the way", link("out/ant", "../results/ant")),
    Case("a link to nowhere in the output", davis(), "plain name|in the way", link("out/ant", "../nowhere")),
    Case("output into the data", davis("--output", "DAVIS/Annotations/480p", "--overwrite"), "holds input"),
    Case(
        "a link in the output of an experiment",
        ("scripts.experiments.schedules", "--davis_path", "DAVIS", *NET, "--every", "2", "--output", "out"),
        "out: expected a plain name, inside out",
        link("out/net", "../results"),
        made("../results", 6),
    ),
    Case(
        "a folder called like the scores, and a changed frame",
        davis(),
        "scores.json: expected a file, found a folder",
        both(quietly(davis()), cut(LAST), made_folder("out/scores.json")),
        made("ant", 3),
    ),
    # checkpoints
    Case("a truncated checkpoint", davis(), "net.pth: expected a checkpoint", cut("net.pth", 5000)),
    Case("a checkpoint of another configuration", davis(), "net.pth", entry("config", key_dim=9)),
    Case("a long name in a configuration", davis(), r"arch: expected .*x\.\.\.", entry("config", arch="x" * 5000)),
    # numbers
    *[
        Case(f"eval_davis {flag} {value}", davis(flag, value), flag)
        for flag, values in (
            *(("--top", ("0", "-3", "1e9")), ("--mem_every", ("0", "x")), ("--max_memory_frames", ("0",))),
            *(("--size", ("0", "100000", "9" * 5000)), ("--threads", ("0", "100000")), ("--num_workers", ("-1",))),
            *(("--device", ("meta",)), ("--year", ("1999",)), ("--split", ("train",))),
        )
        for value in values
    ],
    *[
        Case(f"train {flag} {value}", train(flag, value), flag)
        for flag, values in (
            *(("--lr", ("0", "nan", "-1")), ("--crop", ("0", "33")), ("--seed", ("-1",)), ("--stage", ("7",))),
            *(("--save_every", ("0",)), ("--keep", ("0",)), ("--id", ("../x", "")), ("--value_dim", ("33",))),
            *(("--accumulate", ("0",)), ("--spacing", ("none",))),
        )
        for value in values
    ],
    Case("train from no network", train("--load_network", "nowhere.pth"), "nowhere.pth"),
    Case("train on from text", train("--resume", "notes.txt"), "notes.txt"),
    Case("train on from a network", train("--resume", "net.pth"), "net.pth: expected a training checkpoint"),
    Case("train by a list that is not there", train("--yv_list", "nowhere.txt"), "nowhere.txt"),
    Case("train by a list with a path", train("--yv_list", "list.txt"), "list.txt", write("list.txt", "../x\n")),
    Case("train without data", train("--yv_root", "none", "--davis_root", "none"), "found none"),
    Case(
        "train on a broken mask",
        train("--davis_root", "none"),
        "20 samples in a row",
        lambda: [p.write_bytes(b"x") for p in path("YouTube/train_480p/Annotations/dog").iterdir()],
    ),
    works(
        "train into somebody's folder",
        train(),
        "network: ",
        write("out/x_s3/checkpoint_mine.pth", "precious"),
        lambda: kept("out/x_s3/checkpoint_mine.pth")() and path("out/x_s3.pth").is_file(),
    ),
    Case("train into a file", train(), "found a file", write("out", "x")),
    works("train on photographs", train("--stage", "0"), "network: ", right=there("out/x_s0.pth")),
    Case(
        "train on an empty static set",
        train("--stage", "0"),
        "static",
        lambda: [p.unlink() for p in path("static/ecssd").iterdir()],
    ),
    # a user's own video
    works("a film", film(), "out/masks", right=made("masks", 8)),
    Case("no film", film(video="nowhere.mp4"), "no such video"),
    Case("text as a film", film(video="notes.txt"), "notes.txt"),
    Case("a truncated film", film(), "film.mp4", cut("film.mp4", 3000), made("masks", 0)),
    Case("a film of no bytes", film(), "film.mp4", write("film.mp4", b"")),
    Case("a folder without frames", film(video="own"), "expected frames"),
    Case(
        "a frame of another size in a folder", film(video="frames"), "2.png", save("frames/2.png", picture(2).resize((32, 32)))
    ),
    Case("a mask for no frame", film("--mask", "99:mask.png"), "0 to 7"),
    Case("a mask for a frame below 0", film("--mask", "-1:mask.png"), "-1:mask.png"),
    works("a mask that is given twice", film("--mask", "mask.png", "0:mask.png"), "overlay"),
    Case("a mask that is not there", film("--mask", "nowhere.png"), "nowhere.png"),
    Case("a mask that is text", film("--mask", "notes.txt"), "notes.txt"),
    Case(
        "a mask with soft edges",
        film(),
        "antialiasing",
        save("mask.png", Image.fromarray(255 * labels(1)).resize((16, 12), 2).resize((64, 48), 2)),
    ),
    Case(
        "a mask in a folder of results",
        film("--mask", "out/masks/mask.png", "--overwrite"),
        "lies where the results go",
        both(lambda: path("out/masks").mkdir(parents=True), lambda: shutil.copy("mask.png", "out/masks/mask.png")),
    ),
    Case(
        "the film as its own overlay",
        film("--overwrite", video="out/overlay.mp4"),
        "lies where the results go",
        both(made_folder("out"), lambda: shutil.copy("film.mp4", "out/overlay.mp4")),
    ),
    *[
        Case(f"segment_video {flag} {value}", film(flag, value, video="frames"), flag)
        for flag, values in (("--fps", ("0", "1e-9", "1e300", "nan")), ("--size", ("1",)), ("--threads", ("100000",)))
        for value in values
    ],
    Case("a frame beyond the film", ("segment_video", "film.mp4", "--frame", "8", "out/f.png"), "0 to 7"),
    works(
        "a frame of the film", ("segment_video", "film.mp4", "--frame", "7", "out/f.png"), "f.png", right=there("out/f.png")
    ),
    Case("a frame over a file", ("segment_video", "film.mp4", "--frame", "0", "mask.png"), "already exists"),
    # scores and pictures
    Case("score of no results", (*SCORE, "nowhere")),
    Case("score with a missing mask", (*SCORE, "out"), "no such result", both(results, removed("out/ant/00001.png"))),
    Case("score of a wrong split", (*SCORE, "results", "--split", "x"), "--split"),
    works("perfect scores", (*SCORE, "out"), "1.000,1.000", results),
    Case("report of no results", ("report", "nowhere", *TREE, "out/r.html"), "nowhere"),
    Case("no samples", (*SAMPLES, "out/s.png", "--stage", "0", "--samples", "0"), "--samples"),
    Case(
        "results that are text",
        ("show_results", "--results", "out", *TREE, "out/r.png"),
        "00000.png",
        both(results, lambda: path("out/ant/00000.png").write_text("x")),
    ),
    works("copies of first masks", (*COPIES, "out"), "masks", right=made("ant", 3)),
    # data
    Case("check of broken data", (*CHECK, "--decode", "--num_workers", "0"), "", write(FRAME, b"x"), status=1),
    Case("check of a bad list", (*CHECK, "--num_workers", "0"), "", write(LIST, "../../etc\n"), status=1),
    works(
        "check of nothing",
        (
            "check_data",
            *[word for flag in ("static", "bl", "yv", "davis", "davis16", "yv18") for word in (f"--{flag}_root", "nowhere")],
            "--num_workers",
            "0",
        ),
        "missing",
    ),
    Case("conversion of text", ("convert_weights", "notes.txt", "out/x.pth"), "notes.txt"),
    Case("conversion of another configuration", ("convert_weights", "net.pth", "out/x.pth", "--to", "released"), "net.pth"),
    Case("an archive of another data set", prepare("bl30k", "davis.zip"), "davis.zip"),
    Case("a truncated archive", prepare("davis", "davis.zip"), "davis.zip", cut("davis.zip", 2000)),
    Case("text as an archive", prepare("static", "notes.txt"), "notes.txt"),
    Case(
        "an archive that cannot be read",
        prepare("davis", "davis.zip"),
        "davis.zip: cannot read",
        link("davis.zip", "/proc/self/mem"),
    ),
    works("an archive that lies about its size", prepare("davis", "davis.zip"), "written", lie),
    Case("no archive", prepare("youtube", "nowhere.zip"), "nowhere.zip"),
    Case(
        "an archive over somebody's files",
        prepare("bl30k", "bl30k.tar"),
        "differs from",
        write("out/JPEGImages/eel/00000.jpg", "precious"),
        kept("out/JPEGImages/eel/00000.jpg"),
    ),
    Case("an archive through a link", prepare("bl30k", "bl30k.tar"), "plain name", link("out/JPEGImages/eel", "../../frames")),
    Case(
        "demo data over somebody's files",
        ("make_demo_data", "out", "--overwrite"),
        "something else",
        write("out/thesis.txt", "precious"),
        kept("out/thesis.txt"),
    ),
    Case("demo data as a whole disk", ("make_demo_data", "out"), "out: .*found a disk", disk("4k")),
    Case("demo data into a file", ("make_demo_data", "notes.txt"), "notes.txt"),
    # results over what is not ours
    Case("copies of first masks into the ground truth", (*COPIES, "DAVIS/Annotations/480p"), "holds input"),
    Case("copies of first masks over a network's results", (*COPIES, "out"), "another run", quietly(davis())),
    Case("a network of that name", train(), "x_s3.pth: already exists", write("out/x_s3.pth", "precious")),
    Case(
        "a folder of the network's name", train(), "x_s3.pth: already exists", lambda: path("out/x_s3.pth").mkdir(parents=True)
    ),
    Case("a list that names scores.json", davis(), "another name", copied("scores.json"), absent("out")),
    # names
    Case("a run with a long name", train("--id", "n" * 247), "^error: --id", right=absent("out")),
    works("output that is no UTF-8", davis("--output", os.fsdecode(b"out/\xff")), r"out/\\udcff"),
    works(
        "scores of a video that is no UTF-8",
        ("score", "--results", "out", "--yv_path", "own"),
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
    works(
        "a report on frames that are no UTF-8",
        ("report", "results", *TREE, "out/r.html"),
        "report",
        both(
            *[
                renamed(f"{f}/00001{e}", b"1\xff" + e.encode())
                for f, e in ((ANT, ".jpg"), (str(Path(FIRST).parent), ".png"), ("results/ant", ".png"))
            ]
        ),
    ),
    Case("a folder with a line break", davis("--davis_path", "a\nb"), r"a\\nb: expected"),
    Case("a frame with a line break", own(), "control", renamed("own/JPEGImages/cat/00001.jpg", b"0\n1.jpg")),
    works("a film with a colon", film(video="a:1.mp4"), "sheet", renamed("film.mp4", b"a:1.mp4")),
    works("a film into a folder with a colon", film("--output", "out/a:1"), "sheet"),
    Case("a folder called like a frame of one's own", film(video="frames"), "2.png", made_folder("frames/2.png")),
    Case("a sheet into .", ("show_results", "--results", "results", *TREE, "."), "ends in .png"),
    Case("samples into nothing", (*SAMPLES, ""), "found a folder"),
    Case("a conversion into .", ("convert_weights", "net.pth", "."), "found a folder"),
    Case(
        "a frame into a circle of links",
        ("segment_video", "film.mp4", "--frame", "0", "out/f.png"),
        "out: expected a folder",
        link("out", "out"),
    ),
    Case(
        "clips into a circle of links",
        ("make_clips", "out/clips", "--static_root", "static"),
        "out/.*symbolic links",
        link("out", "out"),
    ),
    Case(
        "an archive of names that are no UTF-8",
        own("--zip"),
        "--zip: expected names in UTF-8",
        renamed("own/JPEGImages/cat/00001.jpg", b"0\xff1.jpg"),
        absent("out"),
    ),
    Case(
        "a record of long settings",
        davis(),
        r"size was x+\.\.\. \(5000 characters\), is 48",
        both(
            quietly(davis()),
            lambda: path("out/run.json").write_text(
                path("out/run.json").read_text().replace('"size": 48', f'''"size": "{"x" * 5000}"''')
            ),
        ),
    ),
    # disks
    Case("a checkpoint on a full disk", train(), "No space left", disk("3m")),
    Case("a conversion on a full disk", ("convert_weights", "net.pth", "out/n.pth"), "No space left", disk("3m")),
    Case("an archive on a full disk", prepare("davis", "davis.zip"), "No space left", disk("16k")),
    Case(
        "clips on a full disk",
        ("make_clips", "out/clips", "--static_root", "static", "--clips", "1"),
        "No space left",
        disk("64k"),
        absent("out/clips"),
    ),
    Case("copies on a full disk", (*COPIES, "out"), "No space left", disk("8k"), lambda: masks("ant") in (0, 3)),
    # checkpoints
    Case("weights that are no numbers", davis(), "expected finite weights", first_tensor(lambda t: t * torch.nan)),
    Case(
        "training from infinite weights", train("--load_network", "net.pth"), "finite", first_tensor(lambda t: t * torch.inf)
    ),
    Case(
        "weights beyond float16",
        ("convert_weights", "net.pth", "out/n.pth", "--half"),
        "65504",
        first_tensor(lambda t: t + 1e6),
    ),
    *[
        Case(f"weights that are {kind}", davis(), "tensors of another kind", first_tensor(change))
        for kind, change in {
            "integers": lambda t: t.long(),
            "complex": lambda t: t.to(torch.complex64),
            "sparse": lambda t: t.to_sparse(),
            "nowhere": lambda t: t.to("meta"),
        }.items()
    ],
    Case("an absurd width", davis(), "value_dim: expected at most", entry("config", value_dim=16 * 10**12)),
    # numbers
    *[
        Case(f"{command[0]} {flag} {value}", (*command, flag, value), flag)
        for command, flag, value in (
            (train(), "--seed", 2**70),
            (train(), "--key_dim", 10**12),
            (train(), "--crop", 200_000),
            (train("--bootstrap_start", 5), "--bootstrap_end", 1),
            ((*SAMPLES, "out/s.png"), "--seed", 2**70),
            ((*SAMPLES, "out/s.png"), "--crop", 200_000),
        )
    ],
    works(
        "ten thousand million frames on a sheet",
        ("show_results", "--results", "results", *TREE, "out/r.png", "--frames", 10**10),
        "picture",
    ),
    works("ten thousand million frames in a report", ("report", "results", *TREE, "out/r.html", "--frames", 10**10), "report"),
    # lists and archives
    Case(
        "meta.json: an id of two spellings",
        youtube(),
        "ids",
        write(META, '{"videos": {"cow": {"objects": {"05": {"frames": ["00000"]}}}}}'),
    ),
    works(
        "circles of links in an unpacked archive",
        prepare("davis", "DAVIS"),
        "written",
        both(link("DAVIS/one", "."), link("DAVIS/two", ".")),
    ),
    Case(
        "a dangling frame in an unpacked archive",
        prepare("davis", "DAVIS"),
        "00001.jpg: .* dangling link",
        link(FRAME, "nowhere"),
    ),
    Case("a tar with two files of one name", prepare("bl30k", "b.tar"), "differs from", twice("b.tar")),
    # films
    Case(
        "a playlist as a film",
        film(),
        "cannot read this video",
        write("film.mp4", "ffconcat version 1.0\nfile '/etc/passwd'\n"),
    ),
    # what may never end, or fill the memory
    Case(
        "a pipe as a frame",
        davis(),
        "00001.jpg: expected a picture, found a pipe",
        both(removed(FRAME), lambda: os.mkfifo(FRAME)),
        absent("out"),
    ),
    *[
        Case(
            f"{what} as {name}",
            command,
            Path(place).name,
            both(lambda p=place: path(p).unlink(), make(place)),
            status=1 if place == FIRST else 2,
        )
        for name, place, command in (
            ("a list", LIST, davis()),
            ("meta.json", META, youtube()),
            ("a mask", FIRST, davis()),
            ("a drawn mask", "mask.png", film()),
            ("a film", "film.mp4", film()),
            ("a network", "net.pth", davis()),
            ("an archive", "davis.zip", prepare("davis", "davis.zip")),
        )
        for what, make in (
            ("a pipe", lambda place: lambda: os.mkfifo(place)),
            ("a device", lambda place: link(place, "/dev/zero")),
        )
    ],
    Case("a device as a frame", davis(), "00001.jpg: expected a picture", link(FRAME, "/dev/zero")),
    broken("a bomb as a frame", lambda: bomb(path(FRAME), 50_000)),
    Case("a bomb as a mask", davis(), "00000.png: mask is 50000x50000|bomb", lambda: bomb(path(FIRST), 50_000)),
    Case("a bomb as a drawn mask", film(), "mask.png: .*bomb", lambda: bomb(path("mask.png"), 50_000)),
    Case(
        "a bomb in an archive",
        prepare("youtube", "y.zip"),
        "00000.jpg: cannot read this image .*bomb",
        both(
            lambda: bomb(path("b.jpg"), 50_000),
            zipped("y.zip", {"train/JPEGImages/a/00000.jpg": "b.jpg", "train/JPEGImages/a/00001.jpg": FRAME}),
        ),
        pictures(1),
    ),
    Case(
        "a small archive of a large file",
        prepare("youtube", "y.zip"),
        "00001.jpg: expected at most 256 MiB, found 1024 MiB",
        zipped("y.zip", {"valid/JPEGImages/a/00001.jpg": None, "valid/JPEGImages/a/00000.jpg": f"{ANT}/00000.jpg"}),
        pictures(1),
    ),
    *[
        Case(f"meta.json: {name}", youtube(), "meta.json", lambda kind=kind: many(path(META), kind))
        for name, kind in {
            "a million numbers": "list",
            "a million entries": "objects",
            "a deep nest of objects": "deep objects",
        }.items()
    ],
    Case(
        "a list of 300 MiB",
        davis(),
        "val.txt: expected text of at most 256 MiB, found 300 MiB",
        lambda: os.truncate(LIST, 300 << 20),
    ),
    Case(
        "pickled code as a network",
        davis(),
        "net.pth: .*holds code",
        lambda: code(path("net.pth"), "pickle"),
        absent("escaped"),
    ),
    Case("code in a checkpoint", davis(), "net.pth: .*holds code", lambda: code(path("net.pth"), "zip"), absent("escaped")),
    Case(
        "code to train on from",
        train("--resume", "net.pth"),
        "holds code",
        lambda: code(path("net.pth"), "old"),
        absent("escaped"),
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
