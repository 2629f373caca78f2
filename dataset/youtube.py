"""YouTube-VOS, and the user's own videos in the same folders, as `Video`s; `meta.json`."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dataset.folders import existing_folder, meant_instead, refuse_flat, what_is_in
from dataset.read_videos import UnusableVideoError, read_videos
from dataset.video import Video
from dataset.video_names import chosen_videos
from util.errors import InputError, names_some, shorten, warn
from util.files import read_json
from util.guards import plain_name, subfolders
from util.label_map import IGNORED, object_ids

SPLITS = ("valid", "test")  # of YouTube-VOS


def youtube_videos(
    path: str | Path,
    *,
    split: str = "valid",
    output_all: bool = False,
    truth: str | Path | None = None,
    all_masks: bool = False,
    only: Sequence[str] | None = None,
    left_out: list[str] | None = None,
) -> list[Video]:
    """The videos of YouTube-VOS `valid` or `test`, with sparse ids and objects that enter later.

    Frames come from `all_frames/<split>_all_frames/JPEGImages`, or else `<split>/JPEGImages`.  The wanted ones are those named
    in `<split>/meta.json`, or with `output_all`, which does not need it, all.  A `path` that holds `JPEGImages` and
    `Annotations` itself is the user's own data set; all its frames are wanted.

    Masks before the first object may be empty.  `truth` and `all_masks` are as for `read_videos`, `only` and `left_out` as for
    `davis_videos`.  Raises `InputError` like it, and also if a video has masks but no frames.
    """
    root = Path(path)
    own = is_own_data(root)
    base = root if own else root / split
    annotations, images = base / "Annotations", base / "JPEGImages"
    every_frame = root / "all_frames" / f"{split}_all_frames" / "JPEGImages"
    if not own and every_frame.is_dir():
        images = every_frame
    if not base.is_dir():
        raise InputError(
            f"{root}: expected JPEGImages/ and Annotations/ in it (your own videos) or {split}/ (YouTube-VOS), "
            f"found {what_is_in(root)}{meant_instead(root, 'JPEGImages', 'Annotations')}"
        )
    if own and root.resolve().name in SPLITS and (root / "meta.json").is_file():
        whole = root.resolve().parent
        raise InputError(f"{root}: expected the folder of YouTube-VOS, found its {root.resolve().name}/; give {whole}")
    if own and (root / "meta.json").is_file():
        warn(
            f"{root}: is taken as your own videos, without its meta.json; YouTube-VOS is given by the folder that holds valid/"
        )
    refuse_flat(images, annotations)
    existing_folder(annotations)
    if not images.is_dir():
        raise InputError(f"{images}: no such folder, nor {every_frame}")
    wanted, meta = None, {}
    if output_all or own:
        listing, names = annotations, [path.name for path in subfolders(annotations)]
        if unmasked := sorted({path.name for path in subfolders(images)} - set(names) if only is None else ()):
            if left_out is None:
                what = f"expected masks of each video in {annotations}, found none of {names_some(unmasked)}"
                raise UnusableVideoError(f"{images}: {what}")
            left_out += [f"{name}: expected masks in {annotations / name}, found none" for name in unmasked]
    else:
        listing = root / split / "meta.json"
        meta = read_youtube_meta(listing)
        names = sorted(meta)
        wanted = {name: {frame for scored in meta[name].values() for frame in scored.frames} for name in names}
    if not names:
        raise InputError(f"{listing}: expected videos, found none")
    videos = read_videos(
        chosen_videos(names, only, listing),
        images,
        annotations,
        listing=listing,
        truth=truth,
        wanted=wanted,
        all_masks=all_masks,
        left_out=left_out,
    )
    for video in videos:
        if video.name in meta:
            _check_objects(video, {*meta[video.name]}, listing)
    return videos


def _check_objects(video: Video, listed: set[int], listing: Path) -> None:
    """Warn if a video's masks show others than the listed objects; raises `InputError` if their numbers are not the list's:
    colours of their own, or greyscale.
    """
    try:
        shown = {number for mask in video.masks.values() for number in object_ids(video.read_mask(mask))}
    except InputError:
        return  # a broken mask, with which this video fails alone when it is its turn
    what = f"expected objects {_numbers(listed)}, as in {listing}, found {_numbers(shown)}"
    if video.reader.known.own or not shown & listed:
        raise InputError(f"{next(iter(video.masks.values())).parent}: {what}; save the masks as they came, with their palette")
    if shown != listed:
        warn(f"{video.name}: {what}")


def _numbers(ids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ids)))


def is_sparse(root: str | Path, split: str) -> bool:
    """Whether only every fifth frame of YouTube-VOS is there, so that `--mem_every 5` would store every 25th frame."""
    every_frame = Path(root) / "all_frames" / f"{split}_all_frames" / "JPEGImages"
    return not is_own_data(Path(root)) and not every_frame.is_dir()


def is_own_data(root: Path) -> bool:
    """Whether a folder holds `JPEGImages` and `Annotations` itself, unlike any official archive of YouTube-VOS."""
    return (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir()


class ScoredObject(NamedTuple):
    """An object's entry in YouTube-VOS's `meta.json`."""

    category: str
    frames: tuple[str, ...]


def read_youtube_meta(path: str | Path) -> dict[str, dict[int, ScoredObject]]:
    """`meta.json`: for each video and object id, its category (empty if not given) and its scored frames.

    Raises `InputError` if anything in it is not as expected.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; eval_youtube.py --output_all works without it")
    content = read_json(path)

    def entries(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InputError(f"{path}: expected videos/<video>/objects/<id>/frames, found {shorten(value)} at {where}")
        return value

    result: dict[str, dict[int, ScoredObject]] = {}
    for name, video in entries(entries(content, "the top").get("videos"), "videos").items():
        plain_name(name, source=path)
        result[name] = {}
        for number, entry in entries(entries(video, name).get("objects"), f"{name}/objects").items():
            where = f"{name}/objects/{number}"
            if not (re.fullmatch("[1-9][0-9]{0,2}", number) and 0 < int(number) < IGNORED):
                raise InputError(f"{path}: expected ids of objects from 1 to 254, found {shorten(where)}")
            frames = entries(entry, where).get("frames")
            if not isinstance(frames, list):
                raise InputError(f"{path}: expected a list of frames at {where}/frames, found {shorten(frames)}")
            for frame in frames:
                plain_name(frame, source=path)
            result[name][int(number)] = ScoredObject(str(entry.get("category", "")), tuple(frames))
    return result


def annotated_objects(video: Video) -> dict[int, ScoredObject]:
    """The `meta.json` entries of a video, derived from its `truth`: for each object, the frame of its first mask, which is
    input and not scored, and the annotated frames after it.

    An object without a mask is scored from the frame on that shows it first.
    """
    order = {path.stem: index for index, path in enumerate(video.images)}
    shown = functools.cache(lambda path: object_ids(video.read_mask(path)))  # truth and masks may be the same files

    def first_frames(masks: Mapping[str, Path]) -> dict[int, str]:
        found: dict[int, str] = {}
        for frame in sorted(order.keys() & masks.keys(), key=order.__getitem__):
            found |= {number: frame for number in shown(masks[frame]) if number not in found}
        return found

    truth, given = first_frames(video.truth), first_frames(video.masks)
    frames = [frame for frame in order if frame in video.truth]
    result = {}
    for number, first in sorted(truth.items()):
        start = given.get(number, first)
        after = (frame for frame in frames if order[frame] >= order[first] and order[frame] > order[start])
        result[number] = ScoredObject("", (start, *after))
    return result
