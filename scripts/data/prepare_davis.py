"""Unpack the archives of DAVIS 2016 and 2017 to where training and evaluation read them.

    python scripts/data/prepare_davis.py DAVIS-2017-trainval-480p.zip DAVIS-2017-test-dev-480p.zip DAVIS-data.zip

fills ../DAVIS/2017/trainval, ../DAVIS/2017/test-dev and ../DAVIS/2016 with the 480p frames and masks.

    python scripts/data/prepare_davis.py --shorter 600 DAVIS-2017-test-dev-Full-Resolution.zip

adds the full-resolution frames, resized, as JPEGImages/600p, for eval_davis.py --resolution 600p --size 600.
"""

import argparse
import re
import sys
from functools import partial
from pathlib import Path

from dataset.archives import Archive
from dataset.preparation import Placement, convert_image, one_by_one, preparation_parser, prepare
from util.errors import InputError, names_some, one_line_errors
from util.flags import int_between

SOURCES = """\
DAVIS 2017: https://davischallenge.org/davis2017/code.html
  TrainVal, 480p: DAVIS-2017-trainval-480p.zip (not Unsupervised, whose masks are of all objects)
  Test-Dev 2017, 480p: DAVIS-2017-test-dev-480p.zip
  for sizes other than 480p, also the Full-Resolution archives of both
  for the interactive track: DAVIS-2017-scribbles-trainval.zip
DAVIS 2016: https://davischallenge.org/davis2016/code.html
  DAVIS-data.zip
Read the terms there, download the files, and pass them (or the folders that they were unpacked to) to this script."""

FRAME = re.compile(r"(?:.*/)?((?:JPEGImages|Annotations)/480p/([^/]+)/[^/]+\.(?:jpg|png))")
FULL = re.compile(r"(?:.*/)?(JPEGImages/(?:Full-Resolution|1080p)/([^/]+)/([^/]+\.jpg))")
SCRIBBLES = re.compile(r"(?:.*/)?(Scribbles/[^/]+/[^/]+\.json)")
IMAGE_SET = re.compile(r"(?:.*/)?(ImageSets/([^/]+/[^/]+)\.txt)")
PARTS_2017 = {"2017/trainval": ("2017/train", "2017/val"), "2017/test-dev": ("2017/test-dev",)}


def plan(archive: Archive, output: Path, shorter: int | None = None) -> dict[str, Placement]:
    """Where the archive's files go, according to its image sets; with `shorter`, only its full-resolution frames, resized.

    Raises `InputError` if it is neither DAVIS at 480p (with `shorter`: full resolution) nor the scribbles of its interactive
    track, or lacks videos that its image sets list.
    """
    frames = [match for name in archive.sizes if (match := (FULL if shorter else FRAME).fullmatch(name))]
    image_sets = {match[2]: match for name in archive.sizes if (match := IMAGE_SET.fullmatch(name))}
    scribbles = [match for name in archive.sizes if (match := SCRIBBLES.fullmatch(name))]
    if scribbles and not frames and not shorter:
        return {match[0]: Placement(output / "2017/trainval", match[1]) for match in scribbles}
    chosen = {}
    if "480p/val" in image_sets:
        if "2017/val" in image_sets or "2017/test-dev" in image_sets:
            raise InputError(f"{archive.path}: holds both DAVIS 2016 and 2017, so it is unclear whose masks these are")
        chosen["2016"] = frames + list(image_sets.values())
    for part, own in PARTS_2017.items():
        if not all(name in image_sets for name in own):
            continue
        listed = {video for name in own for video in archive.read_text(image_sets[name][0]).split()}
        present = [match for match in frames if match[2] in listed]
        if not present:
            continue  # an archive may include the lists of another part
        if absent := listed - {match[2] for match in present}:
            raise InputError(f"{archive.path}: ImageSets/{own[0]}.txt ... list {names_some(absent)}, not found in it")
        with_masks = {match[2] for match in present if "Annotations" in match[1]}
        if part == "2017/trainval" and not shorter and (bare := listed - with_masks):
            what = f"expected masks (Annotations/480p), found none of {names_some(bare)}"
            raise InputError(f"{archive.path}: {what}: is it the Unsupervised archive?")
        others = [name for name in image_sets if part == "2017/trainval" and name != "2017/test-dev"]
        chosen[part] = present + [image_sets[name] for name in {*own, *others}]
    if not frames or not chosen:
        expected = "JPEGImages/Full-Resolution" if shorter else "JPEGImages/480p, Annotations/480p"
        raise InputError(f"{archive.path}: expected {expected} and ImageSets of DAVIS, found {archive.content()}")
    if shorter:
        convert = partial(convert_image, shorter=shorter)
        return {
            match[0]: Placement(output / part, f"JPEGImages/{shorter}p/{match[2]}/{match[3]}", convert)
            for part, matches in chosen.items()
            for match in matches
            if match.re is FULL
        }
    return {match[0]: Placement(output / part, match[1]) for part, matches in chosen.items() for match in matches}


def parser() -> argparse.ArgumentParser:
    result = preparation_parser(__doc__, output="../DAVIS", workers=True)
    result.add_argument(
        "--shorter", type=int_between(16, 4096), metavar="PIXELS", help="resize full-resolution frames to this shorter side"
    )
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    prepare(arguments, SOURCES, one_by_one(partial(plan, shorter=arguments.shorter)))


if __name__ == "__main__":
    sys.exit(main())
