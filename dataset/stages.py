"""Training data of each stage: the data sets and their weights, the order of samples, and loading.

A sample depends only on (seed, draw number), not on which worker makes it or when.  Draw n is sample n mod L of epoch
n // L, in that epoch's permutation of the L entries of all data sets.
"""

import argparse
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from dataset.benchmarks import davis_places, read_image_set
from dataset.clip import Clip
from dataset.shared_memory import is_of_memory, lost_worker, refuse_if_short
from dataset.static import StaticClips
from dataset.vos import SPACINGS, VideoClips
from util.errors import InputError, warn
from util.flags import int_between, name_and_count

OVERSAMPLING = 5  # repeats per epoch of data sets with better masks (sections F.3.1 and F.3.2)
STATIC_FOLDERS = {"fss": 1, "DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": OVERSAMPLING, "HRSOD_small": OVERSAMPLING}
MORE_STATIC_FOLDERS = {"ccp": 1}  # not the paper's: people, from Clothing Co-Parsing
YOUTUBE_LIST = Path(__file__).with_name("yv_subset.txt")  # the release's 3,464 of 3,471 videos
YOUTUBE_STRIDE = 5  # YouTube-VOS annotates every fifth frame
TINY, SMALL, LARGE = 100, 400, 900  # pixels, thresholds for BL30K's objects
TRIES = 5  # draws of an entry that shows no object before another entry is tried
OTHER_ENTRIES = 20  # entries tried per draw before giving up
GRACE = 25  # seconds that a worker lives on after SIGTERM


class Source(Protocol):
    """The interface of a training data set."""

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
    objectless: int  # entries that were replaced because they showed no object to follow
    masks: Tensor | None = None  # (B, N, H, W) uint8, the first frame's if they are soft (stage 0): 255 is certain
    hints: Tensor | None = None  # (B, T, 3, H, W) bool, only of the scribble network's clips


class Stage(NamedTuple):
    """The paper's settings for one training stage (sections 5, F.1 and F.4)."""

    iterations: int
    steps: tuple[int, ...]  # iterations at which the learning rate drops
    batch: int  # samples per iteration, over all processes
    skips: tuple[tuple[float, int], ...]  # (fraction of the iterations, largest skip in frames from there on)


