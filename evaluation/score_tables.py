"""Scores of data sets: DAVIS's official statistics, those that other benchmarks add, and an approximation of YouTube-VOS's G.

An object's score is its mean over frames; the total is the mean over objects.
"""

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics import Statistics, statistics
from evaluation.scores import FrameScores
from util.files import write_json, write_text

SPLITS = ("val", "testdev", "valid", "test", "train", "all", "favos-20", "favos-40")
KINDS = ("global", "per-sequence", "per-object")
ABSENCE = ("left_empty", "found", "J_volume", "F_adaptive", "J&F_adaptive", "J&F_gone", "J&F_back")  # of `absence`
HOTA_THRESHOLDS = np.arange(1, 20) / 20
SCORE_FILES = ("scores.json", *(f"{kind}_results-{split}.csv" for kind in KINDS for split in SPLITS))


def davis_scores(scores: Mapping[str, Mapping[int, FrameScores]], statistic: str = "") -> dict[str, Any]:
    """The content of `scores.json`: `global`, and for each of the `sequences` its means (`all`), objects and their frames.

    Besides J and F, each object has the measures of `absence`, and the `statistic`, if one is named.
    """
    sequences: dict[str, Any] = {}
    for name, objects in scores.items():
        entries = {
            str(number): {
                "J": statistics(score.j)._asdict(),
                "F": statistics(score.f)._asdict(),
                **({statistic: STATISTICS[statistic](score)} if statistic else {}),
                **absence(score),
                "J_frames": np.round(score.j, 4).tolist(),
                "F_frames": np.round(score.f, 4).tolist(),
            }
            for number, score in sorted(objects.items())
        }
        whole = _mean_entry(list(entries.values()))
        j, f = (whole[measure]["mean"] for measure in "JF")
        sequences[name] = {"J&F": (j + f) / 2, "J": j, "F": f, "all": whole, "objects": entries}
    total = _mean_entry([entry for sequence in sequences.values() for entry in sequence["objects"].values()])
    return {"global": {"J&F": (total["J"]["mean"] + total["F"]["mean"]) / 2, **total}, "sequences": sequences}


