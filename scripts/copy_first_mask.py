"""The simplest segmentation: the first mask, on every frame.  A network must do better than this.

python scripts/copy_first_mask.py --davis_path ../DAVIS/2017 --output out/copied
"""

import argparse
import shutil
import sys
from pathlib import Path

from dataset.benchmarks import davis_videos
from util.errors import one_line_errors
from util.files import write_atomically
from util.flags import DefaultsFormatter, first_line


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=first_line(__doc__), formatter_class=DefaultsFormatter)
    result.add_argument("--davis_path", default="../DAVIS/2017", metavar="DIR", help="DAVIS, as for eval_davis.py")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    result.add_argument("--split", choices=("val", "testdev"), default="val", help="set of videos")
    result.add_argument("--output", required=True, default=argparse.SUPPRESS, metavar="DIR", help="folder for the masks")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    for video in davis_videos(arguments.davis_path, split=arguments.split, year=arguments.year):
        (first,) = video.masks.values()
        for name in video.wanted:
            target = Path(arguments.output) / video.name / f"{name}.png"
            with open(first, "rb") as source:
                write_atomically(target, lambda file, source=source: shutil.copyfileobj(source, file))
    print(f"masks: {arguments.output}")


if __name__ == "__main__":
    sys.exit(main())
