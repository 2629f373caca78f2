"""A folder of pictures as a video."""

from collections import Counter
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.folders import frames_below
from util.errors import InputError, names_some
from util.guards import is_clutter
from util.image import Header, common_levels, read_header, read_image, refuse_other_size, size_text
from util.image_folder import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    begun_anew,
    count_series,
    list_frames,
    masks_among,
    name_pattern,
    refuse_strangers,
)
from util.progress import progress_bar
from util.sixteen_bit import WHOLE_RANGE


class IndexedFrame(NamedTuple):
    """A frame of a video."""

    index: int  # from 0
    image: np.ndarray  # (H, W, 3) uint8 RGB


class FrameFolder:
    """The pictures in a folder, or `paths`, as a video, in natural order (2.jpg before 10.jpg), without those in `leave_out`.

    `times` are seconds from the first frame at `rate` frames per second; `names` are the files' stems.  Raises `InputError`
    if there are no pictures, two have one stem, or one cannot be read, has another size, or is no frame (`refuse_strangers`).
    """

    pixel = Fraction(1)

    def __init__(
        self,
        folder: Path,
        paths: list[Path] | None = None,
        *,
        rate: Fraction = Fraction(24),
        leave_out: Collection[Path] = (),
    ) -> None:
        self.paths = list_frames(folder, leave_out=leave_out) if paths is None else paths
        if not self.paths:
            raise InputError(f"{folder}: expected frames ({', '.join(sorted(IMAGE_SUFFIXES))}), found {_instead_of(folder)}")
        if paths is None:
            _refuse_unread(folder, self.paths)
        self.names = [path.stem for path in self.paths]
        self.times = [Fraction(i) / rate for i in range(len(self.paths))]
        headers = [read_header(path) for path in self.paths]
        self.size = _common_size(self.paths, headers)
        refuse_strangers(self.paths, [header.kind for header in headers])
        notes = []
        kinds = Counter(map(name_pattern, self.paths)).most_common(2)
        if len(kinds) == 2:  # of several videos, perhaps
            notes.append(f"frames called {kinds[0][0]} and {kinds[1][0]} are one video, one after the other")
        if (count := count_series(self.names)) > 1:
            notes.append(
                f"names hold {count} series of frames with the same numbers: are they of {count} videos, or channels?"
            )
        if around := begun_anew(self.names):
            notes.append(f"{around[0]} comes first and {around[1]} last, by their numbers: has the camera counted anew?")
        if masks := masks_among(self.paths):
            notes.append(f"{names_some(path.name for path in masks)} among the frames: is it a mask? Then move it away")
        self.levels = WHOLE_RANGE
        if any(header.is_deep for header in headers) and (levels := common_levels(self._shown())):
            self.levels = levels
            notes.append(f"16-bit frames hold values from {levels.low} to {levels.high}, which become 0 to 255")
        if any(header.is_turned for header in headers):
            notes.append("frames are turned upright, as their EXIF orientation says")
        self.note = f"{folder}: {'; '.join(notes)}" if notes else ""

    def _shown(self) -> Iterator[Path]:
        with progress_bar(len(self.paths), "frames looked at") as bar:
            for path in self.paths:
                yield path
                bar.increment()

    def forwards(self, start: int = 0) -> Iterator[IndexedFrame]:
        """The frames from `start` on, in order; raises `InputError` naming the file if one cannot be read."""
        for index in range(start, len(self.paths)):
            yield self._read(index)

    def backwards(self, start: int, folder: Path | None = None) -> Iterator[IndexedFrame]:
        """The frames from `start` down to the first.  `folder` is not used; see `VideoFile.backwards`."""
        for index in range(start, -1, -1):
            yield self._read(index)

    def frame(self, index: int) -> np.ndarray:
        """One frame (H, W, 3) uint8 RGB."""
        return self._read(index).image

    def _read(self, index: int) -> IndexedFrame:
        image = read_image(self.paths[index], self.levels)
        if image.shape[:2] != self.size:
            raise InputError(f"{self.paths[index]}: frame is {size_text(image.shape)}, was {size_text(self.size)} before")
        return IndexedFrame(index, image)


def _instead_of(folder: Path) -> str:
    """What a folder without frames holds."""
    files = [path.name for path in folder.iterdir() if path.is_file() and not is_clutter(path.name)] if folder.is_dir() else []
    return f"none but {names_some(files)}" if files else f"none{frames_below(folder)}"


def _refuse_unread(folder: Path, frames: list[Path]) -> None:
    """Raise `InputError` if some frames are pictures of a kind that is not read, which would be left out."""
    patterns = {name_pattern(path) for path in frames}
    unread = [path for path in folder.iterdir() if path.suffix.lower() in UNREAD_SUFFIXES and name_pattern(path) in patterns]
    if unread:
        raise InputError(f"{folder}: cannot read {names_some(path.name for path in unread)}; save all frames as PNG or JPEG")


def _common_size(paths: list[Path], headers: list[Header]) -> tuple[int, int]:
    """The frames' size; raises `InputError` naming the first that differs, or the first of all if it is the only one."""
    sizes = [header.size for header in headers]
    if len(sizes) > 2 and sizes[0] not in sizes[1:] and len({*sizes}) == 2:
        raise InputError(f"{paths[0]}: frame is {size_text(sizes[0])}, all others are {size_text(sizes[1])}")
    for path, size in zip(paths, sizes, strict=True):
        refuse_other_size(path, size, sizes[0], what="frame", other="the first one")
    return sizes[0]
