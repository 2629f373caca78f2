"""The colours of masks, as numbers 0xRRGGBB, and which of them, or of the numbers in a mask, is its background."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageColor

from util.errors import InputError
from util.label_map import WHITE, colour_map, count_values

BLACK, PURE_WHITE, CLEAR = 0, 0xFFFFFF, -1  # colours as 0xRRGGBB; `CLEAR` is transparent
NEAR = 16  # two colours that differ by less in each channel were one once: those of our palette differ by 32 or more
NAMES = {BLACK: "black", PURE_WHITE: "white"}


def parse_colour(text: str) -> int:
    """A colour as 0xRRGGBB, from its name, `#rrggbb` or a grey value from 0 to 255; raises `InputError` if it is none."""
    if text.isdecimal() and len(text) < 4 and int(text) <= 255:
        return int(text) * 0x010101
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise InputError(f"expected a colour (white, #ffffff or 255), found {text}") from error
    return red << 16 | green << 8 | blue


def codes_of(pixels: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 RGB as numbers (...) int64, 0xRRGGBB."""
    return pixels.astype(np.int64) @ [1 << 16, 1 << 8, 1]


def codes_in(palette: bytes) -> np.ndarray:
    """The colours (N,) of a palette."""
    return codes_of(np.frombuffer(palette, np.uint8).reshape(-1, 3))


OURS = {code: i for i, code in enumerate(codes_in(colour_map()).tolist()) if i}
IGNORED_COLOUR = next(code for code, i in OURS.items() if i == WHITE)


def completed_palette(codes: dict[int, int]) -> bytes:
    """A palette, 768 bytes, with these colours by id; ids without one, or with black, get ours, or one that is not taken."""
    ours, taken = {i: code for code, i in OURS.items()}, set(codes.values())
    result = [codes.get(0, BLACK)]
    for number in range(1, 256):
        code = codes.get(number, BLACK)
        if code == BLACK:
            code = next((other for other in (ours[number], *OURS, PURE_WHITE) if other not in taken), ours[number])
            taken.add(code)
        result.append(code)
    return b"".join(code.to_bytes(3, "big") for code in result)


def colour_name(code: int) -> str:
    return NAMES.get(int(code), f"#{int(code):06x}")


def colour_distance(one: int, other: int) -> int:
    return max(abs((one >> shift & 255) - (other >> shift & 255)) for shift in (0, 8, 16))


def first_near_pair(codes: Sequence[int], others: Sequence[int]) -> tuple[int, int] | None:
    """The first colour with the first of the others that is nearly equal (`NEAR`), but not equal; `None` if there is none."""
    pairs = ((one, other) for one in codes for other in others if one != other)
    return next((pair for pair in pairs if colour_distance(*pair) < NEAR), None)


def red_and_blue_swapped(code: int) -> int:
    """The colour with red and blue exchanged, as OpenCV's BGR read as RGB."""
    return (code & 255) << 16 | code & 0xFF00 | code >> 16


def brightness_range(code: int) -> range:
    """What a colour may be in greyscale, by the rule that most programs follow."""
    grey = round(0.299 * (code >> 16) + 0.587 * (code >> 8 & 255) + 0.114 * (code & 255))
    return range(grey - 1, grey + 2)


def are_grey(codes: np.ndarray) -> bool:
    return bool((codes == (codes & 255) * 0x010101).all())


def says_more_than_indices(palette: np.ndarray) -> bool:
    """Whether colours say more than indices: not a grey ramp, nor all the same."""
    return len(np.unique(palette)) > 1 and not (are_grey(palette) and (np.diff(palette) > 0).all())


def drawn_on_nothing(codes: np.ndarray) -> np.ndarray:
    """Colours (H, W), where black is white if all else is transparent."""
    return np.where(codes == BLACK, PURE_WHITE, codes) if np.unique(codes).tolist() == [CLEAR, BLACK] else codes


def border_of(values: np.ndarray) -> np.ndarray:
    """The outermost values (2 H + 2 W,) of (H, W)."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def refuse_background(
    path: str | Path,
    labels: np.ndarray,
    names: Mapping[int, int],
    palette: np.ndarray | None,
    *,
    hint: str,
    careful: bool = False,
) -> None:
    """Raise `InputError` if one of the objects named covers most of the frame, and black is rare along its border.

    names:   by id, the colour or the number in the file
    hint:    what to do about it, with COLOUR for the object's colour
    careful: black may also be a third of that object there, as a person who stands on the lower edge; of 3,000 masks of
             DAVIS, ECSSD and CCP, none is so
    """
    border = border_of(labels)
    counts = count_values(border)
    most = int(counts.argmax())
    rare = counts[0] * 3 <= counts[most] if careful else counts[0] * 10 < len(border)
    if most == 0 or most not in names or not rare or counts[most] * 2 < len(border):
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
