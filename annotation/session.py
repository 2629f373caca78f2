"""One annotated video in a folder: masks as files, and `session.json`, which says what they are."""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from annotation.state import MOST_OBJECTS, Given, Object, Result, State
from dataset.frame_folder import FrameFolder
from dataset.video_file import VideoFile
from util.errors import InputError, shorten
from util.files import make_folder, read_json, remove_files, write_atomically
from util.image import size_text
from util.label_map import colour_map, object_ids, read_label_map, write_label_map
from util.lock import LOCK, Lock

RECORD, GIVEN, MASKS, WORKING, EXPORT = "session.json", "given", "masks", "working", "export"
FORMAT, VERSION = "STCN annotation", 1
LONGEST_NAME = 80


class Session(State):
    """The annotation of `video` in the folder `root`.  What a method changes is on the disk when it
    returns, and any thread may call it.

    `given/NNNNN.png` are the masks of people, `masks/NNNNN.png` the results, and `session.json` says what they are.  The
    folder is new or empty, or a session of the same video.  Only one process at a time has it.  Raises `InputError`.

    A change counts from the moment when `session.json` is replaced, so a crash leaves all of it or nothing.  What files lack
    then is done when the folder is opened: a new mask waits in `working/`, and pixels of removed objects are never read.

    `version` grows with each change, `revision` with each change of what results depend on.
    """

    def __init__(
        self,
        root: str | Path,
        video: FrameFolder | VideoFile,
        source: str | Path,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(len(video.names), settings)
        self.root, self.video = Path(root), video
        self.lock = threading.RLock()
        self.version = self.revision = 1
        self.changed_at = np.ones(self.length, np.int64)  # the version at which a frame's mask changed last
        files = video.paths if isinstance(video, FrameFolder) else [video.path]
        self.identity = {
            "path": str(Path(source).resolve()),
            "frames": self.length,
            "size": list(video.size),
            "bytes": sum(path.stat().st_size for path in files),
        }
        self._open()

    # what there is

    def labels(self, frame: int) -> np.ndarray:
        """The current mask of a frame, (H, W) uint8: the given one, else the result, else empty."""
        with self.lock:
            labels = np.zeros(self.video.size, np.uint8)
            if self.results[frame] != Result.MISSING:
                labels = self._without_removed(self._read(MASKS, frame))
            return self._with_given(frame, labels)

    def has_mask(self, frame: int) -> bool:
        """Whether a frame has a given mask or a result."""
        return frame in self.given or self.results[frame] != Result.MISSING

    def given_labels(self, frame: int) -> np.ndarray:
        """A given mask (H, W) uint8, at the size of the video."""
        return self._without_removed(self._read(GIVEN, frame))

    def changes(self, since: int) -> dict[str, Any]:
        """What a page must know that knows version `since`, 0 for nothing: each changed frame as [index, result, sureness,
        version]."""
        with self.lock:
            palette = np.frombuffer(colour_map(), np.uint8).reshape(256, 3)
            return {
                "version": self.version,
                "objects": [{**asdict(each), "colour": palette[each.id].tolist()} for each in self.objects],
                "given": sorted(self.given),
                "frames": [
                    [i, chr(self.results[i]), self.sureness[i], int(self.changed_at[i])]
                    for i in np.flatnonzero(self.changed_at > since).tolist()
                ],
                "behind": bool(self.parts()),
            }

    def parts(self) -> list[range]:
        with self.lock:
            return super().parts()

    # what people do

    def add_object(self, name: str, number: int | None = None) -> Object:
        """A new object, with the next number or a later one."""
        with self.lock:
            number = self.next_object if number is None else number
            if number > MOST_OBJECTS:
                raise InputError(f"expected at most {MOST_OBJECTS} objects")
            if number < self.next_object:
                raise InputError(f"object {number} was removed; new ones are numbered from {self.next_object} on")
            added = Object(number, _name(name) or f"object {number}")
            with self._all_or_nothing():
                self.objects.append(added)
                self.next_object = number + 1
                self._save("add", object=added.id)
            return added

    def change_object(self, number: int, *, name: str | None = None, hidden: bool | None = None) -> None:
        with self.lock:
            changed = self._object(number)
            with self._all_or_nothing():
                changed.name = (name and _name(name)) or changed.name
                changed.hidden = changed.hidden if hidden is None else hidden
                self._save()

    def remove_object(self, number: int) -> None:
        """Remove an object; `clean` then removes it from the files."""
        with self.lock:
            removed = self._object(number)
        with self._all_or_nothing():
            self.objects.remove(removed)
            for frame, mask in list(self.given.items()):
                stated, shown = ([i for i in ids if i != number] for ids in (mask.stated, mask.shown))
                digest = _digest_of(self.given_labels(frame)) if number in mask.shown else mask.digest
                self.given[frame] = Given(stated, shown, digest)
            empty = [frame for frame, mask in self.given.items() if not mask.stated]
            for frame in empty:
                del self.given[frame]
            self.revision += 1
            self.forget_results()
            self.unclean = True
            self._save("remove", range(self.length), object=number)
            remove_files(self._path(GIVEN, frame) for frame in empty)

    def draw(self, frame: int, labels: np.ndarray) -> None:
        """Give (H, W) uint8 as drawn on what the frame showed: it states the objects that were drawn or erased.

        The others stay as they were found.  Where nothing was found yet, or nothing is changed (it is right as it is), the
        mask states all objects.
        """
        with self.lock:
            before = self.labels(frame)
            drawn = (labels != before) & (labels != 0)
            erased = (labels == 0) & (before != 0)
            changed = {*np.unique(labels[drawn]).tolist(), *np.unique(before[erased]).tolist()}
            if not changed or not self.has_mask(frame):
                self.give(frame, labels)
                return
            stated = changed.union(self.given[frame].stated if frame in self.given else ())
            self.give(frame, np.where(np.isin(labels, list(stated)), labels, np.uint8(0)), stated=stated)

    def give(self, frame: int, labels: np.ndarray, *, stated: Collection[int] | None = None) -> None:
        """Set (H, W) uint8 as the mask of a frame, which states all objects, or those in `stated`.

        Results that depend on it become old.
        """
        with self.lock:
            known = [each.id for each in self.objects]
            if unknown := {*np.unique(labels).tolist()} - {0, *known}:
                raise InputError(f"expected labels of objects, found {min(unknown)}")
            told = known if stated is None else sorted(stated)
            reached = {*object_ids(self.labels(frame)), *object_ids(labels)}.intersection(told)
            self.remember_results()
            write_label_map(self._path(WORKING, frame), labels, colour_map())
            with self._all_or_nothing():
                self.given[frame] = Given(told, object_ids(labels), _digest_of(labels))
                self._now_old(frame, reached)
                self._save("draw", [frame], frame=frame)
            os.replace(self._path(WORKING, frame), self._path(GIVEN, frame))

    def forget(self, frame: int) -> None:
        """Remove a given mask."""
        with self.lock:
            if frame in self.given:
                self.remember_results()
                with self._all_or_nothing():
                    shown = self.given.pop(frame).shown
                    self._now_old(frame, {*shown, *object_ids(self.labels(frame))})
                    self._save("forget", [frame], frame=frame)
                remove_files([self._path(GIVEN, frame)])

    # what the worker does

    def put_result(self, frame: int, labels: np.ndarray, sureness: float | None, *, final: bool, revision: int) -> bool:
        """Store the result of a frame; returns false, and stores nothing, if masks have changed since `revision`."""
        with self.lock:
            if revision != self.revision:
                return False
            if self.results[frame] != Result.FINAL:
                write_label_map(self._path(MASKS, frame), self._with_given(frame, labels), colour_map())
                self.results[frame] = Result.FINAL if final else Result.ONE_WAY
                self.forget_results()
                self.sureness[frame] = None if sureness is None else round(sureness, 3)
                self._changed([frame])
            return True

    def save(self) -> None:
        """Write `session.json`, which `put_result` does not do."""
        with self.lock:
            self._save()

    def note(self, action: str, **details: Any) -> None:
        """Record an action in `session.json`."""
        with self.lock:
            self._save(action, **details)

    def touch(self) -> None:
        """Tell pages that something else they show has changed."""
        with self.lock:
            self._changed()

    def clean(self, frame: int) -> None:
        """Remove objects that no longer exist from a frame's files; after the last frame, no file is `unclean`."""
        with self.lock:
            there = {MASKS: self.results[frame] != Result.MISSING, GIVEN: frame in self.given}
            for folder in (folder for folder, is_there in there.items() if is_there):
                found = self._read(folder, frame)
                labels = self._without_removed(found)
                if (labels != found).any():
                    write_label_map(self._path(folder, frame), labels, colour_map())
            if frame == self.length - 1 and self.unclean:
                self.unclean = False
                self._save()

    # inside

    def _object(self, number: int) -> Object:
        for each in self.objects:
            if each.id == number:
                return each
        raise InputError(f"there is no object {number}")

    def _with_given(self, frame: int, labels: np.ndarray) -> np.ndarray:
        """A result with the frame's given mask in it: of objects that the mask does not know, the result tells."""
        if frame not in self.given:
            return labels
        given = self.given_labels(frame)
        return np.where((given == 0) & ~np.isin(labels, self.given[frame].stated), labels, given)

    def _without_removed(self, labels: np.ndarray) -> np.ndarray:
        return np.where(np.isin(labels, [each.id for each in self.objects]), labels, np.uint8(0))

    def _now_old(self, frame: int, ids: set[int]) -> None:
        changed = self.outdate(frame, ids)
        self.changed_at[changed.start : changed.stop] = self.version + 1
        self.revision += 1

    def _changed(self, frames: Iterable[int] = ()) -> None:
        self.version += 1
        self.changed_at[list(frames)] = self.version

    def _save(self, action: str | None = None, frames: Iterable[int] = (), **details: Any) -> None:
        self._changed(frames)
        if action is not None:
            entry = {"action": action, **details}
            if self.done and {**self.done[-1], "time": 0} == {**entry, "time": 0}:
                self.done.pop()  # one line for all strokes on a frame
            self.done.append({**entry, "time": round(time.time())})
        record = {"format": FORMAT, "version": VERSION, "video": self.identity, **self.as_record()}
        write_atomically(self.root / RECORD, lambda file: file.write(json.dumps(record).encode()))

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """A context for a change and its `_save`: after an error, all is again as it was saved last."""
        with self.lock:
            try:
                yield
            except BaseException:
                path = self.root / RECORD
                self._load(path, read_json(path))
                self.revision += 1
                self._changed(range(self.length))
                raise

    def _path(self, folder: str, frame: int) -> Path:
        return self.root / folder / f"{self.video.names[frame]}.png"

    def _read(self, folder: str, frame: int) -> np.ndarray:
        path = self._path(folder, frame)
        labels = read_label_map(path).labels
        if labels.shape != self.video.size:
            raise InputError(f"{path}: mask is {size_text(labels.shape)}, the video is {size_text(self.video.size)}")
        return np.array(labels)

    def _open(self) -> None:
        make_folder(self.root)
        path = self.root / RECORD
        ours = (LOCK, f".{RECORD}.")  # which a crash may leave before there is a record
        strangers = [entry.name for entry in self.root.iterdir() if not entry.name.startswith(ours)]
        if strangers and not path.is_file():
            raise InputError(f"{self.root}: expected a new folder or a session, found {min(strangers)}; give another --output")
        for place, folders, files in os.walk(self.root):
            for link in (Path(place, name) for name in (*folders, *files) if os.path.islink(os.path.join(place, name))):
                # through which something elsewhere would be written or removed
                raise InputError(f"{link}: expected a file or folder of this session, found a link")
        self._only_one = Lock(self.root, "annotate.py")
        try:
            if path.is_file():
                self._load(path, read_json(path))
            self._save()
            for folder in (GIVEN, MASKS, WORKING, EXPORT):
                make_folder(self.root / folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the folder for other processes."""
        self._only_one.release()

    def _load(self, path: Path, record: Any) -> None:
        try:
            if record["format"] != FORMAT or record["version"] != VERSION:
                raise ValueError(f"format {shorten(record['format'])}, version {shorten(record['version'])}")
            video = record["video"]
            self.read_record(record)
            if len(self.results) != video["frames"]:
                raise ValueError("lists that do not fit")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            found = shorten(str(error))
            raise InputError(f"{path}: expected a session of annotate.py, version {VERSION}, found {found}") from error
        for name in ("frames", "size", "bytes"):
            if video.get(name) != self.identity[name]:
                what = f"{name} was {shorten(video.get(name))}, is {self.identity[name]}"
                raise InputError(f"{self.root}: holds the session of another video, {shorten(video.get('path'))} ({what})")
        for frame in self.given:
            self._settle(frame)
        remove_files(self._path(WORKING, frame) for frame in range(self.length))
        for frame in range(self.length):
            if self.results[frame] != Result.MISSING and not self._path(MASKS, frame).is_file():
                self.results[frame] = Result.MISSING  # someone has removed it

    def _settle(self, frame: int) -> None:
        """Bring a mask to its place whose `give` has not come to its end; one that someone else has changed counts as new."""
        waiting, mask = self._path(WORKING, frame), self.given[frame]
        if waiting.is_file() and _digest_of(self._read(WORKING, frame)) == mask.digest:
            os.replace(waiting, self._path(GIVEN, frame))
        labels = self.given_labels(frame)
        if (found := _digest_of(labels)) != mask.digest:
            self.given[frame] = Given(mask.stated, object_ids(labels), found)
            if mask.digest:
                self._now_old(frame, {each.id for each in self.objects})


def _digest_of(labels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()


def _name(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:LONGEST_NAME]
