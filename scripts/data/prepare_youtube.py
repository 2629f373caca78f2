"""Unpack the archives of YouTube-VOS to where training and evaluation read them; training frames are resized.

    python scripts/data/prepare_youtube.py train.zip valid.zip valid_all_frames.zip                    # 2019, to ../YouTube
    python scripts/data/prepare_youtube.py valid.zip valid_all_frames.zip --output ../YouTube2018      # 2018

fills train_480p (shorter side 480, never enlarged; images bicubic, masks nearest), valid, test and all_frames.
"""

import argparse
import re
import sys
from functools import partial
from pathlib import Path

from dataset.archives import Archive
from dataset.preparation import Placement, convert_image, convert_mask, preparation_parser, prepare
from util.errors import InputError, one_line_errors

SOURCES = """\
YouTube-VOS 2018 and 2019: https://youtube-vos.org/dataset/vos/
  train.zip, valid.zip, valid_all_frames.zip (and test.zip, test_all_frames.zip)
Register and accept the terms there, download the files, and pass them (or the folders that they were unpacked to) to this
script; for 2018, add --output ../YouTube2018."""

SHORTER = 480
META = re.compile(r"(?:.*/)?(train|valid|test)/(meta\.json)")
FRAME = re.compile(r"(?:.*/)?(train|valid|test)/((?:JPEGImages|Annotations)/[^/]+/[^/]+\.(jpg|png))")
ALL_FRAMES = re.compile(r"(?:.*/)?((?:valid|test)_all_frames/JPEGImages/[^/]+/[^/]+\.jpg)")


def plan(archives: list[Archive], output: Path) -> list[tuple[Archive, dict[str, Placement]]]:
    """Where the files of each archive go; raises `InputError` if one is not YouTube-VOS, or none has the training masks."""
    plans = [(archive, plan_of(archive, output)) for archive in archives]
    train = {
        placement.name.split("/")[0]: archive.path
        for archive, placements in plans
        for placement in placements.values()
        if placement.folder == output / "train_480p"
    }
    if "JPEGImages" in train and "Annotations" not in train:
        what = "expected masks (train/Annotations), found frames only: is it YouTube-VIS?"
        raise InputError(f"{train['JPEGImages']}: {what}")
    return plans


def plan_of(archive: Archive, output: Path) -> dict[str, Placement]:
    result = {}
    for name in archive.sizes:
        if match := ALL_FRAMES.fullmatch(name):
            result[name] = Placement(output / "all_frames", match[1])
        elif match := FRAME.fullmatch(name):
            part, below, kind = match.groups()
            if part == "train":
                convert = partial(convert_image if kind == "jpg" else convert_mask, shorter=SHORTER)
                result[name] = Placement(output / "train_480p", below, convert)
            else:
                result[name] = Placement(output / part, below)
        elif match := META.fullmatch(name):
            part = "train_480p" if match[1] == "train" else match[1]
            result[name] = Placement(output / part, match[2])
    if all(META.fullmatch(name) for name in result):
        raise InputError(
            f"{archive.path}: expected train/, valid/ or test/ with JPEGImages and Annotations, or valid_all_frames/ or "
            f"test_all_frames/, found {archive.content()}"
        )
    return result


def parser() -> argparse.ArgumentParser:
    return preparation_parser(__doc__, output="../YouTube", workers=True)


@one_line_errors
def main() -> None:
    prepare(parser().parse_args(), SOURCES, plan)


if __name__ == "__main__":
    sys.exit(main())
