"""The simplest baseline: copy the first mask to every frame.

python scripts/copy_first_mask.py --davis_path ../DAVIS/2017 --output out/copied
"""

import argparse
import sys

from dataset.davis import davis_videos
from dataset.video import Video
from evaluation.results import ResultFolder
from util.errors import InputError, one_line_errors
from util.flags import Parser
from util.lock import Lock


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("--davis_path", default="../DAVIS/2017", metavar="DIR", help="DAVIS, as for eval_davis.py")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    result.add_argument("--split", choices=("val", "testdev"), default="val", help="set of videos")
    result.add_argument("--output", required=True, metavar="DIR", help="folder for the masks")
    result.add_argument("--overwrite", action="store_true", help="replace what --output holds of another data set or split")
    return result


def copy(video: Video, results: ResultFolder) -> None:
    (first,) = video.masks.values()
    labels, folder = video.read_mask(first), results.start(video)
    try:
        for name in video.wanted:
            video.write_mask(folder / f"{name}.png", labels)
    except InputError:
        results.discard(video, folder)
        raise
    results.finish(video, folder)


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    which = {"split": arguments.split, "year": arguments.year}
    videos, results = davis_videos(arguments.davis_path, **which), ResultFolder(arguments.output)
    with Lock(results.root, "copy_first_mask.py"):
        results.claim(videos, {"made by": "copying the first mask", **which}, overwrite=arguments.overwrite)
        for video in videos:
            if not results.is_finished(video):
                copy(video, results)
    print(f"masks: {results.masks}")


if __name__ == "__main__":
    sys.exit(main())
