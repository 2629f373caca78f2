"""Kill -9 at random moments, then run the same command again: the results must be those of the undisturbed run, bit for bit.

    PYTHONPATH=.:tests bash tests/robustness/sandbox.sh FOLDER python tests/robustness/kills.py FOLDER --times 100

Each trial is killed one to three times before it may end.  After each kill, nothing may look finished that is not.  The calls
by which annotate.py saves are killed within; there must be then what was before the call or what is after it.  To be fast, the
runs are forks of this process, which has imported everything; a run of two processes is two forks.
"""

import argparse
import hashlib
import http.client
import importlib
import os
import random
import shutil
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import good
import numpy as np
import torch
from annotate_server import Running
from conftest import run_script, write_davis, write_video
from films import square, write_film, write_folder
from forks import Fork, ranks
from good import NET, SIZE, TINY, labels
from test_train import assert_same_run
from trials import TookTooLong, stop

from annotation.export import export
from annotation.session import Session
from dataset.frame_folder import FrameFolder
from evaluation.propagate import Snapshots
from util.label_map import write_label_map

PATIENCE = 120  # seconds


class Subject(ABC):
    """A command that is killed.  `self.root` holds its input; its results go to `self.root / "out"`."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root / "out"
        root.mkdir()
        os.chdir(root)
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Write the input."""

    @abstractmethod
    def words(self) -> tuple[str, ...]: ...

    def start(self) -> Any:
        return Fork(partial(run_script, *self.words()))

    def kill_after(self, run: Fork, seconds: float) -> bool:
        """Kill a run some time after its start; returns whether it was still at work."""
        time.sleep(seconds)
        run.kill()
        return any(status < 0 for status in run.wait())

    def attempt(self, expected: Path, seconds: float, chosen: random.Random) -> tuple[list[str], int]:
        """One trial: kill one to three times, then let it end.  Returns what is wrong and how often it was killed at work."""
        problems, killed = [], 0
        shutil.rmtree(self.out, ignore_errors=True)
        for _ in range(chosen.randint(1, 3)):
            killed += self.kill_after(self.start(), chosen.uniform(0, seconds))
            if self.out.exists():
                problems += self.half_written(expected)
        self.finish(self.start())
        return [*problems, *self.wrong(expected)], killed

    def finish(self, run: Fork) -> None:
        if any(statuses := run.wait()):
            raise AssertionError(f"status {statuses}")

    def wrong(self, expected: Path) -> list[str]:
        """What differs from the undisturbed results, when this run has ended."""
        ours, theirs = contents(self.out), contents(expected)
        return [f"differs: {sorted(name for name, _ in ours.items() ^ theirs.items())[:4]}"] if ours != theirs else []

    def half_written(self, expected: Path) -> list[str]:
        """What looks finished after a kill and is not; here, single files."""
        ours, theirs = contents(self.out), contents(expected)
        return [f"half-written: {name}" for name, found in ours.items() if name in theirs and found != theirs[name]]


