"""The masks that a user gives for a video of their own, in the forms that labelling tools write."""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.colours import parse_colour, refuse_background
from dataset.frame_folder import FrameFolder
from dataset.mask_files import EACH_OBJECT, in_front, mask_files, object_files
from dataset.mask_frames import MaskSource, mask_sources, parse_masks
from dataset.mask_reader import MaskReader
from dataset.own_video import open_video
from dataset.soft_edges import refuse_scattered
from dataset.video_file import VideoFile
from util.errors import InputError, names_some, print_note
from util.image import refuse_other_size
from util.image_folder import name_pattern
from util.label_map import MOST_OBJECTS, object_ids, only

BLACK_HINT = "(if it is an object, --background black)"
HINT = "(--background 'COLOUR'; if it is an object, --background black)"
LABEL = re.compile(r" #?\d+$")  # what follows it in a title: a group, a track, or a place
PLACE = re.compile(r"(.* #)?\d+")  # a title that is no name: a number, or the object's place in its file
NUMBER = re.compile(r"(?:.* )?(\d{1,3})")  # a title with the object's number


class GivenMask(NamedTuple):
    """What the user gives for one frame."""

    labels: np.ndarray  # (H, W) uint8 ids
    gone: frozenset[int]  # objects that the mask says are not in the frame
    files: tuple[Path, ...]
    numbered: bool = True  # it is one picture or array, which says which number each object has
    names: Mapping[int, str] = {}  # of its objects, as far as the file tells them


