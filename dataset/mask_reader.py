"""The one reader of masks: what the numbers and colours in a video's mask files mean.

- Numbers are ids: the values of a greyscale file (1 to 32 bits), or the indices of a paletted one.  0 is background.  White on
  black is object 1 (`util.label_map.Numbering`).
- A palette is read by its colours instead if index 0 is not black, but another index that occurs is: tools reorder palettes.
- Colours are objects, black and transparent pixels are background.  Colours of our palette (DAVIS's), or of the video's first
  palette, mean those ids.  If the video's first mask has others, they are numbered in order of appearance.  Grey colours are
  numbers.  One colour is one object in all masks of a video, whatever its index.
- Where black is not sure to be background (a greyscale, coloured or oddly paletted mask that comes first), it must not be rare
  along the border of the frame while an object covers most of it.
- Values that only lie between others are edges, not objects.  A single white object with soft edges is cut at half.  In the
  mask that decides, a number around an object is looked for as well: 1 between 0 and 2, where something has interpolated.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from dataset.background import drawn_on_nothing, refuse_background, without_background
from dataset.colours import (
    BLACK,
    CLEAR,
    IGNORED_COLOUR,
    NEAR,
    OURS,
    PURE_WHITE,
    are_grey,
    brightness_range,
    colour_distance,
    colour_name,
    completed_palette,
    first_near_pair,
    red_and_blue_swapped,
    says_more_than_indices,
)
from dataset.mask_files import EACH_OBJECT, MOST_OBJECTS, Stored, in_front, load_mask, object_files
from dataset.soft_edges import count_values, edge_values, replaced_by_nearest, rim_values, soft_edges_error
from util.errors import InputError, names_some, print_note
from util.image import size_text
from util.label_map import WHITE, Numbering

PHOTOGRAPH = 4096  # colours
HANDFUL = 8  # values


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
            if drawn and (rims := rim_values(labels, count_values(labels))):
                raise soft_edges_error(path, map(str, rims))
            if result.white is not None and not result.coloured:
                break
        result.frozen = True
        return result

    def of_results(self, paths: Iterable[str | Path]) -> "MaskReader":
        """The reader for results of this video, which may be numbered or coloured like the masks, or in our palette."""
        return MaskReader.of(paths, drawn=False, colours=self.colours)

    @property
    def white(self) -> bool | None:
        """Whether masks are white on black (`util.label_map.Numbering`)."""
        return self.numbering.white

    def palette(self) -> bytes:
        """A palette for results, 768 bytes: the masks' own colours, completed with ours where they have none."""
        stored = np.zeros(0, np.int64) if self.first is None or self.white else self.first
        codes = dict(enumerate(stored.tolist()))
        if self.own:
            codes |= {number: code for code, number in self.colours.items()}
        return completed_palette(codes)

    def read(self, path: str | Path) -> np.ndarray:
        """A label map (H, W) uint8 of ids, which may be empty.

        Raises `InputError` naming the file if it is not a mask, or what it means is unknown.
        """
        if Path(path).parent.name == EACH_OBJECT:
            return self.numbering.read(self.merge(object_files(Path(path)))[0], path)
        return self._meaning(path, load_mask(path))

    def _meaning(self, path: str | Path, stored: Stored) -> np.ndarray:
        values, palette, sure = stored
        if palette is not None and self._goes_by_colour(values, palette, sure):
            values = palette[np.minimum(values, len(palette) - 1)]
        if self.union:
            return self._union(values)
        coloured = values.dtype != np.uint8
        labels = self._of_colours(path, values) if coloured else self._of_numbers(path, values, palette, sure)
        labels = self.numbering.read(labels, path)
        if not self.frozen:
            self.ids |= {int(i) for i in np.flatnonzero(count_values(labels)) if i not in (0, WHITE)}
            if self.numbering.white:
                self.colours.setdefault(PURE_WHITE, 1)
        return labels

    def _union(self, values: np.ndarray) -> np.ndarray:
        """All objects as object 1; of a single one with soft edges, what is above half."""
        soft = values.dtype == np.uint8 and np.count_nonzero(counts := count_values(values)) > 2 and counts[WHITE]
        if values.dtype != np.uint8:
            values = drawn_on_nothing(values)
        return (values > (127 if soft and edge_values(values, counts) else 0)).astype(np.uint8)

    def merge(self, files: Mapping[Path, int]) -> tuple[np.ndarray, set[int]]:
        """A label map (H, W) uint8 of masks of one object each, by file, and the objects whose masks are empty.

        Where they overlap, the smaller one is in front.  Raises `InputError` naming a file that is not one object's mask, or
        differs from the others in size.
        """
        masks: dict[int, np.ndarray] = {}
        for path, number in files.items():
            mask = self._of_one_object(path)
            if masks and mask.shape != (first := next(iter(masks.values()))).shape:
                raise InputError(f"{path}: mask is {size_text(mask.shape)}, that of another object {size_text(first.shape)}")
            masks[number] = mask
        labels = in_front(masks)
        shown, empty = count_values(labels), {number for number, mask in masks.items() if not mask.any()}
        for path, number in files.items():
            if number not in empty and not shown[number]:
                raise InputError(f"{path}: expected masks of different objects, found one that the others cover")
        return labels, empty

    def _of_one_object(self, path: Path) -> np.ndarray:
        """A mask (H, W) bool of one object; raises `InputError` naming the file if it holds several."""
        reader = MaskReader(background=self.background, soft=self.soft, hint=self.hint, note=self.note)
        if path.parent.name == EACH_OBJECT:
            labels = reader.read(path)
        else:
            stored = load_mask(path)
            values, palette, _ = stored
            if values.dtype == np.uint8 and palette is None and self.background is None:  # most often white on black
                counts = count_values(values)
                if counts[0] + counts[WHITE] == values.size:
                    if counts[0]:
                        refuse_background(path, values, {WHITE: WHITE}, None, hint=self.hint)
                    return values == WHITE
            labels = reader._meaning(path, stored)
        if len(found := set(np.flatnonzero(count_values(labels)).tolist()) - {0}) > 1:
            raise InputError(f"{path}: expected a mask of one object, found {len(found)}")
        return labels != 0

    def _goes_by_colour(self, values: np.ndarray, palette: np.ndarray, sure: bool) -> bool:
        """Whether the colours of a palette say what the objects are, not the indices."""
        if (palette[0] == BLACK or sure) and not self.own and self.background is None:
            return False
        used = [i for i in np.flatnonzero(count_values(values)).tolist() if i < len(palette)]
        if self.background is not None and palette[0] != self.background:
            return any(palette[i] == self.background for i in used)
        if not says_more_than_indices(palette):
            return False
        if palette[0] == BLACK or sure:
            return self.own and any(palette[i] not in (BLACK, *(c for c, n in OURS.items() if n == i)) for i in used)
        return any(palette[i] == BLACK for i in used)

    def _of_numbers(self, path: str | Path, values: np.ndarray, palette: np.ndarray | None, sure: bool = False) -> np.ndarray:
        """Ids (H, W) uint8, with 255 as in the file, of numbers or indices."""
        if self.frozen and not self.own and values.max() < HANDFUL and (palette is None or self._is_first(palette)):
            return values  # nearly all masks of data sets: nothing below would change them, but take as long as decoding
        if palette is None and self.background is not None:
            values = without_background(values, self.background)
        counts = count_values(values)
        present = np.flatnonzero(counts)
        edges = self._soft_values(values, counts, present)
        if edges:
            if palette is not None and present[-1] < len(palette) and are_grey(palette[present]):
                return self._of_numbers(path, (palette[np.minimum(values, len(palette) - 1)] & 255).astype(np.uint8), None)
            values = (
                self._without_edges(path, values, edges)
                if self.soft
                else self._cut_at_half(path, values, present, edges, palette)
            )
            present = np.flatnonzero(count_values(values))
        # a single number everywhere is no picture of anything, and so no background
        usual = palette is not None and (palette[0] == BLACK or sure)
        doubtful = not usual or self.careful
        decides = not self.ids or (palette is not None and not usual) or (self.careful and present.tolist() == [0, WHITE])
        if len(present) > 1 and doubtful and decides and self.background != BLACK:
            refuse_background(path, values, {i: i for i in present.tolist()}, palette, hint=self.hint)
        if palette is not None and says_more_than_indices(palette):
            return self._like_the_first(path, values, palette, present)
        ids = set(present.tolist()) - {0, WHITE}
        if self.careful and ids and counts[WHITE] and WHITE in present:
            self._doubt_white(path, int(counts[WHITE]), {i: int(counts[i]) for i in ids})
        if palette is None and not ids and PURE_WHITE in self.colours:
            return np.where(values == WHITE, np.uint8(self.colours[PURE_WHITE]), np.uint8(0))
        self._refuse_unknown(path, ids)
        return values

    def _soft_values(self, values: np.ndarray, counts: np.ndarray, present: np.ndarray) -> list[int]:
        """The numbers that are edges, as far as they are looked for."""
        # soft edges have many values or large ones, objects few and small ones; so the masks of data sets are read without the
        # check, while the few that a user gives are always checked
        doubtful = len(present) > 2 and (self.careful or len(present) > HANDFUL or present[-1] >= 2 * HANDFUL)
        edges = [i for i in edge_values(values, counts) if i != WHITE] if doubtful else []
        return rim_values(values, counts) if self.careful and not edges else edges

    def _refuse_unknown(self, path: str | Path, ids: set[int]) -> None:
        """Raise `InputError` for numbers where the masks before have colours, or where they are the brightness of these."""
        if not (unknown := ids - self.ids):
            return
        if self.own and set(self.colours) != {PURE_WHITE}:
            raise InputError(f"{path}: expected colours, as in the masks before it, found number {min(unknown)}")
        brightness = {i for code in self.colours for i in brightness_range(code)}
        if self.colours and unknown == ids and ids <= brightness:
            raise InputError(
                f"{path}: expected numbers or colours, as in the masks before it, found the brightness of their colours; "
                "save it as PNG in colour"
            )
        if self.careful and self.ids and unknown == ids:
            self._tell(f"{path}: shares no number with the masks before it, so its objects are new ones")

    def _of_colours(self, path: str | Path, codes: np.ndarray) -> np.ndarray:
        """Ids (H, W) uint8 of colours (H, W); 255 is white on black."""
        found = np.unique(codes)
        if len(found) > PHOTOGRAPH and found[0] == CLEAR:
            self._tell(f"{path}: is a picture with transparent surroundings; what is not transparent is the object")
            codes = np.where(codes == CLEAR, CLEAR, PURE_WHITE)
            found = np.unique(codes)
        if len(found) > PHOTOGRAPH:
            raise InputError(
                f"{path}: expected one plain colour for each object on black, found {len(found)} colours: is it a picture?"
            )
        background = BLACK if self.background is None else self.background
        if found[0] == CLEAR:
            codes = drawn_on_nothing(codes) if self.background is None else codes
            codes = np.where(codes == CLEAR, background, codes)
            found = np.unique(codes)
        objects = [code for code in found.tolist() if code != background]
        if self.background is None and not self.own and are_grey(found) and not self._hints().keys() >= set(objects):
            if objects == [PURE_WHITE] and self.white is False:
                raise InputError(f"{path}: expected colours of the masks before it, found white; give the object its colour")
            return self._of_numbers(path, (codes & 255).astype(np.uint8), None)
        if objects == [PURE_WHITE] and self.white is not False and not self.own:
            ids = {PURE_WHITE: WHITE}
        else:
            index = np.searchsorted(found, codes).astype(np.uint8 if len(found) <= 256 else np.uint16)
            edges = found[edge_values(index, np.bincount(index.ravel()))].tolist() if len(found) > 2 else []
            if edges and edges != [IGNORED_COLOUR]:
                if not self.soft:
                    raise soft_edges_error(path, map(colour_name, edges))
                return self._of_colours(path, self._without_edges(path, codes, edges))
            ids = self._ids_of(path, objects, background)
        new = {number: code for code, number in ids.items() if code not in self.colours}
        lut = np.array([ids.get(code, 0) for code in found.tolist()], np.uint8)
        labels = lut[np.searchsorted(found, codes)]
        if new and self.background != BLACK:
            refuse_background(path, labels, new, None, hint=self.hint)
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
            if new and new == objects and self.colours.keys() >= {red_and_blue_swapped(code) for code in new}:
                raise InputError(f"{path}: expected colours of the masks before it, found them with red and blue swapped")
            for code in new:
                if code not in hints:
                    nearest = min(self.colours or hints, key=lambda other: colour_distance(code, other))
                    raise InputError(
                        f"{path}: expected colours of the masks before it or of the palette of DAVIS, found "
                        f"{colour_name(code)}; the nearest is {colour_name(nearest)}, object {hints[nearest]}"
                    )
            return {code: hints[code] for code in objects}
        if self.frozen and new:
            raise InputError(f"{path}: expected colours of the video's other masks, found {colour_name(new[0])}")
        if (count := len(self.ids | set(self.colours.values())) + len(new)) > MOST_OBJECTS:
            raise InputError(f"{path}: expected at most {MOST_OBJECTS} objects in all masks, found {count}")
        if pair := first_near_pair(new, [background, *self.colours, *objects]):
            what = "the background" if pair[1] == background else "another object"
            raise InputError(
                f"{path}: expected one plain colour for each object, found {colour_name(pair[0])} and "
                f"{colour_name(pair[1])}, which is {what}; make them equal, or differ by {NEAR} or more"
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
            elif i in colour_of and colour_distance(code, colour_of[i]) >= NEAR:
                raise InputError(
                    f"{path}: expected the colours of {self.first_path or 'the masks before it'}, where object {i} is "
                    f"{colour_name(colour_of[i])}, found {colour_name(code)} with that number; which object is it?"
                )
        return result if len(set(result.values())) == len(result) else {}

    def _without_edges(self, path: str | Path, values: np.ndarray, edges: list[int]) -> np.ndarray:
        """Numbers or colours (H, W) in which each pixel of an edge has the value of the nearest that is none."""
        is_edge = np.isin(values, edges)
        if is_edge.all():
            raise soft_edges_error(path, map(str, edges))
        self._tell(f"{path}: {is_edge.sum()} pixels of soft edges became what is nearest")
        return replaced_by_nearest(values, is_edge)

    def _cut_at_half(
        self, path: str | Path, values: np.ndarray, present: np.ndarray, edges: list[int], palette: np.ndarray | None
    ) -> np.ndarray:
        """White on black without its soft edges; raises `InputError` if there are other objects."""
        plain = set(present.tolist()) - set(edges)
        white = palette is None and {0, WHITE} <= set(present.tolist()) and all(v < 32 or v >= 224 for v in plain)
        middle = (values >= 32) & (values < 224)
        if not white or not plain or not any(16 <= v < 240 for v in edges) or middle.mean() > 0.25:
            raise soft_edges_error(path, map(str, edges))
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
