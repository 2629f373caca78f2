"""Tables 1, 2, 7, 8 and 9: networks side by side; J&F and speed by what is remembered, with the last frame or without.

python -m scripts.experiments.schedules --model saves/stcn.pth saves/stm.pth --every 1 3 5 10 --davis_path ../DAVIS/2017
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from evaluation.tables import Row, grey, report
from scripts.experiments.common import draw_curve, experiment_parser, file_of, labels_of, network_of, score, videos_of
from util.errors import one_line_errors
from util.flags import positive_int

MARKERS = "o^sDvP*X"


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
    report(folder, "schedules", "networks, and what is remembered", rows, draw(rows))


def draw(rows: list[Row]) -> Figure:
    """J&F against frames per second, a curve for each network with and without the last frame, a point for each `every`."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for i, network in enumerate(networks):
        for last in (True, False):  # open marks and filled ones
            found = [row for row in rows if (row["network"], row["last"]) == (network, last)]
            look = {"marker": MARKERS[i % len(MARKERS)], "markersize": 8, "markerfacecolor": "white" if last else None}
            draw_curve(axes, found, "every", label=f"{network}{' + last' if last else ''}", **look, **grey(i))
    axes.set(xlabel="frames per second", ylabel="J&F, %", title="numbers: a memory frame every so many frames")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    return figure


if __name__ == "__main__":
    sys.exit(main())
