"""A video to segment: its frames, the masks that it starts from, and the frames that want a result."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from util.ahead import map_ahead
from util.errors import InputError
from util.image import (
    Numbering,
    object_ids,
    read_image,
    read_label_map,
    resize_labels,
    size_text,
    write_label_map,
)


class Frame(NamedTuple):
    """One frame as it lies on disk."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    mask: np.ndarray | None  # (H, W) uint8, the objects that enter here
    wanted: bool  # whether a result is asked for


@dataclass(frozen=True)
class Video:
    """The frames of one video and the masks that it starts from.

    A frame's name is its file's name without the suffix.  `masks` are read as input, and of each only the objects that no
    earlier one has: ground truth that lies in the folder beyond an object's first mask is not input.  `truth` is for
    scores, of as many frames as have some.
    """

    name: str
    images: tuple[Path, ...]
    masks: Mapping[str, Path]
    wanted: frozenset[str]
    truth: Mapping[str, Path] = field(default_factory=dict)
    union: bool = False  # all that is not 0 is one object, stored as 0/255 greyscale (DAVIS 2016)
    white: bool = False  # its masks are white on black: 255 is object 1 (`util.image.Numbering`)
    palette: bytes | None = None  # the data set's own
    all_masks: bool = False  # every mask is input, and replaces what was predicted
    result_size: tuple[int, int] | None = None  # of masks and results, where it is not that of the frames

    def __len__(self) -> int:
        return len(self.images)

    @property
    def without_truth(self) -> list[str]:
        """The frames that have no ground truth, as `<video>/<frame>`."""
        return [f"{self.name}/{path.stem}" for path in self.images if path.stem not in self.truth]

    def frames(self, *, workers: int = 2) -> Iterator[Frame]:
        """The frames in order, up to the last wanted one, decoded ahead by `workers` threads (0: when asked for).

        Raises `InputError` naming the file when one cannot be read or has another size than the first.
        """
        end = 1 + max(i for i, path in enumerate(self.images) if path.stem in self.wanted)
        known: set[int] = set()
        shape = None
        for path, image, mask in self._read_all(self.images[:end], workers):
            shape = shape or image.shape
            if image.shape != shape:
                raise InputError(f"{path}: frame is {size_text(image.shape)}, the first one is {size_text(shape)}")
            if mask is not None:
                if self.result_size is not None and mask.shape == self.result_size:
                    mask = resize_labels(torch.from_numpy(mask), image.shape[:2]).numpy()
                if mask.shape != image.shape[:2]:
                    raise InputError(
                        f"{self.masks[path.stem]}: mask is {size_text(mask.shape)}, its frame is {size_text(image.shape)}"
                    )
                if not self.all_masks:
                    entering = set(object_ids(mask)) - known
                    known |= entering
                    mask = np.where(np.isin(mask, list(entering)), mask, 0) if entering else None
            yield Frame(path.stem, image, mask, path.stem in self.wanted)

    def read_mask(self, path: Path, numbering: Numbering | None = None) -> np.ndarray:
        """A mask as a label map of ids, (H, W) uint8: the union or what is white on black is object 1.

        Results may be numbered in another way than this video's masks: `numbering` is theirs.  Raises `InputError` naming
        the file when it cannot be read, or is not numbered like the others.
        """
        labels = read_label_map(path).labels
        if self.union:
            return (labels != 0).astype(np.uint8)
        return (numbering or Numbering(self.white, strict=self.all_masks)).read(labels, path)

    def write_mask(self, path: Path, labels: np.ndarray) -> None:
        """Write a result, a label map of a frame's size (H, W) uint8, as this video's data set stores masks."""
        if self.result_size is not None:
            labels = resize_labels(torch.from_numpy(labels), self.result_size).numpy()
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