def contents(folder: Path) -> dict[str, str]:
    """The content of files by name, without hidden ones."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


def folders_are_whole(out: Path, expected: Path, names: list[str]) -> list[str]:
    """Folders that exist have all their files."""
    there = [name for name in names if (out / name).exists()]
    return [f"half-written: {name}" for name in there if contents(out / name) != contents(expected / name)]


class Evaluation(Subject):
    videos = tuple(f"v{i}" for i in range(6))

    def build(self) -> None:
        write_davis(Path("DAVIS"), {name: [labels(1, 2)] * 4 for name in self.videos})
        good.save_network(good.build_light_network(), Path("net.pth"))

    def words(self) -> tuple[str, ...]:
        return ("eval_davis", "--davis_path", "DAVIS", "--output", "out", *NET)

    def half_written(self, expected: Path) -> list[str]:
        return folders_are_whole(self.out, expected, list(self.videos))


def keep_all_snapshots() -> None:
    """Take a snapshot after each frame."""
    Snapshots.due = True  # type: ignore[method-assign]


class OwnVideo(Subject):
    def build(self) -> None:
        write_film(Path("film.mp4"), [np.asarray(good.picture(t)) for t in range(12)])
        write_label_map("mask.png", labels(1), None)
        good.save_network(good.build_light_network(), Path("net.pth"))
        keep_all_snapshots()

    def words(self) -> tuple[str, ...]:
        return ("segment_video", "film.mp4", "--mask", "6:mask.png", "--output", "out", *NET)

    def half_written(self, expected: Path) -> list[str]:
        return folders_are_whole(self.out, expected, ["masks"])


class Preparation(Subject):
    def build(self) -> None:
        masks = [labels(1)] * 20
        for name in ("a", "b"):
            write_video(Path("BL30K/JPEGImages", name), Path("BL30K/Annotations", name), masks)
            write_video(Path("train/JPEGImages", name), Path("train/Annotations", name), masks)
        Path("train/meta.json").write_text("{}")
        shutil.make_archive("archive", "zip", ".", "train")

    def words(self) -> tuple[str, ...]:
        return ("prepare_youtube", "archive.zip", "--output", "out", "--num_workers", "0")


class Training(Subject):
    processes = 1

    def build(self) -> None:
        for name in ("dog", "cat"):
            write_video(
                Path("YouTube/train_480p/JPEGImages", name), Path("YouTube/train_480p/Annotations", name), [labels(3)] * 6
            )

    def words(self) -> tuple[str, ...]:
        flags = ("--yv_root", "YouTube", "--davis_root", "none", *TINY, "-i", "6")
        return ("train", "--id", "x", "--save_dir", "out", "--stage", "3", "--save_every", "1", "--log_every", "1", *flags)

    def start(self) -> Fork:
        return Fork(partial(run_script, *self.words()), *ranks(self.processes))

    def wrong(self, expected: Path) -> list[str]:
        try:
            assert_same_run(self.out, expected)
        except AssertionError as error:
            return [f"differs: {str(error)[:300]}"]
        return []

    def half_written(self, expected: Path) -> list[str]:
        for path in (self.out / "x_s3.pth", *self.out.glob("x_s3/checkpoint_*.pth")):
            if path.exists():
                torch.load(path, weights_only=True)
        return []


class TwoProcesses(Training):
    processes = 2


class Page(Subject):
    """annotate.py while it follows, with a mask in the middle."""

    length = 12

    def build(self) -> None:
        write_folder(Path("frames"), self.length, SIZE)
        good.save_network(good.build_light_network(), Path("net.pth"))

    def words(self) -> tuple[str, ...]:
        return ()

    def start(self) -> Any:
        return Following(Path("frames"), self.out, *NET, first=keep_all_snapshots)

    def kill_after(self, run: Any, seconds: float) -> bool:
        run.follow_for(seconds)
        return super().kill_after(run, 0)

    def finish(self, run: Any) -> None:
        run.mask()
        run.ask("POST", "/api/follow", b"")
        job = run.job()
        if job["failed"]:
            raise AssertionError(job["message"])
        run.kill(signal.SIGINT)
        super().finish(run)

    def half_written(self, expected: Path) -> list[str]:
        return folders_are_whole(self.out, expected, ["given"])

    def wrong(self, expected: Path) -> list[str]:
        return [problem for part in ("masks", "given") for problem in self.part(part, expected)]

    def part(self, name: str, expected: Path) -> list[str]:
        same = contents(self.out / name) == contents(expected / name)
        return [] if same and contents(expected / name) else [f"differs: {name}"]


class Following(Running):
    """A server that is asked to follow."""

    def mask(self) -> None:
        """Add an object and draw it in the middle, unless that is done."""
        if not self.state()["objects"]:
            self.ask("POST", "/api/object", {"name": "dog"})
        if not self.state()["given"]:
            self.ask("PUT", f"/api/mask/{Page.length // 2}", square((8, 8), size=SIZE).tobytes())

    def follow_for(self, seconds: float) -> None:
        try:
            self.mask()
            self.ask("POST", "/api/follow", b"")
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(seconds)


class Saving(Subject):
    """A call of annotate.py's session; it says when it begins, and when it has returned."""

    length = 12

    def __init__(self, call: Callable[[Session], object], root: Path) -> None:
        self.call, self.seconds = call, 0.0
        super().__init__(root)

    def build(self) -> None:
        """A session with two objects, given masks, results that have been found, and an export from before."""
        write_folder(Path("frames"), self.length, SIZE)
        session = self.open()
        for name in ("dog", "cat"):
            session.add_object(name)
        for frame in (2, 5, 8):
            session.give(frame, two_objects(frame))
        for frame in range(self.length):
            session.put_result(frame, two_objects(frame), 0.5, final=True, revision=session.revision)
        export_masks(session)
        session.give(8, two_objects(1))
        session.close()
        self.out.rename("template")

    def open(self) -> Session:
        return Session(self.out, FrameFolder(Path("frames")), "frames")

    def words(self) -> tuple[str, ...]:
        return ()

    def start(self) -> Fork:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.copytree("template", self.out)
        reading, writing = os.pipe()
        run = Fork(self.work, output=writing)
        os.close(writing)
        run.told = os.fdopen(reading)  # type: ignore[attr-defined]
        run.told.readline()  # type: ignore[attr-defined] (the call begins)
        return run

    def work(self) -> int:
        session = self.open()
        print("begins", flush=True)
        start = time.perf_counter()
        self.call(session)
        print(time.perf_counter() - start, flush=True)
        return 0

    def finish(self, run: Any) -> None:
        super().finish(run)
        self.seconds = float(run.told.read())

    def attempt(self, expected: Path, seconds: float, chosen: random.Random) -> tuple[list[str], int]:
        """Kill within the call, however often that has to be tried."""
        outcomes = []
        for root in (Path("template"), expected):
            shutil.rmtree(self.out, ignore_errors=True)
            shutil.copytree(root, self.out)
            outcomes.append(self.state())
        for _ in range(100):
            run: Any = self.start()
            self.kill_after(run, chosen.uniform(0, self.seconds))
            has_returned = bool(run.told.read())
            found = self.state()
            if found not in (outcomes[1:] if has_returned else outcomes):
                return ["neither as before nor as after"], 1
            if not has_returned:
                return [], 1
        return ["was never killed within"], 0

    def state(self) -> tuple:
        """What the session says once it is opened again, and its export unless that is missing or the one from before."""
        session = self.open()
        frames = [(session.labels(t).tobytes(), session.results[t]) for t in range(self.length)]
        given = {t: (mask.stated, mask.shown, session.given_labels(t).tobytes()) for t, mask in session.given.items()}
        session.close()
        exported = contents(self.out / "export/masks")
        return session.objects, given, frames, exported if exported != contents(Path("template/export/masks")) else {}


