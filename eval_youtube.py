"""Segment YouTube-VOS 2018 or 2019 in the format of the benchmark server, another benchmark, or your own videos.

python eval_youtube.py --model saves/stcn.pth --yv_path ../YouTube --output out/youtube --zip
python eval_youtube.py --model saves/stcn.pth --layout mose --path ../MOSE --output out/mose --zip
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from dataset.layouts import LAYOUTS, chosen_split, layout_videos
from dataset.video_names import add_videos_flags
from dataset.youtube import SPLITS, is_own_data, is_sparse, youtube_videos
from evaluation.flags import evaluation_parser, run_options
from evaluation.results import ResultFolder
from util.errors import InputError, one_line_errors
from util.lock import Lock


def parser() -> argparse.ArgumentParser:
    result = evaluation_parser(__doc__, size=480)
    result.add_argument(
        "--yv_path",
        "--path",
        default="../YouTube",
        metavar="DIR",
        help="folder with valid/ or test/, and all_frames/; or with JPEGImages/ and Annotations/ of your own videos, whose "
        "masks number the objects or are white on black; or the folder of --layout",
    )
    result.add_argument(
        "--layout", choices=LAYOUTS, help="another benchmark, which docs/benchmarks.md describes (default: none)"
    )
    splits = "; ".join(f"{name}: {', '.join(layout.splits)}" for name, layout in LAYOUTS.items() if len(layout.splits) > 1)
    result.add_argument("--split", help=f"set of videos, {' or '.join(SPLITS)}; {splits} (default: the first)")
    result.add_argument("--all_masks", action="store_true", help="use every mask, not only each object's first")
    result.add_argument(
        "--output_all", action="store_true", help="write every frame, not only those in meta.json or with a mask"
    )
    add_videos_flags(result)
    return result


@one_line_errors
def main() -> int:
    arguments = parser().parse_args()
    from evaluation.run import run_benchmark  # here, since --help need not wait for PyTorch

    layout = LAYOUTS[arguments.layout] if arguments.layout else None
    own = layout is None and is_own_data(Path(arguments.yv_path))
    split = chosen_split(arguments.split, SPLITS if layout is None else layout.splits, own=own)
    which: dict[str, Any] = {"split": split, "output_all": arguments.output_all}
    left_out: list[str] = []
    chosen = {"only": arguments.videos, "left_out": left_out}
    sparse, warning = False, ""
    if layout is not None:
        if arguments.all_masks:
            raise InputError(
                f"--all_masks: expected no --layout, whose masks are those to score with, found {arguments.layout}"
            )
        videos = layout_videos(layout, arguments.yv_path, **which, **chosen)
        which["layout"] = arguments.layout
    else:
        which["all_masks"] = arguments.all_masks
        videos = youtube_videos(arguments.yv_path, **which, **chosen)
        sparse = is_sparse(arguments.yv_path, split)
    results = ResultFolder(arguments.output, subfolder="Annotations" if layout is None else layout.archive)
    if sparse:
        apart = 5 * arguments.mem_every
        warning = f"{arguments.yv_path}/all_frames: not found, so memory frames are {apart} frames apart"
    with Lock(results.root, "eval_youtube.py"):
        options = {**run_options(arguments), "warning": warning, "failed": left_out}
        summary = run_benchmark(videos, results, {**which, "sparse": sparse}, **options)
    return int(summary is not None and bool(summary.failures))


if __name__ == "__main__":
    sys.exit(main())
