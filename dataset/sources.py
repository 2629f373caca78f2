"""The data sets of each stage, with their repeats per epoch, and the flags that say where they are."""

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dataset.clip import Clip
from dataset.davis import davis_folder
from dataset.own_training import look_at_photographs, own_photographs, own_videos
from dataset.stages import STAGES
from dataset.static import StaticClips
from dataset.video_names import read_image_set
from dataset.vos import MIN_AREA, SPACINGS, VideoClips
from util.errors import InputError, names_some, warn
from util.flags import float_between, int_between, name_and_count

OVERSAMPLING = 5  # repeats per epoch of data sets with better masks (sections F.3.1 and F.3.2)
STATIC_FOLDERS = {"fss": 1, "DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": OVERSAMPLING, "HRSOD_small": OVERSAMPLING}
MORE_STATIC_FOLDERS = {"ccp": 1}  # not the paper's: people, from Clothing Co-Parsing
YOUTUBE_LIST = Path(__file__).with_name("yv_subset.txt")  # the release's 3,464 of 3,471 videos
YOUTUBE_STRIDE = 5  # YouTube-VOS annotates every fifth frame
TINY, SMALL, LARGE = 100, 400, 900  # pixels, thresholds for BL30K's objects


class Source(Protocol):
    """The interface of a training data set."""

    frames: int  # of each clip, at most `FRAMES`

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def draw(self, index: int, rng: np.random.Generator, *, max_skip: int) -> Clip | None: ...


Sources = dict[str, tuple[Source, int]]  # by name, each with its repeats per epoch


def stage_sources(
    stage: int,
    roots: Mapping[str, str | None],
    *,
    own: Sequence[str | Path] = (),
    photos: Sequence[str | Path] = (),
    mix: Mapping[str, int] | None = None,
    youtube_list: str | Path | None = None,
    spacing: str = "released",
    min_area: float = MIN_AREA,
    crop: int = 384,
    also: Collection[int] = (),
) -> Sources:
    """The data sets of a stage; `roots` holds the flags `static_root`, `bl_root`, etc.

    `own`, `photos` and `mix` may also name data of the stages in `also`, which is left out.
    Raises `InputError` if data that the stage needs is missing.
    """
    for flag, given, stages in (("own_root", own, (2, 3)), ("photo_root", photos, (0,))):
        if given and not {stage, *also} & {*stages}:
            raise InputError(f"--{flag}: expected stage {' or '.join(map(str, stages))}, found {stage}")
    elsewhere = set().union(*(names_of(other, own, photos) for other in also)) - names_of(stage, own, photos)
    if stage == 0:
        if (root := roots["static_root"]) is None and not photos:
            raise InputError("--static_root: stage 0 needs it, or --photo_root")
        found = {} if root is None else static_sources(root, crop=crop)
        found = with_own(found, "photo_root", photos, partial(own_photographs, crop=crop))
    elif stage == 1:
        if (root := roots["bl_root"]) is None:
            raise InputError("--bl_root: stage 1 needs it")
        found = bl30k_sources(root, spacing=spacing, crop=crop)
    else:
        options: Any = {"scale": (min_area, 1.0), "spacing": spacing, "crop": crop}
        found = video_sources(roots["yv_root"], roots["davis_root"], own=own, youtube_list=youtube_list, **options)
    return mixed(found, {name: often for name, often in (mix or {}).items() if name not in elsewhere})


def names_of(stage: int, own: Sequence[str | Path], photos: Sequence[str | Path]) -> set[str]:
    """The names that `mix` can have at a stage."""
    if stage == 1:
        return {"BL30K"}
    usual = {*STATIC_FOLDERS, *MORE_STATIC_FOLDERS} if stage == 0 else {"YouTube-VOS", "DAVIS"}
    return usual | {Path(root).resolve().name for root in (photos if stage == 0 else own)}


