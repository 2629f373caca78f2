"""What a generated case runs, and what must hold at its end."""

import contextlib
import io
import os
import re
import signal
import tarfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import av
import numpy as np
from av.error import InvalidDataError
from conftest import ROOT, run_script
from films import square
from good import DATA, NET, SIZE, davis, film, own, train, youtube
from PIL import Image

from annotation.session import Session
from dataset.own_video import open_video, videos_in
from dataset.video_file import VideoFile
from evaluation.results import read_record
from model import load_network, save_network
from model.scribble import ScribbleNetwork
from util.image import read_image

LIMIT = 120  # seconds for a run, on a busy machine
MOST = 900  # characters of an error


class Command(NamedTuple):
    words: tuple[str, ...]
    reads: tuple[str, ...]  # what it depends on, in the good tree
    kind: str = ""  # of its results: masks, film, files, network, picture, session
    weight: int = 1
    good_status: int = 0
    resumes: bool = False
    complete: Callable[[], object] = lambda: None  # what is done after the undisturbed run
    soak: bool = False  # too slow for other runs


class Trial(NamedTuple):
    """A run of a script, in the current folder."""

    command: Command
    status: int | None
    out: str
    err: str
    trouble: str
    seconds: float

    @property
    def last(self) -> str:
        lines = [line for line in self.err.replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def problems(self, baseline: Path, broken: Sequence[str], flag: tuple[str, ...]) -> list[str]:
        """What is wrong with the end of this run, given the results of the unbroken one and what was broken."""
        if self.trouble:
            return [self.trouble]
        found = []
        if self.status not in (0, 1, 2) and not (self.status == 77 and self.command.kind == "network"):
            found.append(f"status: {self.status}")
        if warned := re.search(r".*(PIL/\S+|Runtime)Warning: .*", self.err):
            found.append(f"warning: of a library, {warned[0][:300]}")
        if "Traceback" in self.out + self.err:
            found.append(f"traceback printed: {self.err[-600:]}")
        errors = [line for line in self.err.replace("\r", "\n").split("\n") if re.match(r"((python -m )?\S+: )?error: ", line)]
        if self.status == 2:
            if len(errors) != 1 or self.last != errors[0]:
                found.append(f"lines: expected one error at the end, found {errors[:3]} and {self.last!r}")
            elif len(errors[0]) > MOST and ": error: argument " not in errors[0]:  # argparse repeats what was typed
                found.append(f"length: an error of {len(errors[0])} characters: {errors[0][:300]}")
            elif not re.search(r"[/.]|--|net|DAVIS|out|frames|static|own|expected", errors[0]):
                found.append(f"nameless: {errors[0]}")
        elif errors and not (self.status == 1 and errors == [self.last] and re.search(SAYS_WHY, self.last)):
            found.append(f"lines: status {self.status} with {errors[0]}")
        if any(each.startswith("out") for each in broken):
            return found
        left = [str(path) for path in walk(Path("out")) if re.search(r"\.partial$|\.[0-9a-f]{8}$|stcn\.lock$", path.name)]
        if left:
            found.append(f"left behind: {left[:3]}")
        check = CHECKS.get(self.command.kind)
        if check is not None:
            try:
                found += [f"wrong: {problem}" for problem in check(self, baseline, broken, flag)]
            except (OSError, ValueError) as error:
                found.append(f"wrong: {type(error).__name__}: {error}")
        return found


SAYS_WHY = "--allow_truncated continues|is it another archive"  # in an error of a run that has done what it could


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


def call(command: Command, flag: tuple[str, ...] = ()) -> Trial:
    """Run a script in the current folder, within limits of time and memory."""
    out, err = Stream(), Stream("backslashreplace")
    status: int | None = None
    trouble = ""
    start = time.perf_counter()
    signal.alarm(LIMIT)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run_script(*command.words, *flag)
    except TookTooLong:
        trouble = f"hang: more than {LIMIT} s, in " + traceback.format_exc().splitlines()[-3].strip()
    except BaseException as error:
        where = [line.strip() for line in traceback.format_exc().splitlines() if f'"{ROOT}' in line]
        trouble = f"traceback: {type(error).__name__}: {str(error)[:200]}, {where[-1]}"
    finally:
        signal.alarm(0)
    return Trial(command, status, out.getvalue(), err.getvalue(), trouble, time.perf_counter() - start)


def walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *files))


