"""Folders of frames and masks as lists of `Video`, checked before any work starts."""

import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from dataset.folders import existing_folder, what_is_in
from dataset.mask_files import list_masks, mask_files, mask_size, refuse_gaps, refuse_without_frames
from dataset.mask_reader import MaskReader
from dataset.video import Video
from util.errors import InputError, names_some
from util.image import image_size, read_image, refuse_other_size
from util.image_folder import list_frames, list_images, refuse_strangers

SAME = {".jpeg": ".jpg", ".tiff": ".tif"}  # suffixes


class UnusableVideoError(InputError):
    """A video has no masks, or a picture among its frames that is no frame."""


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

    Raises `InputError` if anything is missing or wrong; `left_out` is as for `dataset.davis.davis_videos`.
    """
    videos = []
    for name in names:
        folder = images / (name.rsplit("/", 1)[0] if each_object else name)
        frames = frames_of(folder, listed_in=listing)
        stems = frozenset(frame.stem for frame in frames)
        if not (annotations / name).is_dir() and left_out is not None:
            left_out.append(f"{name}: expected masks in {annotations / name}, found none")
            continue
        masks = list_masks(existing_folder(annotations / name))
        refuse_without_frames(annotations / name, masks, stems, folder)
        refuse_gaps(masks.values())
        needed = stems
        if wanted is not None:
            needed = frozenset(wanted[name])
            if not needed:
                raise InputError(f"{listing}: lists no frame of {name}")
            if absent := needed - stems:
                raise InputError(f"{listing}: lists {name}/{names_some(absent)}, not in {folder}")
        found = {} if truth is None else list_masks(existing_folder(Path(truth) / name))
        if truth is not None:
            refuse_without_frames(Path(truth) / name, found, stems, folder)
        given = dict(itertools.islice(masks.items(), 1)) if first_only else masks
        with unless_unusable(name, left_out):
            videos.append(
                checked_video(name, frames, masks=given, wanted=needed, truth=found, union=each_object, all_masks=all_masks)
            )
    return refuse_none(videos, left_out)


def frames_of(folder: Path, *, listed_in: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, but {listed_in} lists {folder.name}")
    frames = list_frames(folder)
    if not frames:
        raise InputError(f"{folder}: expected frames (jpg, png, webp, bmp or tif), found {what_is_in(folder)}")
    return frames


def checked_video(
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
        if one_size:
            refuse_other_size(mask, size, frame_size)
    ordered = [masks[stem] for stem in frame_of if stem in masks]
    shown = [truth[stem] for stem in frame_of if stem in truth]
    try:
        reader = MaskReader.of(ordered, strict=all_masks)
    except InputError as error:
        raise UnusableVideoError(str(error)) from error
    if reader.known.white is None:
        more = f", and so are all {len(ordered)} masks of {name}" if len(ordered) > 1 else ""
        raise UnusableVideoError(f"{ordered[0]}: expected an object, found a mask that is 0 everywhere{more}")
    if shown and shown[0] not in ordered and not union:
        of_truth = MaskReader.of(shown, colours=reader.known.colours)
        if of_truth.known.white and not reader.known.white:
            raise InputError(f"{shown[0].parent}: expected numbered objects, as in {ordered[0].parent}, found white on black")
        if reader.known.coloured or of_truth.known.coloured:  # the truth may show objects that enter later
            reader = MaskReader.of([*ordered, *shown], strict=all_masks)
    read_image(frames[0])
    palette = None if union else reader.known.palette()
    video = Video(name, tuple(frames), masks, wanted, truth, union, reader, palette, all_masks)
    return video if one_size else replace(video, result_size=mask_size(ordered[0]))


def _instead_of(mask: Path) -> str:
    """A hint for a missing mask, if there is an image with its stem; else an empty string."""
    found = list_images(mask.parent) if mask.parent.is_dir() else []
    return next((f"found {path.name}, save masks as PNG" for path in found if path.stem == mask.stem), "")


@contextlib.contextmanager
def unless_unusable(name: str, names: list[str] | None) -> Iterator[None]:
    """A context that adds a video that cannot be used to `names`, if that is a list."""
    try:
        yield
    except UnusableVideoError as error:
        if names is None:
            raise
        names.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")


def refuse_none(videos: list[Video], left_out: list[str] | None) -> list[Video]:
    """The videos; raises `InputError` if all were left out."""
    if not videos and left_out:
        raise UnusableVideoError(left_out[0])
    return videos
