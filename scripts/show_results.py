"""Draw some frames of each video with a result and, below, with the truth, as one picture.

python scripts/show_results.py --results out/davis17 --davis_path ../DAVIS/2017 --output results.png
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset.video import davis_videos
from util.errors import one_line_errors
from util.flags import DefaultsFormatter, positive_int
from util.image import read_image
from util.picture import overlay, sheet, write_picture


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=DefaultsFormatter)
    result.add_argument("--results", required=True, default=argparse.SUPPRESS, metavar="DIR", help="<video>/<frame>.png in it")
    result.add_argument("--davis_path", default="../DAVIS/2017", metavar="DIR", help="DAVIS, as for eval_davis.py")
    result.add_argument("--year", type=int, choices=(2016, 2017), default=2017, help="of DAVIS")
    result.add_argument("--split", choices=("val", "testdev"), default="val", help="which videos")
    result.add_argument("--frames", type=positive_int, default=6, metavar="N", help="so many of each video, evenly spaced")
    result.add_argument("--output", default="results.png", metavar="PNG", help="file to write")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    rows = []
    for video in davis_videos(arguments.davis_path, split=arguments.split, year=arguments.year):
        chosen = [video.images[i] for i in np.linspace(0, len(video) - 1, arguments.frames).round().astype(int)]
        results = {path.stem: Path(arguments.results) / video.name / f"{path.stem}.png" for path in chosen}
        for masks in (results, video.truth):
            if masks.keys() >= {path.stem for path in chosen}:  # the truth is not always public
                rows.append([overlay(read_image(path), video.read_mask(masks[path.stem])) for path in chosen])
    write_picture(arguments.output, sheet(rows))
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    sys.exit(main())
