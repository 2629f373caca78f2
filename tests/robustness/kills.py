"""Kill -9 at random moments, then run the same command again: the results must be those of the undisturbed run, bit for bit.

    PYTHONPATH=.:tests bash tests/robustness/sandbox.sh FOLDER python tests/robustness/kills.py FOLDER --times 100

Each trial is killed one to three times before it may end.  After each kill, nothing may look finished that is not.  The calls
by which annotate.py saves are killed within; there must be then what was before the call or what is after it.  To be fast, the
runs are forks of this process, which has imported everything; a run of two processes is two forks.  At the end it prints the
counts of each.
"""

import argparse
import hashlib
import http.client
import http.server
import importlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import good
import numpy as np
import torch
import trials
from annotate_server import Running
from conftest import run_script, write_davis, write_video
from films import square, write_film, write_folder
from forks import Fork, ranks
from good import NET, SIZE, TINY, labels
from PIL import Image
from test_download_model import Server
from test_train import assert_same_run
from trials import TookTooLong, stop

from annotation.export import KINDS, export, export_path, zipped
from annotation.imported import import_files, import_masks
from annotation.session import Session
from dataset.frame_folder import FrameFolder
from dataset.given_masks import read_given_masks
from evaluation.propagate import Snapshots
from model.released import RELEASED, Released
from util.label_map import write_label_map

PATIENCE = 600  # seconds, on a busy machine
MODULES = (  # that forks find imported
    *("train", "eval_davis", "eval_youtube", "segment_video", "annotate", "uvicorn", "annotation.server", "train_scribble"),
    *("eval_rounds", "eval_clicks", "eval_interactive", "copy_first_mask", "score", "report", "show_results", "show_samples"),
    *("prepare_youtube", "prepare_davis", "prepare_static", "prepare_bl30k", "make_clips", "from_coco", "download_model"),
    "convert_weights",
)


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
        self.begin()
        for _ in range(chosen.randint(1, 3)):
            killed += self.kill_after(self.start(), chosen.uniform(0, seconds))
            if self.out.exists():
                problems += self.half_written(expected)
        self.finish(self.start())
        return [*problems, *self.wrong(expected)], killed

    def begin(self) -> None:
        """Bring `out` to where a trial begins."""
        shutil.rmtree(self.out, ignore_errors=True)

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
        name: content_of(path) for name, path in names.items() if not any(part.startswith(".") for part in name.split("/"))
    }


def content_of(path: Path) -> str:
    """A digest of a file; of an archive, that of the names and checksums in it, since it also holds times."""
    content = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            content = repr([(each.filename, each.CRC) for each in archive.infolist()]).encode()
    return hashlib.sha256(content).hexdigest()


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


class Script(Subject):
    """A script on the good tree (`good.py`)."""

    def __init__(self, words: Sequence[str], whole: Sequence[str], root: Path) -> None:
        """whole: folders of results that hold all of their files as soon as they exist"""
        self._words, self.whole = tuple(words), list(whole)
        super().__init__(root)

    def build(self) -> None:
        good.build(self.root)
        trials.build_more(self.root)

    def words(self) -> tuple[str, ...]:
        return self._words

    def half_written(self, expected: Path) -> list[str]:
        return super().half_written(expected) + folders_are_whole(self.out, expected, self.whole)


class Scores(Script):
    """A script that adds to results."""

    def begin(self) -> None:
        super().begin()
        shutil.copytree("results", self.out)


class Once(Script):
    """A script that refuses to do again what is done."""

    def finish(self, run: Fork) -> None:
        if run.wait() != [2]:
            super().finish(run)


class Timed(Script):
    """A script whose figures grow, and tell seconds; without these, they must be the same in the end."""

    def half_written(self, expected: Path) -> list[str]:
        self.figures(self.out)
        return []

    def wrong(self, expected: Path) -> list[str]:
        return [] if self.figures(self.out) == self.figures(expected) else ["differs"]

    def figures(self, folder: Path) -> dict[str, Any]:
        for path in folder.glob("*.png"):
            Image.open(path).load()
        return {path.name: without_seconds(json.loads(path.read_text())) for path in folder.glob("*.json")}


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_seconds(each) for name, each in value.items() if name not in SECONDS}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


SECONDS = ("seconds", "sha256", "auc", "at_60")


class Scribbles(Script):
    """train_scribble.py."""

    def wrong(self, expected: Path) -> list[str]:
        ours, theirs = (torch.load(folder / "x.pth", weights_only=True)["network"] for folder in (self.out, expected))
        return [] if all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()) else ["differs"]

    def half_written(self, expected: Path) -> list[str]:
        for path in self.out.rglob("[!.]*.pth"):
            torch.load(path, weights_only=True)
        return []


