"""The names of a data set's videos: lists of them in files, and the flags that choose some."""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from util.errors import InputError, names_some
from util.files import read_text
from util.guards import plain_name


def add_videos_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose some of a data set's videos, as the names `videos`; `None` means all."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--videos", nargs="+", metavar="NAME", help="only these videos (default: all)")
    which.add_argument(
        "--list",
        dest="videos",
        type=_listed,
        metavar="FILE",
        help="only the videos that a file names, one per line (default: all)",
    )


def _listed(path: str) -> list[str]:
    """The type of the flag `--list`."""
    try:
        return read_image_set(Path(path), nested=True)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read_image_set(path: Path, *, nested: bool = False) -> list[str]:
    """Video names, from a file with one name per line or one `/JPEGImages/480p/<video>/00000.jpg /Annotations/...` per frame.

    With `nested`, names may be `<data set>/<video>`, as in BURST.  Raises `InputError` if the file is not UTF-8 text, names no
    video, or holds a name that is not plain.
    """
    names = {}
    for line in dict.fromkeys(read_text(path).splitlines()):  # a list may repeat itself millions of times
        image, *mask = re.split(r"\s+(?=\S*Annotations/)", line.strip(), maxsplit=1)
        if image:  # names may hold spaces
            name = PurePosixPath(image).parent.name if mask else image
            for part in name.split("/") if nested else [name]:
                plain_name(part, source=path)
            names[name] = None
    if not names:
        raise InputError(f"{path}: expected names of videos, found an empty file")
    return list(names)


def chosen_videos(names: Iterable[str], only: Sequence[str] | None, listing: Path) -> list[str]:
    """The names that are also in `only`; all of them for `None`.  Raises `InputError` if one of `only` is not there."""
    found = list(names)
    if absent := set(only or ()) - set(found):
        raise InputError(f"--videos: expected some of {names_some(found)} ({listing}), found {names_some(absent)}")
    return found if only is None else list(dict.fromkeys(only))
