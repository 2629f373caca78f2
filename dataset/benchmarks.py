"""DAVIS, YouTube-VOS and the user's own data sets as lists of `Video`, checked before any work starts."""

import argparse
import contextlib
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dataset.folders import meant_instead, refuse_flat
from dataset.label_map import MaskReader, list_masks, mask_files, mask_size
from dataset.video import Video
from util.errors import InputError, names_some, shorten
from util.files import plain_name, read_json, read_text, subfolders
from util.image import (
    IGNORED,
    image_size,
    list_frames,
    list_images,
    object_ids,
    read_image,
    refuse_strangers,
    size_text,
)

SAME = {".jpeg": ".jpg", ".tiff": ".tif"}  # suffixes
SPLITS = ("valid", "test")  # of YouTube-VOS


class UnusableVideoError(InputError):
    """A video has no masks, or a picture among its frames that is no frame."""


def add_videos_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose some of a data set's videos, as the names `videos`; `None` means all."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--videos", nargs="+", metavar="NAME", help="only these videos (default: all)")
    which.add_argument(
        "--list",
        dest="videos",
        type=_listed,
        metavar="FILE",
        help="only the videos that a file names, one per line (default: all)",
    )


def davis_videos(
    path: str | Path,
    *,
    split: str = "val",
    year: int = 2017,
    resolution: str = "480p",
    only: Sequence[str] | None = None,
    left_out: list[str] | None = None,
) -> list[Video]:
    """The videos of DAVIS 2016 val, 2017 val or 2017 test-dev (`split` is `val` or `testdev`).

    `path` holds `trainval/` and `test-dev/`, or `JPEGImages/` itself.  `resolution` names the subfolder of `JPEGImages`
    with the frames; masks and results always have 480p.  `only` names the videos that are wanted, in this order; no others
    are looked at.  Raises `InputError` if anything that the image set lists is missing or wrong, or `only`
    names a video that it does not list; an `UnusableVideoError` becomes a line in `left_out` instead, if that is a list and
    others are left.
    """
    if year == 2016 and split != "val":
        raise InputError("--split testdev: DAVIS 2016 has only val")
    root = _davis_root(Path(path), split, year)
    images = root / "JPEGImages" / plain_name(resolution, source="--resolution")
    annotations = root / "Annotations" / "480p"
    if resolution != "480p" and not images.is_dir():
        raise InputError(f"{images}: no such folder; prepare_davis.py --shorter makes frames of sizes other than 480p")
    image_set = _davis_image_set(root, split, year)
    videos = []
    for name in chosen_videos(read_image_set(image_set), only, image_set):
        frames = _frames_of(images / name, listed_in=image_set)
        masks = {frame.stem: annotations / name / f"{frame.stem}.png" for frame in frames}
        truth = {stem: mask for stem, mask in masks.items() if mask.is_file()}
        first = frames[0].stem
        with _left_out(name, left_out):
            videos.append(
                _checked(
                    name,
                    frames,
                    masks={first: masks[first]},
                    wanted=frozenset(masks),
                    truth=truth,
                    union=year == 2016,
                    one_size=resolution == "480p",
                )
            )
    return _some(videos, left_out)


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

    Frames come from `all_frames/<split>_all_frames/JPEGImages`, or else `<split>/JPEGImages`; masks from
    `<split>/Annotations`.  The wanted frames are those named in `<split>/meta.json`, or all of them with `output_all` (then
    `meta.json` is not needed).  A `path` that holds `JPEGImages` and `Annotations` itself is the user's own data set; all
    its frames are wanted.

    Masks before the first object may be empty.  `truth` is a folder of annotations for scoring.  With `all_masks`, every
    mask is input in full, not only each object's first.  `only` is as for `davis_videos`.  Raises `InputError` like it, and
    also if a video has masks but no frames.
    """
    root = Path(path)
    own = is_own_data(root)
    annotations = root / "Annotations" if own else root / split / "Annotations"
    every_frame = root / "all_frames" / f"{split}_all_frames" / "JPEGImages"
    images = every_frame
    if own or not every_frame.is_dir():
        images = root / "JPEGImages" if own else root / split / "JPEGImages"
    if not own and not (root / split).is_dir():
        raise InputError(
            f"{root}: expected JPEGImages/ and Annotations/ in it (your own videos) or {split}/ (YouTube-VOS), "
            f"found {_what_is_in(root)}{meant_instead(root, 'JPEGImages', 'Annotations')}"
        )
    if own and root.resolve().name in SPLITS and (root / "meta.json").is_file():
        whole = root.resolve().parent
        raise InputError(f"{root}: expected the folder of YouTube-VOS, found its {root.resolve().name}/; give {whole}")
    refuse_flat(images, annotations)
    _folder(annotations)
    if not images.is_dir():
        raise InputError(f"{images}: no such folder, nor {every_frame}")
    wanted = None
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
    return read_videos(
        chosen_videos(names, only, listing),
        images,
        annotations,
        listing=listing,
        truth=truth,
        wanted=wanted,
        all_masks=all_masks,
        left_out=left_out,
    )


def read_videos(
    names: Iterable[str],
    images: Path,
    annotations: Path,
    *,
    listing: Path,
    truth: str | Path | None = None,
    wanted: Mapping[str, Collection[str]] | None = None,
    first_only: bool = False,
    each_object: bool = False,
    all_masks: bool = False,
    left_out: list[str] | None = None,
) -> list[Video]:
    """The videos of these names, with frames in `<images>/<name>` and masks in `<annotations>/<name>`.

    truth:      folder of annotations for scoring
    wanted:     the frames of each video that need results (`None`: all)
    first_only: only the first mask is input, not those of objects that enter later
    each_object: names are `<video>/<object>`, with frames in `<images>/<video>`, and all non-zero pixels are that object
    all_masks:  every mask is input in full, not only each object's first

    Raises `InputError` if anything is missing or wrong; `left_out` is as for `davis_videos`.
    """
    videos = []
    for name in names:
        frames = _frames_of(images / (name.rsplit("/", 1)[0] if each_object else name), listed_in=listing)
        stems = frozenset(frame.stem for frame in frames)
        if not (annotations / name).is_dir() and left_out is not None:
            left_out.append(f"{name}: expected masks in {annotations / name}, found none")
            continue
        masks = list_masks(_folder(annotations / name))
        if strange := {mask.name for stem, mask in masks.items() if stem not in stems}:
            raise InputError(f"{annotations / name}: found {names_some(strange)}, but no such frames in {images / name}")
        needed = stems
        if wanted is not None:
            needed = frozenset(wanted[name])
            if not needed:
                raise InputError(f"{listing}: lists no frame of {name}")
            if absent := needed - stems:
                raise InputError(f"{listing}: lists {name}/{names_some(absent)}, not in {images / name}")
        found = {} if truth is None else list_masks(_folder(Path(truth) / name))
        given = dict(itertools.islice(masks.items(), 1)) if first_only else masks
        with _left_out(name, left_out):
            videos.append(
                _checked(name, frames, masks=given, wanted=needed, truth=found, union=each_object, all_masks=all_masks)
            )
    return _some(videos, left_out)


def chosen_videos(names: Iterable[str], only: Sequence[str] | None, listing: Path) -> list[str]:
    """The names that are also in `only`; all of them for `None`.  Raises `InputError` if one of `only` is not there."""
    found = list(names)
    if absent := set(only or ()) - set(found):
        raise InputError(f"--videos: expected some of {names_some(found)} ({listing}), found {names_some(absent)}")
    return found if only is None else list(dict.fromkeys(only))


def _listed(path: str) -> list[str]:
    """The type of the flag `--list`."""
    try:
        return read_image_set(Path(path))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@contextlib.contextmanager
def _left_out(name: str, names: list[str] | None) -> Iterator[None]:
    """A context that adds a video that cannot be used to `names`, if that is a list."""
    try:
        yield
    except UnusableVideoError as error:
        if names is None:
            raise
        names.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")


def _some(videos: list[Video], left_out: list[str] | None) -> list[Video]:
    """The videos; raises `InputError` if all were left out."""
    if not videos and left_out:
        raise UnusableVideoError(left_out[0])
    return videos


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
        raise InputError(f"{path}: no such file; --output_all works without it")
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
    """The `meta.json` entries of a video, derived from its `truth`: each object's annotated frames from its first mask on."""
    first: dict[int, int] = {}
    frames = [path.stem for path in video.images if path.stem in video.truth]
    for index, frame in enumerate(frames):
        for number in object_ids(video.read_mask(video.truth[frame])):
            first.setdefault(number, index)
    return {number: ScoredObject("", tuple(frames[index:])) for number, index in sorted(first.items())}


