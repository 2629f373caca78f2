"""Masks from files: as the given masks of a new session, or for frames of one that people draw in."""

import itertools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unicodedata import normalize

import numpy as np

from annotation.saved import WORKING
from annotation.session import Session, kept_name, usual_name
from dataset.given_masks import GivenMask, read_given_masks
from dataset.shapes import count_shapes
from util.errors import InputError, names_some
from util.files import make_folder, one_line_for, write_atomically
from util.guards import path_in, remove_files
from util.label_map import object_ids

LARGEST = 1 << 31  # bytes of masks in one file, at a byte for each pixel

_only_one = threading.Lock()


def import_masks(session: Session, masks: Mapping[int, GivenMask]) -> bool:
    """Add the objects of the masks, by frame, to a session, and give it the masks; returns whether that was done.

    A session that has objects keeps what it has, since people have drawn in it.  A mask states only the objects that it shows,
    or says to be gone, as in `segment_video.py`.
    """
    if session.objects:
        return False
    stated = {frame: {*object_ids(mask.labels), *mask.gone} for frame, mask in masks.items()}
    shown = {i for mask in masks.values() for i in object_ids(mask.labels)}
    names = {number: name for mask in masks.values() for number, name in mask.names.items() if number in shown}
    session.bring(shown, {frame: (mask.labels, stated[frame]) for frame, mask in masks.items()}, names)
    return True


def import_files(session: Session, frame: int, files: Sequence[tuple[str, bytes]], chosen: int, *, by: int = 0) -> list[int]:
    """Give the masks in files, for the frame that is shown or for those that the files name; adds their objects.  Returns the
    frames.

    Numbers are the session's objects, or new ones.  A single object without a number (white, a colour, one shape) is the one
    of its name, if there is one, else the object `chosen`.  Several with names are those of the same names, or new ones.
    Several without either are objects 1, 2, ... where there is one object at most, and no mask yet.  A mask states what it
    shows; the first one of the frame that is shown states all objects.  Empty masks before the first object are left out.
    Raises `InputError` naming the file if it is not a mask of this video (`read_given_masks`), or it is unknown which objects
    it shows.
    """
    with _only_one, _on_disk(session.root / WORKING / "import", files) as paths:
        placed = _placed(frame, paths, session)
        masks = read_given_masks(placed, session.video.names, session.video.size)
    with session.lock:
        found = sorted({number for mask in masks.values() for number in object_ids(mask.labels)})
        names = {number: kept_name(name) for mask in masks.values() for number, name in mask.names.items() if number in found}
        numbered = all(mask.numbered for mask in masks.values())
        ids, names = _known_as(session, files[0][0], found, names, chosen, numbered=numbered)
        turned = np.array([ids.get(number, 0) for number in range(256)]).astype(np.uint8)  # too large ones are refused below
        stated = {at: {ids[number] for number in (*object_ids(mask.labels), *mask.gone)} for at, mask in masks.items()}
        first = [*masks] == [frame] and not session.has_mask(frame)
        new = {*ids.values()} - {each.id for each in session.objects}
        given = {at: (turned[mask.labels], None if first else stated[at]) for at, mask in masks.items()}
        session.bring(new, given, names, by=by)
    return [*masks]


