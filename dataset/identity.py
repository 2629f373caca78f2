"""Which object each number and each colour is, in all masks of one video."""

import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dataset.colours import (
    BLACK,
    NEAR,
    OURS,
    PURE_WHITE,
    border_of,
    brightness_range,
    colour_distance,
    colour_name,
    completed_palette,
    first_near_pair,
    red_and_blue_swapped,
)
from util.errors import InputError
from util.label_map import MOST_OBJECTS, WHITE, Numbering, object_ids

SAMPLES = 64  # rows and columns of a mask that others are compared to


class Identity(Numbering):
    """What the masks of a video have said so far; once `frozen`, they may come in any order, and say nothing new.

    Parameters are as for `dataset.mask_reader.MaskReader`.
    """

    def __init__(
        self, *, strict: bool, careful: bool, colours: Mapping[int, int] | None, note: Callable[[str], object] | None
    ) -> None:
        super().__init__(strict=strict)
        self.careful, self.note = careful, note
        self.told = {**OURS, **colours} if colours else OURS  # ids by colour, unless the masks say otherwise
        self.colours: dict[int, int] = {}  # ids by colour, in the masks so far
        self.ids: set[int] = set()  # in the masks so far
        self.own = False  # colours are numbered in order of appearance
        self.coloured = False  # later masks may have more colours, which mean what order says
        self.frozen = False
        self.first: np.ndarray | None = None  # the first palette
        self.shown: tuple[str | Path, np.ndarray] | None = None  # the first mask with objects, to which others are compared
        self._noted: set[str] = set()

    def tell(self, path: str | Path, what: str) -> None:
        """Say something of a mask, but for the numbers in it once for a video."""
        kind = re.sub("[0-9]+", "", what)
        if self.note and kind not in self._noted:
            self.note(f"{path}: {what}")
            self._noted.add(kind)

    def palette(self) -> bytes:
        """A palette for results, 768 bytes: the masks' own colours, completed with ours where they have none."""
        stored = np.zeros(0, np.int64) if self.first is None or self.white else self.first
        codes = dict(enumerate(stored.tolist()))
        if self.own:
            codes |= {number: code for code, number in self.colours.items()}
        return completed_palette(codes)

    def numbered(self, labels: np.ndarray, path: str | Path) -> np.ndarray:
        """A mask's ids (H, W) uint8, of which 255 is object 1 or nothing; they are known from now on."""
        labels = self.read(labels, path)
        if not self.frozen:
            self.ids.update(object_ids(labels))
            if self.white:
                self.colours.setdefault(PURE_WHITE, 1)
        return labels

    def refuse_inverted(self, path: str | Path, labels: np.ndarray) -> None:
        """Raise `InputError` if an object of the first mask, which is kept, is what was around it then; if it has moved away
        from there as well, this may be so, and a note asks.
        """
        number = int(np.bincount(labels[[0, 0, -1, -1], [0, -1, 0, -1]]).argmax())
        if self.shown is not None and not number:  # most often
            return
        # a copy, since a view would keep all in memory
        small = labels[:: 1 + len(labels) // SAMPLES, :: 1 + labels.shape[1] // SAMPLES].copy()
        if self.shown is None:
            self.shown = (path, small) if labels.any() else None
            return
        first, before = self.shown
        if before.shape != small.shape or np.mean(before == number) >= 0.5 or (share := np.mean(small == number)) <= 0.5:
            return
        was, nothing, what = before == number, small == 0, f"object {number} is {share:.0%} of the frame"
        if 2 * np.count_nonzero(was & nothing) > np.count_nonzero(was | nothing):
            raise InputError(f"{path}: {what} and nothing of where it was in {first}; is it inverted?")
        if nothing.any() and np.mean(border_of(small) == number) >= 0.9:  # at most 0.53, in DAVIS and YouTube-VOS
            self.tell(path, f"{what} and nearly all of its border, and was {was.mean():.0%} in {first}; is it inverted?")

    def refuse_unknown(self, path: str | Path, ids: set[int]) -> None:
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
            self.tell(path, "shares no number with the masks before it, so its objects are new ones")

    def of_colours(self, path: str | Path, objects: list[int], background: int) -> dict[int, int]:
        """An id for each colour; new ones are numbered only in a video that has its own colours."""
        new = [code for code in objects if code not in self.colours]
        numbered = self.white is False and not self.own
        hints = self.hints()
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
            self.tell(path, "shares no colour with the masks before it, so its objects are new ones")
        self.own = True
        return {code: self.colours[code] for code in objects if code in self.colours} | {
            code: start + i for i, code in enumerate(new, start=1)
        }

    def add_colours(self, ids: Mapping[int, int]) -> None:
        """Keep the ids of a mask's colours."""
        if not self.frozen:
            self.coloured = self.coloured or self.own or WHITE in ids.values()
            self.colours |= {code: 1 if number == WHITE else number for code, number in ids.items()}

    def hints(self) -> dict[int, int]:
        """Ids by colour: of the masks so far, else of the first palette, else as told at the start."""
        return {**self.told, **self._first_ids(), **self.colours}

    def _first_ids(self) -> dict[int, int]:
        stored = [] if self.first is None else self.first.tolist()
        return {code: i for i, code in reversed([*enumerate(stored)]) if i and code != BLACK}

    def of_indices(self, path: str | Path, values: np.ndarray, palette: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Indices (H, W) as ids; where a colour has another index in the first palette, it keeps that id."""
        if self.is_first(palette) and not self.own:
            ids: dict[int, int] = {}  # as they are
        else:
            ids = self._of_indices(path, palette, [i for i in present.tolist() if i not in (0, WHITE)])
        if self.first is None and present[-1] and not self.frozen:
            self.first = palette
        if not self.frozen:
            for i in set(present.tolist()) - {0, WHITE}:
                if i < len(palette) and palette[i] != BLACK:
                    self.colours.setdefault(int(palette[i]), ids.get(i) or i)
        if all(i == number for i, number in ids.items()):
            return values
        lut = np.arange(256, dtype=np.uint8)
        lut[list(ids)] = list(ids.values())
        return lut[values]

    def is_first(self, palette: np.ndarray) -> bool:
        return self.first is not None and len(self.first) == len(palette) and bool((self.first == palette).all())

    def _of_indices(self, path: str | Path, palette: np.ndarray, indices: list[int]) -> dict[int, int]:
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
                    f"{path}: expected the colours of the masks before it, where object {i} is "
                    f"{colour_name(colour_of[i])}, found {colour_name(code)} with that number; which object is it?"
                )
        for i, other in itertools.combinations(result, 2):
            if result[i] == result[other]:
                codes = [int(palette[each]) if each < len(palette) else BLACK for each in (i, other)]
                if codes[0] != codes[1]:
                    raise InputError(
                        f"{path}: expected the colours of the masks before it, found {colour_name(codes[0])} and "
                        f"{colour_name(codes[1])}, which are both object {result[i]} there; number the objects in all masks"
                    )
                return {}
        return result
