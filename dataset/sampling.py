"""The order of training samples, and loading them.

A sample depends only on (seed, draw number), not on which worker makes it or when.  Draw n is sample n mod L of epoch
n // L, in that epoch's permutation of the L entries of all data sets.
"""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from dataset.clip import Clip
from dataset.shared_memory import is_of_memory, lost_worker, refuse_if_few_files, refuse_if_short
from dataset.sources import Sources
from util.errors import InputError

TRIES = 5  # draws of an entry that shows no object before another entry is tried
OTHER_ENTRIES = 20  # entries tried per draw before giving up
GRACE = 25  # seconds that a worker lives on after SIGTERM


class Batch(NamedTuple):
    """B clips of T frames with N object slots."""

    frames: Tensor  # (B, T, H, W, 3) uint8 RGB
    labels: Tensor  # (B, T, H, W) uint8: 0 background, else the slot's number from 1
    valid: Tensor  # (B, N) bool
    names: tuple[str, ...]
    problems: tuple[str, ...]
    objectless: int  # entries that were replaced because they showed no object to follow
    masks: Tensor | None = None  # (B, N, H, W) uint8, the first frame's if they are soft (stage 0): 255 is certain
    hints: Tensor | None = None  # (B, T, 3, H, W) bool, only of the scribble network's clips


class Draws(Dataset):
    """All samples of a training run, indexed by draw number.

    max_skip: the largest distance between a draw's frames, the same for all, or by the draw's number (the curriculum)
    """

    def __init__(self, sources: Sources, *, seed: int, max_skip: int | Callable[[int], int] = 5) -> None:
        self.seed = seed
        self._max_skip = max_skip
        self.entries = [  # a source, and an index in it
            (source, index) for source, often in sources.values() for _ in range(often) for index in range(len(source))
        ]
        self._epoch = -1
        self._order = np.empty(0, dtype=int)

    def __len__(self) -> int:
        """Entries per epoch; the number of draws is unlimited."""
        return len(self.entries)

    def __getitem__(self, draw: int) -> Clip:
        """The clip of a draw.  An entry that cannot be read, or shows no object to follow, is replaced by another: see
        `Clip.problems` and `Clip.objectless`.  Raises `InputError` after too many unusable entries in a row.
        """
        rng = np.random.Generator(np.random.Philox(key=[self.seed, draw]))
        entry = self._permutation(draw // len(self))[draw % len(self)]
        problems: list[str] = []
        objectless = 0
        last = ""
        for _ in range(OTHER_ENTRIES):
            source, index = self.entries[entry]
            try:
                for _ in range(TRIES):
                    clip = source.draw(index, rng, max_skip=self.max_skip(draw))
                    if clip is not None:
                        return clip._replace(problems=tuple(problems), objectless=objectless)
                objectless, last = objectless + 1, f"{source.name(index)}: no object to follow in {TRIES} draws"
            except InputError as error:
                last = str(error)
                problems.append(last)
            entry = rng.integers(len(self))
        raise InputError(f"{OTHER_ENTRIES} samples in a row cannot be used, the last: {last}")

    def max_skip(self, draw: int) -> int:
        """The largest distance, in frames, between a draw's frames."""
        return self._max_skip(draw) if callable(self._max_skip) else self._max_skip

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self))
        return self._order


class Schedule(NamedTuple):
    """Assigns draws to processes: each iteration takes `total` consecutive draws, divided among ranks and passes."""

    iterations: int
    batch: int  # samples per process and pass
    passes: int = 1  # passes whose gradients are accumulated
    world: int = 1

    @property
    def total(self) -> int:
        """Samples per iteration."""
        return self.batch * self.passes * self.world

    def batches(self, rank: int, start: int) -> Iterator[list[int]]:
        """The draw numbers of each pass of `rank`, from iteration `start` on."""
        for first in range(start * self.total, self.iterations * self.total, self.batch * self.world):
            yield list(range(first + rank * self.batch, first + (rank + 1) * self.batch))


def load(draws: Draws, schedule: Schedule, *, rank: int, start: int, workers: int, pin: bool = False) -> Iterator[Batch]:
    """The batches of one rank, prepared ahead by `workers` processes (0: on demand).  Raises `InputError` after too many
    unusable samples in a row, or if a worker is lost or has no shared memory.
    """
    if workers and start < schedule.iterations:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)  # its threads would not be in the workers, which are copies of this process
        one = _collate([draws[next(schedule.batches(rank, start))[0]]])
        cv2.setNumThreads(threads)
        sizes = [part.nbytes for part in one if isinstance(part, Tensor)]
        refuse_if_short(schedule.batch * sum(sizes), workers=workers, held=schedule.passes)
        refuse_if_few_files(len(sizes), workers=workers, held=schedule.passes)
    loader = DataLoader(
        draws,
        batch_sampler=schedule.batches(rank, start),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_prepare_worker,
        pin_memory=pin,
    )
    try:
        yield from loader
    except InputError as error:  # one from a worker includes the worker's traceback
        raise InputError(str(error).strip().splitlines()[-1].removeprefix("util.errors.InputError: ")) from error
    except (OSError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        with _quietly():  # a loader that was not complete complains when it goes
            error = error.with_traceback(None)  # which would keep the workers alive
        raise lost_worker(error) from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """A context in which errors of objects that are deleted are not shown."""
    shown, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
    try:
        yield
    finally:
        sys.unraisablehook = shown


def _collate(clips: list[Clip]) -> Batch:
    fields = ("frames", "labels", "valid", "masks", "hints")
    return Batch(
        **{field: _stacked([getattr(clip, field) for clip in clips]) for field in fields},
        names=tuple(clip.name for clip in clips),
        problems=tuple(problem for clip in clips for problem in clip.problems),
        objectless=sum(clip.objectless for clip in clips),
    )


def _stacked(arrays: list[Any]) -> Any:
    """A tensor (B, ...), or `None` for `None`.  A worker puts it into shared memory here, where an error gets through: in
    the thread that sends it, it would be lost, and the training would wait for ever.
    """
    if arrays[0] is None:
        return None
    stacked = torch.from_numpy(np.stack(arrays))
    return stacked if get_worker_info() is None else stacked.share_memory_()


def _prepare_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # workers already run in parallel
    torch.set_num_threads(1)
    # torchrun and terminals send these to the whole process group, but training needs data until its state is saved
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # Windows has neither this nor groups of processes
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))
