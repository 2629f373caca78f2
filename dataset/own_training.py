"""A look at data of users before training: what cannot be used is refused, what is left out or doubtful is told."""

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataset.folders import folders_below
from dataset.frame_folder import FrameFolder
from dataset.mask_files import list_masks, load_mask, mask_size, refuse_gaps, refuse_without_frames
from dataset.mask_reader import IGNORED_WHITE, MaskReader
from dataset.soft_edges import is_thick, rim_values
from dataset.static import StaticClips, read_photograph
from dataset.vos import VideoClips
from util.errors import InputError, names_some, warn
from util.guards import subfolders
from util.image import read_header, read_image, refuse_other_size
from util.image_folder import UNREAD_SUFFIXES, list_frames, list_images
from util.label_map import WHITE, count_values, object_ids
from util.progress import progress_bar

LOOKED_AT = 20  # photographs, and masks of a video


def own_videos(root: Path, **options: Any) -> VideoClips:
    """Videos as `JPEGImages/<video>/` and `Annotations/<video>/`; `options` are `VideoClips`'s.

    The stride of each becomes the distance between its masks.  Raises `InputError` for masks without frames, of other sizes
    than these, or unclear, for frames of several sizes, and for an object's files with gaps.
    """
    found = VideoClips(root / "JPEGImages", root / "Annotations", **options)
    if absent := {path.name for path in subfolders(found.images)} - {*found.names}:
        warn(f"{found.images}: training without {names_some(absent)}, of which {found.masks} has no masks")
    if lost := [path.name for path in found.masks.iterdir() if path.is_symlink() and not path.exists()]:
        warn(f"{found.masks}: training without {names_some(lost)}, links that lead nowhere")
    found.strict = True
    notes: list[str] = []
    with progress_bar(len(found), "videos looked at", shown=len(found) > LOOKED_AT) as bar:
        for index in range(len(found)):
            notes += filter(None, [_look_at_video(found, index)])
            bar.increment()
    for note in notes[:3]:
        warn(note)
    if notes[3:]:
        warn(f"{found.images}: more such notes on {len(notes) - 3} other videos")
    return found


def _look_at_video(found: VideoClips, index: int) -> str:
    """Look at one of the videos and set its distance between masks; returns a line on its frames, or an empty one."""
    video = found.names[index]
    images, masks = found.images / video, found.masks / video
    names, labels = [path.stem for path in list_frames(images)], list_masks(masks)
    refuse_without_frames(masks, labels, {*names}, images)
    pairs = found.annotated(index)
    frames, annotated = FrameFolder(images, [frame for frame, _ in pairs]), [mask for _, mask in pairs]
    refuse_gaps(annotated)
    for mask in annotated:
        refuse_other_size(mask, mask_size(mask), frames.size)
    read_image(frames.paths[0])  # as the loader will, which does not scale 16 bits of little range
    if unread := _unread(masks, labels.values()):
        warn(f"{masks}: training without {names_some(unread)}")
    _look_at_masks(annotated)
    there = [i for i, name in enumerate(names) if name in labels]
    if len(there) == 1:
        warn(f"{annotated[0]}: is the only mask of its video, whose clips are of one frame")
    else:
        found.strides[index] = int(np.median(np.diff(there)))
    return frames.note


def _unread(folder: Path, masks: Iterable[Path]) -> list[str]:
    """What else may hold masks beside those of a video."""
    if not any(mask.parent == folder for mask in masks):
        return []  # they are in folders
    folders = [place.name for place in subfolders(folder) if list_images(place)]
    return folders + [path.name for path in folder.iterdir() if path.suffix.lower() == ".json"]


