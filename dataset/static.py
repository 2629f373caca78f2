"""Stage 0: clips from photographs (section F.3.1)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dataset.clip import FRAMES, Clip, make_clip
from dataset.folders import meant_instead, what_is_in
from dataset.transforms import apply_view, draw_static_views
from util.errors import InputError
from util.guards import subfolders
from util.image import read_grey, read_image, refuse_other_size
from util.image_folder import list_images, refuse_twins


class StaticClips:
    """Photographs with a mask of one object: `name.jpg` and `name.png`.

    folder:  holds the pairs side by side, or subfolders of pairs (FSS-1000's classes); or `images/` and `masks/`
    Raises `InputError` if there is no pair, or if two photographs have the same stem.
    """

    def __init__(self, folder: str | Path, *, crop: int = 384) -> None:
        self.crop = crop
        self.frames = FRAMES
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        places = [(refuse_twins(pictures), masks) for pictures, masks in photographs_in(folder)]
        found = [(path, masks.get(path.stem)) for pictures, masks in places for path in pictures]
        pairs = [(path, mask) for path, mask in found if mask is not None]
        self.without_masks = [path for path, mask in found if mask is None]
        self.without_pictures = [
            masks[stem] for pictures, masks in places for stem in masks.keys() - {path.stem for path in pictures}
        ]
        self.images, self.masks = [image for image, _ in pairs], [mask for _, mask in pairs]
        if not pairs:
            raise InputError(
                f"{folder}: expected photographs name.jpg with masks name.png, or images/ and masks/ with such files, "
                f"found {what_is_in(folder)}{meant_instead(folder, 'images', 'masks')}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return str(self.images[index])

    def draw(self, index: int, rng: np.random.Generator, *, max_skip: int) -> Clip | None:
        """Views of a photograph; `None` if the first shows no object.  `max_skip` is ignored.

        The mask stays grey through the warps, and so does the first frame's, which goes into the memory; what the network
        is to find is cut at half.
        """
        image, mask = read_photograph(self.images[index], self.masks[index])
        views = draw_static_views(rng, mask.shape, crop=self.crop)[: self.frames]
        frames, masks = zip(*(apply_view(view, image, mask, self.crop, soft=True) for view in views), strict=True)
        labels = [(mask > 127).astype(np.uint8) for mask in masks]
        clip = make_clip(frames, labels, rng, name=self.name(index), slots=1)
        return None if clip is None else clip._replace(masks=masks[0][None])


def photographs_in(folder: Path) -> Iterator[tuple[list[Path], dict[str, Path]]]:
    """Pictures and, by stem, the PNG files that are their masks: in `images/` and `masks/`, or side by side in each folder."""
    images, masks = folder / "images", folder / "masks"
    apart = images.is_dir() and masks.is_dir()
    for place in [masks] if apart else [folder, *subfolders(folder)]:
        found = list_images(place)
        pngs = {path.stem: path for path in found if path.suffix.lower() == ".png"}
        yield list_images(images) if apart else [path for path in found if path.suffix.lower() != ".png"], pngs


def read_photograph(picture: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """The picture (H, W, 3) uint8 RGB and its grey mask (H, W) uint8; raises `InputError` if their sizes differ."""
    image, grey = read_image(picture), read_grey(mask)
    refuse_other_size(mask, grey.shape, image.shape, other="its picture")
    return image, grey
