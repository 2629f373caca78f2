"""Unpack the archives of BL30K to where training reads them.

    python scripts/data/prepare_bl30k.py BL30K_a.tar BL30K_b.tar BL30K_c.tar BL30K_d.tar BL30K_e.tar BL30K_f.tar

fills ../BL30K.  The archives may also be given one at a time, and removed afterwards.
"""

import argparse
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from dataset.archives import Archive
from dataset.preparation import Placement, one_by_one, place_stream, preparation_parser, prepare
from util.errors import InputError, names_some, one_line_errors

SOURCES = """\
BL30K: https://hkchengrex.github.io/MiVOS/ (the project page of MiVOS)
  BL30K_a.tar to BL30K_f.tar, about 115 GB each
Read the terms there, download the files, and pass them (or the folders that they were unpacked to) to this script, all at
once or one at a time."""

FRAME = re.compile(r"(?:(?:.*/)?BL30K[^/]*/)?((?:JPEGImages|Annotations)/[^/]+/[^/]+\.(?:jpg|png))")
LOOKED_AT = 100  # number of files from which an archive is recognised; it has a million and a half


def plan(archive: Archive, output: Path) -> Callable[[str], Placement | None]:
    """Where each file of the archive goes, by its name; raises `InputError` unless the archive begins like BL30K's."""
    names = [member.name for member in itertools.islice(archive.members(), LOOKED_AT)]
    if not any(FRAME.fullmatch(name) for name in names):
        found = names_some(set(names)) or "no file"
        raise InputError(f"{archive.path}: expected BL30K/{{JPEGImages,Annotations}}/<video>/, found {found}")

    def placement(name: str) -> Placement | None:
        match = FRAME.fullmatch(name)
        return Placement(output, match[1]) if match else None

    return placement


def parser() -> argparse.ArgumentParser:
    return preparation_parser(__doc__, output="../BL30K")


@one_line_errors
def main() -> None:
    prepare(parser().parse_args(), SOURCES, one_by_one(plan), put=place_stream)


if __name__ == "__main__":
    sys.exit(main())
