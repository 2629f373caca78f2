"""The one reader of masks: what the numbers and colours in a video's mask files mean.

- Numbers are ids: the values of a greyscale file (1 to 32 bits), or the indices of a paletted one.  0 is background.  White on
  black is object 1 (`util.image.Numbering`).
- A palette is read by its colours instead if index 0 is not black, but another index that occurs is: tools reorder palettes.
- Colours are objects, black and transparent pixels are background.  Colours of our palette (DAVIS's), or of the video's first
  palette, mean those ids.  If the video's first mask has others, they are numbered in order of appearance.  Grey colours are
  numbers.  One colour is one object in all masks of a video, whatever its index.
- Where black is not sure to be background (a greyscale, coloured or oddly paletted mask that comes first), it must not be rare
  along the border of the frame while an object covers most of it.
- Values that only lie between others are edges, not objects.  A single white object with soft edges is cut at half.  In the
  mask that decides, a number around an object is looked for as well: 1 between 0 and 2, where something has interpolated.

A mask may also be spread over one file for each object, as `<video>/<object>/00000.png` (SA-V).  Its path is then
`<video>/*/00000.png`.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageColor, TiffImagePlugin

from util.errors import InputError, names_some, print_note
from util.files import open_file, subfolders
from util.image import (
    IMAGE_SUFFIXES,
    WHITE,
    Numbering,
    colour_map,
    list_frames,
    natural_order,
    open_image,
    refuse_lossy,
    size_text,
    upright_size,
)

BLACK, PURE_WHITE, CLEAR = 0, 0xFFFFFF, -1  # colours as 0xRRGGBB; `CLEAR` is transparent
MOST_OBJECTS = 254
NEAR = 16  # two colours that differ by less in each channel were one once: those of our palette differ by 32 or more
PHOTOGRAPH = 4096  # colours
HANDFUL = 8  # values
MASK_SUFFIXES = IMAGE_SUFFIXES | {".gif"}
EACH_OBJECT = "*"  # the name of the folder in the path of a mask that is spread over files
MODES = frozenset({"P", "PA", "1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"})  # Pillow's
BOX, BIG_BOX = np.ones((3, 3), np.uint8), np.ones((7, 7), np.uint8)
SHORTEST_OUTLINE = 24  # pixels
NAMES = {BLACK: "black", PURE_WHITE: "white"}


def _codes(palette: bytes) -> np.ndarray:
    """A palette as colours (N,) 0xRRGGBB."""
    return np.frombuffer(palette, np.uint8).reshape(-1, 3).astype(np.int64) @ [1 << 16, 1 << 8, 1]


OURS = {code: i for i, code in enumerate(_codes(colour_map()).tolist()) if i}
IGNORED_COLOUR = next(code for code, i in OURS.items() if i == WHITE)


class Stored(NamedTuple):
    """What a mask file holds."""

    values: np.ndarray  # (H, W): uint8 numbers or indices, or int64 colours
    palette: np.ndarray | None = None  # (N,) colours of the indices
    sure: bool = False  # index 0 is transparent, and so background


class MaskReader:
    """Reads the masks of one video as label maps, in frame order; see above.

    strict:     white on black after numbered objects raises `InputError` instead of being ignored
    union:      all that is not background is object 1, whatever its number (DAVIS 2016)
    background: the colour that is background, instead of black
    careful:    look for edges in all masks, and doubt that black is background even in a palette where it comes first
    soft:       pixels of soft edges become what is nearest, instead of raising `InputError`
    colours:    ids that colours have, such as those of the ground truth when results are read
    hint:       what to do about a background that is not black, with COLOUR for that colour
    note:       called with a line for the user, if there is something to tell
    """

    def __init__(
        self,
        *,
        strict: bool = False,
        union: bool = False,
        background: int | None = None,
        careful: bool = False,
        soft: bool = False,
        colours: Mapping[int, int] | None = None,
        hint: str = "Then save it with black instead of COLOUR",
        note: Callable[[str], object] | None = print_note,
    ) -> None:
        self.numbering = Numbering(strict=strict)
        self.union, self.background, self.careful, self.soft = union, background, careful, soft
        self.hints = {**OURS, **(colours or {})}  # ids by colour, unless the masks say otherwise
        self.hint, self.note = hint, note
        self.colours: dict[int, int] = {}  # ids by colour, in the masks so far
        self.ids: set[int] = set()  # in the masks so far
        self.own = False  # colours are numbered in order of appearance
        self.coloured = False  # later masks may have more colours, which mean what order says
        self.frozen = False
        self.first: np.ndarray | None = None  # the first palette
        self.first_path: Path | str = ""
        self._noted = False

    @classmethod
    def of(cls, paths: Iterable[str | Path], *, drawn: bool = True, **options) -> "MaskReader":
        """The reader for a video's mask files, given in frame order, which then may be read in any order, by any thread.

        It reads up to the first file that is not empty, and all of them if that one is coloured.  Unless they were `drawn`,
        as results are not, numbers may surround others.
        """
        result = cls(**options)
        for path in paths:
            labels = result.read(path)
            if drawn and (rims := _rims(labels, _counts(labels))):
                raise _soft(path, map(str, rims))
            if result.white is not None and not result.coloured:
                break
        result.frozen = True
        return result

    def of_results(self, paths: Iterable[str | Path]) -> "MaskReader":
        """The reader for results of this video, which may be numbered or coloured like the masks, or in our palette."""
        return MaskReader.of(paths, drawn=False, colours=self.colours)

    @property
    def white(self) -> bool | None:
        """Whether masks are white on black (`util.image.Numbering`)."""
        return self.numbering.white

    def palette(self) -> bytes:
        """A palette for results, 768 bytes: the masks' own colours, completed with ours where they have none."""
        stored = np.zeros(0, np.int64) if self.first is None or self.white else self.first
        codes = dict(enumerate(stored.tolist()))
        if self.own:
            codes |= {number: code for code, number in self.colours.items()}
        taken = set(codes.values())
        ours = {i: code for code, i in OURS.items()}
        result = [codes.get(0, BLACK)]
        for number in range(1, 256):
            code = codes.get(number, BLACK)
            if code == BLACK:
                code = ours[number]
                code = next((other for other in (code, *OURS, PURE_WHITE) if other not in taken), code)
                taken.add(code)
            result.append(code)
        return b"".join(code.to_bytes(3, "big") for code in result)

    def read(self, path: str | Path) -> np.ndarray:
        """A label map (H, W) uint8 of ids, which may be empty.

        Raises `InputError` naming the file if it is not a mask, or what it means is unknown.
        """
        if Path(path).parent.name == EACH_OBJECT:
            return self._merged(Path(path))
        values, palette, sure = load_mask(path)
        if palette is not None and self._goes_by_colour(values, palette, sure):
            values = palette[np.minimum(values, len(palette) - 1)]
        if self.union:
            return self._union(values)
        coloured = values.dtype != np.uint8
        labels = self._of_colours(path, values) if coloured else self._of_numbers(path, values, palette, sure)
        labels = self.numbering.read(labels, path)
        if not self.frozen:
            self.ids |= {int(i) for i in np.flatnonzero(_counts(labels)) if i not in (0, WHITE)}
            if self.numbering.white:
                self.colours.setdefault(PURE_WHITE, 1)
        return labels

    def _union(self, values: np.ndarray) -> np.ndarray:
        soft = values.dtype == np.uint8 and np.count_nonzero(counts := _counts(values)) > 2 and counts[WHITE]
        if values.dtype != np.uint8:
            values = _drawn_on_nothing(values)
        return (values > (127 if soft and _edges(values, counts) else 0)).astype(np.uint8)

    def _merged(self, path: Path) -> np.ndarray:
        labels, _ = self.merge(object_files(path))
        return self.numbering.read(labels, path)

    def merge(self, files: Mapping[Path, int]) -> tuple[np.ndarray, set[int]]:
        """A label map (H, W) uint8 of masks of one object each, by file, and the objects whose masks are empty.

        Where they overlap, the smaller one is in front.  Raises `InputError` naming a file that is not one object's mask, or
        differs from the others in size.
        """
        masks: dict[int, np.ndarray] = {}
        for path, number in files.items():
            labels = MaskReader(background=self.background, soft=self.soft, hint=self.hint, note=self.note).read(path)
            if len(found := set(np.flatnonzero(_counts(labels)).tolist()) - {0}) > 1:
                raise InputError(f"{path}: expected a mask of one object, found {len(found)}")
            if masks and labels.shape != (first := next(iter(masks.values()))).shape:
                raise InputError(f"{path}: mask is {size_text(labels.shape)}, that of another object {size_text(first.shape)}")
            masks[number] = labels != 0
        labels = in_front(masks)
        for path, number in files.items():
            if masks[number].any() and not (labels == number).any():
                raise InputError(f"{path}: expected masks of different objects, found one that the others cover")
        return labels, {number for number, mask in masks.items() if not mask.any()}

    def _goes_by_colour(self, values: np.ndarray, palette: np.ndarray, sure: bool) -> bool:
        if (palette[0] == BLACK or sure) and not self.own and self.background is None:
            return False
        used = [i for i in np.flatnonzero(_counts(values)).tolist() if i < len(palette)]
        if self.background is not None and palette[0] != self.background:
            return any(palette[i] == self.background for i in used)
        if not _is_real(palette):
            return False
        if palette[0] == BLACK or sure:
            return self.own and any(palette[i] not in (BLACK, *(c for c, n in OURS.items() if n == i)) for i in used)
        return any(palette[i] == BLACK for i in used)

    def _of_numbers(self, path: str | Path, values: np.ndarray, palette: np.ndarray | None, sure: bool = False) -> np.ndarray:
        """Ids (H, W) uint8, with 255 as in the file, of numbers or indices."""
        if self.frozen and not self.own and values.max() < HANDFUL and (palette is None or self._is_first(palette)):
            return values  # nearly all masks of data sets: nothing below would change them, but take as long as decoding
        if palette is None and self.background is not None:
            values = self._without_background(path, values)
        counts = _counts(values)
        present = np.flatnonzero(counts)
        # soft edges have many values or large ones, objects few and small ones; so the masks of data sets are read without the
        # check, while the few that a user gives are always checked
        doubtful = len(present) > 2 and (self.careful or len(present) > HANDFUL or present[-1] >= 2 * HANDFUL)
        edges = [i for i in _edges(values, counts) if i != WHITE] if doubtful else []
        if self.careful and not edges:
            edges = _rims(values, counts)
        if edges:
            if palette is not None and present[-1] < len(palette) and _is_grey(palette[present]):
                return self._of_numbers(path, (palette[np.minimum(values, len(palette) - 1)] & 255).astype(np.uint8), None)
            values = (
                self._without_edges(path, values, edges)
                if self.soft
                else self._cut_at_half(path, values, present, edges, palette)
            )
            present = np.flatnonzero(_counts(values))
        # a single number everywhere is no picture of anything, and so no background
        usual = palette is not None and (palette[0] == BLACK or sure)
        if len(present) > 1 and (not usual or self.careful) and (not self.ids or (palette is not None and not usual)):
            self._refuse_background(path, values, {i: i for i in present.tolist()}, palette)
        if palette is not None and _is_real(palette):
            return self._like_the_first(path, values, palette, present)
        ids = set(present.tolist()) - {0, WHITE}
        if self.careful and ids and counts[WHITE] and WHITE in present:
            self._doubt_white(path, int(counts[WHITE]), {i: int(counts[i]) for i in ids})
        if palette is None and not ids and PURE_WHITE in self.colours:
            return np.where(values == WHITE, np.uint8(self.colours[PURE_WHITE]), np.uint8(0))
        if unknown := ids - self.ids:
            if self.own and set(self.colours) != {PURE_WHITE}:
                raise InputError(f"{path}: expected colours, as in the masks before it, found number {min(unknown)}")
            brightness = {i for code in self.colours for i in _brightness(code)}
            if self.colours and unknown == ids and ids <= brightness:
                raise InputError(
                    f"{path}: expected numbers or colours, as in the masks before it, found the brightness of their colours; "
                    "save it as PNG in colour"
                )
        return values

    def _of_colours(self, path: str | Path, codes: np.ndarray) -> np.ndarray:
        """Ids (H, W) uint8 of colours (H, W); 255 is white on black."""
        found = np.unique(codes)
        if len(found) > PHOTOGRAPH and found[0] == CLEAR:
            self._tell(f"{path}: is a picture with transparent surroundings; what is not transparent is the object")
            codes = np.where(codes == CLEAR, CLEAR, PURE_WHITE)
            found = np.unique(codes)
        if len(found) > PHOTOGRAPH:
            raise InputError(f"{path}: expected one plain colour for each object, found {len(found)}: is it a picture?")
        background = BLACK if self.background is None else self.background
        if found[0] == CLEAR:
            codes = _drawn_on_nothing(codes) if self.background is None else codes
            codes = np.where(codes == CLEAR, background, codes)
            found = np.unique(codes)
        objects = [code for code in found.tolist() if code != background]
        if self.background is None and not self.own and _is_grey(found) and not self._hints().keys() >= set(objects):
            if objects == [PURE_WHITE] and self.white is False:
                raise InputError(f"{path}: expected colours of the masks before it, found white; give the object its colour")
            return self._of_numbers(path, (codes & 255).astype(np.uint8), None)
        if objects == [PURE_WHITE] and self.white is not False and not self.own:
            ids = {PURE_WHITE: WHITE}
        else:
            index = np.searchsorted(found, codes).astype(np.uint8 if len(found) <= 256 else np.uint16)
            edges = found[_edges(index, np.bincount(index.ravel()))].tolist() if len(found) > 2 else []
            if edges and edges != [IGNORED_COLOUR]:
                if not self.soft:
                    raise _soft(path, map(_name, edges))
                return self._of_colours(path, self._without_edges(path, codes, edges))
            ids = self._ids_of(path, objects, background)
        new = {number: code for code, number in ids.items() if code not in self.colours}
        lut = np.array([ids.get(code, 0) for code in found.tolist()], np.uint8)
        labels = lut[np.searchsorted(found, codes)]
        if new:
            self._refuse_background(path, labels, new, None)
        if not self.frozen:
            self.coloured = self.coloured or self.own or WHITE in ids.values()
            self.colours |= {code: 1 if number == WHITE else number for code, number in ids.items()}
        return labels

    def _ids_of(self, path: str | Path, objects: list[int], background: int) -> dict[int, int]:
        """An id for each colour; new ones are numbered only in a video that has its own colours."""
        new = [code for code in objects if code not in self.colours]
        numbered = self.white is False and not self.own
        hints = self._hints()
        if not self.own and (numbered or (self.white is None and all(code in hints for code in new))):
            if new and new == objects and self.colours.keys() >= {_swapped(code) for code in new}:
                raise InputError(f"{path}: expected colours of the masks before it, found them with red and blue swapped")
            for code in new:
                if code not in hints:
                    nearest = min(self.colours or hints, key=lambda other: _distance(code, other))
                    raise InputError(
                        f"{path}: expected colours of the masks before it or of the palette of DAVIS, found {_name(code)}; "
                        f"the nearest is {_name(nearest)}, object {hints[nearest]}"
                    )
            return {code: hints[code] for code in objects}
        if self.frozen and new:
            raise InputError(f"{path}: expected colours of the video's other masks, found {_name(new[0])}")
        if (count := len(self.ids | set(self.colours.values())) + len(new)) > MOST_OBJECTS:
            raise InputError(f"{path}: expected at most {MOST_OBJECTS} objects in all masks, found {count}")
        for code in new:
            for other in [background, *self.colours, *objects]:
                if code != other and _distance(code, other) < NEAR:
                    what = "the background" if other == background else "another object"
                    raise InputError(
                        f"{path}: expected one plain colour for each object, found {_name(code)} and {_name(other)}, "
                        f"which is {what}; make them equal, or differ by {NEAR} or more"
                    )
        start = max(self.ids | set(self.colours.values()), default=0)
        if self.own and new == objects:
            self._tell(f"{path}: shares no colour with the masks before it, so its objects are new ones")
        self.own = True
        return {code: self.colours[code] for code in objects if code in self.colours} | {
            code: start + i for i, code in enumerate(new, start=1)
        }

    def _hints(self) -> dict[int, int]:
        """Ids by colour: of the masks so far, else of the first palette, else as told at the start."""
        return {**self.hints, **self._first_ids(), **self.colours}

    def _first_ids(self) -> dict[int, int]:
        stored = [] if self.first is None else self.first.tolist()
        return {code: i for i, code in reversed([*enumerate(stored)]) if i and code != BLACK}

    def _like_the_first(self, path: str | Path, values: np.ndarray, palette: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Indices (H, W) as ids; where a colour has another index in the first palette, it keeps that id."""
        if self._is_first(palette) and not self.own:
            ids: dict[int, int] = {}  # as they are
        else:
            ids = self._ids_of_indices(path, palette, [i for i in present.tolist() if i not in (0, WHITE)])
        if self.first is None and present[-1] and not self.frozen:
            self.first, self.first_path = palette, path
        if not self.frozen:
            for i in set(present.tolist()) - {0, WHITE}:
                if i < len(palette) and palette[i] != BLACK:
                    self.colours.setdefault(int(palette[i]), ids.get(i) or i)
        if all(i == number for i, number in ids.items()):
            return values
        lut = np.arange(256, dtype=np.uint8)
        lut[list(ids)] = list(ids.values())
        return lut[values]

    def _is_first(self, palette: np.ndarray) -> bool:
        return self.first is not None and len(self.first) == len(palette) and bool((self.first == palette).all())

    def _ids_of_indices(self, path: str | Path, palette: np.ndarray, indices: list[int]) -> dict[int, int]:
        first = self._first_ids()
        # white on black says nothing about object 1's colour
        colour_of = {number: code for code, number in self.colours.items() if not (self.white and code == PURE_WHITE)}
        result = {}
        for i in indices:
            code = int(palette[i]) if i < len(palette) else BLACK
            result[i] = i
            if code in (BLACK, colour_of.get(i)):
                continue
            if code in self.colours:
                result[i] = self.colours[code]
            elif code in first and first[code] not in colour_of:
                result[i] = first[code]
            elif i in colour_of and _distance(code, colour_of[i]) >= NEAR:
                raise InputError(
                    f"{path}: expected the colours of {self.first_path or 'the masks before it'}, where object {i} is "
                    f"{_name(colour_of[i])}, found {_name(code)} with that number; which object is it?"
                )
        return result if len(set(result.values())) == len(result) else {}

    def _without_background(self, path: str | Path, values: np.ndarray) -> np.ndarray:
        """Numbers (H, W) in which the background that the user has named is 0."""
        assert self.background is not None
        number = self.background & 255
        if not number or not _is_grey(np.array([self.background])):
            return values
        counts = _counts(values)
        others = [i for i in np.flatnonzero(counts).tolist() if i not in (0, number)]
        free = WHITE if not others else next(i for i in range(1, 256) if i not in (*others, number))
        lut = np.arange(256, dtype=np.uint8)
        lut[0], lut[number] = free, 0
        return lut[values]

    def _without_edges(self, path: str | Path, values: np.ndarray, edges: list[int]) -> np.ndarray:
        """Numbers or colours (H, W) in which each pixel of an edge has the value of the nearest that is none."""
        is_edge = np.isin(values, edges)
        if is_edge.all():
            raise _soft(path, map(str, edges))
        source, kind = is_edge.astype(np.uint8), cv2.DIST_LABEL_PIXEL
        nearest = cv2.distanceTransformWithLabels(source, cv2.DIST_L2, 5, labelType=kind)[1].astype(np.intp)
        value_of = np.zeros(nearest.max() + 1, values.dtype)
        value_of[nearest[~is_edge]] = values[~is_edge]
        self._tell(f"{path}: {is_edge.sum()} pixels of soft edges became what is nearest")
        return value_of[nearest]

    def _cut_at_half(
        self, path: str | Path, values: np.ndarray, present: np.ndarray, edges: list[int], palette: np.ndarray | None
    ) -> np.ndarray:
        """White on black without its soft edges; raises `InputError` if there are other objects."""
        plain = set(present.tolist()) - set(edges)
        white = palette is None and {0, WHITE} <= set(present.tolist()) and all(v < 32 or v >= 224 for v in plain)
        middle = (values >= 32) & (values < 224)
        if not white or not plain or not any(16 <= v < 240 for v in edges) or middle.mean() > 0.25:
            raise _soft(path, map(str, edges))
        if self.white is False and PURE_WHITE not in self.colours:
            raise InputError(f"{path}: expected numbered objects, as in the masks before it, found white with soft edges")
        self._tell(f"{path}: the object has soft edges; above half is the object")
        return np.where(values > 127, np.uint8(WHITE), np.uint8(0))

    def _doubt_white(self, path: str | Path, white: int, others: Mapping[int, int]) -> None:
        """Tell that 255 beside numbers is no object; raises `InputError` if there is little else.  All by number of pixels."""
        if sum(others.values()) * 20 < white:
            raise InputError(
                f"{path}: expected numbered objects, or white on black, found 255 in {white} pixels and "
                f"{names_some(map(str, others))} in {sum(others.values())}; make them all one of the two"
            )
        self._tell(f"{path}: 255 beside other numbers means 'ignore'; if it is an object, give it a number below")

    def _tell(self, text: str) -> None:
        """Say something once for a video."""
        if self.note and not self._noted:
            self.note(text)
            self._noted = True

    def _refuse_background(
        self, path: str | Path, labels: np.ndarray, names: Mapping[int, int], palette: np.ndarray | None
    ) -> None:
        """Raise `InputError` if one of the objects named looks like the background.

        names: by id, the colour or the number in the file
        """
        border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        counts = _counts(border)
        most = int(counts.argmax())
        if (
            self.background == BLACK
            or most == 0
            or most not in names
            or counts[0] * 10 >= len(border)
            or counts[most] * 2 < len(border)
        ):
            return
        share = (labels == most).mean()
        if share < 0.5:
            return
        code = int(palette[most]) if palette is not None and most < len(palette) else names[most]
        colour = "white" if most == WHITE else _name(code) if code != most else str(most)
        what = colour if most == WHITE else f"object {most}" if colour == str(most) else f"object {most} ({colour})"
        raise InputError(
            f"{path}: {what} covers {share:.0%} of the frame and {counts[most] / len(border):.0%} of its border: is it the "
            f"background? {self.hint.replace('COLOUR', colour)}"
        )


def in_front(masks: Mapping[int, np.ndarray]) -> np.ndarray:
    """A label map (H, W) uint8 of masks (H, W) bool by id; where they overlap, the smaller one is in front."""
    result = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for number, mask in sorted(masks.items(), key=lambda entry: (-np.count_nonzero(entry[1]), entry[0])):
        result[mask] = number
    return result


def list_masks(folder: Path) -> dict[str, Path]:
    """The masks of a video by frame: pictures in the folder, or else in one folder for each object.

    Raises `InputError` if two files have the same stem.
    """
    if masks := list_frames(folder, suffixes=MASK_SUFFIXES):
        return {path.stem: path for path in masks}
    spread = [path for place in subfolders(folder) for path in list_frames(place, suffixes=MASK_SUFFIXES)]
    return {path.stem: folder / EACH_OBJECT / path.name for path in sorted(spread, key=lambda path: natural_order(path.stem))}


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
    ids = {name: int(name) if numbered else i for i, name in enumerate(sorted(names, key=natural_order), start=1)}
    return {file: ids[file.parent.name] for file in mask_files(path)}


def mask_size(path: Path) -> tuple[int, int]:
    """Height and width, read from the header only; raises `InputError` if the file cannot be a mask."""
    with open_image(next(iter(mask_files(path)), path), load=False) as image:
        _refuse_as_mask(image)
        return upright_size(image)


def _refuse_as_mask(image: Image.Image) -> None:
    refuse_lossy(image)
    if image.mode not in MODES:
        raise InputError(f"expected a paletted, greyscale or colour mask, found mode {image.mode}")


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
            if 0 < pixels[..., 3].max() < 128:
                raise InputError("expected objects that are not transparent, found none that is less than half so")
            codes = np.where(pixels[..., 3] < 128, CLEAR, pixels[..., :3].astype(np.int64) @ [1 << 16, 1 << 8, 1])
        else:
            codes = np.asarray(image.convert("RGB")).astype(np.int64) @ [1 << 16, 1 << 8, 1]
        if not codes.any() and _bits(image, path) == 16:
            raise InputError("expected 8 bits per channel, found 16 with nothing in the upper 8; save it with 8")
        return Stored(codes)


def _read_array(path: Path) -> np.ndarray:
    """The numbers in a NumPy file (H, W), or masks (N, H, W) of one object each, as uint8."""
    try:
        with open_file(path) as file:
            values = np.load(file, allow_pickle=False)
        values = values.squeeze() if values.ndim > 2 else values
        if values.ndim not in (2, 3) or values.dtype.kind not in "biuf" or 0 in values.shape:
            raise InputError(f"expected an array (H, W) of numbers, found {values.dtype} {values.shape}")
        if values.ndim == 3:
            if len(values) > MOST_OBJECTS or not np.isin(values, (0, 1, 255)).all():
                raise InputError(
                    f"expected an array (H, W), or masks (N, H, W) of 0 and 1, found {values.dtype} {values.shape}"
                )
            values = in_front({i: mask != 0 for i, mask in enumerate(values, start=1)})
        return values.astype(np.uint8) * 255 if values.dtype == bool else _as_bytes(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError, EOFError, MemoryError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot read this array ({error})"
        raise InputError(f"{path}: {what}") from error


def _indices(image: Image.Image) -> Stored:
    values, palette = np.array(image), _codes(bytes(image.getpalette("RGB") or []))
    clear = image.info.get("transparency", ())
    clear = {clear} if isinstance(clear, int) else {i for i, alpha in enumerate(clear) if alpha < 128}
    used = set(np.unique(values).tolist())
    if len(palette) and 0 not in clear and clear & used and (palette[0] != BLACK or used - clear == {0}):
        codes = palette[np.minimum(values, len(palette) - 1)]
        return Stored(np.where(np.isin(values, list(clear)), CLEAR, codes))
    if clear - {0}:
        values[np.isin(values, list(clear))] = 0
    return Stored(values, palette if len(palette) else None, 0 in clear)


def _drawn_on_nothing(codes: np.ndarray) -> np.ndarray:
    """Colours (H, W), where black is white if all else is transparent."""
    return np.where(codes == BLACK, PURE_WHITE, codes) if np.unique(codes).tolist() == [CLEAR, BLACK] else codes


def _unscaled(values: np.ndarray, image: Image.Image, path: str | Path) -> np.ndarray:
    """The numbers of a greyscale file of 2 or 4 bits, which Pillow multiplies by 85 or 17."""
    if (values % 17).any():
        return values
    bits = _bits(image, path)
    return values // {2: 85, 4: 17}[bits] if bits in (2, 4) else values


def _bits(image: Image.Image, path: str | Path) -> int:
    """Bits per channel, where the file's header says so."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))[0]
    if image.format != "PNG":
        return 8
    with open(path, "rb") as file:
        return file.read(25)[-1]


def _as_bytes(values: np.ndarray) -> np.ndarray:
    """Whole numbers (H, W) of any type as uint8; 65535 is white."""
    if (values == 65535).any() and not (values % 257).any():
        values = values // 257
    if values.dtype.kind == "i":
        values = np.where(values == -1, 0, values)  # which labelme writes for "ignored"
    if values.size and not (np.isfinite(values).all() and values.min() >= 0 and (values == np.floor(values)).all()):
        raise InputError("expected whole numbers from 0 to 254, found others")
    if values.size and values.max() > WHITE:
        count = len(np.setdiff1d(np.unique(values), [0]))
        found = f"{count} objects, numbered up to {values.max()}"
        raise InputError(f"expected at most {MOST_OBJECTS} objects, numbered from 1, found {found}")
    return values.astype(np.uint8)


def parse_colour(text: str) -> int:
    """A colour as 0xRRGGBB, from its name, `#rrggbb` or a grey value from 0 to 255; raises `InputError` if it is none."""
    if text.isdecimal() and len(text) < 4 and int(text) <= 255:
        return int(text) * 0x010101
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise InputError(f"expected a colour (white, #ffffff or 255), found {text}") from error
    return red << 16 | green << 8 | blue


def _edges(values: np.ndarray, counts: np.ndarray) -> list[int]:
    """The values that are no objects but edges between others: antialiased, dithered, interpolated, or outlines."""
    solid = cv2.erode(values, BOX) == cv2.dilate(values, BOX)
    inside = np.bincount(values[solid], minlength=len(counts)) if values.dtype != np.uint8 else _counts_in(values, solid)
    present = np.flatnonzero(counts)
    thin = present[inside[present] * 10 < counts[present]]
    if not len(thin):
        return []
    is_thin = np.zeros(len(counts), bool)
    is_thin[thin] = True
    rows, columns = np.nonzero(is_thin[values])
    padded = np.pad(values, 2, mode="edge")
    own = values[rows, columns]
    low, high = np.full(len(own), len(counts)), np.full(len(own), -1)  # the least and the greatest other value around
    for dy in range(5):
        for dx in range(5):
            other = padded[rows + dy, columns + dx]
            differs = other != own
            low, high = np.where(differs & (other < low), other, low), np.where(differs & (other > high), other, high)
    above, below, left, right = (padded[rows + y, columns + x] for y, x in ((1, 2), (3, 2), (2, 1), (2, 3)))
    enclosed = (above == below) & (left == right) & (above == left) & (above != own) & (above != 0)
    scattered = np.bincount(own[enclosed], minlength=len(counts))
    if dithered := [v for v in thin.tolist() if scattered[v] * 10 >= counts[v] * 6 and counts[v] >= 16]:
        return dithered
    between = np.bincount(own[low < high], minlength=len(counts))
    borders = [v for v in thin.tolist() if between[v] * 10 >= counts[v] * 6]
    if len(borders) > max(2, len(present) - len(thin)) and counts[borders].sum() >= 24:
        return borders
    return [v for v in borders if counts[v] >= 16 and _separates(values, v)]


def _separates(values: np.ndarray, value: int) -> bool:
    """Whether the pixels of a value keep another value apart from 0, which hardly touch elsewhere."""
    region = (values == value).astype(np.uint8)
    around = _counts(values[(cv2.dilate(region, BOX) > region)])
    most = [i for i in np.argsort(around)[::-1][:2].tolist() if around[i]]
    if 0 not in most or len(most) < 2:
        return False
    inner = (values == max(most)).astype(np.uint8)
    contact = (cv2.dilate(inner, BOX) > 0) & (values == 0)
    return int(contact.sum()) * 5 < int(region.sum())


def _rims(values: np.ndarray, counts: np.ndarray) -> list[int]:
    """The numbers that surround another one as a line along the background, where something has interpolated."""
    found: set[int] = set()
    near = None
    for number in np.flatnonzero(counts)[2:].tolist():
        region = (values == number).astype(np.uint8)
        outline = cv2.dilate(region, BOX) > region
        if number == WHITE or (length := np.count_nonzero(outline)) < SHORTEST_OUTLINE:
            continue
        near = cv2.dilate((values == 0).astype(np.uint8), BIG_BOX) > 0 if near is None else near
        between = values[outline & near & (values > 0) & (values < number)]
        if len(between) * 3 > length:  # a fifth at most, in DAVIS and YouTube-VOS
            found |= set(between.tolist())
    return sorted(found)


def _soft(path: str | Path, edges: Iterable[str]) -> InputError:
    edges = list(edges)
    return InputError(
        f"{path}: expected one plain number or colour for each object, found {len(edges)} that are only edges of others "
        f"({names_some(edges)}); draw without antialiasing or outlines, resize with nearest, and save as PNG, not JPEG"
    )


def _counts(values: np.ndarray) -> np.ndarray:
    """How often each number occurs, (256,) or more; Pillow counts bytes four times as fast as NumPy."""
    if values.dtype == np.uint8 and values.ndim == 2:
        return np.array(Image.fromarray(values).histogram())
    return np.bincount(values.ravel(), minlength=256)


def _counts_in(values: np.ndarray, region: np.ndarray) -> np.ndarray:
    return cv2.calcHist([values], [0], region.view(np.uint8), [256], [0, 256]).ravel().astype(np.int64)


def _is_real(palette: np.ndarray) -> bool:
    """Whether colours say more than indices: not a grey ramp, nor all the same."""
    return len(np.unique(palette)) > 1 and not (_is_grey(palette) and (np.diff(palette) > 0).all())


def _is_grey(codes: np.ndarray) -> bool:
    return bool((codes == (codes & 255) * 0x010101).all())


def _swapped(code: int) -> int:
    """The colour with red and blue exchanged, as OpenCV's BGR read as RGB."""
    return (code & 255) << 16 | code & 0xFF00 | code >> 16


def _distance(one: int, other: int) -> int:
    return max(abs((one >> shift & 255) - (other >> shift & 255)) for shift in (0, 8, 16))


def _brightness(code: int) -> range:
    """What a colour may be in greyscale, by the rule that most programs follow."""
    grey = round(0.299 * (code >> 16) + 0.587 * (code >> 8 & 255) + 0.114 * (code & 255))
    return range(grey - 1, grey + 2)


def _name(code: int) -> str:
    return NAMES.get(int(code), f"#{int(code):06x}")
