"""Image files and label maps, and the meaning of mask values.  As tensors: `util.tensors`.

A label map is an integer array (H, W).  0 is background (in a given mask: unspecified), 1 to 254 are object ids.  The
meaning of 255 depends on the video; `Numbering` decides it.
"""

import contextlib
import io
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from util.errors import InputError
from util.files import is_clutter, open_file, write_atomically

MEAN_COLOUR = (124, 116, 104)  # of ImageNet, uint8
IGNORED = 255
WHITE = IGNORED  # in masks that are white on black
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
UNREAD_SUFFIXES = frozenset(
    {
        ".heic",
        ".heif",
        ".avif",
        ".gif",
        ".jp2",
        ".jfif",
        ".exr",
        ".dng",
        ".cr2",
        ".nef",
        ".arw",
        ".ppm",
        ".pgm",
        ".tga",
    }
)  # of pictures that are not read
FRACTION = r"(?:[.,]\d+)?"  # of a number in a name
ORIENTATION, TURNED = 0x0112, "turned"  # EXIF's tag, and where an image says which was applied
SIDEWAYS = 5  # the first orientation that exchanges height and width
METHODS = (  # for the orientations from 2 on
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
KINDS = {"P": "paletted", "PA": "paletted", "1": "1-bit"}
MOST_KINDS = 8  # of pictures in a folder of frames that are looked at
FEW_COLOURS, SMALL = 64, 4  # SMALL: how many times smaller than usual the file of a mask is
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # Pillow's names of all that is opened: EPS would start a program
LOSSLESS = frozenset({"PNG", "BMP", "TIFF", "GIF"})  # Pillow's names of the formats allowed for masks


class Levels(NamedTuple):
    """16-bit values that become 0 and 255."""

    low: int
    high: int


WHOLE_RANGE = Levels(0, 65535)
NARROW = 1 << 14  # 16-bit pictures whose values span less would be nearly black or grey in 8 bits


class LabelMap(NamedTuple):
    """A label map as stored in a file."""

    labels: np.ndarray  # (H, W) uint8
    palette: bytes | None  # 768 bytes RGB, None for a greyscale file


def colour_map() -> bytes:
    """The DAVIS and PASCAL VOC palette, 768 bytes: the bits of an id, lowest first, fill R, G and B in turn from the top."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) -> `size`, nearest: the same entries as PyTorch's `interpolate` takes, whose rounding is float32's."""
    if labels.shape == size:
        return labels
    rows, columns = (_nearest(*sides) for sides in zip(size, labels.shape, strict=True))
    return labels[np.ix_(rows, columns)]


def _nearest(new: int, old: int) -> np.ndarray:
    positions = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    return np.minimum(positions.astype(np.int64), old - 1)


def object_ids(labels: np.ndarray) -> list[int]:
    """The object ids in a label map, ascending, without 0 and 255."""
    present = np.bincount(labels.ravel(), minlength=256)
    return [int(i) for i in np.flatnonzero(present) if i not in (0, IGNORED)]


class Numbering:
    """The meaning of the values in one video's label maps, in particular of 255.

    The first label map that is not 0 everywhere decides for the whole video:

    - It holds only 0 and 255 (white on black): 255 is object 1 in all label maps.
    - It holds ids: 255 means "ignore" in all label maps, even in a later one that holds nothing else.

    `white` is true in the first case, false in the second, and `None` until a label map has decided.  With `strict`, a
    label map that holds only 0 and 255 after one with ids raises `InputError` instead of being ignored.
    """

    def __init__(self, white: bool | None = None, *, strict: bool = False) -> None:
        self.white = white
        self.strict = strict

    def read(self, labels: np.ndarray, source: str | Path) -> np.ndarray:
        """A label map (H, W) uint8 with ids only: 255 becomes 1 in white-on-black videos, else 0.

        Raises `InputError` naming `source` if the video is white on black but this label map also holds ids.
        """
        white = bool((labels == WHITE).any())
        if not white and self.white is not None:
            return labels
        ids = bool(((labels != 0) & (labels != WHITE)).any())
        if self.white is None and (white or ids):
            self.white = not ids
        if not white:
            return labels
        if self.white and ids:
            raise InputError(
                f"{source}: expected white on black, like the first mask of this video, found 255 and other numbers; "
                "number the objects in all masks"
            )
        if self.strict and not self.white and not ids:
            raise InputError(
                f"{source}: expected numbered objects, as in the masks before it, found only 0 and 255, which means "
                "'ignore' here; give the object its number"
            )
        return np.where(labels == WHITE, np.uint8(1 if self.white else 0), labels)


def natural_order(names: Iterable[str]) -> list[str]:
    """Names with their numbers in order of value: 2 before 10, -2 before -1, 0.25 before 0.5.

    A number has a sign or a fraction only at the beginning of a name or after `_`, `=` or a space.  A minus that all
    such numbers have is a separator (`-001`, `-002`), and so is the point if fractions of several lengths end in 0 (`1.9`,
    `1.10`).
    """
    names = list(names)
    numbers = re.findall(_number("-?", FRACTION), "\n".join(names), re.MULTILINE)
    sign = "-?" if any(number[0] != "-" for number in numbers) else ""
    fractions = [digits for number in numbers for digits in re.split("[.,]", number)[1:]]
    padded = len({*map(len, fractions)}) > 1 and any(len(digits) > 1 and digits[-1] == "0" for digits in fractions)
    pattern = re.compile(rf"({_number(sign, '' if padded else FRACTION)}|\d+)")

    def key(name: str) -> tuple[list[str | Decimal], str]:
        parts = pattern.split(name)
        return [Decimal(part.replace(",", ".")) if i % 2 else part for i, part in enumerate(parts)], name  # orders 1 and 01

    return sorted(names, key=key)


def _number(sign: str, fraction: str) -> str:
    return rf"(?:^|(?<=[_= ])){sign}\d+{fraction}(?![.,-]?\d)"


def size_text(shape: tuple[int, ...]) -> str:
    """(H, W, ...) -> `HxW`, for messages."""
    return f"{shape[0]}x{shape[1]}"


def list_images(folder: str | Path, *, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The image files in a folder, in natural order of their stems; hidden and other files are left out."""
    return in_order(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in suffixes and not is_clutter(path.name) and (path.is_file() or path.is_symlink())
    )


def in_order(images: Iterable[Path]) -> list[Path]:
    """Image files in natural order of their stems."""
    by_stem: dict[str, list[Path]] = {}
    for path in images:
        by_stem.setdefault(path.stem, []).append(path)
    return [path for stem in natural_order(by_stem) for path in sorted(by_stem[stem])]


def list_frames(
    folder: str | Path, *, leave_out: Collection[Path] = (), suffixes: Collection[str] = IMAGE_SUFFIXES
) -> list[Path]:
    """`list_images`, for a folder whose files are identified by their stems, without those in `leave_out`.

    Raises `InputError` if two files have the same stem, or if anything else has an image suffix (else it would be skipped).
    """
    for path in Path(folder).iterdir():
        if path.suffix.lower() in suffixes and not is_clutter(path.name) and path.exists() and not path.is_file():
            raise InputError(f"{path}: expected a picture, found a {'folder' if path.is_dir() else 'pipe or device'}")
    others = {path.resolve() for path in leave_out}
    images = list_images(folder, suffixes=suffixes)
    return refuse_twins([path for path in images if not others or path.resolve() not in others])


def refuse_twins(images: list[Path]) -> list[Path]:
    """The same images; raises `InputError` if two neighbours differ only in their suffix."""
    for one, other in itertools.pairwise(images):
        if one.stem == other.stem:
            raise InputError(f"{one.parent}: expected one picture of each name, found {one.name} and {other.name}")
    return images


def name_pattern(path: Path) -> str:
    """A file's stem with `#` for each number."""
    return re.sub(r"-?\d+([.,]\d+)?", "#", path.stem)


def refuse_strangers(frames: Sequence[Path], kinds: Sequence[str]) -> None:
    """Raise `InputError` naming a picture among frames that is none: the only one of its kind, or one that looks like a mask.

    kinds: of each picture, such as its suffix; their names are compared as well, apart from numbers
    """
    patterns = [name_pattern(path) for path in frames]
    for of, may_be_alone in ((kinds, False), (patterns, True)):
        groups: dict[str, list[Path]] = {}
        for path, kind in zip(frames, of, strict=True):
            groups.setdefault(kind, []).append(path)
        few, many = (choose(groups, key=lambda kind: len(groups[kind])) for choose in (min, max))
        if len(groups) == 2 and len(groups[few]) == 1 < len(groups[many]) and not may_be_alone:
            raise InputError(f"{groups[few][0]}: {few} among frames that are {many}; move it away, or save it like the others")
        firsts = [group[0] for group in itertools.islice(groups.values(), MOST_KINDS if len(groups) > 1 else 0)]
        masks = [path for path in firsts if _looks_like_mask(path)]
        if masks and len(masks) < len(firsts):
            raise InputError(f"{masks[0]}: looks like a mask among frames; move masks to a folder of their own")


def masks_among(frames: Sequence[Path]) -> list[Path]:
    """Some of the pictures among frames of one kind that look like masks, while most do not; a title may look so too."""
    by_size = sorted(frames, key=lambda path: path.stat().st_size)
    middle = by_size[len(by_size) // 2]
    small = [path for path in by_size if SMALL * path.stat().st_size < middle.stat().st_size][:MOST_KINDS]
    return [path for path in small if _looks_like_mask(path)] if small and not _looks_like_mask(middle) else []


def _looks_like_mask(path: Path) -> bool:
    """Whether a picture has few colours, but more than one."""
    try:
        with open_image(path) as image:
            found = np.unique(np.asarray(image)) if image.mode[0] in "IF" else image.getcolors(FEW_COLOURS)
    except InputError:
        return False  # it is told when it is read
    return found is not None and 2 <= len(found) <= FEW_COLOURS


def read_image(path: str | Path, levels: Levels | None = None) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3), upright; `levels` are the 16-bit values that become 0 and 255.

    Raises `InputError` naming the file if it cannot be read (see `as_rgb`).
    """
    with open_image(path) as image:
        rgb = as_rgb(image, levels)
        if image.mode in ("RGB", "RGBA", "LA") and (values := _deep_colours(path, image)) is not None:
            return _as_8_bits(values, 16, levels)
        return np.array(rgb)


def as_rgb(image: Image.Image, levels: Levels | None = None) -> Image.Image:
    """A loaded image of any mode as 8-bit RGB.  16-bit values are scaled from `levels`, or else from their full range.

    Raises `InputError`, without the file's name, if the right result is unknown: floating-point and 32-bit images (unknown
    range), 16-bit images that use little of their range (without `levels`), and transparent pixels (unknown background).
    """
    if _is_deep_grey(image):
        image = _deep_as_8_bits(image, levels)
    elif image.mode in ("I", "F"):
        what = "floating-point" if image.mode == "F" else "32-bit"
        raise InputError(f"expected 8 or 16 bits per channel, found a {what} picture of unknown range; save it as 8-bit PNG")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise InputError("expected an opaque picture, found transparent pixels; save it without transparency")
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise InputError(f"expected a colour or greyscale picture, found mode {image.mode}; save it as 8-bit PNG") from error


def common_levels(paths: Iterable[str | Path]) -> Levels | None:
    """The lowest and highest 16-bit value in pictures that use little of their range; `None` if they use much of it.

    0 and 65535, which often mark what was not measured, do not count.  Reads all pictures.
    """
    low, high = WHOLE_RANGE[1], WHOLE_RANGE[0]
    for path in paths:
        with open_image(path) as image:
            values = np.asarray(image) if _is_deep_grey(image) else _deep_colours(path, image)
        if values is not None and (found := _range_of(values)):
            low, high = min(low, found.low), max(high, found.high)
    return Levels(low, high) if low < high < low + NARROW else None


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _deep_colours(path: str | Path, image: Image.Image) -> np.ndarray | None:
    """The values (H, W, 3) uint16 of a colour picture with 16 bits per channel, of which Pillow keeps 8; else `None`."""
    if image.format not in ("PNG", "TIFF"):
        return None
    with open_file(path) as file:
        if image.format == "PNG":
            deep = file.read(25)[-1] == 16
        else:
            deep = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE, (8,))[0] == 16
        if not deep:
            return None
        file.seek(0)
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        return None
    values = _turned(values[..., 2::-1], image.info.get(TURNED, 1))
    return values if values.shape[:2] == (image.height, image.width) else None


def narrow_range(values: np.ndarray) -> Levels | None:
    """The lowest and highest 16-bit value, if they use so little of the range that 8 bits of it would show little."""
    found = _range_of(values)
    return found if found and (found.high < 256 or 0 < found.high - found.low < NARROW) else None


def _range_of(values: np.ndarray) -> Levels | None:
    """The lowest and highest value, without the ends of the range; `None` if there is no other."""
    inside = values[(values != WHOLE_RANGE.low) & (values != WHOLE_RANGE.high)]
    return Levels(int(inside.min()), int(inside.max())) if inside.size else None


def _deep_as_8_bits(image: Image.Image, levels: Levels | None) -> Image.Image:
    """A 16-bit greyscale image, or a 12-bit one from a TIFF, as 8-bit."""
    bits, inverted = 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (bits,))[0]
        inverted = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # Pillow does not invert these
    values = _as_8_bits(np.asarray(image), bits, levels)
    return Image.fromarray(255 - values if inverted else values)


def _as_8_bits(values: np.ndarray, bits: int, levels: Levels | None) -> np.ndarray:
    """Values of so many bits as uint8; raises `InputError` if they use little of 16 bits and no `levels` are given."""
    if levels is not None and levels != WHOLE_RANGE:
        low, high = levels
        return ((np.clip(values, low, high).astype(np.float32) - low) * (255 / (high - low)) + 0.5).astype(np.uint8)
    if levels is None and bits == 16 and (found := narrow_range(values)):
        if found.high < 256:
            raise InputError(f"expected a 16-bit picture, found no value above {found.high}; save it with 8 bits")
        what = f"found values from {found.low} to {found.high} only"
        raise InputError(f"expected a 16-bit picture that uses its range, {what}; save all frames with 8 bits, scaled alike")
    return (values >> (bits - 8)).astype(np.uint8)


def read_label_map(path: str | Path) -> LabelMap:
    """A paletted or greyscale PNG that we wrote, with the file's own values (1-bit masks: 0 and 255); masks of others
    are for `dataset.label_map`.

    Raises `InputError` naming the file if it is not a label map or its format is lossy.
    """
    with open_image(path) as image:
        refuse_lossy(image)
        if image.mode not in ("P", "L", "1"):
            raise InputError(f"expected a label map (a paletted or greyscale PNG), found mode {image.mode}")
        palette = None
        if image.mode == "P":
            palette = bytes(image.getpalette("RGB") or []).ljust(768, b"\0")
        return LabelMap(np.array(image if image.mode == "P" else image.convert("L")), palette)


def read_grey(path: str | Path) -> np.ndarray:
    """The brightness of an image of any mode, (H, W) uint8 (`brightness`); raises `InputError` if unreadable."""
    with open_image(path) as image:
        return brightness(image)


def brightness(image: Image.Image) -> np.ndarray:
    """(H, W) uint8; transparent pixels are black, or the opacity counts if all opaque ones are alike, as drawn on nothing."""
    image = image if image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") else as_rgb(image)
    if not image.has_transparency_data:
        return np.array(image.convert("L"))
    grey, alpha = (np.asarray(channel) for channel in image.convert("RGBA").convert("LA").split())
    opaque = grey[alpha > 127]
    if alpha.min() < 255 and opaque.size and opaque.min() == opaque.max():
        return alpha.copy()
    return np.where(alpha > 127, grey, np.uint8(0))


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width, read from the file's header only."""
    return read_header(path).size


class Header(NamedTuple):
    """What the beginning of an image file tells."""

    size: tuple[int, int]  # (H, W), upright
    kind: str  # of file, and of picture
    is_deep: bool  # more than 8 bits of grey, or of each colour in a PNG or TIFF
    is_turned: bool  # by its EXIF orientation


def read_header(path: str | Path) -> Header:
    """Raises `InputError` naming the file if it is no picture."""
    with open_image(path, load=False) as image:
        tiles = getattr(image, "tile", None)  # each with its format as the last of four
        depth = str(tiles[0][3]) if tiles else ""
        file = {"MPO": "JPEG"}.get(str(image.format), str(image.format))
        picture = KINDS.get(image.mode, "grey" if image.mode[0] in "LIF" else "colour")
        return Header(
            upright_size(image), f"{picture} {file}", ";16" in depth or _is_deep_grey(image), _orientation(image) != 1
        )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that is still to be applied."""
    if image.format == "TIFF":  # which Pillow turns itself
        return 1
    with contextlib.suppress(Exception):  # damaged EXIF says nothing
        found = Image.Image.getexif(image).get(ORIENTATION, 1)  # not PNG's own method, which decodes the picture
        return found if found in range(1, 9) else 1
    return 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width as its EXIF orientation says."""
    return (image.width, image.height) if _orientation(image) >= SIDEWAYS else (image.height, image.width)


def upright(image: Image.Image) -> Image.Image:
    """A loaded image turned as its EXIF orientation says."""
    orientation = _orientation(image)
    if orientation == 1:
        return image
    turned = image.transpose(METHODS[orientation - 2])
    turned.format = image.format
    turned.info[TURNED] = orientation
    return turned


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """`upright` for an array (H, W, ...)."""
    values = values.swapaxes(0, 1) if orientation >= SIDEWAYS else values
    return values[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]


def refuse_lossy(image: Image.Image) -> None:
    """Raise `InputError`, without the file's name, if a mask's file format is lossy."""
    kind = "JPEG" if image.info.get("compression") == "jpeg" else image.format  # within a TIFF
    if kind not in LOSSLESS:
        raise InputError(f"expected a mask as PNG, found {kind}, which changes values; save the mask as PNG")


def write_label_map(path: str | Path, labels: np.ndarray, palette: bytes | None) -> None:
    """Write (H, W) uint8 as a PNG, atomically: paletted, or greyscale if `palette` is `None`."""
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette(palette)
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    write_atomically(path, lambda file: file.write(encoded.getbuffer()))


def open_picture(file: BinaryIO) -> Image.Image:
    """Pillow's image of an open file, not loaded; raises what Pillow does, and `OSError` unless it is of `FORMATS`."""
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise OSError(f"it is not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error


@contextlib.contextmanager
def open_image(path: str | Path, *, load: bool = True) -> Iterator[Image.Image]:
    """A Pillow image as a context, loaded and turned upright (EXIF) unless `load` is false.

    Raises `InputError` naming the file if it cannot be read or holds several pictures.  An `InputError` raised inside the
    context is prefixed with the file's name.
    """
    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(open_picture(stack.enter_context(open_file(path))))
            count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # cameras append a preview
            if load:
                image.load()  # truncation is detected only here
        except Exception as error:  # on damaged files Pillow raises almost any kind
            what = f"cannot read this image ({str(error) or type(error).__name__})"
            what = "no such file" if isinstance(error, FileNotFoundError) else what
            raise InputError(f"{path}: {what}") from error
        try:
            if count > 1:
                raise InputError(f"expected one picture in a file, found {count}; save each in its own file")
            yield upright(image) if load else image
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