def _davis_root(path: Path, split: str, year: int) -> Path:
    part = "test-dev" if split == "testdev" else "trainval"
    for root in davis_places(path, part, year):
        if (root / "JPEGImages").is_dir():
            return root
    raise InputError(
        f"{path}: expected {part}/JPEGImages/ or JPEGImages/ in it or in {year}/, found {_what_is_in(path)}"
        f"{meant_instead(path, 'JPEGImages', 'ImageSets')}"
    )


def davis_places(path: Path, part: str, year: int) -> list[Path]:
    """Where DAVIS may be for a path that is the release's root (`../DAVIS`) or one year's folder (`../DAVIS/2017`)."""
    return [path / str(year) / part, path / str(year), path / part, path]


def _davis_image_set(root: Path, split: str, year: int) -> Path:
    name = "test-dev.txt" if split == "testdev" else "val.txt"
    places = [root / "ImageSets" / str(year) / name]
    if year == 2016:
        places.append(root / "ImageSets" / "480p" / name)
        if root.name != "trainval":  # `trainval` is already that of 2017
            places.append(root.parent / "2017" / "trainval" / "ImageSets" / "2016" / name)
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{places[0]}: no such image set" + "".join(f", nor {place}" for place in places[1:]))


def read_image_set(path: Path) -> list[str]:
    """Video names, from a file with one name per line or one `/JPEGImages/480p/<video>/00000.jpg /Annotations/...` per frame.

    Raises `InputError` if the file is not UTF-8 text, names no video, or holds a name that is not plain.
    """
    names = {}
    for line in read_text(path).splitlines():
        image, *mask = re.split(r"\s+(?=\S*Annotations/)", line.strip(), maxsplit=1)
        if image:  # names may hold spaces
            names[plain_name(PurePosixPath(image).parent.name if mask else image, source=path)] = None
    if not names:
        raise InputError(f"{path}: expected names of videos, found an empty file")
    return list(names)


