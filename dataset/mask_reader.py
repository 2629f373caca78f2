"""The one reader of masks: what the numbers and colours in a video's mask files mean.  docs/videos.md has all of its rules.

- Numbers (greyscale values, indices of a palette) are ids, 0 is background, white on black is object 1 (`Numbering`).
- A palette is read by its colours instead if index 0 is not black, but another index that occurs is: tools reorder palettes.
- Colours are objects, the same in all masks of a video, whatever their indices (`dataset.identity`); grey ones are numbers.
- Values that only lie between others are edges, not objects (`dataset.soft_edges`).
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from dataset.colours import (
    BLACK,
    CLEAR,
    IGNORED_COLOUR,
    OURS,
    PURE_WHITE,
    are_grey,
    brightness_range,
    colour_name,
    drawn_on_nothing,
    refuse_background,
    says_more_than_indices,
)
from dataset.identity import Identity
from dataset.mask_files import EACH_OBJECT, in_front, load_mask, object_files, palettes_differ
from dataset.soft_edges import (
    edge_values,
    is_thick,
    refuse_scattered,
    replaced_by_nearest,
    rim_values,
    soft_edges_error,
)
from util.errors import InputError, names_some, print_note
from util.image import size_text
from util.label_map import WHITE, count_values, object_ids

PHOTOGRAPH = 4096  # colours
IGNORED_WHITE = "255 beside other numbers is no object; if it is one, give it a number below"
HANDFUL, MANY = 8, 32  # values; MANY: more than objects have in DAVIS


class MaskReader:
    """Reads the masks of one video as label maps, in frame order; see above.

    strict:     white on black after numbered objects raises `InputError` instead of being ignored
    union:      all that is not background is object 1, whatever its number (DAVIS 2016)
    background: the colour that is background, instead of black
    careful:    look for edges in all masks, and doubt that black is background even in a palette where it comes first
    soft:       pixels of soft edges become what is nearest, instead of raising `InputError`
    colours:    ids that colours have, such as those of the ground truth when results are read
    drawn:      by people; else by a network, which may find that a few objects are lines around others
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
        drawn: bool = True,
        hint: str = "Then save it with black instead of COLOUR",
        note: Callable[[str], object] | None = print_note,
    ) -> None:
        self.union, self.background, self.careful, self.soft = union, background, careful, soft
        self.drawn, self.hint = drawn, hint
        self.zero: int | None = None  # the object that is 0 where the background is not
        self.known = Identity(strict=strict, careful=careful, colours=colours, note=note)

    @classmethod
    def of(cls, paths: Iterable[str | Path], **options) -> "MaskReader":
        """The reader for a video's mask files, given in frame order, which then may be read in any order, by any thread.

        It reads up to the first file that is not empty, all if that is coloured or if palettes differ.
        """
        result, paths = cls(**options), [Path(path) for path in paths]
        for path in paths:
            labels = result.read(path)
            if result.drawn:
                if result.known.white and labels.all():
                    raise _white_everywhere(path)
                refuse_scattered(path, labels)
                if rims := rim_values(labels, count_values(labels)):
                    raise soft_edges_error(path, map(str, rims))
                result.known.refuse_inverted(path, labels)
            if result.known.white is not None and not result.known.coloured:
                if result.known.first is None or not palettes_differ(paths):
                    break
                result.known.coloured = True
        result.known.frozen = True
        return result

    def of_results(self, paths: Iterable[str | Path]) -> "MaskReader":
        """The reader for results of this video, which may be numbered or coloured like the masks, or in our palette."""
        return MaskReader.of(paths, drawn=False, colours=self.known.colours)

    def read(self, path: str | Path) -> np.ndarray:
        """A label map (H, W) uint8 of ids, perhaps empty; raises `InputError` naming a file that is no mask, or unclear."""
        if Path(path).parent.name == EACH_OBJECT:
            return self.known.numbered(self.merge(object_files(Path(path)))[0], path)
        values, palette, sure = load_mask(path)
        if palette is not None and self._goes_by_colour(values, palette, sure):
            values = palette[np.minimum(values, len(palette) - 1)]
        if self.union:
            return self._union(path, values)
        coloured = values.dtype != np.uint8
        labels = self._of_colours(path, values) if coloured else self._of_numbers(path, values, palette, sure)
        labels = self.known.numbered(labels, path)
        if self.known.shown is not None:
            self.known.refuse_inverted(path, labels)
        return labels

    def _union(self, path: str | Path, values: np.ndarray) -> np.ndarray:
        """All objects as object 1; of a single one with soft edges, or of probabilities, what is above half."""
        if values.dtype != np.uint8 and are_grey(np.unique(values)):
            values = (values & 255).astype(np.uint8)
        if values.dtype != np.uint8:
            return (drawn_on_nothing(values) > 0).astype(np.uint8)
        present = np.count_nonzero(counts := count_values(values))
        if present > MANY:
            self.known.tell(path, f"has {present} shades; what is above 127 is the object")
        soft = present > MANY or (present > 2 and counts[WHITE] and edge_values(values, counts))
        return (values > (127 if soft else 0)).astype(np.uint8)

    def merge(self, files: Mapping[Path, int]) -> tuple[np.ndarray, set[int]]:
        """A label map (H, W) uint8 of masks of one object each, by file, as `in_front` does, and the objects with empty masks.
        Raises `InputError` naming a file that is not one object's mask, or differs from the others in size.
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
        labels = MaskReader(background=self.background, soft=self.soft, hint=self.hint, note=self.known.note).read(path)
        if len(found := object_ids(labels)) > 1:
            raise InputError(f"{path}: expected a mask of one object, found {len(found)}")
        return labels != 0

    def _goes_by_colour(self, values: np.ndarray, palette: np.ndarray, sure: bool) -> bool:
        """Whether the colours of a palette say what the objects are, not the indices."""
        if (palette[0] == BLACK or sure) and not self.known.own and self.background is None:
            return False
        used = [i for i in np.flatnonzero(count_values(values)).tolist() if i < len(palette)]
        if self.background is not None and palette[0] != self.background:
            return any(palette[i] == self.background for i in used)
        if not says_more_than_indices(palette):
            return False
        if palette[0] == BLACK or sure:
            return self.known.own and any(palette[i] not in (BLACK, *(c for c, n in OURS.items() if n == i)) for i in used)
        return any(palette[i] == BLACK for i in used)

    def _of_numbers(self, path: str | Path, values: np.ndarray, palette: np.ndarray | None, sure: bool = False) -> np.ndarray:
        """Ids (H, W) uint8, with 255 as in the file, of numbers or indices."""
        known = self.known
        if known.frozen and not known.own and values.max() < HANDFUL and (palette is None or known.is_first(palette)):
            return values  # nearly all masks of data sets: nothing below would change them, but take as long as decoding
        if palette is None and self.background is not None:
            values = self._on_black(path, values, self.background)
        counts = count_values(values)
        present = np.flatnonzero(counts)
        # nothing mixes the numbers of a palette's colours but people, who draw
        indexed = palette is not None and not self.drawn and not are_grey(palette)
        edges = [] if indexed else self._soft_values(values, counts, present)
        if edges:
            if palette is not None and present[-1] < len(palette) and are_grey(palette[present]):
                return self._of_numbers(path, (palette[np.minimum(values, len(palette) - 1)] & 255).astype(np.uint8), None)
            values = (
                self._without_edges(path, values, edges)
                if self.soft
                else self._cut_at_half(path, values, present, edges, palette)
            )
            present = np.flatnonzero(count_values(values))
        if self.careful and known.white is None and present.tolist() == [WHITE] and self.background != BLACK:
            raise _white_everywhere(path)
        # any other number everywhere is no picture of anything, and so no background
        usual = palette is not None and (palette[0] == BLACK or sure)
        doubtful = not usual or self.careful
        decides = not known.ids or (palette is not None and not usual) or (self.careful and present.tolist() == [0, WHITE])
        if len(present) > 1 and doubtful and decides and self.background != BLACK:
            refuse_background(path, values, {i: i for i in present.tolist()}, palette, hint=self.hint, careful=self.careful)
        if palette is not None and says_more_than_indices(palette):
            return known.of_indices(path, values, palette, present)
        ids = set(present.tolist()) - {0, WHITE}
        if ids and WHITE in present and (self.careful or (not (known.frozen or known.ids) and is_thick(values == WHITE))):
            self._doubt_white(path, int(counts[WHITE]), {i: int(counts[i]) for i in ids})
        if palette is None and not ids and PURE_WHITE in known.colours:
            return np.where(values == WHITE, np.uint8(known.colours[PURE_WHITE]), np.uint8(0))
        if palette is None and known.white is None and ids and ids == {brightness_range(c)[1] for c in [*OURS][: len(ids)]}:
            known.tell(path, "its numbers are the brightness of DAVIS's colours: was it saved as greyscale?")
        known.refuse_unknown(path, ids)
        return values

    def _on_black(self, path: str | Path, values: np.ndarray, background: int) -> np.ndarray:
        """Numbers (H, W) in which those of a background that is not black are 0; nothing changes if its colour is not grey.

        What was 0 is white if there is nothing else in the first mask, else the next free number, in all masks the same.
        """
        number, known = background & 255, self.known
        if not number or not are_grey(np.array([background])):
            return values
        others = {*np.flatnonzero(count_values(values)).tolist()} - {0, number}
        if (values == 0).any():
            if self.zero is None and others | known.ids:
                self.zero = max(others | known.ids) + 1
                known.tell(path, f"0 is object {self.zero}, since the background is another number")
            self.zero = self.zero or WHITE
            if self.zero in others:
                raise InputError(f"{path}: expected no object {self.zero}, which 0 is in the masks before it, found both")
        lut = np.arange(256, dtype=np.uint8)
        lut[0], lut[number] = self.zero or 0, 0
        return lut[values]

    def _soft_values(self, values: np.ndarray, counts: np.ndarray, present: np.ndarray) -> list[int]:
        """The numbers that are edges, as far as they are looked for."""
        # soft edges have many values or large ones, objects few and small ones; so the masks of data sets are read without the
        # check, while the few that a user gives are always checked
        doubtful = len(present) > 2 and (self.careful or len(present) > HANDFUL or present[-1] >= 2 * HANDFUL)
        greys = counts[0] and counts[WHITE] and counts[32:WHITE].any()  # no numbers of objects, however few pixels have them
        edges = [i for i in edge_values(values, counts, least=0 if greys else 24) if i != WHITE] if doubtful else []
        if not self.drawn:
            return edges if 2 * len(edges) > len(present) else []
        return rim_values(values, counts) if self.careful and not edges else edges

    def _of_colours(self, path: str | Path, codes: np.ndarray) -> np.ndarray:
        """Ids (H, W) uint8 of colours (H, W); 255 is white on black."""
        found = np.unique(codes)
        if len(found) > PHOTOGRAPH and found[0] == CLEAR:
            self.known.tell(path, "is a picture with transparent surroundings; what is not transparent is the object")
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
        named = self.known.own or self.known.hints().keys() >= {*objects}
        if self.background is None and not named and are_grey(found):
            if objects == [PURE_WHITE] and self.known.white is False:
                raise InputError(f"{path}: expected colours of the masks before it, found white; give the object its colour")
            self.known.coloured |= objects == [PURE_WHITE] and not self.known.frozen
            return self._of_numbers(path, (codes & 255).astype(np.uint8), None)
        if objects == [PURE_WHITE] and self.known.white is not False and not self.known.own:
            ids = {PURE_WHITE: WHITE}
        else:
            index = np.searchsorted(found, codes).astype(np.uint8 if len(found) <= 256 else np.uint16)
            edges = found[edge_values(index, np.bincount(index.ravel()))].tolist() if len(found) > 2 else []
            if edges and edges != [IGNORED_COLOUR] and (self.drawn or 2 * len(edges) > len(found)):
                if not self.soft:
                    raise soft_edges_error(path, map(colour_name, edges))
                return self._of_colours(path, self._without_edges(path, codes, edges))
            ids = self.known.of_colours(path, objects, background)
        new = {number: code for code, number in ids.items() if code not in self.known.colours}
        lut = np.array([ids.get(code, 0) for code in found.tolist()], np.uint8)
        labels = lut[np.searchsorted(found, codes)]
        if new and self.background != BLACK:
            refuse_background(path, labels, new, None, hint=self.hint, careful=self.careful)
        self.known.add_colours(ids)
        return labels

    def _without_edges(self, path: str | Path, values: np.ndarray, edges: list[int]) -> np.ndarray:
        """Numbers or colours (H, W) in which each pixel of an edge has the value of the nearest that is none."""
        is_edge = np.isin(values, edges)
        if is_edge.all():
            raise soft_edges_error(path, map(str, edges))
        self.known.tell(path, f"{is_edge.sum()} pixels of soft edges became what is nearest")
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
        if self.known.white is False and PURE_WHITE not in self.known.colours:
            raise InputError(f"{path}: expected numbered objects, as in the masks before it, found white with soft edges")
        self.known.tell(path, "the object has soft edges; above half is the object")
        return np.where(values > 127, np.uint8(WHITE), np.uint8(0))

    def _doubt_white(self, path: str | Path, white: int, others: Mapping[int, int]) -> None:
        """Tell that 255 beside numbers is no object; raises `InputError` if there is little else.  All by number of pixels."""
        if self.careful and sum(others.values()) * 20 < white:
            raise InputError(
                f"{path}: expected numbered objects, or white on black, found 255 in {white} pixels and "
                f"{names_some(map(str, others))} in {sum(others.values())}; make them all one of the two"
            )
        self.known.tell(path, IGNORED_WHITE)


def _white_everywhere(path: str | Path) -> InputError:
    return InputError(f"{path}: expected 0 where there is no object, found 255 everywhere")
