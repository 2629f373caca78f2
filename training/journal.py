"""Reporting of a training run: progress bar, TensorBoard log, pictures, and unusable samples."""

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dataset.sampling import Batch, Schedule
from util.device import peak_memory
from util.distributed import Processes
from util.errors import InputError, one_line
from util.picture import overlay, sheet
from util.progress import progress_bar

PROBLEM_LIMIT = 1000  # distinct unusable samples


class Journal:
    """A context that shows progress and writes the TensorBoard log on rank 0; every rank warns about its own samples.

    Speed is measured since the last logged figures or the last validation.
    """

    def __init__(self, folder: Path, schedule: Schedule, start: int, processes: Processes) -> None:
        self.processes, self.samples = processes, schedule.total
        # readers of the log then drop what a killed run had logged after its last checkpoint
        self._writer = SummaryWriter(str(folder / "log"), purge_step=start + 1) if processes.rank == 0 else None
        threading.excepthook = _without_full_disks
        self._problems: set[str] = set()
        self._objectless = 0  # in this process since it started
        shown = ("loss", "iou", "samples/s")
        self._bar = progress_bar(schedule.iterations, "iterations", shown=processes.rank == 0, start=start, figures=shown)
        self._look(start)

    def __enter__(self) -> "Journal":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.finish(dirty=True)
        if self._writer is not None:
            self._writer.close()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A context for code that waits for data; its time is logged."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def warn(self, batches: list[Batch]) -> None:
        """Print each unusable sample once, and count those without an object.

        Raises `InputError` if too many samples are unusable.
        """
        self._objectless += sum(batch.objectless for batch in batches)
        for problem in {problem for batch in batches for problem in batch.problems} - self._problems:
            self._problems.add(problem)
            print(f"\nwarning: {one_line(problem)}", file=sys.stderr)
        if len(self._problems) > PROBLEM_LIMIT:
            raise InputError(f"more than {PROBLEM_LIMIT} samples could not be used; they are named above")

    def report_problems(self) -> None:
        """Print a summary of the unusable samples of all ranks."""
        objectless = sum(self.processes.gather(self._objectless))
        if objectless:
            print_once(self.processes, f"{objectless} samples showed no object to follow and were replaced")
        found = sorted({problem for part in self.processes.gather(self._problems) for problem in part})
        if found:
            print_once(self.processes, f"{len(found)} samples could not be used and were replaced:\n  " + "\n  ".join(found))

    def step(self, done: int) -> None:
        self._bar.update(done)

    def picture(self, done: int, batch: Batch, predicted: Tensor) -> None:
        if self._writer is not None:
            self._writer.add_image("samples", training_picture(batch, predicted), done, dataformats="HWC")

    def figures(self, done: int, scalars: dict[str, float]) -> None:
        seconds, samples = time.perf_counter() - self._start, (done - self._done) * self.samples
        speed = samples / seconds
        scalars = scalars | {
            "speed/samples_per_second": speed,
            "speed/share_waiting_for_data": self._waited / seconds,
            "peak_memory_mib": peak_memory()[1] / 2**20,
        }
        self._look(done)
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, done)
            shown = {"loss": scalars["loss/total"], "iou": scalars.get("iou/object_1"), "samples/s": speed}
            self._bar.update(done, **shown)

    def validation(self, done: int, score: float | None) -> None:
        """Log the J&F of a validation, or `None` if there is none; the time it took is not counted as training."""
        if self._writer is not None and score is not None:
            self._writer.add_scalar("validation/J&F", score, done)
            print(f"\nJ&F after {done} iterations: {100 * score:.1f}", flush=True)
        self._look(done)

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _look(self, done: int) -> None:
        self._start, self._waited, self._done = time.perf_counter(), 0.0, done


def _without_full_disks(failure: threading.ExceptHookArgs) -> None:
    """For `threading.excepthook`: TensorBoard's thread cannot write; `Journal`'s next call raises the same error."""
    if not (isinstance(failure.exc_value, OSError) and type(failure.thread).__name__ == "_AsyncWriterThread"):
        threading.__excepthook__(failure)


def training_picture(batch: Batch, predicted: Tensor) -> np.ndarray:
    """Two rows for each of the first four clips of a batch: the ground truth, and the first mask with the predictions."""
    rows = []
    clips = zip(batch.frames.numpy(), batch.labels.numpy(), predicted.cpu().numpy(), strict=True)
    for frames, labels, found in itertools.islice(clips, 4):
        rows.append([overlay(*pair) for pair in zip(frames, labels, strict=True)])
        rows.append([overlay(*pair) for pair in zip(frames, [labels[0], *found.astype(np.uint8)], strict=True)])
    return sheet(rows)


def print_once(processes: Processes, text: str) -> None:
    if processes.rank == 0:
        print(text, flush=True)