def static_sources(root: str | Path, *, crop: int = 384) -> Sources:
    """Stage 0: the static data sets found below `root`."""
    known = STATIC_FOLDERS | MORE_STATIC_FOLDERS
    present = {name: often for name, often in known.items() if (Path(root) / name).is_dir()}
    if not present:
        expected = f"expected at least one of {', '.join(STATIC_FOLDERS)} in it, found none"
        raise InputError(f"{root}: {expected} (to train on --photo_root alone: --static_root none)")
    if absent := STATIC_FOLDERS.keys() - present:
        warn(f"{root}: training without {', '.join(sorted(absent))} (not found)")
    found = {name: StaticClips(Path(root) / name, crop=crop) for name in present}
    for clips in found.values():
        look_at_photographs(clips, refuse=False)
    return {name: (found[name], often) for name, often in present.items()}


def bl30k_sources(root: str | Path, **options: Any) -> Sources:
    """Stage 1; `options` are `VideoClips`'s."""
    images, masks = (Path(root) / part for part in ("JPEGImages", "Annotations"))
    return {"BL30K": (VideoClips(images, masks, scale=(0.25, 1.0), followed=stays_in_size, **options), 1)}


def stays_in_size(pixels: np.ndarray) -> bool:
    """Whether to follow an object of BL30K: not if it is tiny (section F.3.3), nor (as released) if it is small and grows."""
    return bool(pixels[0] > TINY and (pixels[0] > LARGE or (pixels[1:] < SMALL).all()))


def video_sources(
    youtube_root: str | Path | None,
    davis_root: str | Path | None,
    *,
    own: Sequence[str | Path] = (),
    youtube_list: str | Path | None = None,
    **options: Any,
) -> Sources:
    """Stages 2 and 3: YouTube-VOS and, five times per epoch, DAVIS 2017; a root of `None` leaves the data set out.

    own:          folders of the user's own videos (`own_videos`)
    youtube_list: a file with the videos of YouTube-VOS to train on (`listed_videos`); `None` takes all
    options:      `VideoClips`'s
    """
    sources: Sources = {}
    if youtube_root is not None:
        images, masks = (Path(youtube_root) / "train_480p" / part for part in ("JPEGImages", "Annotations"))
        names = None if youtube_list is None else listed_videos(Path(youtube_list), masks)
        sources["YouTube-VOS"] = VideoClips(images, masks, names, stride=YOUTUBE_STRIDE, **options), 1
    if davis_root is not None:
        root = davis_folder(Path(davis_root), "trainval", 2017) or Path(davis_root)
        image_set = root / "ImageSets" / "2017" / "train.txt"
        if not image_set.is_file():
            raise InputError(f"{image_set}: no such image set")
        images, masks = root / "JPEGImages" / "480p", root / "Annotations" / "480p"
        sources["DAVIS"] = VideoClips(images, masks, read_image_set(image_set), **options), OVERSAMPLING
    sources = with_own(sources, "own_root", own, partial(own_videos, **options))
    if not sources:
        raise InputError("expected YouTube-VOS, DAVIS or own videos (--own_root) to train on, found none")
    return sources


def with_own(sources: Sources, flag: str, roots: Sequence[str | Path], read: Callable[[Path], Source]) -> Sources:
    """The sources, and the user's own by the name of their folder; raises `InputError` if two have the same name."""
    for root in map(Path, roots):
        name = root.resolve().name
        if name in sources:
            raise InputError(f"--{flag}: {root} has the same name as another data set, {name}")
        sources = {**sources, name: (read(root), OVERSAMPLING)}
    return sources


def mixed(sources: Sources, mix: Mapping[str, int]) -> Sources:
    """The sources with other repeats per epoch, 0 for none; raises `InputError` for an unknown name, or if none is left."""
    if unknown := mix.keys() - sources.keys():
        raise InputError(f"--mix: expected some of {', '.join(sources)}, found {', '.join(sorted(unknown))}")
    found = {name: (source, mix.get(name, often)) for name, (source, often) in sources.items()}
    if not any(often for _, often in found.values()):
        raise InputError(f"--mix: expected at least one data set above 0, found none of {', '.join(sources)}")
    return {name: (source, often) for name, (source, often) in found.items() if often}


