"""DAVIS's interactive track by its own rules (Caelles et al., 2018), on which Table 6 is measured.

A sample is a video with a set of scribbles to start from.  Its objects are followed, a robot scribbles on the worst frame,
they are followed anew, and so on.  J&F is plotted against the seconds that this took.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset.robot import Scribble, mark, track_scribbles
from evaluation.rounds import Draw
from util.errors import InputError
from util.files import read_json

AT = 60  # seconds at which J&F is read from the curve


class Start(NamedTuple):
    """What a person drew on one frame of a video."""

    frame: int
    scribbles: list[Scribble]


def read_start(path: Path, frames: int) -> Start:
    """A file of the track (`Scribbles/<video>/001.json`) for a video of `frames` frames.

    Raises `InputError` unless it holds scribbles on one of them.
    """
    content = read_json(path)
    try:
        drawn = {t: [_scribble(line) for line in lines] for t, lines in enumerate(content["scribbles"]) if lines}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected scribbles of DAVIS's interactive track") from error
    if len(drawn) != 1 or len(content["scribbles"]) != frames:
        found = f"on {len(drawn)} of {len(content['scribbles'])}"
        raise InputError(f"{path}: expected scribbles on one frame of {frames}, found them {found}")
    return Start(*drawn.popitem())


def _scribble(line: dict[str, Any]) -> Scribble:
    """Raises `KeyError`, `TypeError` or `ValueError` if it is none."""
    path, label = np.asarray(line["path"], float), line["object_id"]
    if path.ndim != 2 or path.shape[1] != 2 or not np.isfinite(path).all() or type(label) is not int or not 0 <= label < 255:
        raise ValueError("not a scribble")
    return Scribble(label, path.clip(0, 1 - 1e-9))


def draw_by_track(start: Start | None) -> Draw:
    """A robot for `rounds_of`: the scribbles of the start first, or without them the robot's own on every object."""

    def draw(truth: np.ndarray, found: np.ndarray | None) -> np.ndarray:
        if found is None and start is not None:
            return mark(start.scribbles, truth.shape)
        return mark(track_scribbles(truth, np.zeros_like(truth) if found is None else found), truth.shape)

    return draw


def summary(samples: Sequence[Sequence[dict[str, float]]], limits: Sequence[float], rounds: int) -> dict[str, Any]:
    """The track's figures of samples, each the rounds that `rounds_of` returns for it; `limits` are their seconds.

    A round that a sample has not reached repeats its last one, and takes no time; before the first, J&F is 0.  The curve goes
    on to the mean limit.  `auc` is the area under it, by the trapezoid rule, as a part of that limit; `at_60` is read from it.
    """
    figures = np.zeros((len(samples), rounds, 2))  # J&F, seconds
    for figure, sample in zip(figures, samples, strict=True):
        done = [(of_round["J&F"], of_round["seconds"]) for of_round in sample] or [(0, 0)]
        figure[:] = (done + [done[-1]] * rounds)[:rounds]
    scores, seconds = figures.mean(axis=0).T
    limit = float(np.mean(limits))
    curve = np.array([(0, 0), *zip(seconds, scores, strict=True), (max(limit, seconds[-1]), scores[-1])])
    return {
        "seconds": curve[:, 0].tolist(),
        "J&F": curve[:, 1].tolist(),
        "auc": float(np.trapezoid(curve[:, 1], curve[:, 0]) / curve[-1, 0]),
        f"at_{AT}": float(np.interp(AT, curve[:, 0], curve[:, 1])),
    }