def may_change(name: str) -> bool:
    """Whether a file belongs to the scores of results, which are written anew and go with them."""
    return re.search(r"/(scores\.json|results\.zip|[a-z-]+_results-[a-z]+\.csv|\.[^/]*)$", name) is not None


# what must hold for each kind of results


def check_masks(trial: Trial, baseline: Path, broken: Sequence[str], flag: tuple[str, ...]) -> Iterator[str]:
    """Each video is complete, or named as failed; the masks of unbroken ones are those of the undisturbed run."""
    record = Path("out/run.json")
    if not record.is_file():
        if trial.status != 2:
            yield f"status {trial.status} without run.json"
        return
    masks = Path("out/Annotations" if trial.command.words[0] == "eval_youtube" else "out")
    failed = [line.removeprefix("failed: ") for line in trial.out.splitlines() if line.startswith("failed: ")]
    if (trial.status == 1 and not failed) or (trial.status == 0 and failed):
        yield f"status {trial.status} with {len(failed)} failed videos"
    common = any(each.endswith((".json", ".pth")) for each in broken)
    for name, entry in read_record(record).videos.items():
        found = {path.name for path in (masks / name).iterdir()} if (masks / name).is_dir() else None
        is_failed = any(line.startswith(f"{name}: ") for line in failed)
        if found is None:
            if trial.status != 2 and not is_failed:
                yield f"{name}: neither finished nor failed"
            continue
        if is_failed or found != entry.files:
            yield f"{name}: failed {is_failed}, has {sorted(found)[:4]} of {sorted(entry.files)[:4]}"
        undisturbed = baseline / masks / name
        touched = common or any(f"/{name}/" in f"{each}/" or each.endswith(ABOVE) for each in broken)
        for file in found & entry.files:
            labels = np.asarray(Image.open(masks / name / file))
            if labels.dtype not in (np.uint8, bool) or labels.ndim != 2:  # a copy may have 1 bit
                yield f"{name}/{file}: no label map"
            old = undisturbed / file
            if not touched and not flag and old.is_file() and old.read_bytes() != (masks / name / file).read_bytes():
                yield f"{name}/{file}: differs from the undisturbed run"


ABOVE = ("JPEGImages", "Annotations", "480p", "DAVIS", "YouTube", "own", "valid", "all_frames")  # folders that hold videos


def check_film(trial: Trial, baseline: Path, broken: Sequence[str], flag: tuple[str, ...]) -> Iterator[str]:
    """The masks are all there, or none are."""
    masks = Path("out/masks")
    there = all(Path("out", name).exists() for name in ("masks", "overlay.mp4", "sheet.png", "segment_video.json"))
    if there != (trial.status == 0) or masks.exists() != there:
        yield f"status {trial.status}, and the results are {'there' if there else 'not there'}"
    elif there and not broken and not flag:
        for path in walk(baseline / masks):
            if (masks / path.name).read_bytes() != path.read_bytes():
                yield f"{path.name} differs from the undisturbed run"
    elif there:
        source = open_video(trial.command.words[1])
        if {path.stem for path in masks.iterdir()} != set(source.names):
            yield "some masks are missing"
        if isinstance(source, VideoFile) and (decoded := count_frames(source.path)) > len(source.names):
            yield f"{decoded} frames became {len(source.names)}"


