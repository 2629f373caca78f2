"""Scores of data sets: DAVIS's official statistics, those that other benchmarks add, and an approximation of YouTube-VOS's G.

An object's score is its mean over frames; the total is the mean over objects.
"""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset.mask_reader import MaskReader
from evaluation.metrics import Statistics, score_masks, statistics
from util.ahead import map_parallel
from util.errors import InputError, names_some, warn
from util.files import write_text
from util.image_folder import natural_order
from util.label_map import object_ids
from util.progress import progress_bar

SHORTEST = 3  # frames with ground truth, of which DAVIS does not score the first and the last
SPLITS = ("val", "testdev", "valid", "test", "train", "all")
KINDS = ("global", "per-sequence", "per-object")
SCORE_FILES = ("scores.json", *(f"{kind}_results-{split}.csv" for kind in KINDS for split in SPLITS))
FRAMES_WORTH_A_PROCESS = 200  # scoring this many frames takes about as long as starting a process


class FrameScores(NamedTuple):
    """J and F of one object, in [0, 1], for each frame scored."""

    j: np.ndarray  # (T,)
    f: np.ndarray  # (T,)
    there: np.ndarray  # (T,) bool, whether the truth shows the object
    found: np.ndarray  # (T,) bool, whether the result does


class ScoringJob(NamedTuple):
    """The masks of one video to compare, frame by frame."""

    name: str
    truth: Sequence[Path]
    results: Sequence[Path]
    union: bool  # all non-zero pixels are one object
    objects: Sequence[int]
    reader: MaskReader | None = None  # of the truth; results decide for themselves what their numbers mean
    when_seen: bool = False  # an object counts from the frame on where truth or result first show it, if the truth ever does


def score_video(job: ScoringJob) -> dict[int, FrameScores]:
    """J and F of each object in each frame of a video; raises `InputError` if a mask cannot be read or differs in size."""
    j = np.zeros((len(job.objects), len(job.truth)))
    f = np.zeros_like(j)
    there, found = np.zeros(j.shape, bool), np.zeros(j.shape, bool)
    of_truth = MaskReader(union=True) if job.union else job.reader or MaskReader()
    of_results = MaskReader(union=True) if job.union else MaskReader(colours=of_truth.colours)
    for t, (truth_path, result_path) in enumerate(zip(job.truth, job.results, strict=True)):
        truth, result = of_truth.read(truth_path), of_results.read(result_path)
        if truth.shape != result.shape:
            raise InputError(
                f"{result_path}: expected the size of {truth_path}, {truth.shape[0]}x{truth.shape[1]}, "
                f"found {result.shape[0]}x{result.shape[1]}"
            )
        for row, number in enumerate(job.objects):
            masks = (truth != 0, result != 0) if job.union else (truth == number, result == number)
            j[row, t], f[row, t] = score_masks(*masks)
            there[row, t], found[row, t] = (mask.any() for mask in masks)
    scores = {}
    for row, number in enumerate(job.objects):
        start = int((there[row] | found[row]).argmax()) if job.when_seen else 0
        if there[row].any() or not job.when_seen:
            scores[number] = FrameScores(*(values[row, start:] for values in (j, f, there, found)))
    return scores


