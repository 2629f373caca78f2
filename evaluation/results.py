"""Result folders: how their results were made, which are finished, and safe removal of old ones."""

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dataset.mask_files import mask_files
from dataset.video import Video
from evaluation.score_tables import SCORE_FILES
from util.errors import InputError, names_some, shorten, warn
from util.files import (
    has_content,
    make_folder,
    read_json,
    stamp,
    within_temporary,
    write_atomically,
    write_json,
)
from util.guards import path_in, refuse_foreign, remove_files, remove_folder
from util.image import is_whole

RECORD_FORMAT, RECORD_VERSION = "STCN results", 1
RUN_RECORD, ARCHIVE = "run.json", "results.zip"
SUBFOLDERS = ("", "Annotations")  # where masks are in a folder of results


class Recorded(NamedTuple):
    """A video's entry in `run.json`."""

    inputs: str | None  # stamp of the input files; `None` if one was missing
    frames: tuple[str, ...]  # stems of the masks

    @property
    def files(self) -> set[str]:
        return {f"{frame}.png" for frame in self.frames}


class Record(NamedTuple):
    """The content of `run.json`: the settings of the run, and its results."""

    settings: dict[str, Any]
    videos: dict[str, Recorded]


class ResultFolder:
    """`<root>/<subfolder>/<video>/<frame>.png`, and `<root>/run.json`, which records how they were made.

    Only what the record names is ever removed: folders of videos that hold the recorded masks and nothing else.
    """

    def __init__(self, root: str | Path, *, subfolder: str = "") -> None:
        self.root = Path(root)
        self.subfolder = subfolder
        self.masks = self.root / subfolder
        self.record = self.root / RUN_RECORD

    def claim(self, videos: Sequence[Video], settings: dict[str, Any], *, overwrite: bool) -> list[str]:
        """Prepare the folder for this run, and remove outdated results.

        Returns the videos whose results were removed because their inputs or wanted frames have changed.  Raises
        `InputError`, and changes nothing, if the folder holds results made with other settings (the message names the
        differences), if something that is not in the record is in the way, or if an input file lies where results go.
        With `overwrite`, all recorded results are removed; the other checks still apply.
        """
        self._refuse_inputs(videos)
        old = read_record(self.record) if os.path.lexists(self.record) else Record(settings, {})
        new = {}
        for video in videos:
            for frame in video.wanted:  # `read_record` checks the same
                path_in(self.root, f"{frame}.png", source=video.images[0].parent)
            new[video.name] = Recorded(stamp_of(video), tuple(sorted(video.wanted)))
        for other in {*SUBFOLDERS} - {self.subfolder}:  # which would be scored instead, or beside them
            for path in (self.root / other / name for name in sorted({*old.videos, *new})):
                if path != self.masks and os.path.lexists(path):
                    raise InputError(f"{path}: holds other masks than those of this run; give another --output")
        present = {name for name in {*new, *old.videos} if os.path.lexists(self._path(name))}
        if foreign := present - old.videos.keys():
            raise InputError(f"{self._path(min(foreign))}: is in the way, and {self.record} does not list it; move it first")
        what = differences(old.settings, settings)
        if what and present and not overwrite:
            raise InputError(f"{self.root}: holds results of another run ({what}); --overwrite replaces them")
        changed = {name for name in present & new.keys() if new[name].inputs is None or new[name] != old.videos[name]}
        stale = present if overwrite else changed
        unfinished = {video.name for video in videos if video.name in stale or not self.is_finished(video)}
        for name in stale | (unfinished & present):  # check all of them before removing any
            refuse_foreign(self._path(name), old.videos[name].files)
        scores = [self.root / name for name in (*SCORE_FILES, ARCHIVE)]
        for path in scores:
            if path.is_dir() and not path.is_symlink():
                raise InputError(f"{path}: expected a file, found a folder; nothing was removed, move it first")
        for name in stale:
            remove_folder(self._path(name), old.videos[name].files)
            if "/" in name:  # in a folder of its own, of which this may have been the last
                with suppress(OSError):  # it still holds something, or is a link
                    self._path(name).parent.rmdir()
        if unfinished and old.videos:
            remove_files(scores)  # they belong to the old masks
        kept = {name: entry for name, entry in old.videos.items() if name in present - stale}
        self._write_record(Record(settings, {**kept, **new}))
        return [] if overwrite else sorted(changed)

    def folder(self, video: Video) -> Path:
        return self._path(video.name)

    def is_finished(self, video: Video) -> bool:
        folder = self.folder(video)
        return folder.is_dir() and all(has_content(folder / f"{name}.png") for name in video.wanted)

    def start(self, video: Video) -> Path:
        """An empty temporary folder to write into; it never counts as finished."""
        folder = self.folder(video)
        partial = folder.with_name(f".{within_temporary(folder.name)}.partial")
        self.discard(video, partial)
        make_folder(partial)
        return partial

    def discard(self, video: Video, partial: Path) -> None:
        """Remove the folder that `start` made."""
        remove_folder(partial, {f"{name}.png" for name in video.wanted})

    def finish(self, video: Video, partial: Path) -> None:
        """Move the completed folder of `start` to its final place; raises `InputError` if something is in the way."""
        remove_folder(self.folder(video), {f"{name}.png" for name in video.wanted})
        os.replace(partial, self.folder(video))

    def refuse_to_zip(self, videos: Sequence[Video]) -> None:
        """Raise `InputError` if a name of these or of earlier results cannot be in `results.zip`."""
        old = read_record(self.record).videos if os.path.lexists(self.record) else {}
        frames = {name: entry.frames for name, entry in old.items() if self._path(name).is_dir()} | {
            video.name: tuple(video.wanted) for video in videos
        }
        if own := [video.name for video in videos if not video.union and video.reader.known.own]:
            what = "have colours of their own, numbered as they come; a server may number them otherwise"
            warn(f"--zip: masks of {names_some(own)} {what}")
        for video, wanted in frames.items():
            for name in (video, *wanted):
                try:
                    name.encode()
                except UnicodeEncodeError as error:
                    raise InputError(f"--zip: expected names in UTF-8, found {name!r} in {video!r}") from error

    def zip(self) -> tuple[Path, int]:
        """Write `<root>/results.zip` for a benchmark server, with paths relative to `root`: of all videos in the folder, those
        of earlier runs too.  Returns its path, and how many videos are in it.

        Raises `InputError` if a mask is no longer whole, as it was when it was written.
        """
        path = self.root / ARCHIVE
        recorded = read_record(self.record).videos
        present = {name: entry for name, entry in recorded.items() if self._path(name).is_dir()}
        for name, entry in present.items():
            if lost := [file for file in entry.files if not (self._path(name) / file).is_file()]:
                raise InputError(f"{self._path(name)}: lacks {names_some(lost)}; make it again with --videos {name}")

        def write(file) -> None:
            # PNGs are already compressed; zips know no dates before 1980 and after 2107
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
                for video, entry in present.items():
                    for name in entry.frames:
                        mask = self._path(video) / f"{name}.png"
                        refuse_damaged(mask)
                        archive.write(mask, mask.relative_to(self.root))

        write_atomically(path, write)
        return path, len(present)

    def _path(self, name: str) -> Path:
        """The folder of a video's masks; of `<video>/<object>`, a folder in that of the video."""
        parts = name.split("/")
        if any(part.startswith(".") for part in parts):
            raise InputError(
                f"{name}: expected a video name that does not begin with a dot, since its results would be hidden"
            )
        if not self.subfolder and name in (self.record.name, ARCHIVE, *SCORE_FILES):
            raise InputError(f"{self.root / name}: expected another name for a video; this one is reserved for a file")
        return path_in(self.root, *filter(None, [self.subfolder]), *parts, source=self.root)

    def _refuse_inputs(self, videos: Iterable[Video]) -> None:
        """Raise `InputError` if an input file lies where results go."""
        results = {self._path(video.name).resolve() for video in videos}
        for video in videos:
            for folder in {path.parent for path in (*video.masks.values(), *video.images)}:
                if folder.resolve() in results:
                    raise InputError(f"{folder}: holds input, and results would go there; give another --output")

    def _write_record(self, record: Record) -> None:
        videos = {name: entry._asdict() for name, entry in sorted(record.videos.items())}
        content = {"format": RECORD_FORMAT, "version": RECORD_VERSION, "settings": record.settings, "videos": videos}
        write_json(self.record, content)


