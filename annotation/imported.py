"""Masks from files: as the given masks of a new session, or for the frame that the page shows."""

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from annotation.saved import WORKING
from annotation.session import Session, kept_name, usual_name
from dataset.given_masks import GivenMask, read_given_masks
from util.errors import InputError
from util.files import make_folder, one_line_for, write_atomically
from util.guards import path_in, remove_files
from util.label_map import object_ids

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
    names = {number: name for mask in masks.values() for number, name in mask.names.items()}
    session.bring(shown, {frame: (mask.labels, stated[frame]) for frame, mask in masks.items()}, names)
    return True


def read_import(session: Session, frame: int, files: Sequence[tuple[str, bytes]], chosen: int) -> np.ndarray:
    """A frame's current mask with the objects in files, (H, W) uint8, which the page then gives; adds the objects.

    Numbers are the session's objects, or new ones.  A single object without a number (white, a colour, one shape) is the one
    of its name, if there is one, else the object `chosen`.  Several with names are those of the same names, or new ones.
    Several without either are objects 1, 2, ... where there is one object at most, and no mask yet.  Raises `InputError`
    naming the file if it is not a mask of this video (`read_given_masks`), or it is unknown which objects it shows.
    """
    with _only_one, _on_disk(session.root / WORKING / "import", files) as paths:
        mask = read_given_masks([(frame, path) for path in paths], session.video.names, session.video.size)[frame]
    with session.lock:
        found, labels = object_ids(mask.labels), mask.labels
        names = {number: kept_name(name) for number, name in mask.names.items() if number in found}
        called = [each.name.casefold() for each in session.objects]
        known = dict(zip(called, session.objects, strict=True))
        if twice := [name for name in names.values() if called.count(name.casefold()) > 1]:
            raise InputError(
                f"{files[0][0]}: expected objects of different names, found several called {twice[0]}; rename them"
            )
        ids = {number: known[name.casefold()].id for number, name in names.items() if name.casefold() in known}
        begun = bool(session.given) or len(session.objects) > 1
        if not mask.numbered and len(found) == 1 and chosen and not ids:
            ids = {found[0]: chosen}
        elif not mask.numbered and begun and {*found} - names.keys():
            raise InputError(
                f"{files[0][0]}: expected numbered objects, or one, found {len(found)}; which of the objects are they?"
            )
        elif names:
            strange = [number for number in found if number not in ids]
            if strange and not begun and session.objects and session.objects[0].name == usual_name(session.objects[0].id):
                ids[strange[0]] = session.objects[0].id  # which the page has added
                session.change_object(session.objects[0].id, name=names.get(strange.pop(0)))
            ids |= dict(zip(strange, itertools.count(session.next_object), strict=False))
        ids = ids or {number: number for number in found}
        if new := {ids[number] for number in found} - {each.id for each in session.objects}:
            session.bring(new, {}, {ids[number]: name for number, name in names.items() if number in ids})
        labels = np.array([ids.get(number, 0) for number in range(256)], np.uint8)[labels]
        found = object_ids(labels)
        before = session.labels(frame)
    return np.where((labels == 0) & ~np.isin(before, found), before, labels)


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