def _curriculum(last: float) -> tuple[tuple[float, int], ...]:
    return (0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (last, 5)


STAGES = (
    Stage(300_000, (150_000,), 16, ((0.0, 0),)),  # 0: static images; a photograph has no frames to skip
    Stage(500_000, (450_000,), 8, _curriculum(0.8)),  # 1: BL30K
    Stage(300_000, (250_000,), 8, _curriculum(0.9)),  # 2: YouTube-VOS and DAVIS, after BL30K
    Stage(150_000, (125_000,), 8, _curriculum(0.9)),  # 3: YouTube-VOS and DAVIS
)


def max_skip(stage: Stage, progress: float) -> int:
    """The largest distance, in frames, between a sample's frames after this fraction of the iterations."""
    return next(skip for start, skip in reversed(stage.skips) if progress >= start)


def static_sources(root: str | Path, *, crop: int = 384) -> dict[str, tuple[Source, int]]:
    """Stage 0: the static data sets found below `root`, each with its repeats per epoch."""
    known = STATIC_FOLDERS | MORE_STATIC_FOLDERS
    present = {name: often for name, often in known.items() if (Path(root) / name).is_dir()}
    if not present:
        raise InputError(f"{root}: expected at least one of {', '.join(STATIC_FOLDERS)} in it, found none")
    if absent := STATIC_FOLDERS.keys() - present:
        warn(f"{root}: training without {', '.join(sorted(absent))} (not found)")
    return {name: (StaticClips(Path(root) / name, crop=crop), often) for name, often in present.items()}


def bl30k_sources(root: str | Path, *, spacing: str = "released", crop: int = 384) -> dict[str, tuple[Source, int]]:
    """Stage 1; `spacing` is a key of `dataset.vos.SPACINGS`."""
    root = Path(root)
    options: Any = {"scale": (0.25, 1.0), "followed": stays_in_size, "spacing": spacing, "crop": crop}
    return {"BL30K": (VideoClips(root / "JPEGImages", root / "Annotations", **options), 1)}


def stays_in_size(pixels: np.ndarray) -> bool:
    """Whether to follow an object of BL30K: not if it is tiny (section F.3.3), nor (as released) if it is small and grows."""
    return bool(pixels[0] > TINY and (pixels[0] > LARGE or (pixels[1:] < SMALL).all()))


def video_sources(
    youtube_root: str | Path | None,
    davis_root: str | Path | None,
    *,
    own: Sequence[str | Path] = (),
    youtube_list: str | Path | None = None,
    spacing: str = "released",
    crop: int = 384,
) -> dict[str, tuple[Source, int]]:
    """Stages 2 and 3: YouTube-VOS and, five times per epoch, DAVIS 2017; a root of `None` leaves the data set out.

    `own` are folders of the user's own videos (`own_sources`).
    `youtube_list` is a file with the videos of YouTube-VOS to train on (`listed_videos`); `None` takes all.
    """
    sources: dict[str, tuple[Source, int]] = {}
    options: Any = {"spacing": spacing, "crop": crop}
    if youtube_root is not None:
        images, masks = (Path(youtube_root) / "train_480p" / part for part in ("JPEGImages", "Annotations"))
        names = None if youtube_list is None else listed_videos(Path(youtube_list), masks)
        sources["YouTube-VOS"] = VideoClips(images, masks, names, stride=YOUTUBE_STRIDE, **options), 1
    if davis_root is not None:
        places = davis_places(Path(davis_root), "trainval", 2017)
        root = next((place for place in places if (place / "JPEGImages").is_dir()), places[-1])
        image_set = root / "ImageSets" / "2017" / "train.txt"
        if not image_set.is_file():
            raise InputError(f"{image_set}: no such image set")
        images, masks = root / "JPEGImages" / "480p", root / "Annotations" / "480p"
        sources["DAVIS"] = VideoClips(images, masks, read_image_set(image_set), **options), OVERSAMPLING
    sources |= own_sources(own, **options)
    if not sources:
        raise InputError("expected YouTube-VOS, DAVIS or own videos (--own_root) to train on, found none")
    return sources


def own_sources(roots: Sequence[str | Path], **options: Any) -> dict[str, tuple[Source, int]]:
    """The user's own videos, by the name of their folder: `JPEGImages/<video>/` and `Annotations/<video>/` in each root.

    Frames without a mask are left out.  Raises `InputError` if a folder is missing, or if two have the same name.
    """
    found: dict[str, tuple[Source, int]] = {}
    for root in map(Path, roots):
        name = root.resolve().name
        if name in found:
            raise InputError(f"--own_root: {root} has the same name as another folder, {name}")
        found[name] = VideoClips(root / "JPEGImages", root / "Annotations", **options), OVERSAMPLING
    return found


def mixed(sources: dict[str, tuple[Source, int]], mix: Mapping[str, int]) -> dict[str, tuple[Source, int]]:
    """The sources with other repeats per epoch, by name; 0 leaves a source out.

    Raises `InputError` for an unknown name, or if no source is left.
    """
    if unknown := mix.keys() - sources.keys():
        raise InputError(f"--mix: expected some of {', '.join(sources)}, found {', '.join(sorted(unknown))}")
    found = {name: (source, mix.get(name, often)) for name, (source, often) in sources.items()}
    if not any(often for _, often in found.values()):
        raise InputError(f"--mix: expected at least one data set above 0, found none of {', '.join(sources)}")
    return {name: (source, often) for name, (source, often) in found.items() if often}


def listed_videos(path: Path, masks: Path) -> list[str] | None:
    """The listed videos that exist; `None` (meaning all videos) if none of them does, as in the user's own data set.

    Warns if listed videos are missing.  Raises `InputError` if the list cannot be read.
    """
    names = read_image_set(path)
    present = [name for name in names if (masks / name).is_dir()]
    if not present:
        warn(f"{path}: lists no video of {masks}; using all of them")
        return None
    if len(present) < len(names):
        warn(f"{masks}: {len(names) - len(present)} of the {len(names)} videos in {path} are missing")
    return present


def stage_sources(
    stage: int,
    roots: Mapping[str, str | None],
    *,
    own: Sequence[str | Path] = (),
    mix: Mapping[str, int] | None = None,
    youtube_list: str | Path | None = None,
    spacing: str = "released",
    crop: int = 384,
) -> dict[str, tuple[Source, int]]:
    """The data sets of a stage, each with its repeats per epoch; `roots` holds the flags `static_root`, `bl_root`, etc.

    Raises `InputError` if data that the stage needs is missing.
    """
    if stage >= 2:
        options: Any = {"own": own, "youtube_list": youtube_list, "spacing": spacing, "crop": crop}
        return mixed(video_sources(roots["yv_root"], roots["davis_root"], **options), mix or {})
    if own:
        raise InputError(f"--own_root: expected stage 2 or 3, found {stage}")
    flag = ("static_root", "bl_root")[stage]
    root = roots[flag]
    if root is None:
        raise InputError(f"--{flag}: stage {stage} needs it")
    found = static_sources(root, crop=crop) if stage == 0 else bl30k_sources(root, spacing=spacing, crop=crop)
    return mixed(found, mix or {})


def add_data_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags that locate the training data."""
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
    """Add the flags that control how clips are drawn from videos."""
    parser.add_argument(
        "--spacing",
        choices=SPACINGS,
        default="released",
        help="how the distances between a clip's frames are drawn: as in the released code, or from 1 to the largest skip "
        "as in the paper",
    )
    parser.add_argument(
        "--yv_list",
        metavar="FILE",
        help="videos of YouTube-VOS to train on, one per line (default: the release's 3,464, where any of them is there)",
    )
    parser.add_argument("--yv_all", action="store_true", help="train on all videos of YouTube-VOS and ignore the list")
    parser.add_argument(
        "--own_root",
        nargs="+",
        default=[],
        metavar="DIR",
        help="stages 2 and 3: also train on your own videos, JPEGImages/<video>/ and Annotations/<video>/ in each folder",
    )
    parser.add_argument(
        "--mix",
        nargs="+",
        type=name_and_count,
        default=[],
        metavar="NAME=N",
        help="take each entry of a data set N times per epoch; names as the run prints them (default: DAVIS and own videos "
        f"{OVERSAMPLING} times, others as in the paper)",
    )


def sampling_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of `add_sampling_flags` as arguments of `stage_sources`."""
    return {
        "spacing": arguments.spacing,
        "youtube_list": None if arguments.yv_all else arguments.yv_list or YOUTUBE_LIST,
        "own": arguments.own_root,
        "mix": dict(arguments.mix),
    }


def add_crop_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--crop", type=int_between(16, 4096), default=384, metavar="PIXELS", help="side length of training frames"
    )


