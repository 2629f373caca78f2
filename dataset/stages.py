"""What each stage trains on: which data sets and how often, the order of the draws, and their loading.

A sample is a function of (seed, draw number) alone: which worker makes it, or when, does not matter.  Draw n is sample
n mod L of epoch n // L, in that epoch's permutation of the L entries of all data sets.
"""

import argparse
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dataset.benchmarks import davis_places, read_image_set
from dataset.clip import Clip
from dataset.static import StaticClips
from dataset.vos import SPACINGS, VideoClips
from util.errors import InputError, warn
from util.flags import int_between

OFTEN = 5  # how often data sets with better masks are taken (sections F.3.1 and F.3.2)
STATIC_FOLDERS = {"fss": 1, "DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": OFTEN, "HRSOD_small": OFTEN}
YOUTUBE_LIST = Path(__file__).with_name("yv_subset.txt")  # the release's 3,464 of 3,471 videos, where it is there
YOUTUBE_STRIDE = 5  # YouTube-VOS annotates every fifth frame
TINY, SMALL, LARGE = 100, 400, 900  # pixels of BL30K's objects
TRIES = 5  # draws of an entry that shows no object, before another entry is taken
OTHER_ENTRIES = 20
GRACE = 25  # seconds between SIGTERM and a worker's end


class Source(Protocol):
    """What a data set is for training."""

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def draw(self, index: int, rng: np.random.Generator, *, max_skip: int) -> Clip | None: ...


class Batch(NamedTuple):
    """B clips of T frames with N object slots."""

    frames: Tensor  # (B, T, H, W, 3) uint8 RGB
    labels: Tensor  # (B, T, H, W) uint8: 0 background, else the slot's number from 1
    valid: Tensor  # (B, N) bool
    names: tuple[str, ...]
    problems: tuple[str, ...]
    objectless: int  # entries that showed no object to follow, and were replaced


class Stage(NamedTuple):
    """The paper's numbers for one stage of training (sections 5, F.1 and F.4)."""

    iterations: int
    steps: tuple[int, ...]  # iterations at which the learning rate falls
    batch: int  # samples an iteration, over all processes
    skips: tuple[tuple[float, int], ...]  # from which share of the iterations on frames may lie how far apart


