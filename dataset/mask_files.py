"""The files of masks: where those of a video are, and what each holds, before anything is said about its meaning.

A mask may be spread over one file for each object, as `<video>/<object>/00000.png` (SA-V).  Its path is then
`<video>/*/00000.png`.
"""

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from dataset.colours import BLACK, CLEAR, border_of, codes_in, codes_of
from dataset.soft_edges import BOX
from util.errors import InputError, names_some
from util.files import open_file
from util.guards import subfolders
from util.image import open_image, refuse_lossy
from util.image_folder import IMAGE_SUFFIXES, in_order, list_frames, natural_order
from util.label_map import MOST_OBJECTS, WHITE
from util.orientation import upright_size
from util.sixteen_bit import bits_of

MASK_SUFFIXES = IMAGE_SUFFIXES | {".gif"}
EACH_OBJECT = "*"  # the name of the folder in the path of a mask that is spread over files
MODES = frozenset({"P", "PA", "1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"})  # Pillow's


def list_masks(folder: Path) -> dict[str, Path]:
    """The masks of a video by frame: pictures in the folder, or else in one folder for each object.

    Raises `InputError` if two files have the same stem, or objects' files of a frame have several suffixes.
    """
    if masks := list_frames(folder, suffixes=MASK_SUFFIXES):
        return {path.stem: path for path in masks}
    spread = [path for place in subfolders(folder) for path in list_frames(place, suffixes=MASK_SUFFIXES)]
    result: dict[str, Path] = {}
    for path in in_order(spread):
        if (other := result.setdefault(path.stem, folder / EACH_OBJECT / path.name).name) != path.name:
            raise InputError(f"{path}: expected files of one name for a frame, one for each object, found {other} too")
    return result


def refuse_without_frames(folder: Path, masks: Mapping[str, Path], stems: Set[str], images: Path) -> None:
    """Raise `InputError` if masks in a folder, by stem, have no frame among `stems`, those in the folder `images`."""
    if strange := masks.keys() - stems:
        found = names_some(masks[stem].name for stem in strange)
        raise InputError(f"{folder}: found {found}, but no such frames in {images}")


def refuse_gaps(masks: Iterable[Path]) -> None:
    """Raise `InputError` if a video's masks, in order, are files for each object, of which one lacks between others."""
    spread = [path for path in masks if path.parent.name == EACH_OBJECT]
    present = [{file.parent for file in mask_files(path)} for path in spread]
    for folder in sorted(set().union(*present)):
        there = [i for i, folders in enumerate(present) if folder in folders]
        if gap := sorted({*range(there[0], there[-1])} - {*there}):
            found = "no such mask, but there are others before and after it; where the object is not there, give an empty one"
            raise InputError(f"{folder / spread[gap[0]].name}: {found}")


def mask_files(path: Path) -> list[Path]:
    """The files of a mask, of which there may be none: itself, or one for each object."""
    if path.parent.name != EACH_OBJECT:
        return [path] if path.is_file() else []
    files = (place / path.name for place in subfolders(path.parent.parent))
    return [file for file in files if file.is_file()]


def object_files(path: Path) -> dict[Path, int]:
    """The files of a mask that is spread over one for each object, with their ids: the folders' numbers, or their order."""
    names = [folder.name for folder in subfolders(path.parent.parent)]
    numbered = all(name.isdecimal() and 0 < int(name) <= MOST_OBJECTS for name in names)
    ids = {name: int(name) if numbered else i for i, name in enumerate(natural_order(names), start=1)}
    return {file: ids[file.parent.name] for file in mask_files(path)}


def mask_size(path: Path) -> tuple[int, int]:
    """Height and width, read from the header only; raises `InputError` if the file cannot be a mask."""
    with open_image(next(iter(mask_files(path)), path), load=False) as image:
        _refuse_as_mask(image)
        return upright_size(image)


