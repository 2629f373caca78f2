"""Masks from files: as the given masks of a new session, or for frames of one that people draw in."""

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from annotation.saved import WORKING
from annotation.session import Session, kept_name, usual_name
from dataset.given_masks import GivenMask, read_given_masks
from dataset.shapes import read_shapes
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


def import_files(session: Session, frame: int, files: Sequence[tuple[str, bytes]], chosen: int, *, by: int = 0) -> list[int]:
    """Give the masks in files, for the frame that is shown or for those that the files name; adds their objects.  Returns the
    frames.

    Numbers are the session's objects, or new ones.  A single object without a number (white, a colour, one shape) is the one
    of its name, if there is one, else the object `chosen`.  Several with names are those of the same names, or new ones.
    Several without either are objects 1, 2, ... where there is one object at most, and no mask yet.  Raises `InputError`
    naming the file if it is not a mask of this video (`read_given_masks`), or it is unknown which objects it shows.
    """
    with _only_one, _on_disk(session.root / WORKING / "import", files) as paths:
        video = Path(session.identity["path"]).stem
        told = [(None if _of_several(paths, session.video.names) else frame, path) for path in paths]
        masks = read_given_masks(told, session.video.names, session.video.size, video=video)
    with session.lock:
        found = sorted({number for mask in masks.values() for number in object_ids(mask.labels)})
        names = {number: kept_name(name) for mask in masks.values() for number, name in mask.names.items() if number in found}
        numbered = all(mask.numbered for mask in masks.values())
        ids = _ids(session, files[0][0], found, names, chosen, numbered=numbered)
        turned = np.array([ids.get(number, 0) for number in range(256)], np.uint8)
        stated = {at: {ids[number] for number in (*object_ids(mask.labels), *mask.gone)} for at, mask in masks.items()}
        new = {ids[number] for number in found} - {each.id for each in session.objects}
        called = {ids[number]: name for number, name in names.items()}
        session.bring(new, {at: (turned[mask.labels], stated[at]) for at, mask in masks.items()}, called, by=by)
    return list(masks)


def _of_several(paths: Sequence[Path], names: Sequence[str]) -> bool:
    """Whether files tell the frames that they are for: several that are named like frames, or JSON of several frames."""
    if len(paths) > 1 and all(path.stem in names for path in paths):
        return True
    return any(path.suffix.lower() == ".json" and len(read_shapes(path)) > 1 for path in paths)


def _ids(
    session: Session, file: str, found: Sequence[int], names: Mapping[int, str], chosen: int, *, numbered: bool
) -> dict[int, int]:
    """The session's objects, some of them new, that the objects `found` in a file are, as `import_files` says."""
    called = [each.name.casefold() for each in session.objects]
    known = dict(zip(called, session.objects, strict=True))
    if twice := [name for name in names.values() if called.count(name.casefold()) > 1]:
        raise InputError(f"{file}: expected objects of different names, found several called {twice[0]}; rename them")
    ids = {number: known[name.casefold()].id for number, name in names.items() if name.casefold() in known}
    begun = bool(session.given) or len(session.objects) > 1
    if not numbered and len(found) == 1 and chosen and not ids:
        ids = {found[0]: chosen}
    elif not numbered and begun and {*found} - names.keys():
        raise InputError(f"{file}: expected numbered objects, or one, found {len(found)}; which of the objects are they?")
    elif names:
        strange = [number for number in found if number not in ids]
        if strange and not begun and session.objects and session.objects[0].name == usual_name(session.objects[0].id):
            ids[strange[0]] = session.objects[0].id  # which the page has added
            session.change_object(session.objects[0].id, name=names.get(strange.pop(0)))
        ids |= dict(zip(strange, itertools.count(session.next_object), strict=False))
    return ids or {number: number for number in found}


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
