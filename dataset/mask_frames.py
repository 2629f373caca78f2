"""Which frame each mask is for that a user gives: by the command line, by its name, or by what is in it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from dataset.film_packets import ARCHIVES
from dataset.mask_files import EACH_OBJECT, MASK_SUFFIXES, layers_in_array, list_masks
from dataset.shapes import CVAT_FRAME, Masks, read_shapes
from util.errors import InputError, names_some, print_note
from util.guards import is_clutter, subfolders
from util.image_folder import UNREAD_SUFFIXES, in_order, list_images, name_pattern

JPEG = (".jpg", ".jpeg")
NOT_READ = {
    ".txt": "a YOLO text file",
    ".xml": "an XML file",
    ".csv": "a table",
    **dict.fromkeys(ARCHIVES, "an archive, unpack it"),
    ".npz": "several arrays, save one as .npy",
    ".mat": "a MATLAB file",
    ".psd": "a Photoshop file",
    ".xcf": "a GIMP file",
    ".svg": "an SVG drawing",
}


class MaskSource(NamedTuple):
    """A mask before it is read: a file, or the shapes in one."""

    frame: int
    path: Path
    shapes: Masks | None = None


def parse_masks(texts: Sequence[str]) -> list[tuple[str | None, Path]]:
    """`["first.png", "120:second.png"]` -> frames as written (see `frame_number`), where told, and files or folders.

    Raises `InputError` if a frame is negative or has more than 9 digits.
    """
    result: list[tuple[str | None, Path]] = []
    for text in texts:
        found = re.fullmatch(r"(-?[0-9]+):(.+)", text)
        number, path = found.groups() if found else (None, text)
        if number is not None and (number.startswith("-") or len(number) > 9):
            raise InputError(f"--mask {text}: expected FRAME:FILE with a frame from 0 on")
        result.append((number, Path(path)))
    return result


def frame_number(text: str, names: Sequence[str], flag: str) -> int:
    """The frame, counted from 0, that a number on the command line means; `flag` is for messages.

    A number with zeros before it (`00012`) is a frame's name, or the end of one name, if there is such a frame, and a note
    says so.  Raises `InputError` if one without is both the number of a frame and the name of another, or if there is no such
    frame.
    """
    frame = int(text)
    padded = text.startswith("0") and text != "0"
    called = [text] if text in names else [name for name in names if padded and _numbers(name)[-1:] == [text]]
    named = names.index(called[0]) if len(called) == 1 else frame
    if named != frame and padded:
        print_note(f"{flag} means frame {named}, {names[named]}")
        frame = named
    if frame >= len(names):
        raise InputError(f"{flag}: the video has frames 0 to {len(names) - 1}")
    if named != frame:
        raise InputError(
            f"{flag}: is it frame {frame}, counted from 0, whose name is {names[frame]}, or frame {named}, whose name is "
            f"{text}? Write 0{frame} or 0{named}, which are no names"
        )
    return frame


def mask_sources(
    given: Iterable[tuple[str | int | None, Path]], names: Sequence[str], *, video: str = "", frames: Path | None = None
) -> dict[int, list[MaskSource]]:
    """What is to be read for each frame, ascending; all are as for `dataset.given_masks.read_given_masks`.

    Raises `InputError` if it is unclear which frame a file is for, or which files are of the same object.
    """
    given, names = list(given), [normalize("NFC", name) for name in names]  # macOS stores names in another form
    video = normalize("NFC", video)
    _refuse_series([path for text, path in given if text is None], names)
    sources: dict[int, list[MaskSource]] = {}
    for text, path in given:
        frame = frame_number(text, names, f"--mask {text}:{path}") if isinstance(text, str) else text
        for source in _sources(frame, path, names, video=video, frames=frames):
            sources.setdefault(source.frame, []).append(source)
    sources = dict(sorted(sources.items()))
    _refuse_mixed(sources, names, video)
    return sources


def _refuse_mixed(sources: dict[int, list[MaskSource]], names: Sequence[str], video: str) -> None:
    """Raise `InputError` if masks are given for other frames than their names say, or not alike for all frames."""
    for frame, (first, *others) in sources.items():
        name = _stem(first.path)
        if not others and first.shapes is None and name != video and name in names and (like := names.index(name)) != frame:
            raise InputError(f"--mask: {first.path} is named like frame {like} ({name}), but given for frame {frame}")
    everything = [source for of_frame in sources.values() for source in of_frame]
    with_shapes = [source for source in everything if source.shapes is not None]
    if with_shapes and len(with_shapes) < len(everything):
        raise InputError(f"{with_shapes[0].path}: expected JSON files or pictures, found both; which objects are the same?")
    orders: dict[frozenset[str], tuple[str, ...]] = {}
    for of_frame in sources.values():
        stems, called = zip(*((_stem(source.path), name_pattern(source.path)) for source in of_frame), strict=True)
        called = stems if len({*called}) < len(called) else called  # their numbers may be those of frames
        if (
            of_frame[0].shapes is None
            and len({*called}) == len(called)
            and orders.setdefault(frozenset(called), called) != called
        ):
            raise InputError(
                f"--mask: expected objects in the same order wherever there are several files for a frame, found "
                f"{', '.join(stems)} for frame {of_frame[0].frame}"
            )
    counts = {len(of_frame) for of_frame in sources.values()}
    if len(counts) > 1:
        most, least = (next(s for s in sources.values() if len(s) == count) for count in (max(counts), min(counts)))
        raise InputError(
            f"--mask: expected one mask of each object wherever there are several for a frame, found {len(most)} for frame "
            f"{most[0].frame} and {len(least)} for frame {least[0].frame}; give an empty one for an object that is not there"
        )


def _sources(
    frame: int | None, path: Path, names: Sequence[str], *, video: str = "", frames: Path | None = None
) -> list[MaskSource]:
    """What one `--mask` names."""
    if path.is_dir():
        if frame is not None:
            raise InputError(f"--mask {frame}:{path}: expected a file; masks in a folder go by their names")
        masks = list_masks(path)
        _refuse_left_out(path, masks, names)
        json = [file for file in path.iterdir() if file.suffix.lower() == ".json" and not is_clutter(file.name)]
        among = frames is not None and path.samefile(frames)
        if json and (among or all(file.suffix.lower() in JPEG for file in masks.values())):  # frames, as labelme has them
            masks = {}
        masks |= {file.stem: file for file in in_order(json)}
        if not masks:
            raise InputError(f"{path}: expected masks named like frames, found none")
        result: list[MaskSource] = []
        for name, file in masks.items():
            shapes = file.suffix.lower() == ".json"
            found = _sources(None, file, names) if shapes else [MaskSource(_frame_of(name, path, names), file)]
            if not shapes and (twice := [source.path for source in result if source.frame == found[0].frame]):
                raise InputError(f"{path}: expected one mask of frame {found[0].frame}, found {twice[0].name} and {file.name}")
            result += found
        return result
    if path.suffix.lower() == ".json":
        if not (by_frame := read_shapes(path, video)):
            raise InputError(f"{path}: expected an object, found none")
        if frame is not None and len(by_frame) > 1:
            raise InputError(
                f"--mask {frame}:{path}: expected one frame in it, found {len(by_frame)}; `--mask FILE` takes all"
            )
        if len(by_frame) == 1:
            frame = _frame_told(frame, path, next(iter(by_frame)), names, video)
            frame = _frame_by_name(path, names, video) if frame is None and "" in by_frame else frame
        return [
            MaskSource(_frame_of(name, path, names) if frame is None else frame, path, shapes)
            for name, shapes in by_frame.items()
        ]
    if what := NOT_READ.get(path.suffix.lower()):
        raise InputError(f"{path}: expected a mask as PNG, found {what}: export PNG masks or COCO JSON")
    if frame is None and path.suffix.lower() == ".npy" and len(names) > 1 and (count := layers_in_array(path)) > 1:
        if count == len(names):
            raise InputError(
                f"{path}: expected the mask of a frame, found one for each; save them as PNG named like their frames, or "
                f"write 0:{path} if they are of as many objects"
            )
        print_note(f"{path}: its {count} masks are of {count} objects in one frame")
    return [MaskSource(_frame_by_name(path, names, video) if frame is None else frame, path)]


def _frame_by_name(path: Path, names: Sequence[str], video: str) -> int:
    """The frame that a file is named like, or 0; a note says which, and which other one it might be."""
    name = path.name if CVAT_FRAME.fullmatch(path.name) else _stem(path)
    like = _frame_called(name, names)
    if like and (name in names or not name.isdecimal()):
        frame = 0 if name == video else like
        why = "by its name" if frame else f"since it is called like the video; {like}:{path} says otherwise"
        print_note(f"{path} is for frame {frame}, {why}")
        return frame
    if like := like or _frame_numbered(name, names):  # or the number is an object's, or FFmpeg's, whose first frame is 1
        print_note(f"{path} is for frame 0; if its number is that of a frame, write {like}:{path}")
    return 0


def _frame_numbered(name: str, names: Sequence[str]) -> int | None:
    """The first frame whose name ends in a number that is in this name, too, or that this name has with zeros before it."""
    last = [_numbers(frame)[-1:] for frame in names]
    for number in reversed(_numbers(name)):
        padded = number.startswith("0") and number != "0"
        alike = (i for i, found in enumerate(last) if found == [number] or (padded and found and int(found[0]) == int(number)))
        if (frame := next(alike, None)) is not None:
            return frame
    return None


def _numbers(name: str) -> list[str]:
    return re.findall(r"[0-9]+", name)


def _refuse_left_out(folder: Path, masks: dict[str, Path], names: Sequence[str]) -> None:
    """Raise `InputError` if a folder of masks has one for a frame of a kind that is not read, or folders for frames."""
    unread = [file for file in folder.iterdir() if file.suffix.lower() in (*UNREAD_SUFFIXES - MASK_SUFFIXES, ".npy")]
    if left_out := [file.name for file in unread if file.stem not in masks and _frame_called(_stem(file), names) is not None]:
        raise InputError(f"{folder}: cannot read {names_some(left_out)} there; save all masks as PNG")
    spread = any(file.parent.name == EACH_OBJECT for file in masks.values())
    inside = [] if spread else [p.name for p in subfolders(folder) if masks.keys() & {file.stem for file in list_images(p)}]
    if inside:
        print_note(f"{folder}: reads the masks in it, not those in {names_some(inside)}")
    longest = max(map(len, masks), default=0)
    if spread and not masks.keys() & {*names} and all(p.name in names and len(p.name) > longest for p in subfolders(folder)):
        raise InputError(f"{folder}: expected a folder for each object, with a mask for each frame, found one for each frame")


def _refuse_series(paths: Sequence[Path], names: Sequence[str]) -> None:
    """Raise `InputError` if files without a frame differ in a number: is it that of a frame, or of an object?"""
    alike: dict[str, Path] = {}
    for path in paths:
        if path.suffix.lower() in (*MASK_SUFFIXES, ".npy") and _stem(path) not in names:
            other = alike.setdefault(name_pattern(path), path)
            if other != path and other.stem != path.stem:
                raise InputError(
                    f"--mask: are {other} and {path} of two frames, or of two objects in one? Write the frame before each: "
                    f"0:{other}"
                )


def _stem(path: Path) -> str:
    return normalize("NFC", path.stem)


def _as_frames_are_called(name: str) -> str:
    """A frame's name in JSON as in `names`; CVAT's have kept their suffix, by which they are known."""
    return normalize("NFC", Path(name).stem if CVAT_FRAME.fullmatch(name) else name)


def _frame_told(frame: int | None, path: Path, name: str, names: Sequence[str], video: str) -> int | None:
    """The frame of a file that names one in it: that one, or the one that the file is named like, if `frame` is `None`."""
    called = (_as_frames_are_called(name), _stem(path))
    told = {each: names.index(each) for each in called if each in names and each != video}
    if frame is None and not told and name != video and (like := _frame_called(name, names)) is not None:
        told = {name: like}
    if len(told) > 1 if frame is None else (told and frame not in told.values()):
        given = "" if frame is None else f", but given for frame {frame}"
        raise InputError(f"--mask: {path} is of frame {' or '.join(f'{i} ({each})' for each, i in told.items())}{given}")
    if frame is None and not told and video and video in called and (like := _frame_called(video, names)):
        print_note(f"{path} is for frame 0, since it is called like the video; {like}:{path} says otherwise")
    return next(iter(told.values()), 0 if video and video in called else None) if frame is None else frame


def _frame_called(name: str, names: Sequence[str]) -> int | None:
    """The frame of this name, or of the same number; `None` if there is none."""
    if (called := _as_frames_are_called(name)) in names:
        return names.index(called)
    cvat = CVAT_FRAME.fullmatch(name)
    if cvat and (index := int(cvat[1])) < len(names) and names[index].isdecimal() and int(names[index]) == index:
        return index  # of a film, whose frames it counts from 0
    same = [i for i, other in enumerate(names) if name.isdecimal() and other.isdecimal() and int(name) == int(other)]
    return same[0] if len(same) == 1 else None


def _frame_of(name: str, path: Path, names: Sequence[str]) -> int:
    """`_frame_called`, or 0 without a name; raises `InputError` if there is no such frame."""
    frame = _frame_called(name, names) if name else 0
    if frame is None:
        some = names_some(names[:3]) + (f" to {names[-1]}" if len(names) > 3 else "")
        raise InputError(f"{path}: expected masks named like frames ({some}), found {name}")
    return frame
