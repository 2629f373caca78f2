"""Bad input for every script: each case must end as stated, with one line, and change nothing outside its output.

    PYTHONPATH=.:tests bash tests/robustness/sandbox.sh FOLDER python tests/robustness/cases.py FOLDER [PATTERN]

Run it only in the sandbox: a bug that a case finds must not damage the machine.
"""

import argparse
import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import breaks
import good
import torch
from breaks import bomb, code
from conftest import run_script
from good import DATA, NET, checkpoint, davis, film, own, snapshot, train, youtube
from trials import Command, call, stop


class Case(NamedTuple):
    """A call of `breaks()`, then of the script, in a copy of the good tree (the current folder)."""

    name: str
    command: tuple
    says: str = "error: "  # a regular expression for the last line of standard error (status 0: for the output)
    breaks: Callable[[], object] = lambda: None
    right: Callable[[], bool] = lambda: True  # what must hold afterwards
    status: int = 2


def prepare(name: str, archive: str) -> tuple:
    return (f"prepare_{name}", archive, "--output", "out")


def write(name: str, content: bytes | str) -> Callable[[], object]:
    return partial(breaks.replace, Path(name), content)


def link(name: str, target: str) -> Callable[[], object]:
    return partial(breaks.link, Path(name), target)


def masks(folder: str) -> int:
    return len(list(Path("out", folder).rglob("*.png")))


def made(folder: str, count: int) -> Callable[[], bool]:
    return lambda: masks(folder) == count


def absent(name: str) -> Callable[[], bool]:
    return lambda: not Path(name).exists()


def pictures(count: int) -> Callable[[], bool]:
    return lambda: len(list(Path("out").rglob("*.jpg"))) == count


def both(*steps: Callable[[], object]) -> Callable[[], object]:
    return lambda: [step() for step in steps]


def copied(name: str) -> Callable[[], object]:
    """DAVIS's list names another copy of the video `ant` too, called `name`."""
    places = (ANT, str(Path(FIRST).parent))
    listed = write(LIST, f"ant\n{name}\n")
    return both(listed, lambda: [shutil.copytree(place, Path(place).parent / name) for place in places])


def renamed(place: str, name: bytes) -> Callable[[], object]:
    return lambda: Path(place).rename(Path(place).parent / os.fsdecode(name))


def disk(size: str) -> Callable[[], object]:
    return partial(breaks.disk, Path("out"), size)


