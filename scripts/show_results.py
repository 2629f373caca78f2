"""Draw some frames of each video with the results and, below, with the ground truth, as one picture.

python scripts/show_results.py --results out/davis17 --davis_path ../DAVIS/2017 --output results.png
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from dataset.benchmarks import davis_videos
from util.errors import InputError, one_line_errors
from util.flags import DefaultsFormatter, first_line, positive_int
from util.image import Numbering
from util.picture import draw_mask, sheet, write_picture


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=first_line(__doc__), formatter_class=DefaultsFormatter)
    result.add_argument(
        "--results", required=True, default=argparse.SUPPRESS, metavar="DIR", help="folder with <video>/<frame>.png"
    )
    result.add_argument("--davis_path", default="../DAVIS/2017", metavar="DIR", help="DAVIS, as for eval_davis.py")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="year of DAVIS")
    result.add_argument("--split", choices=("val", "testdev"), default="val", help="set of videos")
    result.add_argument("--frames", type=positive_int, default=6, metavar="N", help="number of evenly spaced frames per video")
    result.add_argument("--output", default="results.png", metavar="PNG", help="file to write")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    folder = Path(arguments.results)
    if not folder.is_dir():
        raise InputError(f"--results {folder}: no such folder")
    rows, captions, names = [], [], []
    for video in davis_videos(arguments.davis_path, split=arguments.split, year=arguments.year):
        spaced = np.linspace(0, len(video) - 1, min(arguments.frames, len(video))).round().astype(int)
        chosen = [video.images[i] for i in dict.fromkeys(spaced)]
        results = {path.stem: folder / video.name / f"{path.stem}.png" for path in chosen}
        for source, masks, numbering in (("result", results, Numbering.of(results.values())), ("truth", video.truth, None)):
            if masks.keys() >= results.keys():  # the ground truth is not always public
                read = partial(video.read_mask, numbering=numbering)
                rows.append([draw_mask(path, masks[path.stem], read) for path in chosen])
                captions.append([path.stem for path in chosen])
                names.append(f"{video.name}\n{source}")
    write_picture(arguments.output, sheet(rows, captions=captions, names=names))
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    sys.exit(main())
