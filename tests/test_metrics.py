"""Scores against a naive scorer, and both protocols from masks on disk to tables."""

import csv
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_larger
from PIL import Image

from dataset.video import Video
from dataset.youtube import ScoredObject
from evaluation import metrics
from evaluation.score_tables import absence, davis_scores, hota, seen_and_unseen
from evaluation.scores import FrameScores, davis_jobs, score_videos, scoring_jobs
from util.errors import InputError
from util.label_map import colour_map, read_label_map, write_label_map

DAVIS_HEADER = "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"


def naive_boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels whose right, lower or lower-right neighbour differs."""
    height, width = mask.shape
    rows, found = mask.tolist(), np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            neighbours = ((y, x + 1), (y + 1, x), (y + 1, x + 1))
            found[y, x] = any(rows[v][u] != rows[y][x] for v, u in neighbours if v < height and u < width)
    return found


def naive_j(truth: np.ndarray, result: np.ndarray) -> float:
    union = np.sum(truth | result)
    return np.sum(truth & result) / union if union else 1.0


def naive_f(truth_boundary: np.ndarray, result_boundary: np.ndarray, most: float = np.inf) -> float:
    """F from the distances between all pairs of boundary pixels."""
    radius = min(most, np.ceil(0.008 * np.linalg.norm(truth_boundary.shape)))
    truth, result = np.argwhere(truth_boundary), np.argwhere(result_boundary)
    if len(truth) == 0 or len(result) == 0:
        return float(len(truth) == len(result))
    near = np.square(truth[:, None] - result).sum(axis=-1) <= radius**2
    recall, precision = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def naive_scores(truth: np.ndarray, result: np.ndarray) -> tuple[float, float]:
    return naive_j(truth, result), naive_f(naive_boundary(truth), naive_boundary(result))


def naive_decay(values: np.ndarray) -> float:
    """Neighbouring quarters share the frame between them; a half is rounded up."""
    first_end, last_start = ((k * (len(values) - 1) + 2) // 4 for k in (1, 3))
    return sum(values[: first_end + 1]) / (first_end + 1) - sum(values[last_start:]) / (len(values) - last_start)


def ellipse(height: int, width: int, centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    return ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2 <= 1


def shapes(height: int, width: int) -> dict[str, np.ndarray]:
    """Pairs of masks that cover many cases; ellipses are centred anywhere, so the border cuts many of them off."""
    rng = np.random.default_rng([height, width])
    size = np.array([height, width])
    empty = np.zeros(size, dtype=bool)
    pixel, first, last, strip = (empty.copy() for _ in range(4))
    pixel[tuple(rng.integers(size))] = True
    first[0, 0] = True
    last[-1, -1] = True
    strip[:, width - max(1, width // 5) :] = True
    centre, axes = size * rng.uniform(0.2, 0.8, 2), size * rng.uniform(0.15, 0.5, 2) + 1
    blob = ellipse(height, width, centre, axes)
    tolerance = math.ceil(0.008 * math.hypot(height, width))
    return {
        "empty": empty,
        "full": ~empty,
        "one pixel": pixel,
        "first pixel": first,
        "last pixel": last,
        "strip": strip,
        "blob": blob,
        "ring": blob & ~ellipse(height, width, centre, axes * 0.6),
        "blob moved within the tolerance": np.roll(blob, tolerance, axis=1),
        "blob moved beyond it": np.roll(blob, tolerance + 1, axis=0),
        "blobs": ellipse(height, width, size * rng.uniform(0, 1, 2), axes / 2)
        | ellipse(height, width, size * rng.uniform(0, 1, 2), axes / 3),
        "scattered": rng.random(size) < min(0.5, 20 / empty.size),
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (3, 4), (16, 16), (75, 101), (5, 300)], ids=str)
def test_j_and_f_equal_loops_over_the_whole_image(size):
    masks = shapes(*size)
    boundaries = {name: naive_boundary(mask) for name, mask in masks.items()}
    for name, truth in masks.items():
        for other, result in masks.items():
            expected = naive_j(truth, result), naive_f(boundaries[name], boundaries[other])
            assert metrics.score_masks(truth, result) == pytest.approx(expected, abs=1e-12), (name, other)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32])
def test_masks_of_numbers_score_as_masks_of_what_is_not_0(dtype):
    truth, result = np.random.default_rng(0).random((2, 40, 60)) > 0.4
    truth[:, :5] = result[:, :5] = False
    assert metrics.measure_masks(truth.astype(dtype), result.astype(dtype) * 2) == metrics.measure_masks(truth, result)


def test_masks_without_a_boundary_score_by_rule():
    masks = shapes(48, 64)
    for truth, result, expected in (
        ("empty", "empty", (1, 1)),
        ("full", "full", (1, 1)),
        ("full", "empty", (0, 1)),  # neither has a boundary
        ("one pixel", "empty", (0, 0)),
        ("full", "one pixel", (1 / 3072, 0)),
        ("blob", "blob", (1, 1)),
    ):
        assert metrics.score_masks(masks[truth], masks[result]) == expected
        assert metrics.score_masks(masks[result], masks[truth]) == expected


def test_the_tolerance_is_0_8_per_cent_of_the_diagonal_rounded_up():
    for size, radius in (((3, 4), 1), ((75, 100), 1), ((75, 101), 2), ((480, 854), 8), ((1080, 1920), 18)):
        assert metrics.contour_radius(*size) == radius


@pytest.mark.parametrize("side", [0, 4, 9, 12, 60])
def test_the_tolerance_of_mose_v2_shrinks_with_the_object(side):
    truth, result = np.zeros((2, 100, 240), bool)
    truth[20 : 20 + side, 10 : 10 + side] = True
    result[22 : 22 + side, 9 : 10 + side] = True
    boundaries = naive_boundary(truth), naive_boundary(result)
    found = metrics.measure_masks(truth, result)
    assert found.f == pytest.approx(naive_f(*boundaries), abs=1e-12)
    assert found.f_adaptive == pytest.approx(naive_f(*boundaries, most=np.ceil(0.1 * side)), abs=1e-12)
    assert (found.f_adaptive < found.f) == (side in (4, 9, 12))


def naive_gone_and_back(there: list[bool], values: list[float]) -> list[float | None]:
    """The means over stretches that begin as the object vanishes, and as it comes back, frame by frame."""
    stretches: dict[bool, list[list[float]]] = {False: [], True: []}
    changed = False
    for t, value in enumerate(values):
        if t and there[t] != there[t - 1]:
            changed = True
            stretches[there[t]].append([])
        if changed:
            stretches[there[t]][-1].append(value)
    means = [[sum(part) / len(part) for part in stretches[seen]] for seen in (False, True)]
    return [sum(parts) / len(parts) if parts else None for parts in means]


@pytest.mark.parametrize("there", ["1111", "0000", "1100", "0011", "1010", "0101100111", "1101110000"])
def test_vanished_and_returned_objects_are_scored_stretch_by_stretch(there):
    shown = np.array([letter == "1" for letter in there])
    rng = np.random.default_rng(0)
    j, f, adaptive = rng.random((3, len(shown)))
    found = absence(FrameScores(j, f, adaptive, shown, rng.random(len(shown)) < 0.5, shown))
    for name, value in zip(("gone", "back"), naive_gone_and_back(shown.tolist(), ((j + adaptive) / 2).tolist()), strict=True):
        assert found[f"J&F_{name}"] == (None if value is None else pytest.approx(value))
    assert found["J&F_adaptive"] == pytest.approx(np.mean([j, adaptive]))


def naive_hota(objects: list[FrameScores]) -> tuple[float, float, float]:
    """HOTA, DetA and AssA, each hit, miss and false alarm counted alone."""
    found = []
    for threshold in (k / 20 for k in range(1, 20)):
        counts = []  # hits, misses and false alarms of each object
        for score in objects:
            hits = [a and b and j >= threshold for j, a, b in zip(score.j, score.there, score.found, strict=True)]
            misses = [a and not hit for a, hit in zip(score.there, hits, strict=True)]
            alarms = [b and not hit for b, hit in zip(score.found, hits, strict=True)]
            counts.append((sum(hits), sum(misses), sum(alarms)))
        detection = sum(c[0] for c in counts) / sum(map(sum, counts))
        of_hits = [c[0] / sum(c) for c in counts for _ in range(c[0])]
        association = sum(of_hits) / len(of_hits) if of_hits else 0.0
        found.append((math.sqrt(detection * association), detection, association))
    return tuple(np.mean(found, axis=0))


def test_hota_counts_hits_misses_and_false_alarms():
    rng = np.random.default_rng(0)
    objects = []
    for length in (9, 5, 14):
        there, shown = rng.random((2, length)) < 0.7
        j = np.where(there & shown, rng.random(length), there == shown)
        objects.append(FrameScores(j, j, j, there, shown, shown))
    assert tuple(hota(objects).values()) == pytest.approx(naive_hota(objects))
    perfect = FrameScores(*[np.ones(3)] * 3, *[np.full(3, True)] * 3)
    assert hota([perfect]) == {"HOTA": 1, "DetA": 1, "AssA": 1}


def test_decay_is_the_first_quarter_less_the_last_for_any_number_of_frames():
    for frames in (*range(1, 20), 68, 255, 256, 257, 258, 1000, 5001):
        values = np.random.default_rng(frames).random(frames)
        assert metrics.statistics(values).decay == pytest.approx(naive_decay(values), abs=1e-12)


def test_recall_counts_frames_above_a_half_only():
    assert metrics.statistics(np.array([0.5, 0.4, 0.51, 1.0, 0.0])).recall == 0.4


def patches(seed: int, frames: int, ids: list[int]) -> np.ndarray:
    """Label maps (T, 12, 20) of squares large enough that contours can be off by more than the tolerance."""
    rng = np.random.default_rng(seed)
    return rng.choice(np.array(ids, dtype=np.uint8), (frames, 3, 5)).repeat(4, axis=1).repeat(4, axis=2)


def write_masks(folder: Path, masks: dict[str, np.ndarray]) -> dict[str, Path]:
    for name, labels in masks.items():
        write_label_map(folder / f"{name}.png", labels, colour_map())
    return {name: folder / f"{name}.png" for name in masks}


def by_number(labels: np.ndarray, first: int = 0) -> dict[str, np.ndarray]:
    return {f"{t:05d}": frame for t, frame in enumerate(labels, start=first)}


def write_video(root: Path, name: str, truth: np.ndarray, results: np.ndarray, *, union: bool = False) -> Video:
    """A DAVIS video below `root/truth`, and results of only the scored frames below `root/results`."""
    write_masks(root / "results" / name, by_number(results[1:-1], first=1))
    paths = write_masks(root / "truth" / name, by_number(truth))
    return Video(name, images=(), masks={}, wanted=frozenset(), truth=paths, union=union)


@pytest.mark.parametrize(
    ("union", "truth_ids", "result_ids", "objects"),
    [(False, [0, 1, 3, 255], [0, 1, 2, 3, 9, 255], [1, 3]), (True, [0, 0, 38, 255], [0, 0, 1, 255], [1])],
    ids=["2017", "2016"],
)
def test_davis_scores_the_first_objects_in_all_frames_but_two(union, truth_ids, result_ids, objects, tmp_path):
    def of_object(labels: np.ndarray, number: int) -> np.ndarray:
        return labels != 0 if union else labels == number

    videos, expected = [], {}
    for name, frames in (("short", 6), ("long", 11)):
        truth, results = patches(frames, frames, truth_ids), patches(frames + 100, frames, result_ids)
        truth[1:, :4, :4] = 2  # enters late
        videos.append(write_video(tmp_path, name, truth, results, union=union))
        for number in objects:
            pairs = zip(of_object(truth, number)[1:-1], of_object(results, number)[1:-1], strict=True)
            expected[name, str(number)] = np.array([naive_scores(*pair) for pair in pairs])  # (T, 2)

    jobs = davis_jobs(videos, tmp_path / "results")
    found = davis_scores(score_videos(jobs, processes=1))
    assert [(name, number) for name in found["sequences"] for number in found["sequences"][name]["objects"]] == list(expected)
    for column, measure in enumerate("JF"):
        for (name, number), scores in expected.items():
            entry = found["sequences"][name]["objects"][number]
            values = scores[:, column]
            np.testing.assert_allclose(entry[f"{measure}_frames"], values, atol=1e-4)
            assert entry[measure]["mean"] == pytest.approx(values.mean())
        means = {key: scores[:, column].mean() for key, scores in expected.items()}
        assert 0 < min(means.values()) < max(means.values()) < 1
        for name in ("short", "long"):
            of_video = [mean for key, mean in means.items() if key[0] == name]
            assert found["sequences"][name][measure] == pytest.approx(np.mean(of_video))
        assert found["global"][measure] == pytest.approx(
            {
                "mean": np.mean(list(means.values())),
                "recall": np.mean([np.mean(scores[:, column] > 0.5) for scores in expected.values()]),
                "decay": np.mean([naive_decay(scores[:, column]) for scores in expected.values()]),
            }
        )
    for sequence in found["sequences"].values():
        assert sequence["J&F"] == pytest.approx((sequence["J"] + sequence["F"]) / 2)
    assert found["global"]["J&F"] == pytest.approx((found["global"]["J"]["mean"] + found["global"]["F"]["mean"]) / 2)


def test_an_object_that_a_network_finds_as_a_line_around_another_is_scored_as_any(tmp_path):
    truth = np.zeros((4, 48, 64), np.uint8)
    truth[:, :20, :20], truth[:, 20:40, 24:50] = 1, 16
    results = truth.copy()
    results[:, 20:40, 24:50], results[:, 22:38, 26:48] = 2, 16
    (scores,) = score_videos(
        davis_jobs([write_video(tmp_path, "a", truth, results)], tmp_path / "results"), processes=1
    ).values()
    assert scores[1].j.tolist() == [1, 1]
    assert scores[16].j == pytest.approx(16 * 22 / (20 * 26))


def test_a_video_without_a_frame_between_the_first_and_the_last_is_refused(tmp_path):
    video = write_video(tmp_path, "brief", *patches(0, 4, [0, 1]).reshape(2, 2, 12, 20))
    with pytest.raises(InputError, match="brief: expected ground truth of at least 3 frames, found 2"):
        davis_jobs([video], tmp_path / "results")


@pytest.fixture
def results(short_davis, tmp_path) -> Path:
    """The truth of DAVIS 2017 val, each mask moved by up to 6 pixels."""
    for folder in (short_davis / "trainval/Annotations/480p").glob("val*"):
        for t, path in enumerate(sorted(folder.iterdir())):
            labels = np.roll(np.array(Image.open(path)), t % 7, axis=1)
            write_label_map(tmp_path / "results" / folder.name / path.name, labels, colour_map())
    return tmp_path / "results"


def read_tables(folder: Path, split: str) -> tuple[list[list[str]], list[list[str]]]:
    names = (f"global_results-{split}.csv", f"per-sequence_results-{split}.csv")
    return tuple(list(csv.reader((folder / name).read_text().splitlines())) for name in names)


def decimals(*values: float) -> list[str]:
    return [f"{value:.3f}" for value in values]


def test_tables_and_tree_hold_the_same_davis_scores(results, short_davis, script, capsys):
    assert script("score", "--results", results, "--davis_path", short_davis, "--split", "val") == 0
    tree = json.loads((results / "scores.json").read_text())
    (header, row), (sequence_header, *rows) = read_tables(results, "val")
    assert ",".join(header) == DAVIS_HEADER
    total = [tree["global"][measure][key] for measure in "JF" for key in ("mean", "recall", "decay")]
    assert row == decimals(tree["global"]["J&F"], *total)
    assert f"{DAVIS_HEADER}\n{','.join(row)}\n" in capsys.readouterr().out
    assert sequence_header == ["Sequence", "J-Mean", "F-Mean"]
    assert rows == [
        [f"{name}_{number}", *decimals(entry["J"]["mean"], entry["F"]["mean"])]
        for name, sequence in tree["sequences"].items()
        for number, entry in sequence["objects"].items()
    ]
    assert [row[0] for row in rows] == ["val0_1", "val1_1", "val1_2", "val2_1", "val2_2", "val2_3", "val3_1"]
    for sequence in tree["sequences"].values():
        for measure, key in itertools.product("JF", ("mean", "recall", "decay")):
            of_objects = [entry[measure][key] for entry in sequence["objects"].values()]
            assert sequence["all"][measure][key] == pytest.approx(np.mean(of_objects))


def test_two_processes_find_the_same_scores_as_one(results, short_davis, script):
    trees = []
    for processes in (1, 2):
        arguments = ("--results", results, "--davis_path", short_davis, "--processes", processes)
        assert script("score", *arguments) == 0
        trees.append((results / "scores.json").read_text())
    assert trees[0] == trees[1]


def test_perfect_results_of_davis_2016_score_1_everywhere(demo_data, script, tmp_path):
    root = demo_data / "DAVIS/2016"
    shutil.copytree(root / "Annotations" / "480p", tmp_path, dirs_exist_ok=True)
    assert script("score", "--results", tmp_path, "--davis_path", root, "--year", 2016) == 0
    (_, row), (_, *rows) = read_tables(tmp_path, "val")
    assert row == decimals(1, 1, 1, 0, 1, 1, 0)
    assert {tuple(row[1:]) for row in rows} == {("1.000", "1.000")}


def test_results_of_davis_2016_that_are_inverted_are_told(demo_data, script, tmp_path, capsys):
    root = demo_data / "DAVIS/2016"
    for path in (root / "Annotations/480p").glob("*/*.png"):
        write_label_map(tmp_path / path.parent.name / path.name, np.uint8(255) * (read_label_map(path).labels == 0), None)
    assert script("score", "--results", tmp_path, "--davis_path", root, "--year", 2016) == 0
    assert capsys.readouterr().err.count("F is high and J is 0 for object 1: are the results inverted?") == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "no such result; 1 of 8 are missing there"),
        (make_larger, "mask is 200x300, {truth} is 128x224"),
        (lambda path: path.write_bytes(path.read_bytes()[:99]), "cannot read this image"),
        (lambda path: Image.effect_noise((224, 128), 99).convert("RGB").save(path), "expected one plain number or colour"),
    ],
    ids=["absent", "larger", "truncated", "RGB"],
)
def test_a_result_that_cannot_be_scored_is_named(damage, message, results, short_davis, script, capsys):
    path = results / "val2" / "00007.png"
    damage(path)
    assert script("score", "--results", results, "--davis_path", short_davis) == 2
    *progress, error = capsys.readouterr().err.splitlines()
    truth = short_davis / "trainval/Annotations/480p/val2/00007.png"
    assert error.startswith(f"error: {path}: {message.format(truth=truth)}")
    assert all("frames scored" in line for line in progress if line)
    assert not list(results.glob("*.*"))


WRONG_OPTIONS = {
    "--results none": "--results none: no such folder",
    "--split test": "--split: expected val or testdev, found test",
    "--split testdev": "test-dev0/00001, test-dev0/00002, test-dev0/00003 and 6 more: no ground truth",
    "--split testdev --year 2016": "--split testdev: DAVIS 2016 has only val",
    "--processes 0": "--processes",
    "--processes -2": "--processes",
}


def test_options_that_cannot_be_are_told_in_one_line(results, short_davis, script, capsys):
    for options, message in WRONG_OPTIONS.items():
        arguments = ["--results", results, "--davis_path", short_davis]
        assert script("score", *arguments, *options.split()) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert message in line


YOUTUBE_META = {
    "a": {
        2: ScoredObject("gear", ("00000", "00005", "00010", "00015")),
        7: ScoredObject("clover", ("00005", "00010", "00015")),
        9: ScoredObject("clover", ("00000", "00005", "00010", "00015")),
        4: ScoredObject("clover", ("00015",)),  # nothing after its first frame
    },
    "b": {1: ScoredObject("pebble", ("00003", "00020"))},
}


@pytest.mark.parametrize("seen", [{"gear", "clover", "pebble"}, {"clover"}, set()], ids=["all", "clover", "none"])
def test_youtube_scores_the_frames_behind_each_objects_first_and_averages_the_parts_there_are(seen, tmp_path):
    videos, expected = [], {}
    for name, names in (("a", ("00000", "00005", "00010", "00015", "00020")), ("b", ("00000", "00003", "00020"))):
        truth, masks = (dict(zip(names, patches(seed, len(names), [0, *YOUTUBE_META[name]]), strict=True)) for seed in (1, 2))
        scored = {frame for entry in YOUTUBE_META[name].values() for frame in entry.frames[1:]}
        write_masks(tmp_path / "results" / name, {frame: masks[frame] for frame in scored})
        videos.append(Video(name, (), {}, frozenset(), write_masks(tmp_path / "truth" / name, truth)))
        for number, entry in YOUTUBE_META[name].items():
            if len(entry.frames) > 1:
                pairs = [naive_scores(truth[frame] == number, masks[frame] == number) for frame in entry.frames[1:]]
                expected[f"{name}_{number}"] = (entry.category, *np.mean(pairs, axis=0))

    jobs = scoring_jobs(videos, YOUTUBE_META, tmp_path / "results")
    found = davis_scores(score_videos(jobs, processes=1))
    total = seen_and_unseen(found, YOUTUBE_META, seen)
    objects = {f"{name}_{n}": entry for name, video in found["sequences"].items() for n, entry in video["objects"].items()}
    assert objects.keys() == expected.keys()
    parts = {"J_seen": [], "F_seen": [], "J_unseen": [], "F_unseen": []}
    for name, (category, j, f) in expected.items():
        part = "seen" if category in seen else "unseen"
        assert objects[name]["category"] == category
        assert (objects[name]["J"]["mean"], objects[name]["F"]["mean"]) == pytest.approx((j, f))
        parts[f"J_{part}"].append(j)
        parts[f"F_{part}"].append(f)
    means = {part: np.mean(values) if values else None for part, values in parts.items()}
    assert {part: total[part] for part in means} == pytest.approx(means)
    assert total["G"] == pytest.approx(np.mean([mean for mean in means.values() if mean is not None]))


def test_a_youtube_part_that_scores_0_still_counts():
    scores = {n: FrameScores(*[np.full(3, score)] * 3, *[np.full(3, True)] * 3) for n, score in ((2, 0.0), (7, 1.0))}
    assert seen_and_unseen(davis_scores({"a": scores}), YOUTUBE_META, {"gear"})["G"] == 0.5


def test_youtube_truth_that_lacks_a_scored_frame_is_named(tmp_path):
    truth = write_masks(tmp_path / "truth", by_number(patches(0, 4, [0, 1])))
    with pytest.raises(InputError, match="b: expected ground truth for frame 00020, found none"):
        scoring_jobs([Video("b", (), {}, frozenset(), truth)], YOUTUBE_META, tmp_path)


@pytest.fixture
def youtube(demo_data, tmp_path) -> Path:
    """YouTube-VOS with a fully annotated `valid`, made from the training videos of the demo data."""
    shutil.copytree(demo_data / "YouTube" / "train_480p", tmp_path / "YouTube" / "valid")
    return tmp_path / "YouTube"


@pytest.mark.parametrize(("below", "known"), [(".", None), ("Annotations", {"amoeba"})])
def test_perfect_youtube_results_score_1_everywhere(known, below, youtube, script, tmp_path, capsys):
    meta = json.loads((youtube / "valid" / "meta.json").read_text())["videos"]
    if known is not None:
        objects = {str(i): {"category": category, "frames": []} for i, category in enumerate(known, start=1)}
        (youtube / "train").mkdir()
        (youtube / "train" / "meta.json").write_text(json.dumps({"videos": {"x": {"objects": objects}}}))
    shutil.copytree(youtube / "valid" / "Annotations", tmp_path / "results" / below, dirs_exist_ok=True)
    assert script("score", "--results", tmp_path / "results", "--yv_path", youtube) == 0
    assert "approximate" in capsys.readouterr().out
    (header, row), (_, *rows) = read_tables(tmp_path / "results", "valid")
    assert header[-5:] == ["G", "J_seen", "F_seen", "J_unseen", "F_unseen"]
    assert row[-5:] == decimals(1, 1, 1) + (["", ""] if known is None else decimals(1, 1))
    assert {name for name, *_ in rows} == {f"{name}_{number}" for name, video in meta.items() for number in video["objects"]}
    assert {tuple(row[1:]) for row in rows} == {("1.000", "1.000")}


def test_an_object_of_one_frame_alone_is_told_to_be_left_out(youtube, script, tmp_path, capsys):
    content = json.loads((youtube / "valid/meta.json").read_text())
    name, video = next((name, video) for name, video in content["videos"].items() if len(video["objects"]) > 1)
    number = min(video["objects"])
    del video["objects"][number]["frames"][1:]
    (youtube / "valid/meta.json").write_text(json.dumps(content))
    shutil.copytree(youtube / "valid/Annotations", tmp_path / "results")
    assert script("score", "--results", tmp_path / "results", "--yv_path", youtube) == 0
    assert f"{name}: no frame to score after the first one of object {number}\n" in capsys.readouterr().err


def test_youtube_videos_with_nothing_to_score_are_told_in_one_line(youtube, script, capsys):
    content = json.loads((youtube / "valid" / "meta.json").read_text())
    for video in content["videos"].values():
        for entry in video["objects"].values():
            del entry["frames"][1:]
    (youtube / "valid" / "meta.json").write_text(json.dumps(content))
    assert script("score", "--results", youtube / "valid" / "Annotations", "--yv_path", youtube) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_masks_of_one_video_are_not_scored_as_another_ones(results, short_davis, script, capsys):
    for name in ("val0", "val1"):
        (results / name).rename(results / "masks")
        (results / name).mkdir()
        (results / "masks").rename(results / name / "masks")
    flags = ("--davis_path", short_davis, "--videos", "val0", "--results")
    assert script("score", *flags, results / "val0") == 0
    assert "scored: 1 videos, " in capsys.readouterr().out
    assert script("score", *flags, results / "val1") == 2
    assert "val1: expected masks of val0, found a folder named like another video" in capsys.readouterr().err
    (results / "val0").rename(results / "mine")
    assert script("score", *flags, results / "mine") == 0


def test_results_that_are_numbered_from_1_are_refused_whatever_comes_before_the_number(short_davis, script, tmp_path, capsys):
    root = Path(shutil.copytree(short_davis, tmp_path / "davis"))
    for path in [*root.glob("trainval/*/480p/val0/*.*")]:
        path.rename(path.with_name(f"im_{path.name}"))
    for path in (root / "trainval/Annotations/480p/val0").iterdir():
        place = tmp_path / f"results/val0/im_{int(path.stem[3:]) + 1:05d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    assert script("score", "--results", tmp_path / "results", "--davis_path", root, "--videos", "val0") == 2
    assert "expected results named like frames, im_00000 to im_00009, found im_00010" in capsys.readouterr().err


def test_a_network_that_finds_many_objects_as_single_pixels_is_scored(tmp_path):
    truth = np.zeros((3, 48, 64), np.uint8)
    truth[:] = 1 + np.arange(64) // 4
    results = truth.copy()
    results[:, ::2] = np.random.default_rng(0).integers(1, 17, (24, 64))
    video = write_video(tmp_path, "a", truth, results)
    (scores,) = score_videos(davis_jobs([video], tmp_path / "results"), processes=1).values()
    assert scores[16].j == pytest.approx(naive_scores(truth[1] == 16, results[1] == 16)[0])


def test_no_scores_are_written_into_the_ground_truth(short_davis, script, capsys):
    root = short_davis
    place = root / "trainval/Annotations/480p"
    before = sorted(place.iterdir())
    assert script("score", "--results", place, "--davis_path", root) == 2
    assert f"--results {place}: holds the ground truth" in capsys.readouterr().err
    assert sorted(place.iterdir()) == before
