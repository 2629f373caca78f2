"""Segment YouTube-VOS 2018 or 2019 in the format of the benchmark server, or your own videos.

python eval_youtube.py --model saves/stcn.pth --yv_path ../YouTube --output out/youtube --zip
"""

import argparse
import sys

from dataset.benchmarks import add_videos_flags, is_sparse, youtube_videos
from evaluation.flags import evaluation_parser, run_options
from evaluation.results import ResultFolder
from evaluation.run import run_benchmark
from util.errors import one_line_errors
from util.flags import first_line
from util.lock import Lock


def parser() -> argparse.ArgumentParser:
    result = evaluation_parser(first_line(__doc__), size=480)
    result.add_argument(
        "--yv_path",
        default="../YouTube",
        metavar="DIR",
        help="folder with valid/ or test/, and all_frames/; or with JPEGImages/ and Annotations/ of your own videos, whose "
        "masks number the objects or are white on black",
    )
    result.add_argument("--split", choices=("valid", "test"), default="valid", help="set of videos")
    result.add_argument("--all_masks", action="store_true", help="use every mask, not only each object's first")
    result.add_argument("--sparse", action="store_true", help="accept a data set without all_frames/ (every fifth frame only)")
    result.add_argument("--output_all", action="store_true", help="write every frame, not only those in meta.json")
    add_videos_flags(result)
    return result


@one_line_errors
def main() -> int:
    arguments = parser().parse_args()
    which = {"split": arguments.split, "output_all": arguments.output_all, "all_masks": arguments.all_masks}
    left_out: list[str] = []
    videos = youtube_videos(arguments.yv_path, **which, only=arguments.videos, left_out=left_out)
    results = ResultFolder(arguments.output, subfolder="Annotations")
    sparse, warning = is_sparse(arguments.yv_path, arguments.split), ""
    if sparse and not arguments.sparse:
        apart = 5 * arguments.mem_every
        warning = (
            f"{arguments.yv_path}/all_frames: not found, so memory frames are {apart} frames apart (--sparse accepts that)"
        )
    with Lock(results.root, "eval_youtube.py"):
        options = {**run_options(arguments), "warning": warning, "failed": left_out}
        summary = run_benchmark(videos, results, {**which, "sparse": sparse}, **options)
    return int(summary is not None and bool(summary.failures))


if __name__ == "__main__":
    sys.exit(main())
