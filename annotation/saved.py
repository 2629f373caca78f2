"""The folder of one annotated video: masks as files, and `session.json`, which says what they are."""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from annotation.history import packed, unpacked
from annotation.state import Given, Result, State
from dataset.frame_folder import FrameFolder
from dataset.video_file import VideoFile
from util.errors import InputError, shorten
from util.files import make_folder, read_json, write_atomically
from util.guards import remove_files
from util.image import size_text
from util.label_map import colour_map, object_ids, only, read_label_map, write_label_map
from util.lock import LOCK, Lock

RECORD, GIVEN, MASKS, WORKING, EXPORT = "session.json", "given", "masks", "working", "export"
EXPORTED: tuple[str, ...] = ("masks", "cutout", "dataset", "yolo")  # the folders in `EXPORT`
REPLACED = "_replaced"  # follows the name of one while a new one takes its place
FORMAT, VERSION = "STCN annotation", 1
LESS_SURE = 0.1  # by which a result is worse than the one before
THINNER = 0.75  # as a part of how thick a change of given masks is, what is thinner does not come of it


class Replaced(NamedTuple):
    """An old result in whose place a new one has come."""

    sureness: float
    labels: bytes  # packed
    knew: set[int]  # the objects of the given masks from which it was found


class SavedState(State):
    """The annotation of `video` in the folder `root`.  What a method changes is on the disk when it returns, and any thread
    may call it.

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
        self._replaced: dict[int, Replaced] = {}
        self._halfway: set[int] = set()  # frames with the result of one direction, in whose place an old one counts
        self._knew: dict[int, set[int]] = {}  # the objects of the given masks from which a frame's result was found
        self._corrected: dict[int, float] = {}  # by frame with an old result: how thick a change of given masks was at most
        files = video.paths if isinstance(video, FrameFolder) else [video.path]
        self.identity = {
            "path": str(Path(source).resolve()),
            "frames": self.length,
            "size": list(video.size),
            "bytes": sum(path.stat().st_size for path in files),
        }
        self._open()
        self._knew_first = self._stated()

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

    def was_sure(self, frame: int) -> float | None:
        """How sure the result was that the present one has replaced, if it was much surer; else `None`."""
        is_worse = self.results[frame] == Result.FINAL and frame not in self.given and frame in self._replaced
        return self._replaced[frame].sureness if is_worse else None

    def replaced(self, frame: int) -> np.ndarray:
        """That result, (H, W) uint8."""
        with self.lock:
            if self.was_sure(frame) is None:
                raise InputError(f"frame {frame} is no worse than before")
            return self._without_removed(unpacked(self._replaced[frame].labels, self.video.size))

    def changes(self, since: int) -> dict[str, Any]:
        """What a page must know that knows version `since`, 0 for nothing: each changed frame as [index, result, sureness,
        version, the objects that it shows (`None` if unknown), those that a person has said to be gone, `was_sure`]."""
        with self.lock:
            return {
                "version": self.version,
                "objects": [{**asdict(each), "colour": each.rgb} for each in self.objects],
                "given": sorted(self.given),
                "frames": [
                    [i, chr(self.results[i]), self.sureness[i], int(self.changed_at[i]), *self._seen(i), self.was_sure(i)]
                    for i in np.flatnonzero(self.changed_at > since).tolist()
                ],
                "behind": bool(self.parts()),
            }

    # what the worker does

    def put_result(self, frame: int, labels: np.ndarray, sureness: float | None, *, final: bool, revision: int) -> bool:
        """Store the result of a frame; returns false, and stores nothing, if masks have changed since `revision`.

        In what replaces an old result, locked objects stay as they were found.  The old one stays if it was surer and the new
        one differs only by what is much thinner than the changes of given masks, so that it does not come of them.
        """
        with self.lock:
            if revision != self.revision:
                return False
            if self.results[frame] == Result.OLD and frame not in self._halfway:
                found = packed(self.labels(frame))
                knew = self._knew.get(frame, self._knew_first)
                self._replaced[frame] = Replaced(self.sureness[frame] or 0, found, knew)
            old = self._replaced.get(frame) if self.results[frame] in (Result.OLD, Result.ONE_WAY) else None
            locked = [each.id for each in self.objects if each.locked] if old else []
            if locked and not final:
                return True  # the pass that comes last must still find them
            if self.results[frame] != Result.FINAL:
                if final:
                    if old and sureness is not None and self._keeps(frame, old, labels, sureness):
                        labels, sureness = self._without_removed(unpacked(old.labels, self.video.size)), old.sureness
                    if old is None or sureness is None or sureness > old.sureness - LESS_SURE:
                        self._replaced.pop(frame, None)
                    self._corrected.pop(frame, None)
                    self._halfway.discard(frame)
                elif old:
                    self._halfway.add(frame)
                if old and locked:
                    before = unpacked(old.labels, self.video.size)
                    labels = np.where(np.isin(labels, locked), np.uint8(0), labels)
                    labels = np.where(np.isin(before, locked), before, labels)
                labels = self._with_given(frame, labels)
                write_label_map(self._path(MASKS, frame), labels, colour_map())
                self.shows[frame] = object_ids(labels)
                self.results[frame] = Result.FINAL if final else Result.ONE_WAY
                self._knew[frame] = self._stated()
                self.forget_results()
                self.sureness[frame] = None if sureness is None else round(sureness, 3)
                self._changed([frame])
            return True

    def save(self, action: str | None = None, frames: Iterable[int] = (), **details: Any) -> None:
        """Write `session.json`, which `put_result` does not do, perhaps with an action that has been done; pages hear that
        `frames` have changed.
        """
        with self.lock:
            self._changed(frames)
            if action is not None:
                entry = {"action": action, **details}
                if self.done and {**self.done[-1], "time": 0} == {**entry, "time": 0}:
                    self.done.pop()  # one line for all strokes on a frame
                self.done.append({**entry, "time": round(time.time())})
            record = {"format": FORMAT, "version": VERSION, "video": self.identity, **self.as_record()}
            write_atomically(self.root / RECORD, lambda file: file.write(json.dumps(record).encode()))

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
                self.save()

    # inside

    def _keeps(self, frame: int, old: Replaced, labels: np.ndarray, sureness: float) -> bool:
        """Whether an old result stays in spite of new labels (H, W) uint8."""
        if sureness >= old.sureness or not self._stated() <= old.knew:
            return False
        differs = unpacked(old.labels, self.video.size) != labels
        return thickness(differs) < THINNER * self._corrected.get(frame, 0)

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

    def _stated(self) -> set[int]:
        return {number for mask in self.given.values() for number in mask.stated}

    def _with_given(self, frame: int, labels: np.ndarray) -> np.ndarray:
        """A result with the frame's given mask in it: of objects that the mask does not know, the result tells."""
        if frame not in self.given:
            return labels
        given = self.given_labels(frame)
        return np.where((given == 0) & ~np.isin(labels, self.given[frame].stated), labels, given)

    def _without_removed(self, labels: np.ndarray) -> np.ndarray:
        return only(labels, self._known())

    def _now_old(self, frame: int, ids: set[int], thick: float = 0) -> None:
        """As `outdate`; `thick` is the `thickness` of what has changed in the mask of this frame."""
        changed = self.outdate(frame, ids)
        for i in changed:
            self._corrected[i] = max(thick, self._corrected.get(i, 0)) if self.results[i] == Result.OLD else 0
        self.changed_at[changed.start : changed.stop] = self.version + 1
        self.revision += 1

    def _recall_results(self) -> None:
        if self.recall_results():
            self._corrected = {i: thick for i, thick in self._corrected.items() if self.results[i] == Result.OLD}
            self.changed_at[:] = self.version + 1

    def _changed(self, frames: Iterable[int] = ()) -> None:
        self.version += 1
        self.changed_at[list(frames)] = self.version

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """A context for a change and its `save`: after an error, all is again as it was saved last."""
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
            self.save()
            for folder in (GIVEN, MASKS, WORKING, EXPORT):
                make_folder(self.root / folder)
            for place in (self.root / EXPORT / name for name in EXPORTED):
                old = place.with_name(place.name + REPLACED)
                if old.is_dir() and not place.exists():  # a crash has stopped an export at the last moment
                    os.replace(old, place)
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
        if waiting.is_file() and digest_of(self._read(WORKING, frame)) == mask.digest:
            os.replace(waiting, self._path(GIVEN, frame))
        labels = self.given_labels(frame)
        if (found := digest_of(labels)) != mask.digest:
            self.given[frame] = Given(mask.stated, object_ids(labels), found)
            if mask.digest:
                self._now_old(frame, {each.id for each in self.objects})


def thickness(region: np.ndarray) -> float:
    """The radius of the largest disc in a region (H, W) bool, in pixels."""
    return float(cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 5).max())


def digest_of(labels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()
