"""The result folder of one video: the output of a finished run, and what an unfinished one needs to continue."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.propagate import Estimate, Propagation
from evaluation.results import differences, refuse_damaged
from model.checkpoint import read
from util.errors import InputError
from util.files import has_content, make_folder, read_json, write_atomically, write_json
from util.guards import path_in, refuse_foreign, remove_files, remove_folder
from util.image import size_text
from util.label_map import colour_map, read_label_map, write_label_map

MASKS, FILM, SHEET, RECORD, SNAPSHOT = "masks", "overlay.mp4", "sheet.png", "segment_video.json", "snapshot.pth"
UNFINISHED, COMPLETE = "unfinished", "complete"
CUTOUTS = ("cutout.mov", "cutout.webm")


class VideoResults:
    """`masks/<frame>.png`, `overlay.mp4`, `sheet.png` and perhaps a film of cut-outs in the folder `root`.

    frames:   the frames' names, in order
    settings: what the results depend on, as JSON values: flags, and what tells whether inputs have changed; `cutout`, if
              there, is the name of the film of cut-outs, one of `CUTOUTS`

    Until a run is finished, all that it makes, with its record, is in `unfinished/`.  A finished run renames that to
    `complete/`, and moves what is in it to its place, the record last; after a crash, `claim` goes on with that.  Only files
    with known names are ever removed, and links are not followed.  Of a finished run without a film of cut-outs, only this
    film is made (`only_cutout`).  All methods raise `InputError` if the disk is full or something cannot be read or written.
    """

    def __init__(self, root: str | Path, frames: list[str], settings: dict[str, Any]) -> None:
        self.root = Path(root)
        self.masks, self.unfinished, self.complete = (self.root / name for name in (MASKS, UNFINISHED, COMPLETE))
        self.film, self.sheet, self._snapshot = (self.unfinished / name for name in (FILM, SHEET, SNAPSHOT))
        self.cutout = self.unfinished / settings["cutout"] if "cutout" in settings else None
        self.files = [FILM, SHEET, *([self.cutout.name] if self.cutout else [])]
        self.record = {"frames": frames, "settings": settings}
        self.only_cutout = False  # the masks in their place are those of this run
        self._removable: dict[Path, set[str]] = {}  # names of files, by folder

    def claim(self, inputs: Iterable[Path], *, overwrite: bool) -> bool:
        """Prepare the folder for this run; returns whether the same run was already finished there.

        A finished run that was stopped while it moved its results is completed, whatever run that was; a stopped run with the
        same record is continued.  Raises `InputError`, and changes nothing else, if one of `inputs` lies where results go, if
        a result folder holds foreign files, or, without `overwrite`, if there are other results or an unfinished run with
        another record.
        """
        self._refuse_to_replace(inputs)
        paths = [place / RECORD for place in (self.root, self.unfinished, self.complete)]
        old, begun, complete = records = [self._read_record(path) for path in paths]
        sources = zip((self.record, *records), ("the frames", *paths), strict=True)
        masks = {f"{name}.png": source for record, source in sources if record for name in record["frames"]}
        estimates = (f"{index}.npz" for index in range(len(masks)))
        working = {RECORD, SNAPSHOT, FILM, SHEET, *CUTOUTS, *estimates, *(f"{MASKS}/{name}" for name in masks)}
        self._removable = {self.masks: set(masks), self.unfinished: working, self.complete: working}
        for folder, names in self._removable.items():
            refuse_foreign(folder, names)
        for name, source in masks.items():
            path_in(self.masks, name, source=source)

        if self.complete.exists():
            self._publish()
            if complete == self.record:
                return True
            old = complete or old
        there = [os.path.lexists(self.root / name) for name in (MASKS, *self.files)]
        absent = [
            name
            for name in (*self.files, *(f"{MASKS}/{name}.png" for name in self.record["frames"]))
            if not has_content(self.root / name)
        ]
        if not absent and old == self.record and not overwrite:
            return True
        without = {name: value for name, value in self.record["settings"].items() if name != "cutout"}
        lacking = self.cutout is not None and absent == [self.cutout.name] and old == self.record | {"settings": without}
        self.only_cutout = lacking and not overwrite and begun in (None, self.record)
        if begun == self.record and (overwrite or not there[0]):
            make_folder(self.unfinished / MASKS)
            remove_files(path for path in (self.unfinished / MASKS).iterdir() if path.name not in masks)  # half-written ones
            return False
        if not overwrite and begun is not None and begun != self.record:
            raise InputError(f"{self.root}: holds an unfinished run ({self._differences(begun)}); --overwrite replaces it")
        if not overwrite and any(there) and not self.only_cutout:
            what = f"holds results of another run ({self._differences(old)})" if old else "already holds results"
            if old == self.record:
                what = f"holds results without {absent[0]}"
            raise InputError(f"{self.root}: {what}; --overwrite replaces them")
        remove_folder(self.unfinished, working)
        make_folder(self.unfinished)
        write_json(self.unfinished / RECORD, self.record)
        if not self.only_cutout:
            make_folder(self.unfinished / MASKS)
        return False

    def save(self, propagation: Propagation) -> None:
        """Replace the snapshot; call it after all masks and estimates so far have been written."""
        write_atomically(self._snapshot, lambda file: torch.save(propagation.state_dict(), file))

    def resume(self, propagation: Propagation) -> bool:
        """Load the last snapshot into `propagation`; returns whether there was one."""
        if not self._snapshot.exists():
            return False
        with self._damage_in(self._snapshot):
            propagation.load_state_dict(read(self._snapshot))
        return True

    def write_mask(self, index: int, labels: np.ndarray) -> None:
        write_label_map(self._mask(index), labels, colour_map())

    def read_mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """A mask (H, W) uint8 that `write_mask` wrote, or with `only_cutout` an earlier run."""
        with self._damage_in(self._mask(index)):
            labels = read_label_map(self._mask(index)).labels
            if labels.shape != size:
                raise ValueError(f"expected {size_text(size)}, found {size_text(labels.shape)}")
        return labels

    def write_estimate(self, index: int, estimate: Estimate) -> None:
        estimate.write(self._estimate(index))

    def read_estimate(self, index: int) -> Estimate:
        with self._damage_in(self._estimate(index)):
            return Estimate.read(self._estimate(index))

    def finish(self) -> None:
        """Move everything to its final place; call it when the film and the sheet are complete.

        Also raises `InputError` if a mask is missing or damaged, as when someone has removed it.
        """
        for index in range(len(self.record["frames"])):
            refuse_damaged(self._mask(index))
        refuse_foreign(self.masks, self._removable[self.masks])  # it may have changed since `claim`
        os.replace(self.unfinished, self.complete)
        self._publish()

    def _publish(self) -> None:
        """Move what is in `complete/` to its place, from wherever the last attempt ended."""
        record = self._read_record(self.complete / RECORD)
        if record is not None:
            if (self.complete / MASKS).exists():
                remove_folder(self.masks, self._removable[self.masks])
                os.replace(self.complete / MASKS, self.masks)
            for name in (FILM, SHEET, *CUTOUTS):
                if (self.complete / name).exists():
                    os.replace(self.complete / name, self.root / name)
            old = self._read_record(self.root / RECORD)
            outdated = old["settings"].get("cutout") if old else None
            remove_files(self.root / name for name in CUTOUTS if name == outdated != record["settings"].get("cutout"))
            os.replace(self.complete / RECORD, self.root / RECORD)
        remove_folder(self.complete, self._removable[self.complete])

    def _mask(self, index: int) -> Path:
        folder = self.masks if self.only_cutout else self.unfinished / MASKS
        return folder / f"{self.record['frames'][index]}.png"

    def _estimate(self, index: int) -> Path:
        return self.unfinished / f"{index}.npz"

    @contextlib.contextmanager
    def _damage_in(self, path: Path) -> Iterator[None]:
        """A context that turns any error in reading an unfinished run's files into a one-line `InputError`."""
        try:
            yield
        except Exception as error:
            what = str(error).removeprefix(f"{path}: ")
            raise InputError(f"{path}: cannot continue from this ({what}); remove {self.unfinished} to start anew") from error

    def _refuse_to_replace(self, inputs: Iterable[Path]) -> None:
        """Raise `InputError` if an input lies where results go, also through links."""
        inputs = list(inputs)
        folders = [path for path in (self.masks, self.unfinished, self.complete) if path.exists()]
        files = [self.root / name for name in (FILM, SHEET, RECORD, *CUTOUTS)]
        looked_at: set[Path] = set()
        for path in inputs:
            around = {path.resolve(), path.resolve().parent, path.parent.resolve()} - looked_at
            looked_at |= around
            inside = any(_same(parent, folder) for place in around for parent in (place, *place.parents) for folder in folders)
            if inside or any(_same(path, file) for file in files) or (path.is_dir() and _same(path, self.root)):
                raise InputError(f"{path}: lies where the results go; give another --output")

    def _read_record(self, path: Path) -> dict[str, Any] | None:
        """A record, or `None` if there is no file; raises `InputError` if it is not ours."""
        if not os.path.lexists(path):
            return None
        record = read_json(path)
        is_ours = isinstance(record, dict) and [type(record.get(key)) for key in ("frames", "settings")] == [list, dict]
        if not is_ours or not all(isinstance(name, str) for name in record["frames"]):
            raise InputError(f"{path}: expected a record of segment_video.py, found something else; move it away")
        return record

    def _differences(self, other: dict[str, Any]) -> str:
        old, new = ({"frames": len(record["frames"]), **record["settings"]} for record in (other, self.record))
        return differences(old, new) or "other names of frames"


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are the same file or folder."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