def count_frames(path: Path) -> int:
    """The number of whole frames that FFmpeg makes of a file, whatever times they have."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(InvalidDataError):
                count += sum(not frame.is_corrupt for frame in packet.decode())
    return count


def check_files(trial: Trial, baseline: Path, broken: Sequence[str], flag: tuple[str, ...]) -> Iterator[str]:
    """What is written from a zip is what was there; all of it with status 0."""
    originals = {path.relative_to(baseline): path for path in walk(baseline / "out") if path.is_file()}
    if trial.status == 0 and not broken and (missing := [str(name) for name in originals if not Path(name).is_file()]):
        yield f"missing: {missing[:3]}"
    if all(each.endswith((".zip", ".gz")) for each in broken):
        for path in walk(Path("out")):
            if path.is_file() and path in originals and path.read_bytes() != originals[path].read_bytes():
                yield f"{path}: another content"


def check_network(trial: Trial, baseline: Path, broken: Sequence[str], flag: tuple[str, ...]) -> Iterator[str]:
    files = [path for path in walk(Path("out")) if path.suffix == ".pth" and path.parent == Path("out")]
    if bool(files) != (trial.status == 0):
        yield f"status {trial.status}, and networks: {files}"
    for path in files:
        load_network(path)


def check_picture(trial: Trial, baseline: Path, broken: Sequence[str], flag: tuple[str, ...]) -> Iterator[str]:
    files = [path for path in walk(Path("out")) if path.is_file() and not path.name.startswith(".")]
    if bool(files) != (trial.status == 0):
        yield f"status {trial.status}, and files: {files}"
    for path in files:
        if path.suffix == ".png":
            read_image(path)
        elif path.stat().st_size == 0:
            yield f"{path}: empty"


def check_session(trial: Trial, baseline: Path, broken: Sequence[str], flag: tuple[str, ...]) -> Iterator[str]:
    if trial.status == 0 and videos_in(Path(trial.command.words[1])):
        return  # a list to choose from
    if Path("out/session.json").exists() != (trial.status == 0):
        yield f"status {trial.status}, and session.json {'there' if trial.status else 'missing'}"


CHECKS = {
    "masks": check_masks,
    "film": check_film,
    "files": check_files,
    "network": check_network,
    "picture": check_picture,
    "session": check_session,
}


# the commands


def annotate(video: str) -> tuple[str, ...]:
    return ("annotate", video, "--output", "out", "--port", "0", *NET)


def begin_session() -> None:
    """A session with a mask and a result, as a person may have left it."""
    session = Session("out", open_video("frames"), "frames")
    session.add_object("dog")
    session.give(1, square((8, 8), size=SIZE))
    session.put_result(2, square((9, 8), size=SIZE), 0.5, final=True, revision=session.revision)
    session.save()
    session.close()


def build_more(root: Path) -> None:
    """Archives and a network beyond those of `good.build`."""
    save_network(ScribbleNetwork(), root / "scribble.pth", half=True)
    with zipfile.ZipFile(root / "youtube.zip", "w") as archive:
        for part in ("valid", "all_frames"):
            for path in sorted((root / "YouTube" / part).rglob("*.*")):
                archive.write(path, path.relative_to(root / "YouTube").as_posix().removeprefix("all_frames/"))
    with tarfile.open(root / "davis.tar.gz", "w:gz") as archive:
        archive.add(root / "DAVIS", "DAVIS")
    with zipfile.ZipFile(root / "ecssd.zip", "w") as archive:
        for i in range(4):
            archive.write(root / f"static/ecssd/{i}.jpg", f"images/000{i}.jpg")
            archive.write(root / f"static/ecssd/{i}.png", f"ground_truth_mask/000{i}.png")


NO_WORKERS = ("--num_workers", "0")
INTO = ("--output", "out", *NO_WORKERS)
CHECK = ("check_data", *DATA, "--davis16_root", "none", "--yv18_root", "none", *NO_WORKERS)
TREE = ("--davis_path", "DAVIS")
SHOWN = ("results", *TREE)
TRAINING = ("DAVIS", "YouTube/train_480p")
ROUNDS = ("eval_rounds", *TREE, *NET, "--rounds", "2", "--looks", "1", "--scribble_model", "scribble.pth", "--output", "out")
SCRIBBLES = (*("train_scribble", "--id", "x", "--save_dir", "out", "--no_pretrained"), *DATA, *NO_WORKERS)


def experiment(name: str, *flags: str, soak: bool = False) -> Command:
    words = (f"scripts.experiments.{name}", *TREE, *NET, *flags, "--output", "out")
    return Command(words, ("DAVIS", "net.pth"), soak=soak)


COMMANDS = {
    "eval_davis": Command(davis(), ("DAVIS", "net.pth"), "masks", 8, resumes=True),
    "eval_davis 2016": Command(davis("--year", "2016"), ("DAVIS", "net.pth"), "masks", 2, resumes=True),
    "eval_youtube": Command(youtube(), ("YouTube", "net.pth"), "masks", 6, resumes=True),
    "eval_youtube own": Command(own("--output_all", "--zip"), ("own", "net.pth"), "masks", 6, resumes=True),
    "segment_video": Command(film(), ("film.mp4", "mask.png", "net.pth"), "film", 5, resumes=True),
    "segment_video frames": Command(film(video="frames"), ("frames", "mask.png", "net.pth"), "film", 5, resumes=True),
    "segment_video array": Command(film(mask="mask.npy"), ("mask.npy",), "film", 2),
    "segment_video JSON": Command(film(mask="mask.json"), ("mask.json",), "film", 2),
    "segment_video --frame": Command(("segment_video", "film.mp4", "--frame", "1", "out/f.png"), ("film.mp4",), "picture"),
    "train": Command(train(), TRAINING, "network", 1),
    "train from a network": Command(train("--load_network", "net.pth"), ("net.pth",), "network", 1),
    "train on photographs": Command(train("--stage", "0"), ("static",), "network", 1),
    "train on BL30K": Command(train("--stage", "1"), ("BL30K",), "network", 1),
    "annotate": Command(annotate("frames"), ("frames", "net.pth"), "session", 4, complete=begin_session),
    "annotate a film": Command(annotate("film.mp4"), ("film.mp4", "net.pth"), "session", 2),
    "prepare_davis": Command(("prepare_davis", "davis.zip", *INTO), ("davis.zip",), "files", 3),
    "prepare_davis tar.gz": Command(("prepare_davis", "davis.tar.gz", *INTO), ("davis.tar.gz",), "files", 3),
    "prepare_davis folder": Command(("prepare_davis", "DAVIS", *INTO), ("DAVIS",), "", 3),
    "prepare_youtube": Command(("prepare_youtube", "youtube.zip", *INTO), ("youtube.zip",), "files", 3),
    "prepare_static": Command(("prepare_static", "ecssd.zip", *INTO), ("ecssd.zip",), "files", 3),
    "prepare_bl30k": Command(("prepare_bl30k", "bl30k.tar", "--output", "out"), ("bl30k.tar",), "", 3),
    "score": Command(("score", "--results", "results", *TREE, "--processes", "1"), ("results", "DAVIS"), "", 3),
    "check_data": Command(CHECK, (*TRAINING, "static", "BL30K", "YouTube"), "", 2),
    "check_data --decode": Command((*CHECK, "--decode"), (*TRAINING, "static", "BL30K", "YouTube"), "", 2),
    "make_clips": Command(("make_clips", "out/clips", "--static_root", "static", "--clips", "1"), ("static",), "", 1),
    "show_results": Command(
        ("show_results", "--results", *SHOWN, "--output", "out/r.png"), ("results", "DAVIS"), "picture", 2
    ),
    "report": Command(("report", *SHOWN, "--output", "out/r.html"), ("results", "DAVIS"), "picture", 1),
    "show_samples": Command(("show_samples", "--stage", "3", *DATA, "--output", "out/s.png"), TRAINING, "picture", 2),
    "copy_first_mask": Command(("copy_first_mask", *TREE, "--output", "out"), ("DAVIS",), "masks", 2),
    "eval_rounds": Command((*ROUNDS, "--source", "masks"), ("DAVIS", "net.pth"), "", 2),
    "eval_rounds scribbles": Command(
        (*ROUNDS, "--source", "grabcut", "network"), ("DAVIS", "net.pth", "scribble.pth"), "", 1, soak=True
    ),
    "train_scribble": Command((*SCRIBBLES, *("-i", "1", "-b", "1", "--crop", "32")), ("static", *TRAINING), "", 1, soak=True),
    "affinity": experiment("affinity", soak=True),
    "correspondences": experiment("correspondences", soak=True),
    "schedules": experiment("schedules", "--every", "2"),
    "timing": experiment("timing", soak=True),
    "regions": Command(("scripts.experiments.regions", "--output", "out"), (), "picture", soak=True),
    "export_onnx": Command(("export_onnx", "--model", "net.pth", "--output", "out"), ("net.pth",), "", soak=True),
    "make_demo_data": Command(("make_demo_data", "out"), (), "", soak=True),
    "convert_weights": Command(("convert_weights", "net.pth", "out/n.pth"), ("net.pth",), "network", 2),
}


@contextlib.contextmanager
def patched() -> Iterator[None]:
    """A context in which annotate.py ends when it would begin to serve."""
    with mock.patch("uvicorn.Server.run"):
        yield