def _mean_entry(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Objects' entries averaged, each value over the objects that have it."""
    result: dict[str, Any] = {
        measure: {key: float(np.mean([entry[measure][key] for entry in entries])) for key in Statistics._fields}
        for measure in "JF"
    }
    for key in (*STATISTICS, *ABSENCE):
        if any(key in entry for entry in entries):
            values = [entry[key] for entry in entries if entry[key] is not None]
            result[key] = float(np.mean(values)) if values else None
    return result


def absence(score: FrameScores) -> dict[str, float | None]:
    """How well an object's absence is told; `None` where there are no such frames.

    `left_empty` is the share of the frames without the object that were left empty, and `found` the share of the others where
    something was found; `J_volume` is J of all frames as one volume, in which absence weighs nothing.  The others are MOSE
    v2's (arXiv:2508.05630, as in its tool's `score.py`), with its stricter F: over all frames, over stretches in which the
    object has vanished, and over those that begin as it comes back.
    """
    there = score.there
    both = (score.j + score.f_adaptive) / 2
    starts = np.flatnonzero(there[1:] != there[:-1]) + 1  # what lies before the first is neither gone nor back
    stretches = [(there[start], float(part.mean())) for start, part in zip(starts, np.split(both, starts)[1:], strict=True)]
    gone, back = ([value for seen, value in stretches if seen == wanted] for wanted in (False, True))
    volume = [np.average(score.j, weights=score.union)] if score.union.any() else []
    values = (~score.found[~there], score.found[there], volume, score.f_adaptive, both, gone, back)
    return {name: float(np.mean(value)) if len(value) else None for name, value in zip(ABSENCE, values, strict=True)}


def hota(scores: Iterable[FrameScores]) -> dict[str, float]:
    """HOTA, and its parts DetA and AssA, of objects whose results have their numbers, so that none has to be matched.

    HOTA is the mean of sqrt(DetA AssA) over thresholds of J from 0.05 to 0.95 (Luiten et al., IJCV 2021, as in TrackEval).
    Of the frames that show an object or its result, DetA is the share, over all objects, in which both are there and J reaches
    the threshold (hits); AssA is the mean of each object's own share over all hits.
    """
    hits, either = [], []
    for score in scores:
        both = score.there & score.found
        hits.append([np.count_nonzero(score.j[both] >= threshold - 1e-9) for threshold in HOTA_THRESHOLDS])
        either.append(np.count_nonzero(score.there) + np.count_nonzero(score.found) - np.array(hits[-1]))
    hit, union = np.array(hits), np.array(either)  # both (N, thresholds)
    detection = hit.sum(axis=0) / np.maximum(1, union.sum(axis=0))
    association = (hit * hit / np.maximum(1, union)).sum(axis=0) / np.maximum(1, hit.sum(axis=0))
    means = (np.sqrt(detection * association), detection, association)
    return {name: float(np.mean(values)) for name, values in zip(("HOTA", "DetA", "AssA"), means, strict=True)}


def last_quarter(score: FrameScores) -> float:
    """VOST's J over the last quarter of an object's frames."""
    return float(np.mean(score.j[len(score.j) * 3 // 4 :]))


def unsteadiness(score: FrameScores) -> float:
    """LVOS's V: the standard deviation of J&F over an object's frames, whose square its tool rounds to four digits."""
    return math.sqrt(round(float(np.var((score.j + score.f) / 2)), 4))


STATISTICS = {"J_last": last_quarter, "V": unsteadiness}


def seen_and_unseen(scores: dict[str, Any], meta: Mapping[str, Mapping[int, Any]], seen: Collection[str]) -> dict[str, Any]:
    """The means of J, F and, where objects have it, V over objects of seen and of unseen categories; G is that of J's and F's.

    `meta` is the result of `dataset.layouts.scored_objects` or `dataset.youtube.read_youtube_meta`; each object's entry in
    `scores` gets its `category`.  The mean of a part without objects is `None` and not in G.
    """
    parts: dict[str, list[float]] = {f"{measure}_{part}": [] for part in ("seen", "unseen") for measure in "JFV"}
    for name, sequence in scores["sequences"].items():
        for number, entry in sequence["objects"].items():
            entry["category"] = meta[name][int(number)].category
            part = "seen" if entry["category"] in seen else "unseen"
            for measure in "JFV":
                if measure in entry:
                    parts[f"{measure}_{part}"].append(entry[measure] if measure == "V" else entry[measure]["mean"])
    measured = "JFV" if "V" in scores["global"] else "JF"
    means = {name: float(np.mean(values)) if values else None for name, values in parts.items() if name[0] in measured}
    return {"G": float(np.mean([value for name, value in means.items() if value is not None and name[0] != "V"])), **means}


def told_absence(scores: dict[str, Any]) -> str:
    """A line about objects that are absent from some frames, which J and F hardly show; empty if there are none."""
    entries = [entry for sequence in scores["sequences"].values() for entry in sequence["objects"].values()]
    vanishing = [entry for entry in entries if entry["left_empty"] is not None]
    if not vanishing:
        return ""
    total = _mean_entry(vanishing)
    keys = ("found", "J_volume", "J&F_gone", "J&F_back")
    found, volume, gone, back = ("none" if total[key] is None else f"{total[key]:.1%}" for key in keys)
    return (
        f"absence: {len(vanishing)} of {len(entries)} objects are absent from some frames, of which {total['left_empty']:.1%} "
        f"were left empty; something was found in {found} of their others (means over these objects)\n"
        f"J of their frames as one volume: {volume}; MOSE v2's J&F: {gone} where one has vanished, {back} where it is back"
    )


def told_scope(scores: dict[str, Any]) -> str:
    """A line about what the scores are of."""
    sequences = scores["sequences"].values()
    return f"scored: {len(sequences)} videos, {sum(len(sequence['objects']) for sequence in sequences)} objects"


def davis_tables(scores: dict[str, Any]) -> tuple[str, str]:
    """The official tool's two CSV tables: global, and per object (`<sequence>_<object>`)."""
    total = scores["global"]
    header = ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    row = [total["J&F"], *total["J"].values(), *total["F"].values()]
    more = {key: value for key, value in total.items() if key not in ("J&F", "J", "F", *ABSENCE)}
    rows = [
        [f"{name}_{number}", entry["J"]["mean"], entry["F"]["mean"]]
        for name, sequence in scores["sequences"].items()
        for number, entry in sequence["objects"].items()
    ]
    return _csv([*header, *more], [[*row, *more.values()]]), _csv(["Sequence", "J-Mean", "F-Mean"], rows)


def write_davis_scores(scores: dict[str, Any], folder: Path, split: str) -> list[Path]:
    """Write `scores.json`, and as tables `<kind>_results-<split>.csv` for each of `KINDS`; returns their paths."""
    table, sequences = davis_tables(scores)
    return [
        write_text(folder / f"global_results-{split}.csv", table),
        write_text(folder / f"per-sequence_results-{split}.csv", sequences),
        write_text(folder / f"per-object_results-{split}.csv", object_table(scores)),
        write_json(folder / "scores.json", scores),
    ]


def object_table(scores: dict[str, Any]) -> str:
    """A CSV table with all that `davis_scores` says of each object, and then of each sequence and of the set (`all`)."""
    sequences = scores["sequences"].items()
    rows = [(name, number, entry) for name, sequence in sequences for number, entry in sequence["objects"].items()]
    rows += [(name, "all", sequence["all"]) for name, sequence in sequences]
    rows.append(("all", "all", scores["global"]))
    extra = [key for key in (*STATISTICS, *ABSENCE) if key in scores["global"]]
    header = [f"{measure}-{key.title()}" for measure in "JF" for key in Statistics._fields]
    table = []
    for name, number, entry in rows:
        values = [*entry["J"].values(), *entry["F"].values(), *(entry[key] for key in extra)]
        table.append([name, number, (entry["J"]["mean"] + entry["F"]["mean"]) / 2, *values])
    return _csv(["Sequence", "Object", "J&F-Mean", *header, *extra], table)


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()