def add_mask_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--mask` and `--background`."""
    parser.add_argument(
        "--mask",
        nargs="+",
        metavar="[FRAME:]FILE",
        help="masks with their frame numbers, counted from 0; without one, for the frame of the file's name or else frame 0: "
        "PNG with object numbers, white on black or one plain colour per object; COCO or labelme JSON; an .npy array; a "
        "folder of masks named like frames.  Several for one frame are one object each",
    )
    parser.add_argument(
        "--background",
        type=_colour,
        metavar="COLOUR",
        help="the colour that is background in the masks, such as white, '#ffffff' or 255 (default: black, checked)",
    )
    parser.add_argument(
        "--soft_edges",
        action="store_true",
        help="in masks with soft edges (antialiased, resized), make each pixel between objects part of what is nearest",
    )


def _colour(text: str) -> int:
    try:
        return parse_colour(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def open_with_masks(
    arguments: argparse.Namespace, source: str | Path, *, rate: float = 24
) -> tuple[FrameFolder | VideoFile, dict[int, GivenMask]]:
    """A video, about which notes are printed, and the masks that `add_mask_flags`'s flags give for it, by frame.

    `rate` is that of a folder of frames.  Raises `InputError` as `open_video` and `read_given_masks` do.
    """
    given = parse_masks(arguments.mask or ())
    folder = Path(source).resolve()
    among = [path for _, path in given if path.is_file() and path.resolve().parent == folder]
    for path in among:
        print_note(f"{path} is a mask, so it is left out of the frames")
    exact = Fraction(rate).limit_denominator(1001)
    video = open_video(source, rate=exact, allow_truncated=arguments.allow_truncated, leave_out=among)
    if video.note:
        print_note(video.note)
    if not given:
        return video, {}
    options = {"background": arguments.background, "soft": arguments.soft_edges}
    frames = video.paths[0].parent if isinstance(video, FrameFolder) else None
    return video, read_given_masks(
        given, video.names, video.size, video=folder.name if folder.is_dir() else folder.stem, frames=frames, **options
    )


def read_given_masks(
    given: Iterable[tuple[str | int | None, Path]],
    names: Sequence[str],
    size: tuple[int, int],
    *,
    video: str = "",
    frames: Path | None = None,
    background: int | None = None,
    soft: bool = False,
) -> dict[int, GivenMask]:
    """The masks by frame, ascending, of a video whose frames have these names and this size; `soft` is as for `MaskReader`.

    video:  its own name, which says nothing of a frame, even if one is called so
    frames: the folder of its frames, if it has one; what is in it beside JSON files are no masks

    An empty mask after the first object says that no object is in its frame; empty ones before it are left out.  Several files
    for one frame are masks of one object each, the same object at the same place in every frame.  A file without a frame is
    for the frame of its name, else for frame 0.  Raises `InputError` naming the file if a mask is invalid, or all are empty.
    """
    sources = mask_sources(given, names, video=video, frames=frames)
    reader = MaskReader(strict=True, careful=True, background=background, soft=soft, hint=HINT)
    numbers = _numbers(title for of_frame in sources.values() for source in of_frame for title in source.shapes or ())
    titles: dict[str, int] = {}
    masks: dict[int, GivenMask] = {}
    for frame, of_frame in sources.items():
        path, shapes = of_frame[0].path, of_frame[0].shapes is not None
        labels, empty = _of_shapes(of_frame, titles, numbers, size) if shapes else _of_files(of_frame, reader)
        refuse_scattered(path, labels)
        if background is None:
            if shapes:
                refuse_background(path, labels, {i: i for i in object_ids(labels)}, None, hint=BLACK_HINT, careful=True)
            reader.known.refuse_inverted(path, labels)
        refuse_other_size(path, labels.shape, size)
        if labels.any() or masks:
            files = tuple(file for source in of_frame for file in mask_files(source.path))
            numbered = len(of_frame) == 1 and not shapes and not reader.known.white and not reader.known.own
            titled = {number: title for title, number in titles.items() if not PLACE.fullmatch(title)}
            masks[frame] = GivenMask(labels, frozenset(empty), files, numbered, titled)
    if not masks:
        paths = ", ".join(str(source.path) for of_frame in sources.values() for source in of_frame)
        raise InputError(f"{paths}: expected an object, found none")
    objects = frozenset(i for mask in masks.values() for i in object_ids(mask.labels))
    called = {name_pattern(mask.files[0]): mask.files[0].name for mask in masks.values() if mask.files}
    if len(called) > 1 and len(objects) == 1 and not titles:  # cat.png and dog.png
        of_one = f"are all masks of object {min(objects)}, since they have the same number or colour"
        print_note(f"{names_some(called.values())} {of_one}")
    by_number = sorted((number, title) for title, number in titles.items())
    if len(titles) > 1 and any(not re.search(rf"(^| ){number}$", title) for number, title in by_number):
        print_note(f"object {', '.join(f'{number} is {title}' for number, title in by_number)}")
    return {frame: mask._replace(gone=mask.gone & objects if mask.labels.any() else objects) for frame, mask in masks.items()}


def keep_objects(masks: dict[int, GivenMask], objects: Iterable[int]) -> dict[int, GivenMask]:
    """Masks with these objects alone, without masks that then say nothing; raises `InputError` for an object in no mask."""
    there = {i for mask in masks.values() for i in object_ids(mask.labels)}
    if absent := sorted(set(objects) - there):
        raise InputError(f"--objects {absent[0]}: expected an object of the masks, {', '.join(map(str, sorted(there)))}")
    kept = {
        frame: mask._replace(labels=only(mask.labels, objects), gone=mask.gone.intersection(objects))
        for frame, mask in masks.items()
    }
    return {frame: mask for frame, mask in kept.items() if mask.labels.any() or mask.gone}


def _numbers(titles: Iterable[str]) -> dict[str, int]:
    """The number of each object: what its title ends with, if all do and these can be told apart, else by appearance."""
    places = {title: place for place, title in enumerate(dict.fromkeys(titles), start=1)}
    told = {title: int(found[1]) for title in places if (found := NUMBER.fullmatch(title))}
    usable = {number for number in told.values() if 0 < number <= MOST_OBJECTS}
    return told if len(usable) == len(places) else places


def _of_shapes(
    sources: list[MaskSource], titles: dict[str, int], numbers: Mapping[str, int], size: tuple[int, int]
) -> tuple[np.ndarray, set[int]]:
    """A frame's label map of shapes, which have these numbers and are added to the `titles` before them, and the objects whose
    masks are empty; without shapes, it has no object.
    """
    found: dict[int, np.ndarray] = {}
    told = [title for source in sources for title in source.shapes or ()]
    known = {title.strip().casefold(): title for title in titles}
    for title in told:
        if (like := known.setdefault(title.strip().casefold(), title)) != title:
            raise InputError(f"{sources[0].path}: expected {like}, as before, found {title}: are they one object?")
    if titles and told and not titles.keys() & {*told}:
        print_note(f"{sources[0].path}: shares no object with the masks before it, so its objects are new ones")
    for new in sorted({*told} - titles.keys()) if titles else ():
        like = [old for old in titles.keys() - {*told} if LABEL.sub("", old) == LABEL.sub("", new)]
        if len(like) == 1 and LABEL.sub("", new) in (new, *like):  # told with a number in one frame, and without in the other
            print_note(f"{sources[0].path}: {new} is a new object, not {like[0]}, which is in a mask before it")
    for source in sources:
        for title, mask in (source.shapes or {}).items():
            number = titles.setdefault(title, numbers[title])
            if number > MOST_OBJECTS:
                raise InputError(f"{source.path}: expected at most {MOST_OBJECTS} objects in all masks, found more")
            found[number] = found[number] | mask if number in found else mask
    if not found:
        return np.zeros(size, np.uint8), set()
    labels, empty = in_front(found), {number for number, mask in found.items() if not mask.any()}
    if covered := found.keys() - empty - {*object_ids(labels)}:
        which = names_some(title for title, number in titles.items() if number in covered)
        print_note(f"{sources[0].path}: {which} left out, since other objects cover it")
    return labels, empty


def _of_files(sources: list[MaskSource], reader: MaskReader) -> tuple[np.ndarray, set[int]]:
    """As `_of_shapes`, of pictures and arrays."""
    if len(sources) > 1:
        return reader.merge({source.path: number for number, source in enumerate(sources, start=1)})
    path = sources[0].path
    return reader.merge(object_files(path)) if path.parent.name == EACH_OBJECT else (reader.read(path), set())
