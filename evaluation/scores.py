"""J and F of the objects of videos, frame by frame."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.mask_reader import MaskReader
from evaluation.metrics import measure_masks
from util.ahead import map_parallel
from util.errors import InputError
from util.progress import progress_bar

FRAMES_WORTH_A_PROCESS = 200  # scoring this many frames takes about as long as starting a process


class FrameScores(NamedTuple):
    """J and both F of one object, in [0, 1], for each frame scored."""

    j: np.ndarray  # (T,)
    f: np.ndarray  # (T,)
    f_adaptive: np.ndarray  # (T,), MOSE v2's F
    there: np.ndarray  # (T,) bool, whether the truth shows the object
    found: np.ndarray  # (T,) bool, whether the result does
    union: np.ndarray  # (T,) pixels that either shows


class ScoringJob(NamedTuple):
    """Masks of one video to compare, frame by frame; objects with other frames are another job."""

    name: str  # of the video
    truth: Sequence[Path]
    results: Sequence[Path]
    union: bool  # all non-zero pixels are one object
    objects: Sequence[int]
    reader: MaskReader | None = None  # of the truth; results decide for themselves what their numbers mean
    when_seen: bool = False  # an object counts from the frame on where truth or result first show it, if the truth ever does


def score_video(job: ScoringJob) -> dict[int, FrameScores]:
    """J and F of each object in each frame of a video; raises `InputError` if a mask cannot be read or differs in size."""
    j = np.zeros((len(job.objects), len(job.truth)))
    f, f_adaptive, union = np.zeros_like(j), np.zeros_like(j), np.zeros_like(j)
    there, found = np.zeros(j.shape, bool), np.zeros(j.shape, bool)
    of_truth = MaskReader(union=True) if job.union else job.reader or MaskReader()
    of_results = MaskReader(union=True) if job.union else MaskReader(colours=of_truth.known.colours)
    for t, (truth_path, result_path) in enumerate(zip(job.truth, job.results, strict=True)):
        truth, result = of_truth.read(truth_path), of_results.read(result_path)
        if truth.shape != result.shape:
            raise InputError(
                f"{result_path}: expected the size of {truth_path}, {truth.shape[0]}x{truth.shape[1]}, "
                f"found {result.shape[0]}x{result.shape[1]}"
            )
        for row, number in enumerate(job.objects):
            masks = (truth != 0, result != 0) if job.union else (truth == number, result == number)
            j[row, t], f[row, t], f_adaptive[row, t], union[row, t] = measure_masks(*masks)
            there[row, t], found[row, t] = (mask.any() for mask in masks)
    scores = {}
    for row, number in enumerate(job.objects):
        start = int((there[row] | found[row]).argmax()) if job.when_seen else 0
        if there[row].any() or not job.when_seen:
            scores[number] = FrameScores(*(values[row, start:] for values in (j, f, f_adaptive, there, found, union)))
    return scores


def score_videos(
    jobs: Sequence[ScoringJob], *, processes: int | None = None, shown: bool = True
) -> dict[str, dict[int, FrameScores]]:
    """The scores of each video's objects, by jobs in parallel, longest first; videos and objects are in the order of `jobs`.

    Raises `InputError` as `score_video` does, and if there is nothing to score.
    """
    frames = sum(len(job.truth) for job in jobs)
    if processes is None:
        processes = max(1, min(os.cpu_count() or 1, 1 + frames // FRAMES_WORTH_A_PROCESS))
    processes = min(processes, len(jobs))
    order = sorted(range(len(jobs)), key=lambda i: -len(jobs[i].truth) * len(jobs[i].objects))
    workers = processes if processes > 1 else 0  # 0: in this process
    found = {}
    with progress_bar(frames, "frames scored", shown=shown) as bar:
        for i, objects in zip(order, map_parallel(score_video, [jobs[i] for i in order], workers=workers), strict=True):
            found[i] = objects
            bar.increment(len(jobs[i].truth))
    scores: dict[str, dict[int, FrameScores]] = {}
    for i, job in enumerate(jobs):
        if found[i]:
            scores.setdefault(job.name, {}).update(found[i])
    if not scores:
        raise InputError("nothing to score: the truth shows no object between its first and its last frame")
    return scores
