"""Figure 4: the largest weight that each memory node ever gives, over a data set, and its Gini coefficient.

python -m scripts.experiments.affinity --model saves/l2.pth saves/dot.pth --davis_path ../DAVIS/2017

The memory is that of segmentation: every 5th frame.  Both curves of a network, with top-k and without, come from one walk
over the videos.  STM has memory nodes for each object.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dataset.video import Video
from evaluation.tables import grey, over_videos, report
from model import STCN, MemoryBank, VideoSegmenter
from model.similarity import affinity, similarity
from model.stm import ObjectBanks
from scripts.experiments.common import (
    add_memory_flags,
    experiment_parser,
    file_of,
    labels_of,
    network_of,
    settings_of,
    videos_of,
)
from util.errors import one_line_errors

BINS = 10_000  # of weights from 0 to 1
BLOCK = 2**22  # similarities that are in memory at a time


class WatchedBank(MemoryBank):
    """A memory that notes the largest weight of each of its positions over all reads, with top-k and without."""

    def __init__(self, *, similarity: str, top_k: int) -> None:
        super().__init__(similarity=similarity, top_k=top_k)
        self.watched_k = top_k
        self.keys: list[Tensor] = []  # (hw, Ck) of each frame
        self.largest = {"top": torch.zeros(0), "all": torch.zeros(0)}  # (M,), with top-k and without

    def add(self, key: Tensor, values: Tensor, **flags: bool) -> None:
        super().add(key, values, **flags)
        self.keys.append(key.flatten(1).T)
        for reads, largest in self.largest.items():
            self.largest[reads] = torch.cat([largest, torch.zeros(key[0].numel())])

    def read(self, query_key: Tensor) -> Tensor:
        keys = torch.cat(self.keys)
        for query in query_key.flatten(1).T.split(max(1, BLOCK // len(keys))):
            found = similarity(keys[None], query[None], self.similarity)[0]  # (Q, M)
            top, rows = found.topk(min(self.watched_k, found.shape[1]), dim=1)
            filtered = torch.zeros_like(found).scatter_(1, rows, affinity(top))
            for reads, weights in (("top", filtered), ("all", affinity(found))):
                self.largest[reads] = torch.maximum(self.largest[reads], weights.amax(dim=0).cpu())
        return super().read(query_key)


def parser():
    result = experiment_parser("affinity", __doc__)
    add_memory_flags(result)
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    videos, folder = videos_of(arguments), Path(arguments.output)
    rows, curves = [], {}
    for model, label in labels_of(arguments.model).items():
        network = network_of(model, arguments)
        options = {"size": arguments.size, "memory_every": arguments.mem_every, "top_k": arguments.top}
        settings = settings_of(model, arguments, "mem_every", "top")
        work = partial(largest_weights, network, options)
        found = over_videos(folder / f"nodes_{label}.json", settings, videos, work, overwrite=arguments.overwrite)
        for reads, name in (("top", f"top {arguments.top}"), ("all", "all")):
            counts = np.sum([video[reads] for video in found.values()], axis=0)
            curves[f"{label}, {name}"] = curve(counts)
            row = {"network": label, "similarity": network.config.similarity, "reads": name}
            rows.append({**row, **figures(counts), **file_of(model)})
    title = "Figure 4: the largest weight that memory nodes ever give"
    report(folder, "affinity", title, rows, draw(curves), curves={name: line[::100].tolist() for name, line in curves.items()})


def largest_weights(network: STCN, options: dict[str, Any], video: Video, on_frame: Callable[[], Any]) -> dict[str, list[int]]:
    """How many memory nodes have their largest weight in each of `BINS` bins, the last for exactly 1.

    `options` are those of `VideoSegmenter`.
    """
    banks: list[WatchedBank] = []
    segmenter = VideoSegmenter(network, **options)

    def watched() -> WatchedBank:
        banks.append(WatchedBank(similarity=network.config.similarity, top_k=options["top_k"]))
        return banks[-1]

    if isinstance(segmenter.bank, ObjectBanks):
        segmenter.bank.make_bank = watched
    else:
        segmenter.bank = watched()
    for frame in video.frames():
        segmenter.step(frame.image, frame.mask)
        on_frame()
    result = {}
    for reads in ("top", "all"):
        weights = torch.cat([bank.largest[reads] for bank in banks])
        result[reads] = np.bincount((weights.numpy() * BINS).astype(int).clip(0, BINS), minlength=BINS + 1).tolist()
    return result


def curve(counts: np.ndarray) -> np.ndarray:
    """The share of nodes whose largest weight is at least 0, 1 / BINS, ... 1: (BINS + 1,), descending from 1."""
    return counts[::-1].cumsum()[::-1] / counts.sum()


def figures(counts: np.ndarray) -> dict[str, Any]:
    """In percent, as the paper's section 4.2 gives them."""
    below = {f"below {percent} %": 100 * float(1 - curve(counts)[percent * BINS // 100]) for percent in (1, 10)}
    return {"nodes": int(counts.sum()), **below, "Gini": 100 * gini(counts)}


def gini(counts: np.ndarray) -> float:
    """The Gini coefficient of values given as a histogram: half the mean difference of two of them, over their mean."""
    values = (np.arange(len(counts)) + 0.5) / BINS
    total, before = counts.sum(), counts.cumsum() - counts
    # of sorted values x_1 ... x_n it is the sum of (2 i - n - 1) x_i, over n and the sum of all
    return float((values * counts * (2 * before + counts - total)).sum() / (total * (values * counts).sum()))


def draw(curves: dict[str, np.ndarray]) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for i, (name, line) in enumerate(curves.items()):
        axes.plot(np.linspace(0, 100, BINS + 1), 100 * line, label=name, **grey(i))
    axes.set(xlabel="weight given at least once, %", ylabel="memory nodes, %", xlim=(0, 100), ylim=(0, 101))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())
