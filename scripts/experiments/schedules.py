"""Tables 1, 2, 7, 8 and 9: networks side by side; J&F and speed by what is remembered, with the last frame or without.

python -m scripts.experiments.schedules --model saves/stcn.pth saves/stm.pth --every 1 3 5 10 --davis_path ../DAVIS/2017
"""

import sys
from pathlib import Path

from evaluation.tables import Row, report
from scripts.experiments.common import draw_tradeoff, experiment_parser, file_of, labels_of, network_of, score, videos_of
from util.errors import one_line_errors
from util.flags import positive_int


def parser():
    result = experiment_parser("schedules", __doc__)
    result.add_argument(
        "--every", nargs="+", type=positive_int, default=[3, 5, 10], metavar="K", help="frames between memory frames"
    )
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos, folder = videos_of(arguments), Path(arguments.output)
    rows: list[Row] = []
    for model, label in labels_of(arguments.model).items():
        config = network_of(model, arguments).config
        for every in dict.fromkeys(arguments.every):
            for last in (True, False):
                place = folder / label / f"every_{every}{'_last' if last else ''}"
                found = score([model], videos, place, arguments, memory_every=every, include_last=last)
                run = {"network": label, "arch": config.arch, "similarity": config.similarity, "every": every, "last": last}
                rows.append({**run, **found, **file_of(model)})
    figure = draw_tradeoff(rows, "every", "numbers: a memory frame every so many frames")
    report(folder, "schedules", "networks, and what is remembered", rows, figure)


if __name__ == "__main__":
    sys.exit(main())