class Download(Script):
    def build(self) -> None:
        good.save_network(good.build_light_network(), Path("net.pth"))
        kind = type("Handler", (Server,), {"content": Path("net.pth").read_bytes(), "asked": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        RELEASED["stcn"] = Released(f"http://127.0.0.1:{server.server_port}/stcn", "nothing at all")

    def half_written(self, expected: Path) -> list[str]:
        return [each for each in super().half_written(expected) if not each.endswith(".part")]


class OwnVideo(Subject):
    flags: tuple[str, ...] = ()

    def build(self) -> None:
        write_film(Path("film.mp4"), [np.asarray(good.picture(t)) for t in range(12)])
        write_label_map("mask.png", labels(1), None)
        good.save_network(good.build_light_network(), Path("net.pth"))
        keep_all_snapshots()

    def words(self) -> tuple[str, ...]:
        return ("segment_video", "film.mp4", "--mask", "6:mask.png", "--output", "out", *NET, *self.flags)

    def half_written(self, expected: Path) -> list[str]:
        return folders_are_whole(self.out, expected, ["masks"])


class WithCutout(OwnVideo):
    flags = ("--cutout",)


class OnlyCutout(WithCutout):
    """All but the film of cut-outs is there."""

    def begin(self) -> None:
        super().begin()
        if not Path("finished").exists():
            self.flags = ()
            self.finish(self.start())
            self.flags = WithCutout.flags
            self.out.rename("finished")
        shutil.copytree("finished", self.out)


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
        assert run.ask("POST", "/api/follow", {})[0] == 200
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
            self.ask("POST", "/api/follow", {})
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(seconds)


Call = Callable[[Session], object]


class Saving(Subject):
    """A call of annotate.py's session, after another one; it says when it begins, and when it has returned."""

    length = 12

    def __init__(self, call: Call, first: Call, kind: str, root: Path) -> None:
        """kind: what is exported, before and perhaps by the call"""
        self.call, self.first, self.kind, self.seconds = call, first, kind, 0.0
        super().__init__(root)

    def build(self) -> None:
        """A session with two objects, given masks, results that have been found, and an export from before."""
        write_folder(Path("frames"), self.length, SIZE)
        session = self.open()
        self.fill(session)
        session.close()
        self.out.rename("template")

    def fill(self, session: Session) -> None:
        for name in ("dog", "cat"):
            session.add_object(name)
        for frame in (2, 5, 8):
            session.give(frame, two_objects(frame))
        for frame in range(self.length):
            session.put_result(frame, two_objects(frame), 0.5, final=True, revision=session.revision)
        exporting(self.kind)(session)
        session.give(8, two_objects(1))

    def open(self) -> Session:
        return Session(self.out, FrameFolder(Path("frames")), "frames")

    def words(self) -> tuple[str, ...]:
        return ()

    def begin(self) -> None:
        super().begin()
        shutil.copytree("template", self.out)

    def start(self) -> Fork:
        self.begin()
        reading, writing = os.pipe()
        run = Fork(self.work, output=writing)
        os.close(writing)
        run.told = os.fdopen(reading)  # type: ignore[attr-defined]
        run.told.readline()  # type: ignore[attr-defined] (the call begins)
        return run

    def work(self) -> int:
        session = self.open()
        self.first(session)
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
        self.begin()
        session = self.open()
        self.first(session)
        session.close()
        outcomes = [self.state()]
        shutil.rmtree(self.out)
        shutil.copytree(expected, self.out)
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
        """What the session says once it is opened again, and its export."""
        session = self.open()
        frames = [(session.labels(t).tobytes(), session.results[t]) for t in range(self.length)]
        given = {t: (mask.stated, mask.shown, session.given_labels(t).tobytes()) for t, mask in session.given.items()}
        session.close()
        files = contents(self.out / "export").items()
        exported = {name: found for name, found in files if not re.search("unfinished|_replaced/", name)}  # not yet tidied
        return session.objects, given, frames, exported


class Starting(Saving):
    """annotate.py begins a session with masks."""

    def fill(self, session: Session) -> None:
        pass


def two_objects(frame: int) -> np.ndarray:
    return square((4 + frame, 4), (20, 4 + 2 * frame), size=SIZE)


def draw(session: Session) -> None:
    session.draw(5, two_objects(0))


def remove(session: Session) -> None:
    session.remove_object(2)


def undo(session: Session) -> None:
    session.undo(0)


def import_two(session: Session) -> None:
    file = io.BytesIO()
    Image.fromarray(two_objects(3) + np.uint8(2) * (two_objects(3) > 0)).save(file, "PNG")  # objects 3 and 4 are new
    import_files(session, 5, [("bird.png", file.getvalue())], 0)


def begin_with_masks(session: Session) -> None:
    for frame in (2, 6):
        write_label_map(f"{frame}.png", two_objects(frame), None)
    paths = [(frame, Path(f"{frame}.png")) for frame in (2, 6)]
    import_masks(session, read_given_masks(paths, session.video.names, session.video.size))


def exporting(kind: str) -> Call:
    def call(session: Session) -> None:
        for _ in export(session, kind, lambda *_: None):
            pass

    return call


def nothing(session: Session) -> None:
    pass


def saving(call: Call, *, after: Call = nothing, kind: str = "masks", of: type[Saving] = Saving) -> Callable[[Path], Subject]:
    return partial(of, call, after, kind)


def script(*words: str, whole: Sequence[str] = (), of: type[Script] = Script) -> Callable[[Path], Subject]:
    """A script with these arguments, or one of the generated trials."""
    return partial(of, trials.COMMANDS[words[0]].words if len(words) == 1 else words, whole)


TREE = ("--davis_path", "DAVIS")
SCRIBBLE = ("--scribble_model", "scribble.pth", "--output", "out")
SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "training": Training,
    "training with two processes": TwoProcesses,
    "train_scribble.py": script(*trials.SCRIBBLES, "-i", "3", "-b", "1", "--crop", "32", "--save_every", "1", of=Scribbles),
    "eval_davis.py": Evaluation,
    "eval_youtube.py": script("eval_youtube own", whole=[f"Annotations/{name}" for name in ("cat", "two words", "größe")]),
    "eval_rounds.py": script("eval_rounds", of=Timed),
    "eval_clicks.py": script("eval_clicks", *TREE, "--clicks", "2", *SCRIBBLE, of=Timed),
    "eval_interactive.py": script("eval_interactive", *TREE, *NET, "--interactions", "2", *SCRIBBLE, of=Timed),
    "copy_first_mask.py": script("copy_first_mask", whole=["ant", "bee"]),
    "score.py": script("score", "--results", "out", *TREE, "--processes", "1", of=Scores),
    "report.py": script("report"),
    "show_results.py": script("show_results"),
    "show_samples.py": script("show_samples"),
    "preparation": Preparation,
    "prepare_davis.py": script("prepare_davis tar.gz"),
    "prepare_static.py": script("prepare_static"),
    "prepare_bl30k.py": script("prepare_bl30k"),
    "make_clips.py": script("make_clips", whole=["clips"]),
    "from_coco.py": script(
        "from_coco",
        "film.mp4",
        "--mask",
        "mask.png",
        "--output",
        "out",
        whole=["JPEGImages/film", "Annotations/film"],
        of=Once,
    ),
    "download_model.py": script("download_model", "stcn", "--output", "out", of=Download),
    "convert_weights.py": script("convert_weights", of=Once),
    "segment_video.py": OwnVideo,
    "segment_video.py --cutout": WithCutout,
    "segment_video.py --cutout, later": OnlyCutout,
    "annotate.py": Page,
    "beginning with masks": saving(begin_with_masks, of=Starting),
    "adding an object": saving(lambda session: session.add_object("bird")),
    "renaming and locking an object": saving(lambda session: session.change_object(1, name="puppy", locked=True)),
    "giving a mask": saving(lambda session: session.give(5, two_objects(0))),
    "drawing": saving(draw),
    "importing a mask": saving(import_two),
    "removing an object": saving(remove),
    "cleaning the files": saving(lambda session: [session.clean(i) for i in range(session.length)], after=remove),
    "taking a mask back": saving(lambda session: session.forget(5)),
    "taking a step back": saving(undo, after=draw),
    "taking a removal back": saving(undo, after=remove),
    "doing a step again": saving(
        lambda session: session.undo(0, again=True), after=lambda session: (draw(session), undo(session))
    ),
    **{f"exporting {kind}": saving(exporting(kind), kind=kind) for kind in KINDS},
    "downloading an export": saving(lambda session: zipped(export_path(session, "masks"))),
}


def main(words: Sequence[str] | None = None) -> int:
    good.stay_in_the_sandbox()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the sandbox's folder")
    parser.add_argument("--times", type=int, default=100, help="trials of each subject")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), metavar="NAME", help="these subjects")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)  # a pool of threads would not survive a fork
    for module in MODULES:
        importlib.import_module(module)
    signal.signal(signal.SIGALRM, stop)
    total: dict[str, Counter[str]] = {}
    for name in arguments.only:
        subject = SUBJECTS[name](arguments.folder.resolve() / name.replace(" ", "_"))
        subject.begin()
        start = time.perf_counter()
        subject.finish(subject.start())
        seconds = time.perf_counter() - start
        expected = subject.root / "undisturbed"
        subject.out.rename(expected)
        counts = total[name] = Counter()
        chosen = random.Random(arguments.seed)
        for trial in range(arguments.times):
            signal.alarm(PATIENCE)
            try:
                problems, killed = subject.attempt(expected, seconds, chosen)
            except (Exception, TookTooLong) as error:
                problems, killed = [f"{type(error).__name__}: {error}"], 0
            signal.alarm(0)
            counts["trials"] += 1
            counts["kills"] += killed
            counts["failed"] += bool(problems)
            if problems:
                print(f"FAILED {name}, trial {trial}: {problems[:3]}", flush=True)
        print(f"{name}: {counts['trials']} trials, {counts['kills']} kills, {counts['failed']} failed", flush=True)
    print("\n| call | trials | kills | failed |\n|---|---|---|---|")
    for name, counts in {**total, "all": sum(total.values(), Counter())}.items():
        print(f"| {name} | {counts['trials']} | {counts['kills']} | {counts['failed']} |")
    return int(any(counts["failed"] for counts in total.values()))


if __name__ == "__main__":
    sys.exit(main())
