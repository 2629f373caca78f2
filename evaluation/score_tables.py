"""Scores of data sets: DAVIS's official statistics, those that other benchmarks add, and an approximation of YouTube-VOS's G.

An object's score is its mean over frames; the total is the mean over objects.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics import Statistics, statistics
from evaluation.scores import FrameScores
from util.files import write_json, write_text

SPLITS = ("val", "testdev", "valid", "test", "train", "all")
KINDS = ("global", "per-sequence", "per-object")
SCORE_FILES = ("scores.json", *(f"{kind}_results-{split}.csv" for kind in KINDS for split in SPLITS))


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


def last_quarter(score: FrameScores) -> float:
    """VOST's J over the last quarter of an object's frames."""
    return float(np.mean(score.j[len(score.j) * 3 // 4 :]))


def unsteadiness(score: FrameScores) -> float:
    """LVOS's V: the standard deviation of J&F over an object's frames, whose square its tool rounds to four digits."""
    return math.sqrt(round(float(np.var((score.j + score.f) / 2)), 4))


STATISTICS = {"J_last": last_quarter, "V": unsteadiness}


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


def write_davis_scores(scores: dict[str, Any], folder: Path, split: str) -> list[Path]:
    """Write `global_results-<split>.csv`, `per-sequence_results-<split>.csv`, `write_object_table`'s and `scores.json`;
    returns their paths.
    """
    table, sequences = davis_tables(scores)
    return [
        write_text(folder / f"global_results-{split}.csv", table),
        write_text(folder / f"per-sequence_results-{split}.csv", sequences),
        write_object_table(scores, folder, split),
        write_json(folder / "scores.json", scores),
    ]


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
        write_json(folder / "scores.json", scores),
    ]


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()
