"""J&F against frames per second, by the size at which networks work.

python -m scripts.experiments.sizes --sizes 240 320 400 480 --davis_path ../DAVIS/2016 --year 2016
"""

import argparse
import sys
from pathlib import Path

from evaluation.flags import LARGEST_SIZE, SMALLEST_SIZE
from evaluation.tables import Row, report
from scripts.experiments.common import draw_tradeoff, experiment_parser, labels_of, score, videos_of
from util.errors import one_line_errors
from util.flags import int_between


def parser() -> argparse.ArgumentParser:
    result = experiment_parser("sizes", __doc__)
    result.add_argument(
        "--sizes",
        nargs="+",
        type=int_between(SMALLEST_SIZE, LARGEST_SIZE),
        default=[240, 320, 400, 480],
        metavar="PIXELS",
        help="shorter sides, instead of --size",
    )
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos, folder = videos_of(arguments), Path(arguments.output)
    rows: list[Row] = []
    for model, label in labels_of(arguments.model).items():
        for size in sorted(set(arguments.sizes)):
            arguments.size = size
            rows.append({"network": label, "size": size, **score([model], videos, folder / label / f"size_{size}", arguments)})
    report(folder, "sizes", "J&F and speed by size", rows, draw_tradeoff(rows, "size", "numbers: pixels of the shorter side"))


if __name__ == "__main__":
    sys.exit(main())