def first_tensor(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
    """Change the first tensor of the checkpoint."""

    def do(content: dict) -> None:
        name = next(iter(content["network"]))
        content["network"][name] = change(content["network"][name])

    return lambda: checkpoint(Path("net.pth"), do)


def of_network(**values: object) -> Callable[[], object]:
    """Change the configuration in the checkpoint."""
    return lambda: checkpoint(Path("net.pth"), lambda content: content["config"].update(values))


def quietly(command: tuple) -> Callable[[], object]:
    """Run a script before the case."""

    def do() -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert run_script(*map(str, command)) == 0

    return do


def made_folder(name: str) -> Callable[[], object]:
    return partial(breaks.as_folder, Path(name), None)


def zipped(name: str, members: dict[str, str | None]) -> Callable[[], object]:
    """A zip of these files by name; 1 GiB of zeros for `None`."""

    def do() -> None:
        with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for member, source in members.items():
                with archive.open(member, "w") as file:
                    for _ in range(1024 if source is None else 0):
                        file.write(bytes(1 << 20))
                    if source is not None:
                        file.write(Path(source).read_bytes())

    return do


def lie() -> None:
    """Let the zip's directory say that its first file takes 1 GB in the archive."""
    content = bytearray(Path("davis.zip").read_bytes())
    start = content.index(b"PK\x01\x02")
    content[start + 20 : start + 24] = (10**9).to_bytes(4, "little")
    Path("davis.zip").write_bytes(content)


def works(*arguments: Any, **options: Any) -> Case:
    return Case(*arguments, **options, status=0)


TREE = ("--davis_path", "DAVIS", "--output")
SAMPLES = ("show_samples", *DATA, "--output", "out/s.png")
ANT, FIRST = "DAVIS/JPEGImages/480p/ant", "DAVIS/Annotations/480p/ant/00000.png"
FRAME, LAST, LIST, META = f"{ANT}/00001.jpg", f"{ANT}/00002.jpg", "DAVIS/ImageSets/2017/val.txt", "YouTube/valid/meta.json"
CLIPS = ("make_clips", "out/clips", "--static_root", "static", "--clips", "1")

CASES = [
    # frames and masks
    Case(
        "a folder called like a frame",
        davis(),
        "00002.jpg: expected a picture, found a folder",
        made_folder(LAST),
        absent("out"),
    ),
    Case(
        "a pipe as a frame",
        davis(),
        "00001.jpg: expected a picture, found a pipe",
        lambda: (Path(FRAME).unlink(), os.mkfifo(FRAME)),
        absent("out"),
    ),
    Case("a bomb as a mask", davis(), "00000.png: mask is 50000x50000|bomb", lambda: bomb(Path(FIRST), 50_000)),
    Case("a bomb as a drawn mask", film(), "mask.png: .*bomb", lambda: bomb(Path("mask.png"), 50_000)),
    # lists
    works("a list twice the same", davis(), "J&F", write(LIST, "ant\nant\n"), made("ant", 3)),
    works("a list with Windows line ends", davis(), "J&F", write(LIST, "ant\r\nbee\r\n"), made("bee", 3)),
    Case("a list that names a hidden folder", davis(), "dot", copied(".ant")),
    Case("a list that names scores.json", davis(), "another name", copied("scores.json"), absent("out")),
    Case(
        "a list of 300 MiB",
        davis(),
        "val.txt: expected text of at most 256 MiB, found 300 MiB",
        lambda: os.truncate(LIST, 300 << 20),
    ),
    Case("train by a list that is not there", train("--yv_list", "nowhere.txt"), "nowhere.txt"),
    Case("train by a list with a path", train("--yv_list", "list.txt"), "list.txt", write("list.txt", "../x\n")),
    Case(
        "meta.json: an id of two spellings",
        youtube(),
        "ids",
        write(META, '{"videos": {"cow": {"objects": {"05": {"frames": ["00000"]}}}}}'),
    ),
    # output
    Case("output where no file can be made", davis(), "out/.stcn.lock: cannot make this file", link("out", "/proc")),
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
        both(quietly(davis()), lambda: Path(LAST).write_bytes(b""), made_folder("out/scores.json")),
        made("ant", 3),
    ),
    Case("a network of that name", train(), "x_s3.pth: already exists", write("out/x_s3.pth", "precious")),
    Case(
        "a folder of the network's name", train(), "x_s3.pth: already exists", lambda: Path("out/x_s3.pth").mkdir(parents=True)
    ),
    Case("demo data as a whole disk", ("make_demo_data", "out"), "out: .*found a disk", disk("4k")),
    # full disks
    Case("a checkpoint on a full disk", train(), "No space left", disk("3m")),
    Case("a conversion on a full disk", ("convert_weights", "net.pth", "out/n.pth"), "No space left", disk("3m")),
    Case("an archive on a full disk", prepare("davis", "davis.zip"), "No space left", disk("16k")),
    Case("clips on a full disk", CLIPS, "No space left", disk("64k"), absent("out/clips")),
    Case(
        "copies on a full disk",
        ("copy_first_mask", *TREE, "out"),
        "No space left",
        disk("8k"),
        lambda: masks("ant") in (0, 3),
    ),
    # numbers
    *[
        Case(f"{command[0]} {flag} {value}", (*command, flag, value), flag)
        for command, flag, values in (
            *((davis(), flag, ("0", "-3", "1e9")) for flag in ("--top", "--mem_every", "--max_memory_frames")),
            *((davis(), flag, ("0", "100000", "9" * 5000)) for flag in ("--size", "--threads")),
            *((davis(), "--num_workers", ("-1",)), (davis(), "--device", ("meta",)), (davis(), "--year", ("1999",))),
            *((train(), flag, ("0",)) for flag in ("--save_every", "--keep", "--accumulate")),
            *((train(), "--lr", ("0", "nan")), (train(), "--crop", ("0", "200000")), (train(), "--spacing", ("none",))),
            *((train(), "--seed", ("-1", 2**70)), (train(), "--stage", ("7",)), (train(), "--key_dim", (10**12,))),
            (train("--bootstrap_start", 5), "--bootstrap_end", (1,)),
            (film(video="frames"), "--fps", ("0", "1e-9", "1e300", "nan")),
            *((SAMPLES, "--seed", (2**70,)), (SAMPLES, "--crop", (200_000,)), (SAMPLES, "--samples", (0,))),
        )
        for value in values
    ],
    # archives
    works("an archive that lies about its size", prepare("davis", "davis.zip"), "written", lie),
    Case("an archive through a link", prepare("bl30k", "bl30k.tar"), "plain name", link("out/JPEGImages/eel", "../../frames")),
    Case(
        "a dangling frame in an unpacked archive",
        prepare("davis", "DAVIS"),
        "00001.jpg: .* dangling link",
        link(FRAME, "nowhere"),
    ),
    Case(
        "a bomb in an archive",
        prepare("youtube", "y.zip"),
        "00000.jpg: cannot read this image .*bomb",
        both(
            lambda: bomb(Path("b.jpg"), 50_000),
            zipped(
                "y.zip",
                {
                    "train/JPEGImages/a/00000.jpg": "b.jpg",
                    "train/JPEGImages/a/00001.jpg": FRAME,
                    "train/Annotations/a/00001.png": FIRST,
                },
            ),
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
    # names
    Case("a run with a long name", train("--id", "n" * 247), "^error: --id", right=absent("out")),
    works("output that is no UTF-8", davis("--output", os.fsdecode(b"out/\xff")), r"out/\\udcff"),
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
    Case(
        "an archive of names that are no UTF-8",
        own("--zip"),
        "--zip: expected names in UTF-8",
        renamed("own/JPEGImages/cat/00001.jpg", b"0\xff1.jpg"),
        absent("out"),
    ),
    works("a film with a colon", film(video="a:1.mp4"), "sheet", renamed("film.mp4", b"a:1.mp4")),
    works("a film into a folder with a colon", film("--output", "out/a:1"), "sheet"),
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
    Case("an absurd width", davis(), "value_dim: expected at most", of_network(value_dim=16 * 10**12)),
    Case("a long name in a configuration", davis(), r"arch: expected .*x\.\.\.", of_network(arch="x" * 5000)),
    *[
        Case(
            f"code in a checkpoint: {kind}",
            command,
            "holds code",
            lambda kind=kind: code(Path("net.pth"), kind),
            absent("escaped"),
        )
        for kind, command in {"pickle": davis(), "zip": davis(), "old": train("--resume", "net.pth")}.items()
    ],
]


def run(case: Case, here: Path) -> list[str]:
    """What is wrong with the end of a case, or an empty value."""
    os.chdir(here)
    case.breaks()
    before = snapshot(here)
    trial = call(Command(case.command, ()))
    problems = trial.problems(here, ["out"], ())
    if trial.status != case.status:
        problems.append(f"status {trial.status}, expected {case.status}: {trial.last[:200]}")
    told = trial.last if trial.status == 2 else trial.out
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
    return result


def main(words: Sequence[str] | None = None) -> int:
    good.stay_in_the_sandbox()
    arguments = parser().parse_args(words)
    root, pattern = arguments.folder.resolve(), re.compile(arguments.pattern)
    (root / "good").mkdir()
    good.build(root / "good")
    failed = 0
    signal.signal(signal.SIGALRM, stop)
    chosen = [case for case in CASES if pattern.search(case.name)]
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