def data_roots(arguments: argparse.Namespace) -> dict[str, str | None]:
    """The values of `add_data_flags` as the `roots` of `stage_sources`."""
    names = ("static_root", "bl_root", "yv_root", "davis_root")
    return {name: None if getattr(arguments, name) == "none" else getattr(arguments, name) for name in names}


def same_skip(skip: int, draw: int) -> int:
    """`skip` for every draw: `partial(same_skip, 25)` can go to a worker that is started by `spawn`, a lambda cannot."""
    return skip


NEAR = partial(same_skip, 5)  # where the curriculum begins


class Draws(Dataset):
    """All samples of a training run, indexed by draw number.

    sources:  data sets by name, each with its repeats per epoch
    max_skip: maps a draw number to the largest distance between its frames (the curriculum)
    """

    def __init__(self, sources: dict[str, tuple[Source, int]], *, seed: int, max_skip: Callable[[int], int] = NEAR) -> None:
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
        """Entries per epoch; the number of draws is unlimited."""
        return len(self.entries)

    def __getitem__(self, draw: int) -> Clip:
        """The clip of a draw.

        An entry that cannot be read, or shows no object to follow, is replaced by another; the clip names the former in
        `problems` and counts the latter in `objectless`.  Raises `InputError` after too many unusable entries in a row.
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
    """The batches of one rank, prepared ahead by `workers` processes (0: on demand).

    Raises `InputError` after too many unusable samples in a row, or if a worker is lost or has no shared memory.
    """
    if workers and start < schedule.iterations:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)  # its threads would not be in the workers, which are copies of this process
        one = _collate([draws[next(schedule.batches(rank, start))[0]]])
        cv2.setNumThreads(threads)
        size = sum(part.nbytes for part in one if isinstance(part, Tensor))
        refuse_if_short(schedule.batch * size, workers=workers, held=schedule.passes)
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
        raise lost_worker(error.with_traceback(None)) from None  # else its traceback would keep the workers alive


def _collate(clips: list[Clip]) -> Batch:
    frames, labels, valid = (_stacked([getattr(clip, field) for clip in clips]) for field in ("frames", "labels", "valid"))
    names = tuple(clip.name for clip in clips)
    problems = tuple(problem for clip in clips for problem in clip.problems)
    objectless = sum(clip.objectless for clip in clips)
    masks, hints = _stacked([clip.masks for clip in clips]), _stacked([clip.hints for clip in clips])
    return Batch(frames, labels, valid, names, problems, objectless, masks, hints)


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
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))