def _checked(
    name: str,
    frames: list[Path],
    *,
    masks: Mapping[str, Path],
    wanted: frozenset[str],
    truth: Mapping[str, Path],
    union: bool = False,
    all_masks: bool = False,
    one_size: bool = True,
) -> Video:
    """A `Video`, after checking that its masks and first frame can be read and, with `one_size`, have the same size."""
    try:
        refuse_strangers(frames, [SAME.get(frame.suffix.lower(), frame.suffix.lower()) for frame in frames])
    except InputError as error:
        raise UnusableVideoError(str(error)) from error
    frame_of = {frame.stem: frame for frame in frames}
    if not masks:
        raise UnusableVideoError(f"{name}: expected a mask of at least one frame, found none")
    for stem, mask in masks.items():
        if not mask_files(mask):
            raise UnusableVideoError(f"{mask}: no such mask; {_instead_of(mask) or f'{name} has none for its first frame'}")
        size, frame_size = mask_size(mask), image_size(frame_of[stem])
        if one_size and size != frame_size:
            raise InputError(f"{mask}: mask is {size_text(size)}, its frame is {size_text(frame_size)}")
    ordered = [masks[stem] for stem in frame_of if stem in masks]
    shown = [truth[stem] for stem in frame_of if stem in truth]
    reader = MaskReader.of(ordered, strict=all_masks)
    if reader.white is None:
        more = f", and so are all {len(ordered)} masks of {name}" if len(ordered) > 1 else ""
        raise UnusableVideoError(f"{ordered[0]}: expected an object, found a mask that is 0 everywhere{more}")
    if shown and shown[0] not in ordered and not union:
        of_truth = MaskReader.of(shown, colours=reader.colours)
        if of_truth.white and not reader.white:
            raise InputError(f"{shown[0].parent}: expected numbered objects, as in {ordered[0].parent}, found white on black")
        if reader.coloured or of_truth.coloured:  # the truth may show objects that enter later
            reader = MaskReader.of([*ordered, *shown], strict=all_masks)
    read_image(frames[0])
    palette = None if union else reader.palette()
    video = Video(name, tuple(frames), masks, wanted, truth, union, reader, palette, all_masks)
    return video if one_size else replace(video, result_size=mask_size(ordered[0]))


def _instead_of(mask: Path) -> str:
    """A hint for a missing mask, if there is an image with its stem; else an empty string."""
    found = list_images(mask.parent) if mask.parent.is_dir() else []
    return next((f"found {path.name}, save masks as PNG" for path in found if path.stem == mask.stem), "")


def _frames_of(folder: Path, *, listed_in: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, but {listed_in} lists {folder.name}")
    frames = list_frames(folder)
    if not frames:
        raise InputError(f"{folder}: expected frames (jpg, png, webp, bmp or tif), found {_what_is_in(folder)}")
    return frames


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    return path


def _what_is_in(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    return names_some({path.name for path in folder.iterdir()}) or "an empty folder"
