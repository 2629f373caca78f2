"""Unpack the archives of the static data sets (stage 0) to where training reads them, as name.jpg and name.png.

    python scripts/data/prepare_static.py images.zip ground_truth_mask.zip DUTS-TR.zip DUTS-TE.zip fewshot_data.zip BIG.zip

fills ../static.  Masks become greyscale; HRSOD and BIG are shrunk to 512 pixels on the longer side, or with --shorter to so
many on the shorter one (images bicubic, masks nearest).  Give all archives of a data set at once.
"""

import argparse
import re
import sys
from functools import partial
from pathlib import Path

from dataset.archives import Archive
from dataset.preparation import Convert, Placement, convert_image, convert_mask, preparation_parser, prepare
from util.errors import InputError, names_some, one_line_errors
from util.flags import int_between

SOURCES = """\
ECSSD: https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html
  images.zip, ground_truth_mask.zip
DUTS: http://saliencydetection.net/duts/
  DUTS-TR.zip, DUTS-TE.zip
FSS-1000: https://github.com/HKUSTCV/FSS-1000
  the archive with fewshot_data
HRSOD: https://github.com/yi94code/HRSOD
  all archives of its images and masks
BIG: https://github.com/hkchengrex/CascadePSP
  the archive with <name>_im.jpg and <name>_gt.png
Read the terms there, download the files, and pass them (or the folders that they were unpacked to) to this script."""

CONVERT: dict[str, Convert] = {".jpg": convert_image, ".png": partial(convert_mask, grey=True)}
SHRUNK, LONGER = ("BIG_small", "HRSOD_small"), 512  # section F.3.1
# data set, its images, its masks; group 1 is their common name; the first match counts
PATTERNS = [
    (name, re.compile(images, re.IGNORECASE), re.compile(masks, re.IGNORECASE))
    for name, images, masks in (
        ("DUTS-TR", r"(?:.*/)?DUTS-TR-Image/([^/]+)\.jpg", r"(?:.*/)?DUTS-TR-Mask/([^/]+)\.png"),
        ("DUTS-TE", r"(?:.*/)?DUTS-TE-Image/([^/]+)\.jpg", r"(?:.*/)?DUTS-TE-Mask/([^/]+)\.png"),
        ("fss", r"(?:.*/)?([^/]+/(?:[1-9]|10))\.jpg", r"(?:.*/)?([^/]+/(?:[1-9]|10))\.png"),
        ("BIG_small", r"(?:.*/)?([^/]+)_im\.jpg", r"(?:.*/)?([^/]+)_gt\.png"),
        ("ecssd", r"(?:.*/)?images/(\d{4})\.jpg", r"(?:.*/)?ground_truth_mask/(\d{4})\.png"),
        (
            "HRSOD_small",
            r"(?=.*(?:hrsod|train|test)[^/]*/).*/([^/]+)\.jpg",
            r"(?=.*(?:hrsod|train|test)[^/]*/)(?=.*(?:mask|gt|truth)[^/]*/).*/([^/]+)\.png",
        ),
    )
]


def recognised(member: str) -> tuple[str, str, str] | None:
    """The data set, the common name and the suffix of a file, from its name in an archive; `None` if not recognised."""
    for name, images, masks in PATTERNS:
        for suffix, pattern in ((".jpg", images), (".png", masks)):
            if match := pattern.fullmatch(member):
                return name, match[1], suffix
    return None


def plan(archives: list[Archive], output: Path, *, shorter: int | None = None) -> list[tuple[Archive, dict[str, Placement]]]:
    """Where the files of each archive go, if both image and mask are in any of the archives; prints those that are not.

    HRSOD and BIG are shrunk to 512 pixels on the longer side, or to `shorter` on the shorter one.  Raises `InputError` if an
    archive contributes to no pair.
    """
    size = {"longer": LONGER} if shorter is None else {"shorter": shorter}
    known = [{member: what for member in archive.sizes if (what := recognised(member))} for archive in archives]
    partners: dict[tuple[str, str], set[str]] = {}
    for files in known:
        for name, stem, suffix in files.values():
            partners.setdefault((name, stem), set()).add(suffix)
    alone = {f"{name}/{stem}" for (name, stem), suffixes in partners.items() if len(suffixes) == 1}
    plans = []
    for archive, files in zip(archives, known, strict=True):
        placements = {
            member: Placement(output / name, f"{stem}{suffix}", partial(CONVERT[suffix], **(size if name in SHRUNK else {})))
            for member, (name, stem, suffix) in files.items()
            if f"{name}/{stem}" not in alone
        }
        if not placements:
            raise InputError(
                f"{archive.path}: expected photographs and masks of a static data set, from all its archives at once, "
                f"found {archive.content()}"
            )
        plans.append((archive, placements))
    if alone:
        print(f"left out, because the photograph or the mask is missing: {names_some(alone)}")
    return plans


def parser() -> argparse.ArgumentParser:
    result = preparation_parser(__doc__, output="../static", workers=True)
    result.add_argument(
        "--shorter",
        type=int_between(16, 4096),
        metavar="PIXELS",
        help="shorter side of HRSOD and BIG (384 in the released code), instead of 512 pixels on the longer one",
    )
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    prepare(arguments, SOURCES, partial(plan, shorter=arguments.shorter))


if __name__ == "__main__":
    sys.exit(main())
