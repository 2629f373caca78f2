"""The thread that computes: follows objects, exports, and cleans results of removed objects."""

import contextlib
import hashlib
import json
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from annotation.saved import WORKING
from annotation.session import Session
from annotation.state import Given
from evaluation.fits import Claims
from evaluation.propagate import Estimate, Propagation, Snapshots
from model import VideoSegmenter
from model.checkpoint import read
from util.errors import InputError, print_note
from util.files import write_atomically
from util.guards import remove_files

CLAIMS = Claims()  # of all videos that are followed at once
RECORD_SECONDS = 2  # between two records of what is done


@dataclass
class Job:
    """The current or last job of the worker."""

    kind: str = ""  # follow, export, clean
    number: int = 0  # of all jobs
    running: bool = False
    done: int = 0
    total: int = 0
    frame: int = 0  # the one that was done last
    message: str = ""  # for the user: what came of it
    failed: bool = False
    link: str = ""  # where the page can download what was exported


class Worker:
    """Does one job at a time in a thread of its own; `start` refuses a second one with `InputError`.

    A stopped job continues only if the session's settings are the same.
    check_memory: refuse to follow what needs more memory than there is
    """

    def __init__(self, session: Session, make_segmenter: Callable[[], VideoSegmenter], *, check_memory: bool = True) -> None:
        self.session, self.make_segmenter, self.check_memory = session, make_segmenter, check_memory
        self.job = Job()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._folder = session.root / WORKING
        self._snapshot = self._folder / "snapshot.pth"
        self._key = ""  # a digest of all that the results of the job depend on, except the span

    def start(self, kind: str, steps: Callable[[], Generator[None, None, None]]) -> None:
        """Start a job: the generator that `steps` returns.  It ends cleaning, which nobody waits for."""
        with self._starting:
            if self.busy:
                raise InputError(f"busy: wait for {self.job.kind} to end, or stop it")
            self.stop()
            self._stop.clear()
            self.job = Job(kind, self.job.number + 1, running=True)
            self.session.touch()
            self._thread = threading.Thread(target=self._run, args=(steps,), daemon=True)
            self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job runs that others must wait for."""
        return self.job.running and self.job.kind != "clean"

    def stop(self) -> None:
        """Stop the job after its current frame, and wait until it ends."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def progress(self, done: int, total: int, frame: int = 0) -> None:
        self.job.done, self.job.total, self.job.frame = done, total, frame
        self.session.touch()

    def _run(self, steps: Callable[[], Generator[None, None, None]]) -> None:
        job = self.job
        try:
            with contextlib.closing(steps()) as each_step:
                for _ in each_step:
                    if self._stop.is_set():
                        job.message = "stopped"
                        break
        except InputError as error:
            job.message, job.failed = str(error), True
        except Exception as error:  # a full GPU, a defect: the page must not wait for ever
            traceback.print_exc()
            job.message, job.failed = f"{type(error).__name__}: {error}", True
        finally:
            CLAIMS.drop(self)
            job.running = False
            self.session.touch()

    def clean(self) -> Generator[None, None, None]:
        """Remove objects that no longer exist from all files."""
        for frame in range(self.session.length):
            self.session.clean(frame)
            self.progress(frame + 1, self.session.length)
            yield

    # following

    def follow(self, window: range | None = None) -> Generator[None, None, None]:
        """Follow all parts that need it, or what these frames need.  After a stop, or the last one, it goes on from there."""
        session = self.session
        with session.lock:
            revision, given, spans = session.revision, dict(session.given), session.parts(window)
        if not given:
            raise InputError("draw a mask first")
        work = self._work(spans, given, window)
        if self.check_memory:
            CLAIMS.claim(self, [propagation.refuse_if_too_large for propagation in work])
        total, before = sum(propagation.steps for propagation in work), 0
        while work:
            propagation = work.pop(0)  # the one before goes, and its memory with it: the check counts one
            self.progress(before + propagation.done, total, propagation.span.start)
            snapshots = Snapshots(self._save_snapshot)
            recorded = time.monotonic()
            try:
                for frame in self._results(propagation, revision):
                    self.progress(before + propagation.done, total, frame)
                    if session.revision != revision:
                        self._forget_working()
                        self.job.message = "a mask has changed; follow again"
                        return
                    yield
                    if snapshots.due or time.monotonic() - recorded > RECORD_SECONDS:
                        session.save()  # before the snapshot, which must not be ahead of it
                        recorded = time.monotonic()
                    if snapshots.due:
                        snapshots.save(propagation)
            except GeneratorExit:  # a stop
                self._save_snapshot(propagation)
                raise
            finally:
                session.save()
            before += propagation.steps
            self._forget_working()
            if self._end(propagation) > propagation.span.stop:
                self._save_snapshot(propagation)
        session.save("follow", steps=total)
        there = "All is followed." if window is None else "These frames are followed already."
        self.job.message = f"Followed, in {total} steps of both directions." if total else there

    def _results(self, propagation: Propagation, revision: int) -> Iterator[int]:
        """Do the remaining steps; stores each result and yields its frame."""
        session = self.session
        for step in propagation.backwards(self._folder):
            if step.estimate is not None:
                step.estimate.write(self._estimate(step.index))
            if step.labels is not None:
                final = step.estimate is None
                session.put_result(step.index, step.labels, step.sureness, final=final, revision=revision)
            yield step.index
        for frame in propagation.forwards(lambda index: Estimate.read(self._estimate(index)), from_the_start=False):
            assert frame.labels is not None
            session.put_result(frame.index, frame.labels, frame.sureness, final=True, revision=revision)
            yield frame.index

    def _estimate(self, index: int) -> Path:
        return self._folder / f"{index}.npz"

    # going on after a stop

    def _work(self, spans: list[range], given: dict[int, Given], window: range | None) -> list[Propagation]:
        """The parts that need following, of `spans`; the first one continues where a stopped job ended."""
        session = self.session
        if not spans:
            return []
        masks = {frame: session.given_labels(frame) for frame in given}
        stated = {frame: mask.stated for frame, mask in given.items()}
        record = [session.settings, [[frame, asdict(mask)] for frame, mask in sorted(given.items())]]
        self._key = hashlib.sha256(json.dumps(record).encode()).hexdigest()

        def follow(span: range) -> Propagation:
            return Propagation(session.video, masks, self.make_segmenter, span=span, stated=stated, detailed=True)

        stopped = self._stopped(follow, window)
        if stopped is not None and stopped.done < stopped.steps:
            first, last = stopped.span[0], stopped.span[-1]  # of which some is final by now
            rest = [span for span in spans if not first <= span[0] <= span[-1] <= last]
            if all(span[-1] <= first or last <= span[0] for span in rest):
                return [stopped, *map(follow, rest)]
        self._forget_working()
        return [follow(span) for span in spans]

    def _stopped(self, follow: Callable[[range], Propagation], window: range | None) -> Propagation | None:
        """The part that the snapshot can continue, if everything it depends on is unchanged."""
        if not self._snapshot.is_file():
            return None
        try:
            state = read(self._snapshot)
            if state["key"] == self._key:
                start, stop = state["span"]
                if window is not None and stop - 1 not in self.session.given:
                    last = max(frame for frame in self.session.given if start <= frame < stop)
                    stop = min(stop, max(window.stop, last + 1))
                propagation = follow(range(start, stop))
                propagation.load_state_dict(state)
                return propagation
        except Exception as error:  # damaged: it is done anew
            print_note(f"{self._snapshot}: cannot go on from this ({error})")
        return None

    def _save_snapshot(self, propagation: Propagation) -> None:
        where = {"span": [propagation.span.start, self._end(propagation)], "key": self._key}
        write_atomically(self._snapshot, lambda file: torch.save({**where, **propagation.state_dict()}, file))

    def _end(self, propagation: Propagation) -> int:
        """Where a part ends that may have been cut: at the end of the video, unless its last frame is given."""
        stop = propagation.span.stop
        return stop if stop - 1 in self.session.given else self.session.length

    def _forget_working(self) -> None:
        """Remove the snapshot and the estimates, which are no longer needed."""
        numbers = (path for path in self._folder.glob("*.npz") if path.stem.isdecimal())
        remove_files([self._snapshot, *numbers])
