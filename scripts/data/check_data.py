"""Report which data sets are present, what is broken, and what each training stage or benchmark still lacks.

    python scripts/data/check_data.py
    python scripts/data/check_data.py --decode
    python scripts/data/check_data.py --layout mose=../MOSE lvos=../LVOS

Compares the sizes in the headers of images and masks; `--decode` decodes every file, which also finds broken ones.  The
exit status is 1 if something is broken, and 0 if data sets are merely absent.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.davis import davis_folder, davis_videos
from dataset.layouts import LAYOUTS, Layout, layout_names, layout_videos
from dataset.mask_files import list_masks, mask_size
from dataset.mask_reader import MaskReader
from dataset.sources import STATIC_FOLDERS, add_data_flags, data_roots, stage_sources
from dataset.static import photographs_in
from dataset.video_names import read_image_set
from dataset.youtube import is_sparse, youtube_videos
from util.ahead import available_cores, map_parallel
from util.errors import InputError, one_line_errors
from util.flags import Parser, non_negative_int, worker_count
from util.guards import subfolders
from util.image import image_size, read_grey, read_image, refuse_other_size, size_text
from util.image_folder import list_frames, refuse_twins
from util.progress import progress_bar

STATIC_PAIRS = {"fss": 10_000, "DUTS-TR": 10_553, "DUTS-TE": 5_019, "ecssd": 1_000, "BIG_small": 150, "HRSOD_small": 2_010}
PHOTOGRAPHS_A_JOB = 100

Job = Callable[[], list[str]]  # returns problems, one line each


@dataclass
class DataSet:
    """The state of a data set or of a part of one.  Counts are pairs or videos."""

    name: str
    published: int | None = None  # `None`: not known
    found: int | None = None  # `None`: the data set is absent
    jobs: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Use(NamedTuple):
    """A training stage or a benchmark."""

    name: str
    reads: list[str]  # names of data sets
    begin: Callable[[], object]  # raises `InputError` if it cannot start
    note: str = ""


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    add_data_flags(result)
    result.add_argument("--davis16_root", default="../DAVIS/2016", metavar="DIR", help="DAVIS 2016; 'none' skips it")
    result.add_argument("--yv18_root", default="../YouTube2018", metavar="DIR", help="YouTube-VOS 2018; 'none' skips it")
    result.add_argument(
        "--layout",
        nargs="+",
        type=_named,
        default=[],
        metavar="NAME=DIR",
        help=f"benchmarks of docs/benchmarks.md and their folders: {', '.join(LAYOUTS)} (default: none)",
    )
    result.add_argument("--decode", action="store_true", help="decode every image and mask instead of reading headers only")
    result.add_argument("--shown", type=non_negative_int, default=10, metavar="N", help="problems to list per data set")
    result.add_argument(
        "--num_workers",
        type=worker_count,
        default=available_cores(),
        metavar="N",
        help="processes that read (0: none)",
    )
    return result


@one_line_errors
def main() -> int:
    arguments = parser().parse_args()
    roots = data_roots(arguments)
    roots |= {name: None if (root := getattr(arguments, name)) == "none" else root for name in ("davis16_root", "yv18_root")}
    places = {name: Path(root) for name, root in roots.items() if root is not None}
    sets, benchmarks = [*data_sets(places, decode=arguments.decode)], uses(roots)
    for layout, root in arguments.layout:
        for split in layout.splits:
            if found := _benchmark(layout, root, split, arguments.decode):
                sets.append(found[0])
                benchmarks.append(found[1])
    jobs = [(entry, job) for entry in sets for job in entry.jobs]
    with progress_bar(len(jobs), "folders", shown=bool(jobs)) as bar:
        found = map_parallel(methodcaller("__call__"), [job for _, job in jobs], workers=arguments.num_workers)
        for (entry, _), problems in zip(jobs, found, strict=True):
            entry.problems.extend(problems)
            bar.increment()
    lines = [readiness(use, sets) for use in benchmarks]
    print(f"{'data set':24}{'found':>10}{'published':>11}  problems")
    for entry in sets:
        state = "absent" if entry.found is None else len(entry.problems) or "-"
        print(f"{entry.name:24}{_number(entry.found):>10}{_number(entry.published):>11}  {state}")
    print()
    print("\n".join(line for line in lines if line))
    for entry in sets:
        for problem in entry.problems[: arguments.shown]:
            print(f"{entry.name}: {problem}")
        if len(entry.problems) > arguments.shown:
            print(f"{entry.name}: and {len(entry.problems) - arguments.shown} more")
    return int(any(entry.problems for entry in sets))


def data_sets(roots: dict[str, Path], *, decode: bool) -> Iterator[DataSet]:
    """The data sets below the given roots, with the jobs that check them; this lists folders but reads no image."""
    if root := roots.get("static_root"):
        yield from (_photographs(name, root / name, decode=decode) for name in STATIC_FOLDERS)
    if root := roots.get("bl_root"):
        yield _videos("BL30K", 29_989, root / "JPEGImages", root / "Annotations", every_frame=True, decode=decode)
    for flag, year, valid in (("yv_root", 2019, 507), ("yv18_root", 2018, 474)):
        if root := roots.get(flag):
            for part, published in (("train_480p", 3_471), ("valid", valid), ("test", None)):
                every = root / "all_frames" / f"{part}_all_frames" / "JPEGImages"
                images = every if every.is_dir() else root / part / "JPEGImages"
                name = f"YouTube-VOS {year} {part.removesuffix('_480p')}"
                yield _videos(name, published, images, root / part / "Annotations", decode=decode)
    for flag, year, image_set, part, published in (
        ("davis16_root", 2016, None, "trainval", 50),
        ("davis_root", 2017, "train", "trainval", 60),
        ("davis_root", 2017, "val", "trainval", 30),
        ("davis_root", 2017, "test-dev", "test-dev", 30),
    ):
        if root := roots.get(flag):
            name, names = f"DAVIS {year} {image_set}" if image_set else f"DAVIS {year}", None
            try:
                root = davis_folder(root, part, year) or root
            except InputError as error:
                yield DataSet(name, published, 0, problems=[str(error)])
                continue
            if image_set:
                listing = root / "ImageSets" / str(year) / f"{image_set}.txt"
                if not listing.is_file():
                    yield DataSet(name, published)
                    continue
                try:
                    names = read_image_set(listing)
                except InputError as error:
                    yield DataSet(name, published, 0, problems=[str(error)])
                    continue
            images, masks = root / "JPEGImages" / "480p", root / "Annotations" / "480p"
            yield _videos(name, published, images, masks, names, every_frame=image_set != "test-dev", decode=decode)


def uses(roots: dict[str, str | None]) -> list[Use]:
    """The training stages, and the benchmarks whose roots are given."""
    videos = ["YouTube-VOS 2019 train", "DAVIS 2017 train"]
    stages = {0: list(STATIC_FOLDERS), 1: ["BL30K"], 2: videos, 3: videos}
    result = [Use(f"stage {stage}", reads, partial(stage_sources, stage, roots)) for stage, reads in stages.items()]
    if davis16 := roots["davis16_root"]:
        result.append(Use("DAVIS 2016 val", ["DAVIS 2016"], partial(davis_videos, davis16, year=2016)))
    if davis := roots["davis_root"]:
        result.append(Use("DAVIS 2017 val", ["DAVIS 2017 val"], partial(davis_videos, davis)))
        result.append(Use("DAVIS 2017 test-dev", ["DAVIS 2017 test-dev"], partial(davis_videos, davis, split="testdev")))
    for year, root in ((2018, roots["yv18_root"]), (2019, roots["yv_root"])):
        if root is not None:
            name, note = f"YouTube-VOS {year} valid", "every fifth frame only, without all_frames/"
            result.append(Use(name, [name], partial(youtube_videos, root), note if is_sparse(root, "valid") else ""))
    return result


def readiness(use: Use, sets: list[DataSet]) -> str:
    """A line on whether a stage or benchmark can start; empty if its roots are not given.

    If it cannot start although its data sets are present and seem sound, the reason is added to the last one's problems.
    """
    reads = [entry for entry in sets if entry.name in use.reads]
    if not reads:
        return ""
    absent = [entry.name for entry in reads if entry.found is None]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # absent data sets are reported below
            use.begin()
    except InputError as error:
        if absent:
            return f"{use.name}: missing {', '.join(absent)} ({error})"
        if not any(entry.problems for entry in reads):  # else it would be reported twice
            reads[-1].problems.append(str(error))
        return f"{use.name}: cannot start: {error}"
    problems = sum(len(entry.problems) for entry in reads)
    notes = ([f"without {', '.join(absent)}"] if absent else []) + ([use.note] if use.note else [])
    return ", ".join([f"{use.name}: ready", *notes]) + (f"; {problems} problems, see below" if problems else "")


def check_video(images: Path, masks: Path, *, every_frame: bool, decode: bool) -> list[str]:
    """Problems of a video's frames and masks; with `every_frame`, every frame must have a mask."""
    try:
        frames = {path.stem: path for path in list_frames(images)} if images.is_dir() else {}
        found = list_masks(masks) if masks.is_dir() else {}
    except InputError as error:
        return [str(error)]
    for folder, content in ((images, frames), (masks, found)):
        if not content:
            return [f"{folder}: expected frames and masks of a video, found none"]
    problems = [f"{found[stem]}: no such frame in {images}" for stem in found if stem not in frames]
    if every_frame:
        problems += [f"{masks / stem}.png: no such mask" for stem in frames if stem not in found]
    pairs = [(path, found.get(stem)) for stem, path in frames.items()]
    try:  # what 255 means depends on all masks
        read = MaskReader.of((mask for _, mask in pairs if mask is not None), note=None).read if decode else None
    except InputError as error:
        return [*problems, str(error)]
    return problems + check_pairs(pairs, read, mask_size, one_size=True)