def palettes_differ(paths: Iterable[Path]) -> bool:
    """Whether an index has another colour in one mask file than in another, read from the headers only."""
    longest: dict[str, bytes] = {}
    for path in paths:
        for file in mask_files(path):
            with open_image(file, load=False) as image:
                if image.palette is not None:
                    kind, colours = image.palette.getdata()
                    one, other = sorted((bytes(colours), longest.get(kind, b"")), key=len)
                    if not other.startswith(one):
                        return True
                    longest[kind] = other
    return False


def _refuse_as_mask(image: Image.Image) -> None:
    refuse_lossy(image)
    if image.mode not in MODES:
        raise InputError(f"expected a paletted, greyscale or colour mask, found mode {image.mode}")


class Stored(NamedTuple):
    """What a mask file holds."""

    values: np.ndarray  # (H, W): uint8 numbers or indices, or int64 colours
    palette: np.ndarray | None = None  # (N,) colours of the indices
    sure: bool = False  # index 0 is transparent, and so background


def load_mask(path: str | Path) -> Stored:
    """A mask file as it is; raises `InputError` naming the file if no mask can look like this."""
    if Path(path).suffix.lower() == ".npy":
        return Stored(_read_array(Path(path)))
    with open_image(path) as image:
        _refuse_as_mask(image)
        if image.mode == "P":
            return _indices(image)
        if image.mode == "1":
            values, clear = np.array(image.convert("L")), image.info.get("transparency")
            if clear is None:
                return Stored(values)
            # which Pillow does not convert
            return Stored(np.where((values != 0) == bool(clear), CLEAR, values.astype(np.int64) * 0x010101))
        if image.mode == "L" and not image.has_transparency_data:
            return Stored(_unscaled(np.array(image), image, path))
        if image.mode.startswith("I") or image.mode == "F":
            return Stored(_as_bytes(np.asarray(image)))
        if image.has_transparency_data:
            pixels = np.asarray(image.convert("RGBA"))
            codes, opacity = codes_of(pixels[..., :3]), pixels[..., 3]
            _refuse_faint(codes, opacity)
            codes = np.where(opacity < 128, CLEAR, codes)
        else:
            codes = codes_of(np.asarray(image.convert("RGB")))
        if not codes.any() and bits_of(path, image) == 16:
            raise InputError("expected 8 bits per channel, found 16 with nothing in the upper 8; save it with 8")
        return Stored(codes)