def _placed(frame: int, paths: Sequence[Path], session: Session) -> list[tuple[int | None, Path]]:
    """The frame of each file: the one that is shown, or, of several files, those that they are named like.  `None` for JSON of
    several frames, which names them itself.
    """
    names = [normalize("NFC", name) for name in session.video.names]
    for path in paths:
        frames, shapes = count_shapes(path) if path.suffix.lower() == ".json" else (1, 1)
        if frames > 1 and len(paths) > 1:
            raise InputError(f"{path}: has masks of {frames} frames; import it alone")
        if (most := LARGEST // math.prod(session.video.size)) < shapes:
            raise InputError(f"{path}: expected at most {most} masks of this size at once, found {shapes}; import it in parts")
        if frames > 1:
            return [(None, path)]
    called = [normalize("NFC", path.stem) for path in paths]
    like = [path for path, name in zip(paths, called, strict=True) if name in names]
    if len(paths) == 1 or not like:
        return [(frame, path) for path in paths]
    if strange := [path for path in paths if path not in like]:
        raise InputError(f"{strange[0]}: expected a file named like a frame, as {like[0].name} is, or none that is")
    return [(names.index(name), path) for name, path in zip(called, paths, strict=True)]


def _known_as(
    session: Session, file: str, found: Sequence[int], names: Mapping[int, str], chosen: int, *, numbered: bool
) -> tuple[dict[int, int], dict[int, str]]:
    """The session's objects, some of them new, that the objects `found` in a file are, as `import_files` says, and the names
    that some of them get.
    """
    called = [each.name.casefold() for each in session.objects]
    by_number = {f"{each.name} {each.id}".casefold(): each.id for each in session.objects}  # as our own COCO says which it is
    by_name = {name: each.id for name, each in zip(called, session.objects, strict=True)}
    if twice := [name for name in names.values() if called.count(name.casefold()) > 1]:
        raise InputError(f"{file}: expected objects of different names, found several called {twice[0]}; rename them")
    titles = {number: name.casefold() for number, name in names.items()}
    ids = {number: (by_number | by_name)[title] for number, title in titles.items() if title in by_number | by_name}
    if len({*ids.values()}) < len(ids) and by_number.keys() >= {*titles.values()}:
        ids = {number: by_number[title] for number, title in titles.items()}
    elif unclear := [names[n] for n, title in titles.items() if len({ids.get(n), by_number.get(title, ids.get(n))}) > 1]:
        raise InputError(f"{file}: {unclear[0]} is one object's name here, and another one's with its number; rename one")
    begun = bool(session.given) or len(session.objects) > 1
    if numbered and begun and [*found] == [1] and chosen > 1:
        there = "; if it is object 1, choose that one" if 1 in {each.id for each in session.objects} else ""
        raise InputError(f"{file}: expected white on black for object {chosen}, found number 1{there}")
    strange: list[int] = []  # objects that get a name
    if not numbered and len(found) == 1 and chosen and not ids:
        ids = {found[0]: chosen}
    elif not numbered and begun and {*found} - names.keys():
        raise InputError(f"{file}: expected numbered objects, or one, found {len(found)}; which of the objects are they?")
    elif names:
        strange = [number for number in found if number not in ids]
        first = session.objects[0] if session.objects and not begun else None
        if strange and first is not None and first.name == usual_name(first.id) and first.id not in ids.values():
            ids[strange[0]] = first.id  # the page has added it
        others = [number for number in strange if number not in ids]
        ids |= dict(zip(others, itertools.count(session.next_object), strict=False))
    ids = ids or {number: number for number in found}
    if twice := [names[number] for number, each in ids.items() if [*ids.values()].count(each) > 1]:
        raise InputError(
            f"{file}: expected objects of different names, found {names_some(twice)} for the same object; rename one"
        )
    return ids, {ids[number]: names[number] for number in strange if number in names}


@contextmanager
def _on_disk(folder: Path, files: Sequence[tuple[str, bytes]]) -> Iterator[list[Path]]:
    """The files in a folder while the context lasts; messages name them without it."""
    make_folder(folder)
    with one_line_for(folder):
        remove_files(folder.iterdir())  # of a run that was killed
        paths = [path_in(folder, name, source="import") for name, _ in files]
        if len({*paths}) < len(paths):
            raise InputError("import: expected files of different names")
        try:
            for path, (_, content) in zip(paths, files, strict=True):
                write_atomically(path, lambda file, content=content: file.write(content))
            yield paths
        except InputError as error:
            raise type(error)(str(error).replace(f"{folder}/", "")) from error
        finally:
            remove_files(paths)
            folder.rmdir()
