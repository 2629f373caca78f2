"""Segment DAVIS 2016 val, 2017 val or 2017 test-dev, and score the masks if the ground truth is public.

python eval_davis.py --model saves/stcn.pth --davis_path ../DAVIS/2017 --output out/davis
"""

import argparse
import sys

from dataset.davis import davis_videos
from dataset.video_names import add_videos_flags
from evaluation.flags import evaluation_parser, run_options
from evaluation.results import ResultFolder
from evaluation.score_tables import davis_scores, davis_tables, told_scope, write_davis_scores
from evaluation.scores import davis_jobs, long_enough, score_videos
from util.errors import names_some, one_line_errors
from util.lock import Lock


def parser() -> argparse.ArgumentParser:
    result = evaluation_parser(__doc__, size=None)
    result.add_argument(
        "--davis_path",
        default="../DAVIS/2017",
        metavar="DIR",
        help="folder with trainval/ and test-dev/ (2017), or one with JPEGImages/ (2016, and the official archives)",
    )
    result.add_argument("--split", choices=("val", "testdev"), default="val", help="set of videos")
    result.add_argument(
        "--year", type=int, choices=(2016, 2017), default=2017, help="2016 has one object: all non-zero values"
    )
    result.add_argument(
        "--resolution",
        default="480p",
        metavar="FOLDER",
        help="subfolder of JPEGImages with the frames; results are always 480p",
    )
    add_videos_flags(result)
    return result


@one_line_errors
def main() -> int:
    arguments = parser().parse_args()
    from evaluation.run import run_benchmark  # here, since --help need not wait for PyTorch

    which = {"split": arguments.split, "year": arguments.year, "resolution": arguments.resolution}
    left_out: list[str] = []
    videos = davis_videos(arguments.davis_path, **which, only=arguments.videos, left_out=left_out)
    absent = [frame for video in videos for frame in video.without_truth]
    scored = [] if absent else long_enough(videos)
    results = ResultFolder(arguments.output)
    with Lock(results.root, "eval_davis.py"):
        summary = run_benchmark(videos, results, which, **run_options(arguments), failed=left_out)
        if summary is None or summary.failures:
            return int(summary is not None)
        if absent:
            print(f"not scored: no ground truth for {names_some(absent)}")
            return 0
        scores = davis_scores(score_videos(davis_jobs(scored, results.masks)))
        print(told_scope(scores))
        print(davis_tables(scores)[0], end="")
        for path in write_davis_scores(scores, results.root, arguments.split):
            print(f"scores: {path}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
