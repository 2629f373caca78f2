"""The pictures in a folder: which they are, their order, and those that do not belong among the frames of a video."""

import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from util.errors import InputError
from util.guards import is_clutter
from util.image import open_image

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".gif", ".jp2", ".jfif", ".exr", ".dng", ".cr2", ".nef", ".arw", ".ppm", ".pgm", ".tga"}
    | {".cr3", ".hif", ".j2k", ".jpe", ".jpx", ".jxl", ".orf", ".pbm", ".pnm", ".raf", ".rw2"}
)  # of pictures that are not read
FRACTION = r"(?:[.,]\d+)?"  # of a number in a name
COPY = re.compile(r"(?<=\d)(?: ?[(~]| (?=\S)|[_-](?=[^\W\d_]))")  # what follows a frame's name in that of its copy
COUNTED = re.compile(r"0+[01]?-9+|0000\d\d-2359\d\d")  # the first and the last number where a counter begins anew
MOST_SERIES = 8  # that are told
MOST_KINDS = 8  # of pictures in a folder of frames that are looked at
FEW_COLOURS, SMALL = 64, 4  # SMALL: how many times smaller than usual the file of a mask is


def list_images(folder: str | Path, *, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The image files in a folder, in natural order of their stems; hidden and other files are left out."""
    return in_order(Path(entry) for entry in _pictures(folder, suffixes) if entry.is_symlink() or entry.is_file())


def _pictures(folder: str | Path, suffixes: Collection[str]) -> Iterator[os.DirEntry[str]]:
    """What a folder has under names of pictures; an entry knows what it is without asking the file system again."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in suffixes and not is_clutter(entry.name):
                yield entry


def in_order(images: Iterable[Path]) -> list[Path]:
    """Image files in natural order of their stems."""
    by_stem: dict[str, list[Path]] = {}
    for path in images:
        by_stem.setdefault(path.stem, []).append(path)
    return [path for stem in natural_order(by_stem) for path in sorted(by_stem[stem])]


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


def list_frames(
    folder: str | Path, *, leave_out: Collection[Path] = (), suffixes: Collection[str] = IMAGE_SUFFIXES
) -> list[Path]:
    """`list_images`, for a folder whose files are identified by their stems, without those in `leave_out`.

    Raises `InputError` if two files have the same stem, or if anything else has an image suffix (else it would be skipped).
    """
    images = []
    for entry in _pictures(folder, suffixes):
        # a link that leads nowhere is told when it is read
        if not (os.path.isfile(entry) or not os.path.exists(entry) if entry.is_symlink() else entry.is_file()):
            raise InputError(f"{entry.path}: expected a picture, found a {'folder' if entry.is_dir() else 'pipe or device'}")
        images.append(Path(entry))
    others = {path.resolve() for path in leave_out}
    return refuse_twins([path for path in in_order(images) if not others or path.resolve() not in others])


def refuse_twins(images: list[Path]) -> list[Path]:
    """The same images; raises `InputError` if two neighbours differ only in their suffix."""
    for one, other in itertools.pairwise(images):
        if one.stem == other.stem:
            raise InputError(f"{one.parent}: expected one picture of each name, found {one.name} and {other.name}")
    return images


def name_pattern(path: Path) -> str:
    """A file's stem with `#` for each number."""
    return re.sub(r"-?\d+([.,]\d+)?", "#", path.stem)


def count_series(names: Sequence[str]) -> int:
    """How many series of the same numbers, or nearly so, names of frames hold, as of several cameras; 1 if they are one."""
    numbers = [re.findall(r"\d+(?:[.,]\d+)?", name) for name in names]
    for place, column in enumerate(zip(*numbers, strict=True)) if len({*map(len, numbers)}) == 1 else ():
        if 2 <= len({*column}) <= MOST_SERIES:
            rest: dict[str, set[tuple[str, ...]]] = {}
            for row in numbers:
                rest.setdefault(row[place], set()).add((*row[:place], *row[place + 1 :]))
            first, *others = rest.values()  # of which one may be longer
            if all(len(first & other) * 5 >= 4 * min(map(len, (first, other))) > 8 for other in others):
                return len(rest)
    return 1


def begun_anew(names: Sequence[str]) -> tuple[str, str] | None:
    """The first and the last name of frames in order if their counter seems to have begun anew: 9998, 9999, 0001, 0002.

    It begins with 0 or 1 and ends in nines, or begins after midnight and ends before it, and has one wide gap between.
    """
    last = [found[-1] for name in names if (found := re.findall(r"\d+", name))]
    if len(last) < max(len(names), 2) or len({*map(len, last)}) > 1 or not COUNTED.fullmatch(f"{last[0]}-{last[-1]}"):
        return None
    *others, widest = sorted(int(after) - int(before) for before, after in itertools.pairwise(last))
    return (names[0], names[-1]) if others and widest >= 10 * others[-1] else None


def refuse_strangers(frames: Sequence[Path], kinds: Sequence[str]) -> None:
    """Raise `InputError` naming a picture among frames that is none: a copy, the only one of its kind, or like a mask.

    kinds: of each picture, such as its suffix; their names are compared as well, apart from numbers
    """
    names = {path.stem for path in frames}
    parts = ((path, path.stem[: found.start()]) for path in frames for found in COPY.finditer(path.stem))
    copies = [(path, original) for path, original in parts if original in names]
    if 2 * len(copies) < len(frames):  # else they are called so
        for path, original in copies[:1]:
            raise InputError(f"{path}: is called like a copy of frame {original}; move it away")
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
