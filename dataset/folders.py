"""Folders that are not laid out as expected: what is there instead, and where their content may be, for messages."""

from collections.abc import Iterator
from pathlib import Path

from util.errors import InputError, names_some
from util.guards import subfolders
from util.image_folder import list_images

LOOKED_AT = 50  # folders inside a folder
MASKS = {"Annotations", "masks"}


def refuse_flat(images: Path, masks: Path) -> None:
    """Raise `InputError` if pictures lie where a folder for each video is expected."""
    for folder in (images, masks):
        if folder.is_dir() and (loose := list_images(folder)):
            raise InputError(
                f"{folder}: expected a folder for each video, found {loose[0].name}; move a video's frames to "
                f"{images}/NAME and its masks to {masks}/NAME, or give one video to segment_video.py"
            )


def existing_folder(path: Path) -> Path:
    """The same path; raises `InputError` if it is no folder."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    return path


def what_is_in(folder: Path) -> str:
    """The first names in a folder."""
    if not folder.is_dir():
        return "no such folder"
    return names_some({path.name for path in folder.iterdir()}) or "an empty folder"


def meant_instead(folder: Path, *wanted: str) -> str:
    """`; did you mean FOLDER?` for the nearest folder, below or above, that has all the wanted ones in it; else empty."""
    for place in _around(folder):
        if all((place / name).is_dir() for name in wanted):
            return f"; did you mean {place}?"
    return ""


def frames_below(folder: Path) -> str:
    """`; did you mean FOLDER?` for the first folder below that holds pictures, but not masks; else empty."""
    places = (place for place in folders_below(folder, depth=3) if list_images(place) and not MASKS & {*place.parts})
    return next((f"; did you mean {place}?" for place in places), "")


def _around(folder: Path) -> Iterator[Path]:
    yield from folders_below(folder, depth=2)
    yield from list(folder.parents)[:3]


def folders_below(folder: Path, *, depth: int) -> Iterator[Path]:
    """Folders inside a folder, the nearest first."""
    inside = subfolders(folder)[:LOOKED_AT] if depth and folder.is_dir() else []
    yield from inside
    for each in inside:
        yield from folders_below(each, depth=depth - 1)
