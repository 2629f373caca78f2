"""One annotated video in a folder: masks as files, and `session.json`, which says what they are."""

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from annotation.history import Change, History, Packed, Step
from annotation.state import COLOUR, MOST_OBJECTS, Given, Object, Result, State
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
AS_IT_IS = 255  # where a page changes nothing


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
        self.history = History()
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
        version, the objects that it shows (`None` if unknown), those that a person has said to be gone]."""
        with self.lock:
            return {
                "version": self.version,
                "objects": [{**asdict(each), "colour": each.rgb} for each in self.objects],
                "given": sorted(self.given),
                "frames": [
                    [i, chr(self.results[i]), self.sureness[i], int(self.changed_at[i]), *self._seen(i)]
                    for i in np.flatnonzero(self.changed_at > since).tolist()
                ],
                "behind": bool(self.parts()),
            }

    def parts(self, window: range | None = None) -> list[range]:
        with self.lock:
            return super().parts(window)

    # what people do

    def add_object(self, name: str) -> Object:
        """A new object, with the next number."""
        with self._all_or_nothing():
            added = self._new(self.next_object, name)
            self._save("add", object=added.id)
            return added

    def bring(self, numbers: Collection[int], masks: Mapping[int, tuple[np.ndarray, Collection[int]]]) -> None:
        """New objects of these numbers, and given masks by frame, (H, W) uint8 with the objects that each states; at once."""
        with self._all_or_nothing():
            for number in sorted(numbers):
                self._new(number, "")
            self._put(masks.items(), "import", objects=sorted(numbers))

    def change_object(
        self,
        number: int,
        *,
        name: str | None = None,
        hidden: bool | None = None,
        locked: bool | None = None,
        colour: str | None = None,
    ) -> None:
        """Change what is not `None`; a colour is `#rrggbb`, and empty for that of the number."""
        with self.lock:
            changed = self._object(number)
            if colour and not re.fullmatch(COLOUR, colour):
                raise InputError(f"colour: expected #rrggbb, found {shorten(colour)}")
            with self._all_or_nothing():
                changed.name = (name and _name(name)) or changed.name
                changed.hidden = changed.hidden if hidden is None else hidden
                changed.locked = changed.locked if locked is None else locked
                changed.colour = changed.colour if colour is None else colour
                self._save()

    def remove_object(self, number: int, *, by: int = 0) -> None:
        """Remove an object; `clean` then removes it from the files."""
        with self.lock:
            self.history.add(self._remove(self._object(number), by))

    def draw(self, frame: int, labels: np.ndarray, *, gone: int = 0, by: int = 0) -> None:
        """Give what the page `by` has drawn, (H, W) uint8, `AS_IT_IS` elsewhere: it states the objects that it changes, and
        `gone`, an object that is not in the frame.

        The others stay as they were found.  Where nothing was found yet, or nothing is drawn (it is right as it is), the mask
        states all objects.
        """
        with self.lock:
            before, drawn = self.labels(frame), labels != AS_IT_IS
            labels = np.where(drawn, labels, before)
            if gone:
                labels = np.where(labels == self._object(gone).id, np.uint8(0), labels)
            self._refuse_unknown(labels)
            touched = labels != before
            changed = {*np.unique(labels[touched]).tolist(), *np.unique(before[touched & (labels == 0)]).tolist(), gone} - {0}
            stated: set[int] | None = None
            if gone or (self.has_mask(frame) and drawn.any()):
                if not changed:
                    return  # it came a second time
                stated = changed.union(self.given[frame].stated if frame in self.given else ())
                labels = np.where(np.isin(labels, list(stated)), labels, np.uint8(0))
            self.history.add(Step(by, self._put([(frame, (labels, stated))], "draw", frame=frame)))

    def give(self, frame: int, labels: np.ndarray, *, stated: Collection[int] | None = None) -> None:
        """Set (H, W) uint8 as the mask of a frame, which states all objects, or those in `stated`.

        Results that depend on it become old.
        """
        with self.lock:
            self._refuse_unknown(labels)
            self._put([(frame, (labels, stated))], "draw", frame=frame)

    def forget(self, frame: int, *, by: int = 0) -> None:
        """Remove a given mask."""
        with self.lock:
            if frame in self.given:
                self.history.add(Step(by, self._put([(frame, None)], "forget", frame=frame)))

    def undo(self, by: int, *, again: bool = False) -> Step:
        """Take back the last step of the page `by`, or do one `again` that was taken back; returns the step.

        What others have changed since stays.  A removed object comes back with its given masks; what follows from them is old.
        """
        with self.lock:
            if (step := self.history.last(by, again=again)) is None:
                raise InputError(f"nothing to {'redo' if again else 'undo'}")
            if step.restored is not None:
                inverse = self._remove(self._object(step.restored.id), by)
            else:
                found = (
                    (frame, change.taken_back(self.given.get(frame), self.labels(frame), self._known()))
                    for frame, change in step.changes.items()
                )
                masks = ((frame, mask) for frame, mask in found if mask is not None or frame in self.given)
                changes = self._put(masks, "redo" if again else "undo", restored=step.removed)
                inverse = Step(by, changes, restored=step.removed[1] if step.removed else None)
            self.history.turn(step, inverse, again=again)
            return step

    # what the worker does

    def put_result(self, frame: int, labels: np.ndarray, sureness: float | None, *, final: bool, revision: int) -> bool:
        """Store the result of a frame; returns false, and stores nothing, if masks have changed since `revision`."""
        with self.lock:
            if revision != self.revision:
                return False
            if self.results[frame] != Result.FINAL:
                labels = self._with_given(frame, labels)
                write_label_map(self._path(MASKS, frame), labels, colour_map())
                self.shows[frame] = object_ids(labels)
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

    def _new(self, number: int, name: str) -> Object:
        if number > MOST_OBJECTS:
            raise InputError(f"expected at most {MOST_OBJECTS} objects")
        if number < self.next_object:
            raise InputError(f"object {number} was removed; new ones are numbered from {self.next_object} on")
        self.objects.append(Object(number, _name(name) or f"object {number}"))
        self.next_object = number + 1
        return self.objects[-1]

    def _object(self, number: int) -> Object:
        for each in self.objects:
            if each.id == number:
                return each
        raise InputError(f"there is no object {number}")

    def _seen(self, frame: int) -> tuple[list[int] | None, list[int]]:
        """The objects in a frame's mask, if that is known, and those that its given mask says to be gone."""
        found = None if self.results[frame] == Result.MISSING else self.shows[frame]
        if frame not in self.given:
            return found and sorted({*found} & self._known()), []
        mask = self.given[frame]
        seen = {*(found or ())} - {*mask.stated} | {*mask.shown}
        return sorted(seen & self._known()), sorted({*mask.stated} - {*mask.shown})

    def _known(self) -> set[int]:
        return {each.id for each in self.objects}

    def _refuse_unknown(self, labels: np.ndarray) -> None:
        if unknown := {*np.unique(labels).tolist()} - {0} - self._known():
            raise InputError(f"expected labels of objects, found {min(unknown)}")

    def _put(
        self,
        masks: Iterable[tuple[int, tuple[np.ndarray, Collection[int] | None] | None]],
        action: str,
        *,
        restored: tuple[int, Object] | None = None,
        **details: Any,
    ) -> dict[int, Change]:
        """Replace or remove the given masks of frames, at once: each (H, W) uint8, with the objects that it states, or all.

        restored: an object that comes back by it, and its place
        """
        self.remember_results()
        before: dict[int, tuple[Given | None, Packed]] = {}
        with self._all_or_nothing():
            if restored is not None:
                self.objects.insert(*restored)
            for frame, mask in masks:
                before[frame] = self.given.get(frame), Packed(showed := self.labels(frame))
                if mask is None:
                    shown = self.given.pop(frame).shown
                    reached = {*shown, *object_ids(self.labels(frame))}
                else:
                    labels, stated = mask
                    told = sorted(self._known() if stated is None else stated)
                    write_label_map(self._path(WORKING, frame), labels, colour_map())
                    self.given[frame] = Given(told, object_ids(labels), _digest_of(labels))
                    reached = {*object_ids(showed), *object_ids(labels)}.intersection(told)
                self._now_old(frame, reached)
            self._save(action, before, **details)
        for frame in before:
            if frame in self.given:
                os.replace(self._path(WORKING, frame), self._path(GIVEN, frame))
        remove_files(self._path(GIVEN, frame) for frame in before if frame not in self.given)
        return {
            frame: Change(given, self.given.get(frame), showed, Packed(self.labels(frame)))
            for frame, (given, showed) in before.items()
        }

    def _remove(self, removed: Object, by: int) -> Step:
        number, place, before = removed.id, self.objects.index(removed), dict(self.given)
        changes: dict[int, Change] = {}
        with self._all_or_nothing():
            del self.objects[place]
            for frame, mask in before.items():
                if number not in (*mask.stated, *mask.shown):
                    continue
                showed = self._read(GIVEN, frame)
                shows = self._without_removed(showed)
                stated, shown = ([i for i in ids if i != number] for ids in (mask.stated, mask.shown))
                if stated:
                    self.given[frame] = Given(stated, shown, _digest_of(shows))
                else:
                    del self.given[frame]
                changes[frame] = Change(mask, self.given.get(frame), Packed(showed), Packed(shows))
            self.revision += 1
            self.forget_results()
            self.unclean = True
            self._save("remove", range(self.length), object=number)
            remove_files(self._path(GIVEN, frame) for frame in before if frame not in self.given)
        return Step(by, changes, removed=(place, removed))

    def _with_given(self, frame: int, labels: np.ndarray) -> np.ndarray:
        """A result with the frame's given mask in it: of objects that the mask does not know, the result tells."""
        if frame not in self.given:
            return labels
        given = self.given_labels(frame)
        return np.where((given == 0) & ~np.isin(labels, self.given[frame].stated), labels, given)

    def _without_removed(self, labels: np.ndarray) -> np.ndarray:
        return np.where(np.isin(labels, list(self._known())), labels, np.uint8(0))

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
