"""Make docs/curves.png: loss and IoU of the stages of a training, from its logs.

python scripts/dev/make_curves.py saves/small/light_s0 saves/small/light_s3
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluation.tables import write_figure
from util.errors import InputError, one_line_errors
from util.flags import Parser

CURVES = {"loss/total": "loss on the hardest pixels", "iou/object_1": "IoU of the first object, in training"}


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument("runs", nargs="+", metavar="DIR", help="folders of runs, in the order of training")
    result.add_argument("--output", default="docs/curves.png", metavar="PNG", help="file to write")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, len(CURVES))
    start = 0
    for number, run in enumerate(map(Path, arguments.runs)):
        log = EventAccumulator(str(run / "log"), size_guidance={"scalars": 0}).Reload()
        if absent := CURVES.keys() - set(log.Tags()["scalars"]):
            raise InputError(f"{run / 'log'}: expected the log of a training, found none of {min(absent)}")
        for place, name in zip(axes, CURVES, strict=True):
            points = [(start + point.step, point.value) for point in log.Scalars(name)]
            place.plot(*zip(*points, strict=True), color=f"C{number}", label=run.name)
        start += log.Scalars("loss/total")[-1].step
    for place, title in zip(axes, CURVES.values(), strict=True):
        place.set(xlabel="iterations", title=title)
        place.grid(alpha=0.3)
    axes[0].legend()
    write_figure(arguments.output, figure)
    print(arguments.output)


if __name__ == "__main__":
    sys.exit(main())
