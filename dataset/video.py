"""A video to segment: its frames, its input masks, and the frames that need a result."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.mask_reader import MaskReader
from util.ahead import map_ahead
from util.image import read_image, refuse_other_size
from util.label_map import object_ids, resize_labels, write_label_map

LOOKED_AT = 20  # number of masks


class Frame(NamedTuple):
    """One frame as stored on disk."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    mask: np.ndarray | None  # (H, W) uint8, the objects that enter at this frame
    wanted: bool  # whether it needs a result


@dataclass(frozen=True)
class Video:
    """The frames and input masks of one video.

    A frame's name is its file's stem.  `masks` maps frames to input masks.  Of each mask, only objects that no earlier mask
    has are used, so ground truth that follows an object's first mask is never input (unless `all_masks` is set).  `truth`
    maps frames to ground truth for scoring; it may cover only some frames.
    """

    name: str
    images: tuple[Path, ...]
    masks: Mapping[str, Path]
    wanted: frozenset[str]
    truth: Mapping[str, Path] = field(default_factory=dict)
    union: bool = False  # all non-zero pixels are one object, stored as 0/255 greyscale (DAVIS 2016)
    reader: MaskReader = field(default_factory=MaskReader, compare=False)  # what the masks and the truth mean
    palette: bytes | None = None  # the data set's own
    all_masks: bool = False  # use every mask in full; it replaces the prediction
    result_size: tuple[int, int] | None = None  # size of masks and results, if not the frames' size

    def __len__(self) -> int:
        return len(self.images)

    @property
    def without_truth(self) -> list[str]:
        """The frames without ground truth, as `<video>/<frame>`."""
        return [f"{self.name}/{path.stem}" for path in self.images if path.stem not in self.truth]

    def count_objects(self) -> tuple[int, int]:
        """The number of objects, and of frames that state any, in the first `LOOKED_AT` masks; `InputError` for a bad one."""
        known: set[int] = set()
        given = 0
        for frame in itertools.islice(self.masks, LOOKED_AT):
            ids = set(object_ids(self.read_mask(self.masks[frame])))
            given += bool(ids if self.all_masks else ids - known)
            known |= ids
        return len(known), given

    def frames(self, *, workers: int = 2) -> Iterator[Frame]:
        """The frames in order, up to the last wanted one, decoded ahead by `workers` threads (0: on demand).  Raises
        `InputError` naming the file if a frame cannot be read or its size differs from the first.
        """
        end = 1 + max(i for i, path in enumerate(self.images) if path.stem in self.wanted)
        known: set[int] = set()
        shape = None
        for path, image, mask in self._read_all(self.images[:end], workers):
            shape = shape or image.shape
            refuse_other_size(path, image.shape, shape, what="frame", other="the first one")
            if mask is not None:
                if self.result_size is not None and mask.shape == self.result_size:
                    mask = resize_labels(mask, image.shape[:2])
                refuse_other_size(self.masks[path.stem], mask.shape, image.shape)
                if not self.all_masks:
                    entering = set(object_ids(mask)) - known
                    known |= entering
                    mask = np.where(np.isin(mask, list(entering)), mask, 0) if entering else None
            yield Frame(path.stem, image, mask, path.stem in self.wanted)

    def read_mask(self, path: Path, reader: MaskReader | None = None) -> np.ndarray:
        """A mask as a label map of ids, (H, W) uint8; a union or white-on-black mask holds object 1.  `reader` is for masks
        that may be numbered otherwise, such as results.  Raises `InputError` naming the file if it cannot be read so.
        """
        return (MaskReader(union=True) if self.union else reader or self.reader).read(path)

    def write_mask(self, path: Path, labels: np.ndarray) -> None:
        """Write a result, a label map (H, W) uint8 of the frame's size, in the data set's mask format."""
        if self.result_size is not None:
            labels = resize_labels(labels, self.result_size)
        write_label_map(path, labels * np.uint8(255) if self.union else labels, self.palette)

    def _read_all(self, paths: Iterable[Path], workers: int) -> Iterator[tuple[Path, np.ndarray, np.ndarray | None]]:
        if workers == 0:
            yield from map(self._read, paths)
            return
        with ThreadPoolExecutor(workers) as pool:
            yield from map_ahead(pool, self._read, paths, limit=2 * workers)

    def _read(self, path: Path) -> tuple[Path, np.ndarray, np.ndarray | None]:
        mask = self.masks.get(path.stem)
        return path, read_image(path), None if mask is None else self.read_mask(mask)