def score_videos(
    jobs: Sequence[ScoringJob], *, processes: int | None = None, shown: bool = True
) -> dict[str, dict[int, FrameScores]]:
    """`score_video` for each job, in parallel, longest first; returns the results by name, in the order of `jobs`."""
    frames = sum(len(job.truth) for job in jobs)
    if processes is None:
        processes = max(1, min(os.cpu_count() or 1, 1 + frames // FRAMES_WORTH_A_PROCESS))
    processes = min(processes, len(jobs))
    ordered = sorted(jobs, key=lambda job: -len(job.truth) * len(job.objects))
    scores = {}
    with progress_bar(frames, "frames scored", shown=shown) as bar:
        if processes == 1:
            for job in ordered:
                scores[job.name] = score_video(job)
                bar.increment(len(job.truth))
        else:
            for job, result in zip(ordered, map_parallel(score_video, ordered, workers=processes), strict=True):
                scores[job.name] = result
                bar.increment(len(job.truth))
    return {job.name: scores[job.name] for job in jobs}


def long_enough(videos: Sequence[Any]) -> list[Any]:
    """The `Video`s that `davis_jobs` can score; warns of the others."""
    for video in videos:
        if len(video.truth) < SHORTEST:
            warn(f"not scored: {_too_short(video)}")
    return [video for video in videos if len(video.truth) >= SHORTEST]


def _too_short(video: Any) -> str:
    return f"{video.name}: expected ground truth of at least {SHORTEST} frames, found {len(video.truth)}"


def davis_jobs(videos: Sequence[Any], results: Path) -> list[ScoringJob]:
    """DAVIS's scoring jobs: all frames but the first and the last, for the objects in the first frame's ground truth.

    `videos` are `dataset.video.Video`s; results are at `results/<video>/<frame>.png`.  Raises `InputError` if a frame has
    no ground truth or no result, or a video is too short.
    """
    jobs = []
    for video in videos:
        if absent := video.without_truth:
            raise InputError(f"{names_some(absent)}: no ground truth")
        if len(video.truth) < SHORTEST:
            raise InputError(_too_short(video))
        frames = natural_order(video.truth)  # one for each image
        first = video.read_mask(video.truth[frames[0]])
        scored = frames[1:-1]
        paths = _existing(result_folder(results, video.name, alone=len(videos) == 1), scored)
        objects = [1] if video.union else object_ids(first)
        _warn_of_white(paths, objects)
        truth = [video.truth[frame] for frame in scored]
        jobs.append(ScoringJob(video.name, truth, paths, video.union, objects, video.reader))
    return jobs


def by_video(scores: Mapping[str, Mapping[int, FrameScores]]) -> dict[str, dict[int, FrameScores]]:
    """The scores of each video's objects, from those of jobs, of which `youtube_jobs` may have several for a video.

    Raises `InputError` if there are none.
    """
    found: dict[str, dict[int, FrameScores]] = {}
    for job, objects in scores.items():
        if objects:
            found.setdefault(job.rsplit("/", 1)[0], {}).update(objects)
    if not found:
        raise InputError("nothing to score: the truth shows no object between its first and its last frame")
    return {name: dict(sorted(objects.items())) for name, objects in found.items()}


def davis_scores(scores: Mapping[str, Mapping[int, FrameScores]], statistic: str = "") -> dict[str, Any]:
    """The content of `scores.json`: `global`, and for each of the `sequences` its objects and their frames.

    Besides J and F, each object has `left_empty`, the share of the frames without it that were left empty, and `found`, the
    share of the others where something was found (`None` if there are no such frames); and the `statistic`, if one is named.
    """
    sequences: dict[str, Any] = {}
    for name, objects in scores.items():
        entries = {
            str(number): {
                "J": statistics(score.j)._asdict(),
                "F": statistics(score.f)._asdict(),
                **({statistic: STATISTICS[statistic](score)} if statistic else {}),
                "left_empty": float(np.mean(~score.found[~score.there])) if not score.there.all() else None,
                "found": float(np.mean(score.found[score.there])) if score.there.any() else None,
                "J_frames": np.round(score.j, 4).tolist(),
                "F_frames": np.round(score.f, 4).tolist(),
            }
            for number, score in objects.items()
        }
        j, f = ([entry[measure]["mean"] for entry in entries.values()] for measure in "JF")
        sequences[name] = {"J&F": float(np.mean(j + f)), "J": float(np.mean(j)), "F": float(np.mean(f)), "objects": entries}
    total = _mean_entry([entry for sequence in sequences.values() for entry in sequence["objects"].values()])
    return {"global": {"J&F": (total["J"]["mean"] + total["F"]["mean"]) / 2, **total}, "sequences": sequences}


def last_quarter(score: FrameScores) -> float:
    """VOST's J over the last quarter of an object's frames."""
    return float(np.mean(score.j[len(score.j) * 3 // 4 :]))


def unsteadiness(score: FrameScores) -> float:
    """LVOS's V: the standard deviation of J&F over an object's frames, whose square its tool rounds to four digits."""
    return math.sqrt(round(float(np.var((score.j + score.f) / 2)), 4))


STATISTICS = {"J_last": last_quarter, "V": unsteadiness}


def _mean_entry(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Objects' entries averaged, each value over the objects that have it."""
    result: dict[str, Any] = {
        measure: {key: float(np.mean([entry[measure][key] for entry in entries])) for key in Statistics._fields}
        for measure in "JF"
    }
    for key in (*STATISTICS, "left_empty", "found"):
        if any(key in entry for entry in entries):
            values = [entry[key] for entry in entries if entry[key] is not None]
            result[key] = float(np.mean(values)) if values else None
    return result


def seen_and_unseen(scores: dict[str, Any], meta: Mapping[str, Mapping[int, Any]]) -> dict[str, float | None]:
    """The means of J, F and V over objects of seen and of unseen categories, and G, which is the mean of those of J and F.

    `meta` is the result of `dataset.layouts.scored_objects`.  The mean of a part without objects is `None` and not in G.
    """
    parts: dict[str, list[float]] = {f"{measure}_{part}": [] for measure in "JFV" for part in ("seen", "unseen")}
    for name, sequence in scores["sequences"].items():
        for number, entry in sequence["objects"].items():
            part = meta[name][int(number)].category
            for measure, value in (("J", entry["J"]["mean"]), ("F", entry["F"]["mean"]), ("V", entry["V"])):
                parts[f"{measure}_{part}"].append(value)
    means = {name: float(np.mean(values)) if values else None for name, values in parts.items()}
    return {"G": float(np.mean([value for name, value in means.items() if value is not None and name[0] != "V"])), **means}


def told_absence(scores: dict[str, Any]) -> str:
    """A line about objects that are absent from some frames, which J and F hardly show; empty if there are none."""
    entries = [entry for sequence in scores["sequences"].values() for entry in sequence["objects"].values()]
    vanishing = [entry for entry in entries if entry["left_empty"] is not None]
    if not vanishing:
        return ""
    total = _mean_entry(vanishing)
    found = "none" if total["found"] is None else f"{total['found']:.1%}"
    return (
        f"absence: {len(vanishing)} of {len(entries)} objects are absent from some frames, of which {total['left_empty']:.1%} "
        f"were left empty; something was found in {found} of their others (means over these objects)"
    )


def davis_tables(scores: dict[str, Any]) -> tuple[str, str]:
    """The official tool's two CSV tables: global, and per object (`<sequence>_<object>`)."""
    total = scores["global"]
    header = ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    row = [total["J&F"], *total["J"].values(), *total["F"].values()]
    more = {key: value for key, value in total.items() if key not in ("J&F", "J", "F", "left_empty", "found")}
    rows = [
        [f"{name}_{number}", entry["J"]["mean"], entry["F"]["mean"]]
        for name, sequence in scores["sequences"].items()
        for number, entry in sequence["objects"].items()
    ]
    return _csv([*header, *more], [[*row, *more.values()]]), _csv(["Sequence", "J-Mean", "F-Mean"], rows)


def write_object_table(scores: dict[str, Any], folder: Path, split: str) -> Path:
    """Write `per-object_results-<split>.csv` with all that `davis_scores` says of each object, and then of each sequence and
    of the set (`all`); returns its path.
    """
    objects = {name: sequence["objects"] for name, sequence in scores["sequences"].items()}
    rows = [(name, number, entry) for name, entries in objects.items() for number, entry in entries.items()]
    rows += [(name, "all", _mean_entry(list(entries.values()))) for name, entries in objects.items()]
    rows.append(("all", "all", scores["global"]))
    extra = [key for key in (*STATISTICS, "left_empty", "found") if key in scores["global"]]
    header = [f"{measure}-{key.title()}" for measure in "JF" for key in Statistics._fields]
    table = []
    for name, number, entry in rows:
        values = [*entry["J"].values(), *entry["F"].values(), *(entry[key] for key in extra)]
        table.append([name, number, (entry["J"]["mean"] + entry["F"]["mean"]) / 2, *values])
    text = _csv(["Sequence", "Object", "J&F-Mean", *header, *extra], table)
    return write_text(folder / f"per-object_results-{split}.csv", text)


def write_davis_scores(scores: dict[str, Any], folder: Path, split: str) -> list[Path]:
    """Write `global_results-<split>.csv`, `per-sequence_results-<split>.csv`, `write_object_table`'s and `scores.json`;
    returns their paths.
    """
    table, sequences = davis_tables(scores)
    return [
        write_text(folder / f"global_results-{split}.csv", table),
        write_text(folder / f"per-sequence_results-{split}.csv", sequences),
        write_object_table(scores, folder, split),
        write_text(folder / "scores.json", json.dumps(scores, indent=1) + "\n"),
    ]


def youtube_jobs(
    videos: Sequence[Any],
    meta: Mapping[str, Mapping[int, Any]],
    results: Path,
    *,
    skip_last: bool = False,
    when_seen: bool = False,
) -> list[ScoringJob]:
    """YouTube-VOS's scoring jobs: for each object, the frames that `meta.json` lists after its first.

    `meta` is the result of `dataset.youtube.read_youtube_meta` or `dataset.layouts.scored_objects`, of which the last
    frame is not scored either (`skip_last`).  `when_seen` is for the jobs.  Objects with the same frames share a job, named
    `<video>/<id>,<id>`.  Raises `InputError` if ground truth or a result is missing, or there is nothing to score.
    """
    jobs = []
    for video in videos:
        groups: dict[tuple[str, ...], list[int]] = {}
        for number, scored in meta[video.name].items():
            groups.setdefault(scored.frames[1 : -1 if skip_last else None], []).append(number)
        for frames, numbers in groups.items():
            if absent := [frame for frame in frames if frame not in video.truth]:
                raise InputError(f"{video.name}: expected ground truth for frame {absent[0]}, found none")
            if frames:
                name = f"{video.name}/{','.join(map(str, numbers))}"
                paths = _existing(result_folder(results, video.name, alone=len(videos) == 1), frames)
                _warn_of_white(paths, list(meta[video.name]))
                truth = [video.truth[frame] for frame in frames]
                jobs.append(ScoringJob(name, truth, paths, video.union, numbers, video.reader, when_seen))
    if not jobs:
        raise InputError(
            f"nothing to score: no object has a frame after its first{' and before its last' if skip_last else ''}"
        )
    return jobs


def youtube_scores(
    scores: Mapping[str, Mapping[int, FrameScores]], meta: Mapping[str, Mapping[int, Any]], seen: set[str]
) -> dict[str, Any]:
    """An approximation of G (the benchmark's own scorer is not public): the mean of J and F over seen and unseen.

    `seen` holds the categories of the training set.  Means are over objects; the mean of a part without objects is `None`
    and does not count in G.
    """
    parts: dict[str, list[float]] = {"J_seen": [], "F_seen": [], "J_unseen": [], "F_unseen": []}
    objects = {}
    for job, by_object in scores.items():
        video = job.rsplit("/", 1)[0]
        for number, score in by_object.items():
            part = "seen" if meta[video][number].category in seen else "unseen"
            j, f = float(score.j.mean()), float(score.f.mean())
            parts[f"J_{part}"].append(j)
            parts[f"F_{part}"].append(f)
            objects[f"{video}_{number}"] = {"category": meta[video][number].category, "part": part, "J": j, "F": f}
    means = {name: float(np.mean(values)) if values else None for name, values in parts.items()}
    present = [value for value in means.values() if value is not None]
    return {"approximate": True, "global": {"G": float(np.mean(present)), **means}, "objects": objects}


def write_youtube_scores(scores: dict[str, Any], folder: Path, split: str) -> list[Path]:
    """Write the scores as two CSV tables and `scores.json`; returns their paths."""
    total = {name: "" if value is None else value for name, value in scores["global"].items()}
    rows = [[name, entry["category"], entry["part"], entry["J"], entry["F"]] for name, entry in scores["objects"].items()]
    return [
        write_text(folder / f"global_results-{split}.csv", _csv(list(total), [list(total.values())])),
        write_text(
            folder / f"per-sequence_results-{split}.csv",
            _csv(["Sequence", "Category", "Part", "J-Mean", "F-Mean"], rows),
        ),
        write_text(folder / "scores.json", json.dumps(scores, indent=1) + "\n"),
    ]


def result_folder(results: Path, name: str, *, alone: bool) -> Path:
    """Where a video's masks are: in `<results>/<name>`, in `masks` there or, if it is `alone`, in `<results>/masks`.

    `segment_video.py` writes such folders `masks`.
    """
    places = [results / name / "masks", results / name, *([results / "masks"] if alone else [])]
    return next((place for place in places if place.is_dir()), results / name)


def _warn_of_white(results: Sequence[Path], objects: Sequence[int]) -> None:
    """Warn if results do not tell the objects of their truth apart."""
    if len(objects) > 1 and MaskReader.of(results, drawn=False, note=None).white:
        numbers = ", ".join(map(str, objects))
        warn(f"{results[0].parent}: results hold 0 and 255 only, which is object 1, but the truth has objects {numbers}")


def _existing(folder: Path, frames: Sequence[str]) -> list[Path]:
    paths = [folder / f"{frame}.png" for frame in frames]
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise InputError(f"{absent[0]}: no such result; {len(absent)} of {len(paths)} are missing there")
    return paths


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()
