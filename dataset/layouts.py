"""Benchmarks in a few lines each: where their videos are, which masks are given, and which frames and objects are scored.

docs/benchmarks.md names the source of each rule.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dataset.folders import meant_instead, refuse_flat
from dataset.read_videos import read_videos
from dataset.video import Video
from dataset.video_names import chosen_videos, read_image_set
from dataset.youtube import ScoredObject
from util.errors import InputError, names_some, print_note, shorten, warn
from util.files import read_json
from util.guards import subfolders
from util.label_map import object_ids
from util.progress import progress_bar


class Layout(NamedTuple):
    """A benchmark's folders and rules.

    Scored are annotated frames without the first, which is given, and, as in DAVIS, without the last: those of each object
    from where truth or result first show it (`seen`), all frames for the objects in the first mask (`first`), or those in
    each object's range in `ranges` (`range`).
    """

    title: str
    splits: tuple[str, ...]  # the first is the default
    folder: str = "{split}"  # what all other names are in
    images: str = "JPEGImages"
    masks: str = "Annotations"
    listing: str = ""  # file with the names of the videos; else they are the folders of masks
    ranges: str = ""  # JSON file
    unseen: str = ""  # file with the names of videos whose categories are not in the training set
    first_only: bool = True  # objects that enter later are not given
    nested: bool = False  # videos are in folders of data sets
    each_object: bool = False  # masks may overlap, so that each object has a folder, and is a run of its own
    sparse: bool = False  # results are needed only where there are masks
    scored: Literal["seen", "first", "range"] = "seen"
    last: bool = False  # the last frame is scored, too
    statistic: Literal["", "J_last", "V"] = ""  # besides J and F
    hota: bool = False  # HOTA, too
    archive: str = ""  # folder of the results, in which the benchmark's server expects them


LAYOUTS = {
    "mose": Layout("MOSE", ("valid", "train", "test"), scored="first"),
    "lvos": Layout(
        "LVOS",
        ("val", "test", "train"),
        ranges="{split}_meta.json",
        unseen="unseen_videos.txt",
        first_only=False,
        scored="range",
        statistic="V",
        archive="Annotations",
    ),
    "vost": Layout(
        "VOST", ("val", "test", "train"), folder="", listing="ImageSets/{split}.txt", scored="first", statistic="J_last"
    ),
    "long": Layout("Long-Time Video", ("all",), folder="", sparse=True),
    "pumavos": Layout("PUMaVOS", ("all",), folder=""),
    "sav": Layout(
        "SA-V",
        ("val", "test"),
        folder="sav_{split}",
        images="JPEGImages_24fps",
        masks="Annotations_6fps",
        first_only=False,
        each_object=True,
        sparse=True,
    ),
    "burst": Layout(
        "BURST",
        ("val", "test", "train"),
        folder="",
        images="frames/{split}",
        masks="masks/{split}",  # which scripts/data/burst.py makes of its JSON
        first_only=False,
        nested=True,
        sparse=True,
        hota=True,
    ),
    "favos": Layout("FaVOS", ("favos-20", "favos-40"), folder="", listing="{split}.txt", scored="first", last=True),
}


def layout_folder(layout: Layout, path: str | Path, split: str) -> Path:
    """The folder with a split's frames and masks, for that of the data set or of the split alone."""
    root, inside = Path(path), layout.folder.format(split=split)
    images, masks = layout.images.format(split=split), layout.masks.format(split=split)
    for place in (root / inside, root):
        if (place / images).is_dir() and (place / masks).is_dir():
            return place
    parts = f"{images}/ and {masks}/"
    where = f"in it or in its {inside}/" if inside else "in it"
    raise InputError(f"{root}: expected {parts} {where} ({layout.title}){meant_instead(root, images, masks)}")


def layout_names(
    layout: Layout, path: str | Path, split: str, only: Sequence[str] | None = None
) -> tuple[list[str], Path, Path, Path]:
    """The names of a benchmark's videos as for `read_videos`, the folders with their frames and masks, and what lists them."""
    base = layout_folder(layout, path, split)
    images, masks = base / layout.images.format(split=split), base / layout.masks.format(split=split)
    refuse_flat(images, masks)
    listing = base / layout.listing.format(split=split) if layout.listing else masks
    names = read_image_set(listing) if layout.listing else [folder.name for folder in subfolders(masks)]
    if layout.nested:
        names = [f"{name}/{folder.name}" for name in names for folder in subfolders(masks / name)]
    if not names:
        raise InputError(f"{listing}: expected videos, found none")
    names = chosen_videos(names, only, listing)
    if layout.each_object:
        objects = {name: subfolders(masks / name) for name in names}
        if flat := [name for name, folders in objects.items() if not folders]:
            raise InputError(f"{masks / flat[0]}: expected a folder for each object, found none")
        names = [f"{name}/{folder.name}" for name, folders in objects.items() for folder in folders]
    return names, images, masks, listing


