"""Stages 1 to 3: clips from annotated videos (sections F.3.2 and F.3.3)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dataset.clip import FRAMES, Clip, appears_first, make_clip
from dataset.transforms import apply_view, draw_video_views
from util.errors import InputError
from util.image import WHITE, Numbering, list_frames, read_image, read_label_map

SLOTS = 2  # at most so many objects of a video are followed


class VideoClips:
    """Videos as folders of frames and label maps of the same names; frames without a label map are left out.

    images, masks: hold a folder for each video
    names:         of the videos; by default all in `masks`
    stride:        frames from one annotated frame to the next, so that a skip in frames can be counted in annotated frames
    spacing:       how a clip's frames are drawn, a key of `SPACINGS`
    scale:         of the crop, as a share of the frame's area
    followed:      whether an object is, from its pixels in each augmented frame (T,)
    Raises `InputError` when a folder is absent or there is no video.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        names: Sequence[str] | None = None,
        *,
        stride: int = 1,
        spacing: str = "released",
        scale: tuple[float, float] = (0.36, 1.0),
        followed: Callable[[np.ndarray], bool] = appears_first,
        crop: int = 384,
    ) -> None:
        self.images, self.masks = Path(images), Path(masks)
        for folder in (self.images, self.masks):
            if not folder.is_dir():
                raise InputError(f"{folder}: no such folder")
        if names is None:
            names = sorted(path.name for path in self.masks.iterdir() if path.is_dir() and not path.name.startswith("."))
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
        self._numberings: dict[int, Numbering] = {}

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return str(self.masks / self.names[index])

    def annotated(self, index: int) -> list[tuple[Path, Path]]:
        """The frames of a video that have a mask, in order, each with its mask.

        Raises `InputError` when there are none, or two files of one name.
        """
        video = self.names[index]
        masks = {path.stem: path for path in list_frames(self.masks / video)}
        frames = [(path, masks[path.stem]) for path in list_frames(self.images / video) if path.stem in masks]
        if not frames:
            raise InputError(f"{self.masks / video}: expected masks of the frames in {self.images / video}, found none")
        return frames

    def draw(self, index: int, rng: np.random.Generator, *, max_skip: int) -> Clip | None:
        """Three frames, drawn with the curriculum's `max_skip`; `None` when no object in the first is to be followed.

        Raises `InputError` naming the file when a frame or mask cannot be read or they do not fit.
        """
        frames = self.annotated(index)
        chosen = [frames[i] for i in self.draw_frames(rng, len(frames), max_skip // self.stride)]
        pictures = [read_image(path) for path, _ in chosen]
        label_maps = [read_label_map(path).labels for _, path in chosen]
        if any((labels == WHITE).any() for labels in label_maps):  # else there is nothing to find out
            if index not in self._numberings:
                self._numberings[index] = Numbering.of(mask for _, mask in frames)
            numbering = self._numberings[index]
            label_maps = [numbering.read(*pair) for pair in zip(label_maps, (mask for _, mask in chosen), strict=True)]
        size = pictures[0].shape[:2]
        for (path, _), picture, labels in zip(chosen, pictures, label_maps, strict=True):
            if picture.shape[:2] != size or labels.shape != size:
                raise InputError(f"{path}: frame is {picture.shape[:2]}, mask {labels.shape}, the clip's first frame {size}")
        views = draw_video_views(rng, size, crop=self.crop, scale=self.scale, frames=FRAMES)
        augmented = [apply_view(*parts, self.crop) for parts in zip(views, pictures, label_maps, strict=True)]
        name = f"{self.name(index)} {','.join(path.stem for path, _ in chosen)}"
        return make_clip(augmented, rng, name=name, slots=SLOTS, followed=self.followed)


def released_frames(rng: np.random.Generator, length: int, max_skip: int) -> list[int]:
    """Indices of three frames of a video as the released training code draws them, half of the time in reverse.

    With J the largest skip, steps are 1 to J + 1, but a frame that would lie too near the end for those after it is
    moved forwards: some clips repeat a frame.  Section F.3 refers to that code.
    """
    longest = max(1, min(length, max_skip))
    first = rng.integers(length - longest + 1)
    second = min(first + 1 + rng.integers(longest + 1), length - longest, length - 1)
    third = min(second + 1 + rng.integers(longest + 1), length - longest // 2, length - 1)
    return _either_way(rng, [int(first), int(second), int(third)])


def paper_frames(rng: np.random.Generator, length: int, max_skip: int) -> list[int]:
    """Indices of three frames of a video, each 1 to `max_skip` behind the one before, half of the time in reverse.

    They are distinct whenever the video has three frames; a shorter video gives its frames more than once.
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