def listed_videos(path: Path, masks: Path) -> list[str] | None:
    """The listed videos that exist, with a warning if not all do.  If none does, `None` (meaning all videos) for the usual
    list, and `InputError` for another one.
    """
    names = read_image_set(path)
    present = [name for name in names if (masks / name).is_dir()]
    if not masks.is_dir():
        return None  # `VideoClips` says so
    if not present and path != YOUTUBE_LIST:
        raise InputError(f"{path}: expected videos of {masks}, found none of these, but {names_some(names)}")
    if not present:
        warn(f"{path}: lists no video of {masks}; using all of them")
        return None
    if len(present) < len(names):
        warn(f"{masks}: {len(names) - len(present)} of the {len(names)} videos in {path} are missing")
    return present


ROOTS = {
    "static_root": ("../static", "stage 0: folder with fss/, DUTS-TR/, ecssd/, ...; 'none' trains without"),
    "bl_root": ("../BL30K", "stage 1: folder with JPEGImages/ and Annotations/"),
    "yv_root": ("../YouTube", "folder with train_480p/; 'none' trains without YouTube-VOS"),
    "davis_root": ("../DAVIS/2017", "folder with trainval/ or 2017/; 'none' trains without DAVIS"),
}  # flags, with their defaults


def add_data_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags that locate the training data."""
    for name, (default, text) in ROOTS.items():
        parser.add_argument(f"--{name}", default=default, metavar="DIR", help=text)


def data_roots(arguments: argparse.Namespace) -> dict[str, str | None]:
    """The values of `add_data_flags` as the `roots` of `stage_sources`."""
    return {name: None if getattr(arguments, name) == "none" else getattr(arguments, name) for name in ROOTS}


def add_own_flag(parser: argparse._ActionsContainer, what: str) -> None:
    """Add the flag for the user's own videos; `what` begins its help."""
    parser.add_argument(
        "--own_root",
        nargs="+",
        default=[],
        metavar="DIR",
        help=f"{what} your own videos, JPEGImages/<video>/ and Annotations/<video>/ in each folder",
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
        "--min_area",
        type=float_between(0.01, 1),
        default=MIN_AREA,
        metavar="PART",
        help="stages 2 and 3: the least part of a frame that a crop shows; make it small if small crops are to show "
        "objects as large as in inference",
    )
    parser.add_argument(
        "--yv_list",
        metavar="FILE",
        help="videos of YouTube-VOS to train on, one per line (default: the release's 3,464, where any of them is there)",
    )
    parser.add_argument("--yv_all", action="store_true", help="train on all videos of YouTube-VOS and ignore the list")
    add_own_flag(parser, "stages 2 and 3: also train on")
    parser.add_argument(
        "--photo_root",
        nargs="+",
        default=[],
        metavar="DIR",
        help="stage 0: also train on your own photographs, name.jpg and name.png (white on black) side by side, or in images/ "
        "and masks/",
    )
    parser.add_argument(
        "--mix",
        nargs="+",
        type=name_and_count,
        default=[],
        metavar="NAME=N",
        help="take each entry of a data set N times per epoch; names as the run prints them (default: DAVIS and your own "
        f"{OVERSAMPLING} times, others as in the paper)",
    )
    parser.add_argument(
        "--also_stages",
        nargs="+",
        type=int,
        choices=range(len(STAGES)),
        default=[],
        metavar="N",
        help="other stages that get the same flags: --own_root, --photo_root and --mix may name their data too",
    )


def sampling_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of `add_sampling_flags` as arguments of `stage_sources`."""
    return {
        "spacing": arguments.spacing,
        "min_area": arguments.min_area,
        "youtube_list": None if arguments.yv_all else arguments.yv_list or YOUTUBE_LIST,
        "own": arguments.own_root,
        "photos": arguments.photo_root,
        "mix": dict(arguments.mix),
        "also": arguments.also_stages,
    }


def add_crop_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--crop", type=int_between(16, 4096), default=384, metavar="PIXELS", help="side length of training frames"
    )