def _curriculum(last: float) -> tuple[tuple[float, int], ...]:
    return (0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (last, 5)


STAGES = (
    Stage(300_000, (150_000,), 16, ((0.0, 0),)),  # 0: static images; a photograph has no frames to skip
    Stage(500_000, (450_000,), 8, _curriculum(0.8)),  # 1: BL30K
    Stage(300_000, (250_000,), 8, _curriculum(0.9)),  # 2: YouTube-VOS and DAVIS, after BL30K
    Stage(150_000, (125_000,), 8, _curriculum(0.9)),  # 3: YouTube-VOS and DAVIS
)


def max_skip(stage: Stage, progress: float) -> int:
    """How many frames apart the frames of a sample may lie, when this share of the iterations is done."""
    return next(skip for start, skip in reversed(stage.skips) if progress >= start)


def static_sources(root: str | Path, *, crop: int = 384) -> dict[str, tuple[Source, int]]:
    """Stage 0: those of the static data sets that are below `root`, and how often each is taken."""
    present = {name: often for name, often in STATIC_FOLDERS.items() if (Path(root) / name).is_dir()}
    if not present:
        raise InputError(f"{root}: expected at least one of {', '.join(STATIC_FOLDERS)} in it, found none")
    if absent := STATIC_FOLDERS.keys() - present:
        warn(f"{root}: training without {', '.join(sorted(absent))}, which are not there")
    return {name: (StaticClips(Path(root) / name, crop=crop), often) for name, often in present.items()}


def bl30k_sources(root: str | Path, *, spacing: str = "released", crop: int = 384) -> dict[str, tuple[Source, int]]:
    """Stage 1; `spacing` is a key of `dataset.vos.SPACINGS`."""
    root = Path(root)
    options: Any = {"scale": (0.25, 1.0), "followed": stays_in_size, "spacing": spacing, "crop": crop}
    return {"BL30K": (VideoClips(root / "JPEGImages", root / "Annotations", **options), 1)}


def stays_in_size(pixels: np.ndarray) -> bool:
    """Whether an object of BL30K is followed: no tiny ones (section F.3.3), nor small ones that grow large, as released."""
    return bool(pixels[0] > TINY and (pixels[0] > LARGE or (pixels[1:] < SMALL).all()))


def video_sources(
    youtube_root: str | Path | None,
    davis_root: str | Path | None,
    *,
    youtube_list: str | Path | None = None,
    spacing: str = "released",
    crop: int = 384,
) -> dict[str, tuple[Source, int]]:
    """Stages 2 and 3: YouTube-VOS and, five times as often, DAVIS 2017; either may be left out with `None`.

    `youtube_list` names the videos of YouTube-VOS to train on (`listed_videos`); `None` takes all.
    """
    sources: dict[str, tuple[Source, int]] = {}
    options: Any = {"spacing": spacing, "crop": crop}
    if youtube_root is not None:
        images, masks = (Path(youtube_root) / "train_480p" / part for part in ("JPEGImages", "Annotations"))
        names = None if youtube_list is None else listed_videos(Path(youtube_list), images, masks)
        sources["YouTube-VOS"] = VideoClips(images, masks, names, stride=YOUTUBE_STRIDE, **options), 1
    if davis_root is not None:
        places = davis_places(Path(davis_root), "trainval", 2017)
        root = next((place for place in places if (place / "JPEGImages").is_dir()), places[-1])
        image_set = root / "ImageSets" / "2017" / "train.txt"
        if not image_set.is_file():
            raise InputError(f"{image_set}: no such image set")
        images, masks = root / "JPEGImages" / "480p", root / "Annotations" / "480p"
        sources["DAVIS"] = VideoClips(images, masks, read_image_set(image_set, images, masks), **options), OFTEN
    if not sources:
        raise InputError("expected YouTube-VOS or DAVIS to train on, found neither")
    return sources


def listed_videos(path: Path, images: Path, masks: Path) -> list[str] | None:
    """Those videos of a list that are there; `None`, which is all, for a data set of which it lists nothing (one's own).

    Warns when listed videos are absent.  Raises `InputError` when the list cannot be read.
    """
    names = read_image_set(path, images, masks)
    present = [name for name in names if (masks / name).is_dir()]
    if not present:
        warn(f"{path}: lists no video of {masks}, all of which are taken")
        return None
    if len(present) < len(names):
        warn(f"{masks}: {len(names) - len(present)} of the {len(names)} videos in {path} are not there")
    return present


def stage_sources(
    stage: int,
    roots: Mapping[str, str | None],
    *,
    youtube_list: str | Path | None = None,
    spacing: str = "released",
    crop: int = 384,
) -> dict[str, tuple[Source, int]]:
    """The data sets of a stage and how often each is taken; `roots` are the flags `static_root`, `bl_root`, and so on.

    Raises `InputError` when what the stage needs is absent.
    """
    if stage >= 2:
        options: Any = {"youtube_list": youtube_list, "spacing": spacing, "crop": crop}
        return video_sources(roots["yv_root"], roots["davis_root"], **options)
    flag = ("static_root", "bl_root")[stage]
    root = roots[flag]
    if root is None:
        raise InputError(f"--{flag}: stage {stage} cannot go without it")
    return static_sources(root, crop=crop) if stage == 0 else bl30k_sources(root, spacing=spacing, crop=crop)


def add_data_flags(parser: argparse._ActionsContainer) -> None:
    """Where the training data lies."""
    parser.add_argument(
        "--static_root", default="../static", metavar="DIR", help="stage 0: folder with fss/, DUTS-TR/, ecssd/, ..."
    )
    parser.add_argument(
        "--bl_root", default="../BL30K", metavar="DIR", help="stage 1: folder with JPEGImages/ and Annotations/"
    )
    parser.add_argument(
        "--yv_root", default="../YouTube", metavar="DIR", help="folder with train_480p/; 'none' trains without YouTube-VOS"
    )
    parser.add_argument(
        "--davis_root",
        default="../DAVIS/2017",
        metavar="DIR",
        help="folder with trainval/ or 2017/; 'none' trains without DAVIS",
    )


def add_sampling_flags(parser: argparse._ActionsContainer) -> None:
    """How clips are drawn from videos."""
    parser.add_argument(
        "--spacing",
        choices=SPACINGS,
        default="released",
        help="distances between a clip's frames: as the released code draws them, or the paper's 1 to the largest skip",
    )
    parser.add_argument(
        "--yv_list", metavar="FILE", help="videos of YouTube-VOS to train on, one per line (default: the project's list)"
    )
    parser.add_argument("--yv_all", action="store_true", help="train on all videos of YouTube-VOS and ignore the list")


def sampling_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_sampling_flags` says, for `stage_sources`."""
    listed = arguments.yv_list or (str(YOUTUBE_LIST) if YOUTUBE_LIST.is_file() else None)
    return {"spacing": arguments.spacing, "youtube_list": None if arguments.yv_all else listed}


def add_crop_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--crop", type=int_between(16, 4096), default=384, metavar="PIXELS", help="side length of training frames"
    )


def data_roots(arguments: argparse.Namespace) -> dict[str, str | None]:
    """What `add_data_flags` adds, for `dataset.stages.stage_sources`."""
    names = ("static_root", "bl_root", "yv_root", "davis_root")
    return {name: None if getattr(arguments, name) == "none" else getattr(arguments, name) for name in names}


class Draws(Dataset):
    """All draws of a training run, by their number.

    sources:  data sets by name, and how often each is taken
    max_skip: from the draw's number to the largest distance of its frames (the curriculum)
    """

    def __init__(
        self, sources: dict[str, tuple[Source, int]], *, seed: int, max_skip: Callable[[int], int] = lambda draw: 5
    ) -> None:
        self.sources = [source for source, _ in sources.values()]
        self.seed = seed
        self.max_skip = max_skip
        repeats = [
            np.tile(np.stack([np.full(len(source), number), np.arange(len(source))], axis=1), (often, 1))
            for number, (source, often) in enumerate(sources.values())
        ]
        self.entries = np.concatenate(repeats)  # (L, 2): source and index in it
        self._epoch = -1
        self._order = np.empty(0, dtype=int)

    def __len__(self) -> int:
        """Entries in an epoch; draws have no end."""
        return len(self.entries)

    def __getitem__(self, draw: int) -> Clip:
        """The clip of a draw.  An entry that cannot be used is named in its `problems`, one that shows no object to follow is
        counted in `objectless`, and another one is taken.

        Raises `InputError` when many entries in a row cannot be used.
        """
        rng = np.random.Generator(np.random.Philox(key=[self.seed, draw]))
        entry = self._permutation(draw // len(self))[draw % len(self)]
        problems: list[str] = []
        objectless = 0
        last = ""
        for _ in range(OTHER_ENTRIES):
            number, index = self.entries[entry]
            source = self.sources[number]
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

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self))
        return self._order


class Schedule(NamedTuple):
    """Which process makes which draws: each iteration takes `total` draws in a row, shared out over ranks and passes."""

    iterations: int
    batch: int  # of one process and pass
    passes: int = 1  # passes whose gradients are accumulated
    world: int = 1

    @property
    def total(self) -> int:
        """Samples an iteration."""
        return self.batch * self.passes * self.world

    def batches(self, rank: int, start: int) -> Iterator[list[int]]:
        """The draws of each pass of `rank`, from iteration `start` on."""
        for first in range(start * self.total, self.iterations * self.total, self.batch * self.world):
            yield list(range(first + rank * self.batch, first + (rank + 1) * self.batch))


def load(draws: Draws, schedule: Schedule, *, rank: int, start: int, workers: int, pin: bool = False) -> Iterator[Batch]:
    """The batches of a process, made ahead by `workers` processes (0: when asked for).

    Raises `InputError` when too many samples cannot be used.
    """
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
    except InputError as error:  # from a worker it comes with the worker's traceback
        raise InputError(str(error).strip().splitlines()[-1].removeprefix("util.errors.InputError: ")) from error


def _collate(clips: list[Clip]) -> Batch:
    frames, labels, valid = (
        torch.from_numpy(np.stack([getattr(clip, field) for clip in clips])) for field in ("frames", "labels", "valid")
    )
    names = tuple(clip.name for clip in clips)
    problems = tuple(problem for clip in clips for problem in clip.problems)
    return Batch(frames, labels, valid, names, problems, sum(clip.objectless for clip in clips))


def _prepare_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # workers are parallel already
    torch.set_num_threads(1)
    # torchrun and terminals send these to the whole process group, but training needs data until it has saved
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))