def _read_array(path: Path) -> np.ndarray:
    """The numbers in a NumPy file (H, W), or masks (N, H, W) of one object each, as uint8."""
    try:
        with open_file(path) as file:
            values = np.lib.format.read_array(file)
        values = values.squeeze() if values.ndim > 2 else values
        values = values.astype(np.float32) if values.dtype == np.float16 else values
        if values.ndim not in (2, 3) or values.dtype.kind not in "biuf" or 0 in values.shape:
            raise InputError(f"expected an array (H, W) of numbers, found {values.dtype} {values.shape}")
        if values.ndim == 3:
            if len(values) > MOST_OBJECTS or not np.isin(values, (0, 1, 255)).all():
                raise InputError(
                    f"expected an array (H, W), or masks (N, H, W) of 0 and 1, found {values.dtype} {values.shape}"
                )
            areas, shown = np.count_nonzero(values, axis=(1, 2)), np.count_nonzero(values.any(axis=0))
            if not areas.all() or 2 * areas.sum() > 3 * shown:  # candidates for one object overlap as well
                what = "some that overlap" if areas.all() else "an empty one"
                raise InputError(
                    f"expected masks of the objects in a frame, (N, H, W), found {what} in {values.shape}: are they of frames "
                    "or candidates for one object? Save those that count as PNG"
                )
            if shown == values[0].size and len(values) > 1:
                raise InputError(
                    f"expected masks of the objects in a frame, (N, H, W), found no pixel outside all {len(values)} of them; "
                    "leave out the one of the background"
                )
            values = in_front({i: mask != 0 for i, mask in enumerate(values, start=1)})
        return values.astype(np.uint8) * 255 if values.dtype == bool else _as_bytes(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # on damaged files NumPy raises almost any kind
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot read this array ({error})"
        raise InputError(f"{path}: {what}") from error


def layers_in_array(path: Path) -> int:
    """The number of masks in a NumPy file (N, H, W), 1 for any other file."""
    if not path.is_file():  # a pipe would never end
        return 1
    try:
        with np.errstate(over="ignore"):
            shape = [side for side in np.lib.format.open_memmap(path, mode="r").shape if side > 1]
    except Exception:
        return 1  # it is told when it is read
    return shape[0] if len(shape) == 3 else 1


def _indices(image: Image.Image) -> Stored:
    values, palette = np.array(image), codes_in(bytes(image.getpalette("RGB") or []))
    clear = image.info.get("transparency", ())
    if isinstance(clear, bytes):
        _refuse_faint(values, np.frombuffer(clear.ljust(256, b"\xff"), np.uint8)[values])
    clear = {clear} if isinstance(clear, int) else {i for i, alpha in enumerate(clear) if alpha < 128}
    used = set(np.unique(values).tolist())
    if len(palette) and 0 not in clear and clear & used and (palette[0] != BLACK or used - clear == {0}):
        codes = palette[np.minimum(values, len(palette) - 1)]
        return Stored(np.where(np.isin(values, list(clear)), CLEAR, codes))
    if clear - {0}:
        values[np.isin(values, list(clear))] = 0
    black = [i for i in used if i < len(palette) and palette[i] == BLACK]
    if len(black) == 1 < len(used) and palette[0] == BLACK and 0 not in used and (palette != BLACK).any():
        values[values == black[0]] = 0  # black at several indices, of which only a later one is used
    return Stored(values, palette if len(palette) else None, 0 in clear)


def _refuse_faint(values: np.ndarray, opacity: np.ndarray) -> None:
    """Raise `InputError`, without the file's name, if what is nearly transparent shows an object, not an edge."""
    if not opacity.max() and values.min() < values.max():
        raise InputError("expected objects that are not transparent, found nothing else; save it without transparency")
    faint = (opacity > 0) & (opacity < 128)
    if not faint.any():
        return
    inside, shown = values[cv2.erode(faint.astype(np.uint8), BOX) > 0], np.unique(values[opacity >= 128])
    if not len(shown) or (len(shown) <= MOST_OBJECTS and len(np.setdiff1d(inside, shown))):
        raise InputError("expected objects that are not transparent, found some that are more than half so")


def _unscaled(values: np.ndarray, image: Image.Image, path: str | Path) -> np.ndarray:
    """The numbers of a greyscale file of 2 or 4 bits, which Pillow multiplies by 85 or 17."""
    scale = {2: 85, 4: 17}.get(bits_of(path, image), 1)
    return values if scale == 1 or (values % scale).any() else values // scale


def _as_bytes(values: np.ndarray) -> np.ndarray:
    """Whole numbers (H, W) of any type as uint8; 65535 is white."""
    if (values == 65535).any() and not (values % 257).any():
        values = values // 257
    if values.dtype.kind == "i":
        border = border_of(values)
        if (values == 0).any() and 2 * np.count_nonzero(border == -1) > len(border):
            raise InputError("expected 0 as background, found -1 along most of the border; add 1 to all numbers")
        values = np.where(values == -1, 0, values)  # which labelme writes for "ignored"
    if values.size and not (np.isfinite(values).all() and values.min() >= 0 and (values == np.floor(values)).all()):
        raise InputError("expected whole numbers from 0 to 254, found others; of probabilities, save what is above half")
    if values.size and values.max() > WHITE:
        count = len(np.setdiff1d(np.unique(values), [0]))
        found = f"{count} objects, numbered up to {values.max()}"
        raise InputError(f"expected at most {MOST_OBJECTS} objects, numbered from 1, found {found}")
    return values.astype(np.uint8)


def in_front(masks: Mapping[int, np.ndarray]) -> np.ndarray:
    """A label map (H, W) uint8 of masks (H, W) bool by id; where they overlap, the smaller one is in front."""
    result = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for number, mask in sorted(masks.items(), key=lambda entry: (-np.count_nonzero(entry[1]), entry[0])):
        result[mask] = number
    return result
