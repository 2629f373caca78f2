"""What is scored, and how: the masks that DAVIS and YouTube-VOS compare, for which objects, and their J and F by frame."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset.mask_reader import MaskReader
from dataset.video import Video
from dataset.youtube import ScoredObject
from evaluation.metrics import measure_masks
from util.ahead import available_cores, map_parallel
from util.errors import InputError, names_some, warn
from util.image import refuse_other_size
from util.image_folder import natural_order
from util.label_map import object_ids
from util.progress import progress_bar

FRAMES_WORTH_A_PROCESS = 200  # scoring this many frames takes about as long as starting a process
SHORTEST = 3  # frames with ground truth, of which DAVIS does not score the first and the last


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


def long_enough(videos: Sequence[Video]) -> list[Video]:
    """The videos that `davis_jobs` can score; warns of the others."""
    for video in videos:
        if len(video.truth) < SHORTEST:
            warn(f"not scored: {_too_short(video)}")
    return [video for video in videos if len(video.truth) >= SHORTEST]


def _too_short(video: Video) -> str:
    return f"{video.name}: expected ground truth of at least {SHORTEST} frames, found {len(video.truth)}"


def davis_jobs(videos: Sequence[Video], results: Path) -> list[ScoringJob]:
    """DAVIS's scoring jobs: all frames but the first and the last, for the objects in the first frame's ground truth.

    Raises `InputError` if a frame has no ground truth or no result, or a video is too short.
    """
    meta = {}
    for video in videos:
        refuse_without_truth([video])
        if len(video.truth) < SHORTEST:
            raise InputError(_too_short(video))
        frames = tuple(natural_order(video.truth))
        objects = [1] if video.union else object_ids(video.read_mask(video.truth[frames[0]]))
        meta[video.name] = {number: ScoredObject("", frames) for number in objects}
    return scoring_jobs(videos, meta, results, skip_last=True)


def refuse_without_truth(videos: Sequence[Video]) -> None:
    """Raise `InputError` if a frame has no ground truth."""
    if absent := [frame for video in videos for frame in video.without_truth]:
        raise InputError(f"{names_some(absent)}: no ground truth")


def scoring_jobs(
    videos: Sequence[Video],
    meta: Mapping[str, Mapping[int, ScoredObject]],
    results: Path,
    *,
    skip_last: bool = False,
    when_seen: bool = False,
) -> list[ScoringJob]:
    """For each object, the frames that `meta` lists after its first, with `skip_last` without the last.

    `meta` is the result of `dataset.youtube.read_youtube_meta` or `dataset.layouts.scored_objects`, `when_seen` is for the
    jobs; results are at `results/<video>/<frame>.png` (`result_folder`).  Objects with the same frames share a job.  Raises
    `InputError` if ground truth or a result is missing, or there is nothing to score.
    """
    jobs = []
    for video in videos:
        folder = result_folder(results, video, alone=len(videos) == 1)
        _refuse_other_frames(video, folder)
        groups: dict[tuple[str, ...], list[int]] = {}
        for number, scored in meta[video.name].items():
            groups.setdefault(scored.frames[1 : -1 if skip_last else None], []).append(number)
        for frames, numbers in groups.items():
            if absent := [frame for frame in frames if frame not in video.truth]:
                raise InputError(f"{video.name}: expected ground truth for frame {absent[0]}, found none")
            if not frames:
                between = "after the first one and before the last" if skip_last else "after the first one"
                warn(f"{video.name}: no frame to score {between} of object {names_some(map(str, numbers))}")
            else:
                paths = _existing(folder, frames)
                _warn_of_objects(video, paths, list(meta[video.name]))
                truth = [video.truth[frame] for frame in frames]
                jobs.append(ScoringJob(video.name, truth, paths, video.union, numbers, video.reader, when_seen))
    if not jobs:
        raise InputError(
            f"nothing to score: no object has a frame after its first{' and before its last' if skip_last else ''}"
        )
    return jobs


def result_folder(results: Path, video: Video, *, alone: bool) -> Path:
    """Where a video's masks are: in `<results>/<name>`, in `masks` there or, if it is `alone`, in `<results>/masks`.

    `segment_video.py` writes such folders `masks`.  Raises `InputError` if `results` is called like another video.
    """
    usual = results / video.name
    places = [usual / "masks", usual, *([results / "masks"] if alone else [])]
    found = next((place for place in places if place.is_dir()), usual)
    name = results.resolve().name
    if found == results / "masks" and name != video.name and video.images[0].parent.with_name(name).is_dir():
        raise InputError(f"{results}: expected masks of {video.name}, found a folder named like another video")
    return found


def _refuse_other_frames(video: Video, folder: Path) -> None:
    """Raise `InputError` if results are numbered otherwise than the frames, such as from 1 instead of 0."""
    names = {image.stem for image in video.images}
    before = {text_before_number(name) for name in names}
    if len(before) != 1 or None in before:
        return
    found = {path.stem for path in folder.glob("*.png") if text_before_number(path.stem) in before}
    start = len(before.pop() or "")

    def number(name: str) -> int:
        return int(name[start:])

    ends = [min(names, key=number), max(names, key=number)]
    if found == names - {ends[1]}:  # which DAVIS does not score
        warn(f"{folder}: has results of all frames but the last, {ends[1]}: are they numbered from the second frame on?")
    if strange := found - names:
        outside = [name for name in strange if not number(ends[0]) <= number(name) <= number(ends[1])]
        if outside and (ends[1] not in found or len(found) == len(names)):
            raise InputError(f"{folder}: expected results named like frames, {ends[0]} to {ends[1]}, found {min(outside)}")


def text_before_number(name: str) -> str | None:
    """`im_012` -> `im_`; `None` if the name does not end with a number."""
    found = re.fullmatch(r"(.*?)\d+", name, re.DOTALL)
    return found and found[1]


def _warn_of_objects(video: Video, results: Sequence[Path], objects: Sequence[int]) -> None:
    """Warn if results do not tell the objects of their truth apart, or hold others, as the first that is not empty shows.

    Raises `InputError` if their colours do not say which object is which.
    """
    if video.union:
        return
    reader = MaskReader.of(results, drawn=False, note=None, colours=video.reader.known.colours)
    numbers = ", ".join(map(str, objects))
    if reader.known.white and len(objects) > 1:
        warn(f"{results[0].parent}: results hold 0 and 255 only, which is object 1, but the truth has objects {numbers}")
    elif reader.known.own and len(objects) > 1:
        raise InputError(f"{results[0].parent}: results have colours of their own; save the numbers of the truth, {numbers}")
    elif others := sorted(reader.known.ids - {*objects}):
        warn(f"{results[0].parent}: results hold object {others[0]}, but the truth has only {numbers}")


def _existing(folder: Path, frames: Sequence[str]) -> list[Path]:
    paths = [folder / f"{frame}.png" for frame in frames]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise InputError(f"{absent[0]}: no such result; {len(absent)} of {len(paths)} are missing there")
    return paths


def score_video(job: ScoringJob) -> dict[int, FrameScores]:
    """J and F of each object in each frame of a video; raises `InputError` if a mask cannot be read or differs in size."""
    j = np.zeros((len(job.objects), len(job.truth)))
    f, f_adaptive, union = np.zeros_like(j), np.zeros_like(j), np.zeros_like(j)
    there, found = np.zeros(j.shape, bool), np.zeros(j.shape, bool)
    of_truth = MaskReader(union=True) if job.union else job.reader or MaskReader()
    of_results = MaskReader(union=True) if job.union else MaskReader(colours=of_truth.known.colours, drawn=False)
    for t, (truth_path, result_path) in enumerate(zip(job.truth, job.results, strict=True)):
        truth, result = of_truth.read(truth_path), of_results.read(result_path)
        refuse_other_size(result_path, result.shape, truth.shape, other=str(truth_path))
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
        processes = max(1, min(available_cores(), 1 + frames // FRAMES_WORTH_A_PROCESS))
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
        if unseen := [str(number) for number, of_object in found[i].items() if not of_object.there.any()]:
            warn(f"{job.name}: the truth of the scored frames does not show object {names_some(unseen)}")
        inverted = [str(number) for number, each in found[i].items() if each.f.mean() > 0.5 and not each.j.any()]
        if inverted:
            warn(f"{job.name}: F is high and J is 0 for object {names_some(inverted)}: are the results inverted?")
        if found[i]:
            scores.setdefault(job.name, {}).update(found[i])
    if not scores:
        raise InputError("nothing to score: the truth shows no object between its first and its last frame")
    return scores