def _look_at_masks(masks: Sequence[Path]) -> None:
    """Tell what is strange in a video's masks, which are in frame order."""
    reader = MaskReader.of(masks, strict=True)
    if reader.known.white is None:
        warn(f"{masks[0].parent}: all {len(masks)} masks are empty")
    for path in _some(masks):
        labels = reader.read(path)
        if rims := rim_values(labels, count_values(labels)):
            warn(f"{path}: {names_some(map(str, rims))} only lies along the edges of others; were the masks resized smoothly?")
            return
        if path.is_file() and is_thick((load_mask(path).values == WHITE) & (labels == 0)):
            reader.known.tell(path, IGNORED_WHITE)
            return


def own_photographs(root: Path, *, crop: int) -> StaticClips:
    """As `StaticClips` says; raises `InputError` if most pairs, as far as looked at, cannot be used."""
    found = StaticClips(root, crop=crop)
    if absent := found.without_masks:
        warn(f"{root}: training without {names_some(path.name for path in absent)}, to which there is no name.png")
    if absent := found.without_pictures:
        kinds = {path.suffix.lower() for mask in absent for path in _beside(mask)} & UNREAD_SUFFIXES
        why = f"no photograph{f' ({names_some(kinds)} is not read)' if kinds else ''}"
        warn(f"{root}: training without the masks {names_some(path.name for path in absent)}, to which there is {why}")
    read = {path.parent for path in (*found.images, *found.masks, *found.without_masks, *found.without_pictures)}
    if deeper := [place for place in folders_below(root, depth=3) if place not in read and list_images(place)]:
        warn(f"{root}: training without what is in {names_some(str(place.relative_to(root)) for place in deeper)}")
    look_at_photographs(found)
    return found


def _beside(mask: Path) -> Iterable[Path]:
    """Files that may be a mask's photograph."""
    for folder in {mask.parent, mask.parent.parent / "images"}:
        yield from folder.glob(f"{glob.escape(mask.stem)}.*") if folder.is_dir() else ()


def look_at_photographs(found: StaticClips, *, refuse: bool = True) -> None:
    """Raise `InputError` if most pairs, as far as looked at, cannot be used, or tell it, as of fewer; see `_problem_of`."""
    chosen = _some(range(len(found)))
    problems = [problem for i in chosen if (problem := _problem_of(found.images[i], found.masks[i]))]
    if refuse and 2 * len(problems) > len(chosen):
        raise InputError(problems[0])
    if problems:
        warn(f"{problems[0]}; so it is with {len(problems)} of {len(chosen)} masks that were looked at")
    turned = [found.images[i] for i in chosen if _is_turned_alone(found.images[i], found.masks[i])]
    if turned:
        text = f"are turned upright by their EXIF orientation, their masks are not, as of {turned[0]}; look whether they fit"
        warn(f"{len(turned)} of {len(chosen)} photographs that were looked at {text}")


def _is_turned_alone(picture: Path, mask: Path) -> bool:
    try:
        return read_header(picture).is_turned and not read_header(mask).is_turned
    except InputError:  # told when it is read
        return False


def _problem_of(picture: Path, mask: Path) -> str:
    """What is wrong with a photograph and its mask, of which training takes the brightness; empty if nothing is."""
    try:
        labels = MaskReader(careful=True, soft=True, note=None).read(mask)
        _, grey = read_photograph(picture, mask)
    except InputError as error:
        return f"{error}{' (turned by its EXIF orientation)' if _is_turned_alone(picture, mask) else ''}"
    if len(ids := object_ids(labels)) > 1:
        return f"{mask}: expected one object, in white on black, found {len(ids)}"
    white = grey > 127
    if ((labels != 0) != white).sum() * 10 > (labels != 0).sum():
        return f"{mask}: expected the object in white on black, found it in other colours"
    return "" if white.any() else f"{mask}: expected the object in white on black, found no white"


def _some(entries: Sequence[Any]) -> list[Any]:
    """At most `LOOKED_AT` entries, in order; any, so that what comes at regular distances is not missed."""
    count = min(LOOKED_AT, len(entries))
    return [entries[i] for i in sorted(np.random.default_rng(0).choice(len(entries), count, replace=False))]