def check_pairs(
    pairs: list[tuple[Path, Path | None]],
    read: Callable[[Path], np.ndarray] | None,
    size_of: Callable[[Path], tuple[int, int]],
    *,
    one_size: bool,
) -> list[str]:
    """Problems of images and their masks: of their content, if there is something to `read` masks, else of their headers,
    where `size_of` finds a mask's size.  With `one_size`, all images must have the same size.
    """
    problems, first = [], None
    for image, mask in pairs:
        try:
            size = read_image(image).shape[:2] if read else image_size(image)
            first = first or size
            if one_size and size != first:
                problems.append(f"{image}: frame is {size_text(size)}, the first one is {size_text(first)}")
            if mask is not None:
                refuse_other_size(mask, read(mask).shape if read else size_of(mask), size, other="its image")
        except InputError as error:
            problems.append(str(error))
    return problems


def _videos(
    name: str,
    published: int | None,
    images: Path,
    masks: Path,
    names: list[str] | None = None,
    *,
    every_frame: bool = False,
    decode: bool,
) -> DataSet:
    """Videos as folders below `images` and `masks`: those in `names`, or all."""
    folders = [folder for folder in (images, masks) if folder.is_dir()]
    if not folders:
        return DataSet(name, published)
    if names is None:
        names = sorted({path.name for folder in folders for path in subfolders(folder)})
    problems = [] if names else [f"{images}: expected videos, found none"]
    jobs = [partial(check_video, images / n, masks / n, every_frame=every_frame, decode=decode) for n in names]
    return DataSet(name, published, len(names), jobs, problems)