def two_objects(frame: int) -> np.ndarray:
    return square((4 + frame, 4), (20, 4 + 2 * frame), size=SIZE)


def export_masks(session: Session) -> None:
    for _ in export(session, "masks", lambda *_: None):
        pass


CALLS: dict[str, Callable[[Session], object]] = {
    "giving a mask": lambda session: session.give(5, two_objects(0)),
    "removing an object": lambda session: session.remove_object(2),
    "taking a mask back": lambda session: session.forget(5),
    "exporting": export_masks,
}
SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "training": Training,
    "training with two processes": TwoProcesses,
    "eval_davis.py": Evaluation,
    "preparation": Preparation,
    "segment_video.py": OwnVideo,
    "annotate.py": Page,
    **{name: partial(Saving, call) for name, call in CALLS.items()},
}


def main(words: Sequence[str] | None = None) -> int:
    good.stay_in_the_sandbox()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the sandbox's folder")
    parser.add_argument("--times", type=int, default=100, help="trials of each subject")
    parser.add_argument("--only", choices=SUBJECTS, help="one subject")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)  # a pool of threads would not survive a fork
    for script in ("train", "eval_davis", "prepare_youtube", "segment_video", "annotate", "uvicorn", "annotation.server"):
        importlib.import_module(script)
    failed = 0
    signal.signal(signal.SIGALRM, stop)
    for name, kind in SUBJECTS.items():
        if arguments.only not in (None, name):
            continue
        subject = kind(arguments.folder.resolve() / name.replace(" ", "_"))
        start = time.perf_counter()
        subject.finish(subject.start())
        seconds = time.perf_counter() - start
        expected = subject.root / "undisturbed"
        subject.out.rename(expected)
        counts: Counter[str] = Counter()
        chosen = random.Random(arguments.seed)
        for trial in range(arguments.times):
            signal.alarm(PATIENCE)
            try:
                problems, killed = subject.attempt(expected, seconds, chosen)
            except (Exception, TookTooLong) as error:
                problems, killed = [f"{type(error).__name__}: {error}"], 0
            signal.alarm(0)
            counts["killed"] += killed
            counts["failed"] += bool(problems)
            if problems:
                print(f"FAILED {name}, trial {trial}: {problems[:3]}", flush=True)
            if (trial + 1) % 10 == 0 or trial + 1 == arguments.times:
                print(f"{name}: {trial + 1} trials, {counts['killed']} kills, {counts['failed']} failed", flush=True)
        failed += counts["failed"]
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
