"""Figure 5: the time of each part of a frame, STM beside STCN, with the last frame in memory and without.

python -m scripts.experiments.timing --model saves/stm.pth saves/stcn.pth --davis_path ../DAVIS/2017
python -m scripts.experiments.timing --untrained --davis_path ../DAVIS/2017    # the paper's two networks, random weights

Times are sums over all frames, divided by their number: what is done for memory frames only counts for all.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from dataset.video import Frame, Video
from evaluation.tables import Row, over_videos, report
from model import STCN, NetworkConfig, VideoSegmenter, make_network, save_network
from scripts.experiments.common import add_memory_flags, experiment_parser, labels_of, network_of, settings_of, videos_of
from util.device import timed_on
from util.errors import one_line_errors
from util.stopwatch import Stopwatch

PARTS = {  # of STM and STCN alike
    "encode_key": "query / key encoder",
    "memorise": "memory / value encoder",
    "read": "affinity matching and readout",
    "decode": "decoder",
}
REST = "the rest"
HATCHES = ("", "//", "xx", "..", "--")


def parser() -> argparse.ArgumentParser:
    result = experiment_parser("timing", __doc__)
    add_memory_flags(result)
    result.add_argument("--untrained", action="store_true", help="the paper's STM and STCN with random weights, not --model")
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos = videos_of(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.untrained:
            arguments.model = [untrained(arch, Path(temporary)) for arch in ("stm", "stcn")]
        rows = [
            row_of(model, label, videos, arguments, include_last=last)
            for model, label in labels_of(arguments.model).items()
            for last in (True, False)
        ]
    report(arguments.output, "timing", "Figure 5: milliseconds of a frame", rows, draw(rows))


def untrained(arch: str, folder: Path) -> str:
    """A checkpoint of the paper's network of this name, with random weights, which take as long as others."""
    path = folder / f"{arch}.pth"
    torch.manual_seed(0)
    save_network(make_network(NetworkConfig.of(arch=arch)), path)
    return str(path)


def row_of(model: str, label: str, videos: list[Video], arguments: argparse.Namespace, *, include_last: bool) -> Row:
    """A network in one schedule.  The paper times STM with the last frame in memory, which is then encoded in every frame,
    and STCN without it (section 6.2).
    """
    network = network_of(model, arguments)
    settings = settings_of(model, arguments, "mem_every", "top")
    device = next(network.parameters()).device.type
    settings |= {"include_last": include_last, "device": device} | timed_on()
    options = {"size": arguments.size, "memory_every": arguments.mem_every, "top_k": arguments.top}
    work = partial(seconds_of, network, {**options, "include_last": include_last})
    label += ", with last" if include_last else ", without"
    path = Path(arguments.output) / f"seconds_{label.replace(', ', '_').replace(' ', '_')}.json"
    found = over_videos(path, settings, videos, work, overwrite=arguments.overwrite).values()
    frames = sum(video["frames"] for video in found)
    parts = {name: 1000 * sum(video[name] for video in found) / frames for name in (*PARTS.values(), REST)}
    total = sum(parts.values())
    return {"network": label, "arch": network.config.arch, **parts, "sum": total, "frames/s": 1000 / total}


def seconds_of(network: STCN, options: dict[str, Any], video: Video, on_frame: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each part over a video, and its frames.  Reading files is no part."""
    trial = VideoSegmenter(network, **options)
    for frame in itertools.islice(video.frames(), 2):  # a GPU's first operations take seconds
        trial.step(frame.image, frame.mask)
    segmenter = VideoSegmenter(network, **options)
    watch = Stopwatch(next(network.parameters()).device)

    def segment(frame: Frame) -> None:
        probabilities = segmenter.step(frame.image, frame.mask)
        if probabilities is not None:
            segmenter.to_labels(probabilities).cpu()

    places = {name: segmenter.bank if name == "read" else network for name in PARTS}
    try:
        for name, place in places.items():
            setattr(place, name, partial(watch.time, PARTS[name], getattr(place, name)))
        for frame in video.frames():
            watch.time("all", segment, frame)
            on_frame()
    finally:
        for name, place in places.items():
            vars(place).pop(name, None)  # the class's own is seen again
    seconds = {name: sum(watch.seconds[name]) for name in PARTS.values()}
    return {"frames": len(watch.seconds["all"]), **seconds, REST: sum(watch.seconds["all"]) - sum(seconds.values())}


def draw(rows: list[Row]) -> Figure:
    """A bar for each network, of its parts one above the other."""
    figure = Figure(figsize=(2.2 + 1.6 * len(rows), 4.5), layout="constrained")
    axes = figure.subplots()
    names = [row["network"] for row in rows]
    bottom = [0.0] * len(rows)
    for i, part in enumerate((*PARTS.values(), REST)):
        heights = [row[part] for row in rows]
        axes.bar(names, heights, 0.6, bottom, label=part, color=str(0.95 - 0.15 * i), edgecolor="black", hatch=HATCHES[i])
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set(ylabel="ms a frame")
    figure.legend(loc="outside right upper")
    return figure


if __name__ == "__main__":
    sys.exit(main())