def refuse_damaged(mask: Path) -> None:
    """Raise `InputError` if a PNG that this project wrote is missing, emptied or cut."""
    if not is_whole(mask):
        size = mask.stat().st_size
        raise InputError(f"{mask}: expected a whole PNG, found {size} bytes that are none; remove it to make it again")


def read_record(path: Path) -> Record:
    """Read `run.json`; raises `InputError` if anything in it is not as `ResultFolder` writes it."""
    content = read_json(path)
    record = content if isinstance(content, dict) else {}
    settings, videos = record.get("settings"), record.get("videos")
    is_ours = (record.get("format"), record.get("version")) == (RECORD_FORMAT, RECORD_VERSION)
    if not is_ours or not isinstance(settings, dict) or not isinstance(videos, dict):
        what = f"a record with format {RECORD_FORMAT!r}, version {RECORD_VERSION}, settings and videos"
        raise InputError(f"{path}: expected {what}, found {shorten(content)}; move the folder or give another --output")
    recorded = {}
    for name, entry in videos.items():
        path_in(path.parent, *name.split("/"), source=path)
        kinds = {key: type(value) for key, value in entry.items()} if isinstance(entry, dict) else {}
        if kinds not in ({"inputs": str, "frames": list}, {"inputs": type(None), "frames": list}):
            what = f"a stamp of the inputs and a list of frames of {shorten(name)}"
            raise InputError(f"{path}: expected {what}, found {shorten(entry)}; move the folder or give another --output")
        for frame in entry["frames"]:
            path_in(path.parent, frame, source=path)
        recorded[name] = Recorded(entry["inputs"], tuple(entry["frames"]))
    return Record(settings, recorded)


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """`size was 480, is 64; ...`: the first four settings that differ, or an empty text."""
    keys = [key for key in [*new, *(old.keys() - new.keys())] if old.get(key) != new.get(key)]
    told = [f"{shorten(key, 40)} was {_told(old.get(key))}, is {_told(new.get(key))}" for key in keys]
    return "; ".join(told[:4]) + ("; ..." if told[4:] else "")


def _told(value: object) -> str:
    return "none" if value is None else shorten(value, 40)


def stamp_of(video: Video, *, with_truth: bool = False, more: Sequence[Path] = ()) -> str | None:
    """A stamp of a video's frames and masks, and of `more` files, their names and roles; `None` if one is missing."""
    used = [video.masks[frame] for frame in sorted(video.masks)]
    used += [video.truth[frame] for frame in sorted(video.truth)] if with_truth else []
    masks = [file for mask in used for file in mask_files(mask)]
    salt = json.dumps([[path.name for path in video.images], sorted(video.masks), video.union, video.all_masks])
    salt += json.dumps(sorted(video.truth)) if with_truth else ""
    salt += json.dumps([path.name for path in more]) if more else ""
    try:
        return stamp([*masks, *video.images, *more], salt=salt)
    except InputError:
        return None  # the error is reported when the video is segmented