def _named(text: str) -> tuple[Layout, Path]:
    """The type of the flag `--layout`."""
    name, _, folder = text.partition("=")
    if name not in LAYOUTS or not folder:
        raise argparse.ArgumentTypeError(f"expected NAME=DIR with one of {', '.join(LAYOUTS)}, found {text}")
    return LAYOUTS[name], Path(folder)


def _benchmark(layout: Layout, root: Path, split: str, decode: bool) -> tuple[DataSet, Use] | None:
    """A benchmark's split; `None` for another than the first that is not there."""
    name = f"{layout.title} {split}"
    use = Use(name, [name], partial(layout_videos, layout, root, split=split))
    there = (root / (layout.listing or layout.masks if not layout.folder else layout.folder).format(split=split)).exists()
    if not there and split != layout.splits[0]:
        return None
    try:
        names, images, masks, _ = layout_names(layout, root, split)
    except InputError as error:
        return DataSet(name, found=0 if there else None, problems=[str(error)] if there else []), use
    frames = (images / (n.rsplit("/", 1)[0] if layout.each_object else n) for n in names)
    jobs: list[Job] = [
        partial(check_video, folder, masks / n, every_frame=False, decode=decode)
        for n, folder in zip(names, frames, strict=True)
    ]
    return DataSet(name, None, len(names), jobs), use


def _photographs(name: str, folder: Path, *, decode: bool) -> DataSet:
    """Photographs and their masks, as `StaticClips` finds them."""
    if not folder.is_dir():
        return DataSet(name, STATIC_PAIRS[name])
    pairs, problems = [], []
    for pictures, masks in photographs_in(folder):
        try:
            refuse_twins(pictures)
        except InputError as error:
            problems.append(str(error))
        stems = {path.stem for path in pictures}
        pairs += [(path, masks[path.stem]) for path in pictures if path.stem in masks]
        problems += [f"{path}: a photograph without mask" for path in pictures if path.stem not in masks]
        problems += [f"{path}: a mask without photograph" for stem, path in masks.items() if stem not in stems]
    if not pairs:
        problems.append(f"{folder}: expected photographs name.jpg with masks name.png, found none")
    chunks = [pairs[i : i + PHOTOGRAPHS_A_JOB] for i in range(0, len(pairs), PHOTOGRAPHS_A_JOB)]
    jobs = [partial(check_pairs, chunk, read_grey if decode else None, image_size, one_size=False) for chunk in chunks]
    return DataSet(name, STATIC_PAIRS[name], len(pairs), jobs, problems)


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


if __name__ == "__main__":
    sys.exit(main())
