"""Stages 1 to 3: clips from annotated videos (sections F.3.2 and F.3.3)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dataset.clip import FRAMES, Clip, appears_first, make_clip
from dataset.folders import meant_instead, refuse_flat
from dataset.mask_files import list_masks
from dataset.mask_reader import MaskReader
from dataset.transforms import apply_view, draw_video_views
from util.errors import InputError
from util.guards import subfolders
from util.image import read_image, refuse_other_size
from util.image_folder import list_frames

SLOTS = 2  # objects per clip at most
MIN_AREA = 0.36  # of a video frame, the least that a crop shows (the released code's)


class VideoClips:
    """Videos as folders of frames and label maps with the same names; frames without a label map are left out.

    images, masks: folders with one subfolder per video
    names:         the videos to use; by default all in `masks`
    stride:        frames between annotated frames; converts a skip in frames to annotated frames
    spacing:       how a clip's frames are drawn, a key of `SPACINGS`
    scale:         range of the crop, as a fraction of the frame's area
    followed:      whether to follow an object, given its pixel count in each augmented frame (T,)
    Raises `InputError` if a folder is missing or there is no video.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        names: Sequence[str] | None = None,
        *,
        stride: int = 1,
        spacing: str = "released",
        scale: tuple[float, float] = (MIN_AREA, 1.0),
        followed: Callable[[np.ndarray], bool] = appears_first,
        crop: int = 384,
    ) -> None:
        self.images, self.masks = Path(images), Path(masks)
        for folder in (self.images, self.masks):
            if not folder.is_dir():
                raise InputError(f"{folder}: no such folder{meant_instead(folder.parent, self.images.name, self.masks.name)}")
        refuse_flat(self.images, self.masks)
        if names is None:
            names = [path.name for path in subfolders(self.masks)]
        if not names:
            raise InputError(f"{self.masks}: expected a folder for each video, found none")
        for name in names:
            if not (self.masks / name).is_dir() or not (self.images / name).is_dir():
                raise InputError(f"{self.masks / name}: no such video, or no frames at {self.images / name}")
        self.names = list(names)
        self.stride = stride
        self.draw_frames = SPACINGS[spacing]
        self.scale = scale
        self.followed = followed
        self.crop = crop
        self.frames = FRAMES
        self._readers: dict[int, MaskReader] = {}
        self.strict = False  # whether white in masks of numbers is refused rather than ignored
        self.strides: dict[int, int] = {}  # of videos that have their own

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return str(self.masks / self.names[index])

    def annotated(self, index: int) -> list[tuple[Path, Path]]:
        """A video's annotated frames, (frame, mask), in order; raises `InputError` for none, or two files of one stem."""
        video = self.names[index]
        masks = list_masks(self.masks / video)
        frames = [(path, masks[path.stem]) for path in list_frames(self.images / video) if path.stem in masks]
        if not frames:
            raise InputError(f"{self.masks / video}: expected masks of the frames in {self.images / video}, found none")
        return frames

    def draw(self, index: int, rng: np.random.Generator, *, max_skip: int) -> Clip | None:
        """Frames drawn with the curriculum's `max_skip`; `None` if there is no object to follow in the first.  Raises
        `InputError` naming the file if a frame or mask cannot be read or their sizes differ.
        """
        frames = self.annotated(index)
        indices = self.draw_frames(rng, len(frames), max_skip // self.strides.get(index, self.stride))
        chosen = [frames[i] for i in indices[: self.frames]]
        pictures = [read_image(path) for path, _ in chosen]
        if index not in self._readers:
            self._readers[index] = MaskReader.of((mask for _, mask in frames), strict=self.strict, note=None)
        label_maps = [self._readers[index].read(path) for _, path in chosen]
        size = pictures[0].shape[:2]
        for (path, mask), picture, labels in zip(chosen, pictures, label_maps, strict=True):
            refuse_other_size(path, picture.shape, size, what="frame", other="the clip's first one")
            refuse_other_size(mask, labels.shape, size)
        views = draw_video_views(rng, size, crop=self.crop, scale=self.scale)[: self.frames]
        augmented = [apply_view(*parts, self.crop) for parts in zip(views, pictures, label_maps, strict=True)]
        name = f"{self.name(index)} {','.join(path.stem for path, _ in chosen)}"
        pictures, label_maps = zip(*augmented, strict=True)
        return make_clip(pictures, label_maps, rng, name=name, slots=SLOTS, followed=self.followed)


def released_frames(rng: np.random.Generator, length: int, max_skip: int) -> list[int]:
    """Indices of three frames, drawn as in the released training code (to which section F.3 refers); reversed half the time.

    With J the largest skip, steps are 1 to J + 1.  A frame too near the end for its successors is moved towards the start,
    so some clips repeat a frame.
    """
    longest = max(1, min(length, max_skip))
    first = rng.integers(length - longest + 1)
    second = min(first + 1 + rng.integers(longest + 1), length - longest, length - 1)
    third = min(second + 1 + rng.integers(longest + 1), length - longest // 2, length - 1)
    return _either_way(rng, [int(first), int(second), int(third)])


def paper_frames(rng: np.random.Generator, length: int, max_skip: int) -> list[int]:
    """Indices of three frames, each 1 to `max_skip` after the one before; reversed half the time.

    They are distinct if the video has at least three frames; a shorter video repeats frames.
    """
    if length < FRAMES:
        return _either_way(rng, [min(i, length - 1) for i in range(FRAMES)])
    longest = max(1, min(max_skip, (length - 1) // (FRAMES - 1)))
    skips = rng.integers(1, longest + 1, size=FRAMES - 1)
    start = rng.integers(length - skips.sum())
    return _either_way(rng, (start + np.concatenate([[0], skips.cumsum()])).tolist())


def _either_way(rng: np.random.Generator, indices: list[int]) -> list[int]:
    return indices[::-1] if rng.random() < 0.5 else indices


SPACINGS = {"released": released_frames, "paper": paper_frames}
