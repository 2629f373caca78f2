"""Which value of a mask is its background."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dataset.colours import BLACK, CLEAR, PURE_WHITE, are_grey, colour_name
from util.errors import InputError
from util.label_map import WHITE, count_values


def without_background(values: np.ndarray, background: int) -> np.ndarray:
    """Numbers (H, W) in which those of a background that is not black are 0; nothing changes if its colour is not grey."""
    number = background & 255
    if not number or not are_grey(np.array([background])):
        return values
    counts = count_values(values)
    others = [i for i in np.flatnonzero(counts).tolist() if i not in (0, number)]
    free = WHITE if not others else next(i for i in range(1, 256) if i not in (*others, number))
    lut = np.arange(256, dtype=np.uint8)
    lut[0], lut[number] = free, 0
    return lut[values]


def drawn_on_nothing(codes: np.ndarray) -> np.ndarray:
    """Colours (H, W), where black is white if all else is transparent."""
    return np.where(codes == BLACK, PURE_WHITE, codes) if np.unique(codes).tolist() == [CLEAR, BLACK] else codes


def border_of(values: np.ndarray) -> np.ndarray:
    """The outermost values (2 H + 2 W,) of (H, W)."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def refuse_background(
    path: str | Path, labels: np.ndarray, names: Mapping[int, int], palette: np.ndarray | None, *, hint: str
) -> None:
    """Raise `InputError` if one of the objects named covers most of the frame, and black is rare along its border.

    names: by id, the colour or the number in the file
    hint:  what to do about it, with COLOUR for the object's colour
    """
    border = border_of(labels)
    counts = count_values(border)
    most = int(counts.argmax())
    if most == 0 or most not in names or counts[0] * 10 >= len(border) or counts[most] * 2 < len(border):
        return
    share = (labels == most).mean()
    if share < 0.5:
        return
    code = int(palette[most]) if palette is not None and most < len(palette) else names[most]
    colour = "white" if most == WHITE else colour_name(code) if code != most else str(most)
    what = colour if most == WHITE else f"object {most}" if colour == str(most) else f"object {most} ({colour})"
    raise InputError(
        f"{path}: {what} covers {share:.0%} of the frame and {counts[most] / len(border):.0%} of its border: is it the "
        f"background? {hint.replace('COLOUR', colour)}"
    )