def layout_videos(
    layout: Layout,
    path: str | Path,
    *,
    split: str,
    output_all: bool = False,
    only: Sequence[str] | None = None,
    left_out: list[str] | None = None,
) -> list[Video]:
    """The videos of a benchmark, with all its masks as ground truth; with `output_all`, every frame is wanted.

    `only` and `left_out` are as for `dataset.davis.davis_videos`.  Raises `InputError` if anything is missing or wrong.
    """
    names, images, masks, listing = layout_names(layout, path, split, only)
    videos = read_videos(
        names,
        images,
        masks,
        listing=listing,
        truth=masks,
        first_only=layout.first_only,
        each_object=layout.each_object,
        left_out=left_out,
    )
    if late := [video.name for video in videos if layout.first_only and video.images[0].stem not in video.masks]:
        warn(f"{masks}: no mask of the first frame of {names_some(late)}; frames before the first mask are left empty")
    if not layout.sparse or output_all:
        return videos
    return [replace(video, wanted=frozenset(video.truth)) for video in videos]


def scored_objects(
    layout: Layout, path: str | Path, split: str, videos: Sequence[Video]
) -> dict[str, dict[int, ScoredObject]]:
    """Each video's objects and their annotated frames, of which the first is not scored, nor the last but in FaVOS; their
    categories are `seen` and `unseen` where the data set says so, else empty.  Raises `InputError` if masks to score with are
    missing.
    """
    base = layout_folder(layout, path, split)
    meta = base / layout.ranges.format(split=split)
    ranges = _read_ranges(meta) if layout.ranges else {}
    unseen = read_image_set(base / layout.unseen) if layout.unseen and (base / layout.unseen).is_file() else None
    if layout.unseen and unseen is None:
        print_note(f"no {base / layout.unseen}: scores are not divided into seen and unseen")
    result: dict[str, dict[int, ScoredObject]] = {}
    short, partly = [], []
    with progress_bar(len(videos), "videos whose objects are looked up") as bar:
        for video in videos:
            names = [image.stem for image in video.images]
            frames = tuple(name for name in names if name in video.truth)
            result[video.name] = {}
            if 3 <= len(frames) < len(names) and not layout.sparse and layout.scored != "range":
                partly.append(f"{video.name} ({len(frames)} of {len(names)})")
            if len(frames) < 3:
                short.append(video.name)
            elif layout.scored == "range":
                if video.name not in ranges:
                    raise InputError(f"{meta}: expected the objects of {video.name}, found none")
                category = "" if unseen is None else "unseen" if video.name in unseen else "seen"
                for number, (start, end) in ranges[video.name].items():
                    inside = tuple(name for name in names if name.isdecimal() and start <= int(name) <= end)
                    if absent := set(inside) - video.truth.keys():
                        raise InputError(f"{video.name}: expected masks to score with, found none of {names_some(absent)}")
                    result[video.name][number] = ScoredObject(category, inside)
            else:
                shown = frames[:1] if layout.scored == "first" else frames
                ids = {1} if video.union else {i for name in shown for i in object_ids(video.read_mask(video.truth[name]))}
                result[video.name] = {number: ScoredObject("", frames) for number in sorted(ids)}
            bar.increment()
    if short:
        what = f"expected masks of 3 frames or more to score with, found fewer for {names_some(short)}"
        if len(short) == len(videos):
            raise InputError(f"{base}: {what}; what is not public, the server of {layout.title} scores")
        warn(f"not scored: {what}")
    if partly:
        warn(f"{base}: not all frames of {names_some(partly)} have masks; those without are not scored")
    return result


def _read_ranges(path: Path) -> dict[str, dict[int, tuple[int, int]]]:
    """The first and the last frame of each object of each video, from LVOS's `<split>_meta.json`."""
    content: Any = read_json(path)
    try:
        return {
            name: {
                int(number): (int(entry["frame_range"]["start"]), int(entry["frame_range"]["end"]))
                for number, entry in video["objects"].items()
            }
            for name, video in content["videos"].items()
        }
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        where = "videos/<video>/objects/<id>/frame_range"
        raise InputError(f"{path}: expected {where} with start and end, found {shorten(error)}") from error


def chosen_split(split: str | None, choices: Sequence[str], *, own: bool = False) -> str:
    """The split, or else the first of the choices; raises `InputError` if it is none of them."""
    if own and split is not None:
        raise InputError(f"--split {split}: goes with a data set, found videos of one's own")
    if split is not None and split not in choices:
        raise InputError(f"--split: expected {' or '.join(choices)}, found {split}")
    return split or choices[0]
