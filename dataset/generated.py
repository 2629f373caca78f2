"""Folders of generated data: written whole or not at all, with a record, and replaced only if that record is found."""

import argparse
import json
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import InputError
from util.files import make_folder, one_line_for, read_json, read_text, within_temporary
from util.flags import non_negative_int
from util.guards import refuse_file_above, refuse_foreign, remove_folder
from util.label_map import colour_map, write_label_map
from util.picture import as_jpeg

RECORD, LISTING = "demo.json", "files.txt"


class Writer:
    """Writes files below a folder, each of which `files.txt` lists before, so that the remains of a stopped run are known."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.seed = seed
        make_folder(root)

    def rng(self, name: str) -> np.random.Generator:
        """The random generator of a name."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])

    def frames(
        self,
        render: Callable[[int], tuple[np.ndarray, np.ndarray]],
        images: str,
        masks: str | None,
        frames: range,
        *,
        ids: Sequence[int] = range(256),
        grey: bool = False,
        first_only: bool = False,
    ) -> None:
        """Write a video as `<images>/NNNNN.jpg` and `<masks>/NNNNN.png`; object i gets the id `ids[i]`.

        `render` makes frame t: picture (H, W, 3) uint8 RGB and label map (H, W) uint8.
        """
        lookup = np.array(ids, dtype=np.uint8)
        for t in frames:
            image, labels = render(t)
            self.picture(f"{images}/{t:05d}.jpg", image)
            if masks is not None and not (first_only and t != frames[0]):
                labels = (labels != 0) * np.uint8(255) if grey else lookup[labels]
                self.mask(f"{masks}/{t:05d}.png", labels, grey=grey)

    def text(self, path: str, text: str) -> None:
        self._place(path).write_text(text)

    def picture(self, path: str, image: np.ndarray) -> None:
        """Write (H, W, 3) uint8 RGB as JPEG."""
        self._place(path).write_bytes(as_jpeg(image))

    def mask(self, path: str, labels: np.ndarray, *, grey: bool) -> None:
        """Write (H, W) uint8 as PNG, paletted unless `grey`."""
        write_label_map(self._place(path), labels, None if grey else colour_map())

    def _place(self, path: str) -> Path:
        with open(self.root / LISTING, "a", encoding="utf-8") as listing:
            listing.write(f"{path}\n")
        place = self.root / path
        make_folder(place.parent)
        return place


def add_generation_flags(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the flags of all scripts that generate data; `what` names the data."""
    parser.add_argument("folder", help="folder to write; left unchanged if it already holds this data")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="random seed")
    parser.add_argument("--overwrite", action="store_true", help=f"replace {what} from another seed or version")


def generate(folder: Path, record: dict[str, Any], write: Callable[[Path], Writer], *, overwrite: bool) -> None:
    """Fill `folder` through `write`, which writes into the folder that it is given; `record` describes the data.

    A folder with the same record is left unchanged; one with another record is replaced if `overwrite` is true.  Raises
    `InputError`, and changes nothing, if the folder holds anything that was not generated.
    """
    folder = Path(os.path.realpath(folder))  # `resolve` would fail on a circle of links
    refuse_file_above(folder)
    if folder.is_mount():
        raise InputError(f"{folder}: expected a folder that can be replaced as a whole, found a disk; name a folder on it")
    if folder.exists() and any(folder.iterdir()):
        found = _read_record(folder / RECORD)
        if found == record:
            print(f"{folder}: already holds this data")
            return
        if found is None or not overwrite:
            what = "something else" if found is None else "what another seed or version generated; --overwrite replaces it"
            raise InputError(f"{folder}: expected an empty or new folder, found {what}")
    partial = folder.with_name(f".{within_temporary(folder.name)}.partial")
    refuse_foreign(folder, _listed(folder))
    remove_folder(partial, _listed(partial))
    with one_line_for(folder):
        try:
            write(partial).text(RECORD, json.dumps(record))
        except (InputError, OSError):  # a full disk, for example
            remove_folder(partial, _listed(partial))
            raise
        remove_folder(folder, _listed(folder))
        os.replace(partial, folder)
    print(f"{folder}: written")


def _listed(folder: Path) -> set[str]:
    """The files that a `Writer` put there, including the list itself."""
    listing = folder / LISTING
    return {LISTING, *read_text(listing).splitlines()} if listing.is_file() and not folder.is_symlink() else set()


def _read_record(path: Path) -> dict[str, Any] | None:
    """The record that `generate` wrote, or `None` if there is none."""
    try:
        found = read_json(path)
    except InputError:
        return None
    return found if isinstance(found, dict) and "demo data" in found else None
