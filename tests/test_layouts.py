"""Each benchmark is found, segmented and scored by its own rules, on made-up sets in its layout."""

import json
import re
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import PALETTE
from PIL import Image

from dataset.davis import davis_folder
from dataset.layouts import LAYOUTS, layout_videos
from dataset.shapes import decode_rle, encode_rle
from util.label_map import write_label_map

MASKS = 8  # of a video
VIDEOS = {"cat": (1, 2, 3), "dog": (1,)}  # and their objects
BURST_TRACKS = {1: "3", 2: "12", 3: "200"}  # of these objects
EVERY_SECOND = {name for name, layout in LAYOUTS.items() if layout.sparse}  # frame has a mask


def truth(t: int) -> np.ndarray:
    """The labels of mask t: object 2 vanishes, returns and is missing at the end; object 3 is missing at the beginning."""
    result = np.zeros((32, 48), np.uint8)
    result[2:14, 2 + t : 16 + t] = 1
    if t in (0, 1, 4, 5, 6):
        result[16:28, 4 + t : 16 + t] = 2
    if t > 2:
        result[14:30, 30 : 34 + t] = 3
    return result


def result(t: int) -> np.ndarray:
    """A result that is shifted, finds object 2 a frame too long and too late, and object 3 a frame too early."""
    late = np.roll(truth(max(0, t - 1)), 1, axis=0)
    early = truth(max(3, t)) == 3
    shifted = np.where(late == 3, 0, late)
    return np.where(early & (t > 1), 3, shifted).astype(np.uint8)


def stem(name: str, frame: int) -> str:
    return f"{1 + 5 * frame:08d}" if name == "lvos" else f"{frame:05d}"


def write_masks(name: str, folder: Path, draw, masks: Iterable[int]) -> None:
    """Write masks of both videos as the layout has them, truth and results alike."""
    for video, objects in VIDEOS.items():
        for t in masks:
            labels = np.where(np.isin(draw(t), objects), draw(t), 0).astype(np.uint8)
            if name == "vost":
                labels[:, :4] = np.where(labels[:, :4], labels[:, :4], 255)  # ignored
            file = f"{stem(name, t * (2 if name in EVERY_SECOND else 1))}.png"
            if not LAYOUTS[name].each_object:
                write_label_map(folder / video / file, labels, PALETTE)
                continue
            for number in objects:
                write_label_map(folder / video / f"{number - 1:03d}" / file, (labels == number) * np.uint8(255), None)


def write_set(name: str, root: Path, split: str, masks: Iterable[int] = range(MASKS)) -> Path:
    """Write a set in a benchmark's layout; returns the folder of its masks."""
    layout = LAYOUTS[name]
    base = root / layout.folder.format(split=split)
    for video in VIDEOS:
        (base / layout.images / video).mkdir(parents=True)
        for frame in range(MASKS * 2 - 1 if name in EVERY_SECOND else MASKS):
            picture = Image.effect_noise((48, 32), 64).convert("RGB")
            picture.save(base / layout.images / video / f"{stem(name, frame)}.jpg")
    write_masks(name, base / layout.masks, truth, masks)
    if layout.listing:
        (base / layout.listing.format(split=split)).parent.mkdir(exist_ok=True)
        (base / layout.listing.format(split=split)).write_text("\n".join(VIDEOS))
    if layout.ranges:
        ends = {1: (0, 7), 2: (0, 6), 3: (3, 7)}  # as `truth` shows them
        objects = {
            number: {"frame_range": {"start": str(1 + 5 * start), "end": str(1 + 5 * end), "frame_nums": end - start + 1}}
            for number, (start, end) in ends.items()
        }
        meta = {video: {"objects": {number: objects[number] for number in ids}} for video, ids in VIDEOS.items()}
        (base / layout.ranges.format(split=split)).write_text(json.dumps({"videos": meta}))
    return base / layout.masks


def mean_iou(number: int, frames: Iterable[int]) -> float:
    """J of the results, the slow way."""
    values = []
    for t in frames:
        one, other = truth(t) == number, result(t) == number
        union = sum(a or b for a, b in zip(one.flat, other.flat, strict=True))
        values.append(sum(a and b for a, b in zip(one.flat, other.flat, strict=True)) / union if union else 1)
    return sum(values) / len(values)


@pytest.fixture
def evaluate(light_file, script, tmp_path):
    """Segments a set by its layout's name; returns the files in the zip for the server."""

    def run(name: str, root: Path, *flags: object) -> set[str]:
        out = tmp_path / "out"
        where = ("--layout", name, "--path", root, "--model", light_file, "--size", 32, "--output", out, "--zip")
        assert script("eval_youtube", *where, *flags) == 0
        with zipfile.ZipFile(out / "results.zip") as archive:
            return set(archive.namelist())

    return run


@pytest.fixture
def score(script, tmp_path):
    """Scores `result` by a layout's name; returns the content of `scores.json`."""

    def run(name: str, root: Path, *flags: object) -> dict:
        write_masks(name, tmp_path / "results" / LAYOUTS[name].archive, result, range(MASKS))
        where = ("--layout", name, "--path", root, "--results", tmp_path / "results", "--processes", 1)
        assert script("score", *where, *flags) == 0
        return json.loads((tmp_path / "results/scores.json").read_text())

    return run


def assert_scored(scores: dict, frames: dict[int, range]) -> None:
    """J of the cat's objects is that of these masks, and the total the mean over all four objects."""
    sequences = scores["sequences"]
    if "cat" in sequences:
        objects = {int(number): entry for number, entry in sequences["cat"]["objects"].items()}
    else:
        objects = {int(name[-3:]) + 1: sequences[name]["objects"]["1"] for name in sequences if name.startswith("cat/")}
    assert {number: entry["J"]["mean"] for number, entry in objects.items()} == pytest.approx(
        {number: mean_iou(number, of_object) for number, of_object in frames.items()}
    )
    every = [entry["J"]["mean"] for video in sequences.values() for entry in video["objects"].values()]
    assert len(every) == len(objects) + 1
    assert scores["global"]["J"]["mean"] == pytest.approx(np.mean(every))


def test_mose_gives_first_masks_and_scores_where_all_are_public(evaluate, score, script, tmp_path, capsys):
    root = tmp_path / "MOSE"
    first = write_set("mose", root, "valid", [0])
    assert evaluate("mose", root) == {f"{video}/{t:05d}.png" for video in VIDEOS for t in range(MASKS)}
    flags = ("--layout", "mose", "--path", root, "--results", tmp_path / "out")
    assert script("score", *flags) == 2
    told = "valid: expected masks of 3 frames or more to score with, found fewer for cat, dog; what is not public, the server"
    assert told in capsys.readouterr().err
    write_set("mose", root, "train")
    assert [list(video.masks) for video in layout_videos(LAYOUTS["mose"], root, split="train")] == [["00000"], ["00000"]]
    scores = score("mose", root, "--split", "train")
    assert_scored(scores, {1: range(1, 7), 2: range(1, 7)})
    assert "absence: 1 of 3 objects are absent from some frames, of which 50.0% were left empty" in capsys.readouterr().out
    entry = scores["sequences"]["cat"]["objects"]["2"]
    assert (entry["left_empty"], entry["found"]) == (0.5, 0.75)
    truths, results = (np.array([draw(t) == 2 for t in range(1, 7)]) for draw in (truth, result))
    assert entry["J_volume"] == pytest.approx((truths & results).sum() / (truths | results).sum())
    assert scores["global"]["J&F_gone"] is not None
    capsys.readouterr()
    for t in (0, 7):
        (root / f"train/Annotations/cat/{t:05d}.png").unlink()
    score("mose", root, "--split", "train")
    told = capsys.readouterr().err
    assert "no mask of the first frame of cat; frames before the first mask are left empty" in told
    assert "not all frames of cat (6 of 8) have masks; those without are not scored" in told
    assert script("score", "--layout", "mose", "--path", first.parent, "--results", tmp_path, "--split", "val") == 2
    assert "--split: expected valid or train or test, found val" in capsys.readouterr().err


def test_lvos_scores_each_object_in_its_range_and_divides_seen_from_unseen(evaluate, score, script, tmp_path, capsys):
    root = tmp_path / "LVOS"
    base = write_set("lvos", root, "val").parent
    assert "Annotations/cat/00000036.png" in evaluate("lvos", root)
    (cat, _) = layout_videos(LAYOUTS["lvos"], root, split="val")
    assert [sorted(np.unique(frame.mask)) for frame in cat.frames() if frame.mask is not None] == [[0, 1, 2], [0, 3]]
    scores = score("lvos", root)
    assert_scored(scores, {1: range(1, 7), 2: range(1, 6), 3: range(4, 7)})
    assert "G" not in scores["global"]
    hidden = base / "Annotations/cat/00000026.png"
    hidden.rename(tmp_path / "hidden.png")
    assert script("score", "--layout", "lvos", "--path", root, "--results", tmp_path / "results") == 2
    assert "cat: expected masks to score with, found none of 00000026" in capsys.readouterr().err
    (tmp_path / "hidden.png").rename(hidden)
    (base / "unseen_videos.txt").write_text("dog\n")
    scores = score("lvos", root)
    total, objects = scores["global"], [entry for video in scores["sequences"].values() for entry in video["objects"].values()]
    j, f, v = ([entry[key] if key == "V" else entry[key]["mean"] for entry in objects] for key in "JFV")
    assert (total["J_seen"], total["J_unseen"], total["V_unseen"]) == pytest.approx((np.mean(j[:3]), j[3], v[3]))
    assert total["G"] == pytest.approx((np.mean(j[:3]) + j[3] + np.mean(f[:3]) + f[3]) / 4)
    for entry in objects:
        both = (np.array(entry["J_frames"]) + entry["F_frames"]) / 2
        assert entry["V"] == pytest.approx(np.sqrt(np.mean((both - both.mean()) ** 2)), abs=5e-4)


def test_vost_scores_the_objects_of_the_first_mask_and_the_last_quarter(score, script, tmp_path, capsys):
    root = tmp_path / "VOST"
    write_set("vost", root, "val")
    (cat, _) = layout_videos(LAYOUTS["vost"], root, split="val")
    assert len(cat.wanted) == MASKS
    assert [sorted(np.unique(frame.mask)) for frame in cat.frames() if frame.mask is not None] == [[0, 1, 2]]
    scores = score("vost", root)
    assert_scored(scores, {1: range(1, 7), 2: range(1, 7)})
    entries = scores["sequences"]["cat"]["objects"]
    assert entries["1"]["J_last"] == pytest.approx(mean_iou(1, [5, 6]))
    assert entries["2"]["J_last"] == pytest.approx(mean_iou(2, [5, 6]))
    capsys.readouterr()
    assert script("eval_youtube", "--layout", "vost", "--path", root, "--split", "test", "--output", tmp_path / "no") == 2
    assert f"{root}/ImageSets/test.txt: cannot read" in capsys.readouterr().err


def test_long_time_video_needs_results_and_scores_at_annotated_frames_only(evaluate, score, tmp_path):
    root = tmp_path / "long"
    write_set("long", root, "all")
    assert evaluate("long", root, "--videos", "dog") == {f"dog/{2 * t:05d}.png" for t in range(MASKS)}
    assert len(evaluate("long", root, "--videos", "dog", "--output_all", "--overwrite")) == 2 * MASKS - 1
    assert_scored(score("long", root), {1: range(1, 7), 2: range(1, 7), 3: range(2, 7)})


def test_pumavos_gives_first_masks_and_scores_every_frame_between(score, tmp_path, capsys):
    root = tmp_path / "PUMaVOS"
    masks = write_set("pumavos", root, "all")
    (cat,) = layout_videos(LAYOUTS["pumavos"], root, split="all", only=["cat"])
    assert (list(cat.masks), len(cat.wanted)) == (["00000"], MASKS)
    assert_scored(score("pumavos", root), {1: range(1, 7), 2: range(1, 7), 3: range(2, 7)})
    for path in sorted((masks / "dog").iterdir())[2:]:
        path.unlink()
    assert list(score("pumavos", root)["sequences"]) == ["cat"]
    assert "warning: not scored: expected masks of 3 frames or more" in capsys.readouterr().err


def test_favos_scores_the_objects_of_the_first_mask_up_to_the_last_frame(score, tmp_path):
    root = tmp_path / "FaVOS"
    write_set("favos", root, "favos-20")
    (cat, _) = layout_videos(LAYOUTS["favos"], root, split="favos-20")
    assert (list(cat.masks), len(cat.wanted)) == (["00000"], MASKS)
    assert_scored(score("favos", root), {1: range(1, 8), 2: range(1, 8)})


def test_truth_without_frames_and_the_masks_of_another_year_are_told(demo_data, script, tmp_path, capsys):
    truth = shutil.copytree(demo_data / "YouTube/valid/Annotations", tmp_path / "truth")
    some = next(truth.glob("*/*.png"))
    shutil.copy(some, some.with_name("99999.png"))
    flags = ("--yv_path", demo_data / "YouTube", "--truth", truth, "--results", truth)
    assert script("score", *flags) == 2
    assert "found 99999.png, but no such frames in " in capsys.readouterr().err
    assert davis_folder(demo_data / "DAVIS/2017", "trainval", 2016) == demo_data / "DAVIS/2016"


def test_sa_v_follows_each_object_alone_so_that_masks_may_overlap(evaluate, score, script, tmp_path, capsys):
    root = tmp_path / "SA-V"
    masks = write_set("sav", root, "val")
    for path in (masks / "cat/002").iterdir():
        (masks / "cat/001" / path.name).write_bytes(path.read_bytes())
    names = evaluate("sav", root, "--videos", "cat")
    assert names == {f"cat/{n:03d}/{2 * t:05d}.png" for n in range(3) for t in range(MASKS)}
    one, other = (tmp_path / "out/cat" / number / "00014.png" for number in ("001", "002"))
    assert one.read_bytes() == other.read_bytes()
    dog = ("--videos", "dog", "--mem_every", 2, "--overwrite")
    assert evaluate("sav", root, *dog) == {f"dog/000/{2 * t:05d}.png" for t in range(MASKS)}
    assert not (tmp_path / "out/cat").exists()
    write_masks("sav", masks, truth, range(MASKS))
    assert_scored(score("sav", root), {1: range(1, 7), 2: range(1, 7), 3: range(2, 7)})
    (masks / "cat/000/99999.png").write_bytes((masks / "cat/000/00000.png").read_bytes())
    assert script("eval_youtube", "--layout", "sav", "--yv_path", root, "--output", tmp_path / "odd") == 2
    assert "found 99999.png, but no such frames in " in (told := capsys.readouterr().err)
    assert told.rstrip().endswith("JPEGImages_24fps/cat")
    (masks / "cat/000/99999.png").unlink()
    (masks / "ant").mkdir()
    assert script("score", "--layout", "sav", "--path", root, "--results", tmp_path / "results") == 2
    assert "sav_val/Annotations_6fps/ant: expected a folder for each object, found none" in capsys.readouterr().err
    (masks / "ant").rmdir()
    page = tmp_path / "page.html"
    flags = ("--layout", "sav", "--path", root, "--frames", 2)
    assert script("report", tmp_path / "results", *flags, "--output", page) == 0
    text = re.sub('base64,[^"]*', "", page.read_text())
    assert "nan" not in text
    assert "cat/001" in text
    assert script("show_results", "--results", tmp_path / "results", *flags, "--output", tmp_path / "drawn.png") == 0


def test_burst_is_converted_to_masks_and_results_to_its_json(evaluate, script, tmp_path, capsys):
    root = tmp_path / "BURST"
    entries = []
    for video, objects in VIDEOS.items():
        (root / "frames/val/LaSOT" / video).mkdir(parents=True)
        for frame in range(2 * MASKS - 1):
            Image.effect_noise((48, 32), 64).convert("RGB").save(root / "frames/val/LaSOT" / video / f"frame{frame:04d}.jpg")
        masks = [{n: truth(t) == n for n in objects} for t in range(MASKS)]
        entries.append(
            {
                "width": 48,
                "height": 32,
                "id": len(entries),
                "dataset": "LaSOT",
                "seq_name": video,
                "annotated_image_paths": [f"frame{2 * t:04d}.jpg" for t in range(MASKS)],
                "segmentations": [
                    {BURST_TRACKS[n]: {"rle": encode_rle(mask)} for n, mask in of.items() if mask.any()} for of in masks
                ],
            }
        )
    assert encode_rle(np.array([[True, False], [True, True]])) == "021O"  # by pycocotools
    source = root / "annotations/val/all_classes.json"
    source.parent.mkdir(parents=True)
    source.write_text(json.dumps({"split": "val", "categories": [], "sequences": entries}))
    assert script("burst", "masks", root) == 0
    assert script("burst", "masks", root) == 0
    (tmp_path / "list.txt").write_text("LaSOT/cat\n")
    names = evaluate("burst", root, "--list", tmp_path / "list.txt")
    assert names == {f"LaSOT/cat/frame{2 * t:04d}.png" for t in range(MASKS)}
    (cat, _) = layout_videos(LAYOUTS["burst"], root, split="val")
    assert [sorted(np.unique(frame.mask)) for frame in cat.frames() if frame.mask is not None] == [[0, 1, 2], [0, 3]]
    write_masks("burst", tmp_path / "results/LaSOT", result, range(MASKS))
    for path in (tmp_path / "results").rglob("*.png"):
        path.rename(path.with_stem(f"frame{path.stem[1:]}"))
    flags = ("--results", tmp_path / "results")
    assert script("score", "--layout", "burst", "--path", root, *flags, "--processes", 1) == 0
    scores = json.loads((tmp_path / "results/scores.json").read_text())
    assert 0 < scores["global"]["HOTA"] < 1
    assert "HOTA" in (tmp_path / "results/global_results-val.csv").read_text()
    scores["sequences"] = {name.removeprefix("LaSOT/"): entry for name, entry in scores["sequences"].items()}
    assert_scored(scores, {1: range(1, 7), 2: range(1, 7), 3: range(2, 7)})
    assert script("burst", "results", root, *flags, "--output", tmp_path / "burst.json") == 0
    (cat, _) = json.loads((tmp_path / "burst.json").read_text())["sequences"]
    for t, of_frame in enumerate(cat["segmentations"]):
        shown = {track: decode_rle({"size": (32, 48), "counts": mask["rle"]}) for track, mask in of_frame.items()}
        assert shown.keys() == {BURST_TRACKS[n] for n in np.unique(result(t)) if n}
        for n in set(np.unique(result(t)).tolist()) - {0}:
            assert np.array_equal(shown[BURST_TRACKS[n]], result(t) == n)
    crowded = {"dataset": "LaSOT", "seq_name": "x", "annotated_image_paths": [], "segmentations": [{}]}
    source.write_text(json.dumps({"sequences": [crowded]}))
    assert script("burst", "masks", root) == 2
    assert "all_classes.json: expected masks of each frame, of at most 254 tracks, found 1 for 0" in capsys.readouterr().err
    source.write_text("[]")
    assert script("burst", "masks", root) == 2
    assert "all_classes.json: expected annotations of BURST, found another layout" in capsys.readouterr().err


def test_check_data_finds_a_benchmarks_splits_and_what_is_broken_in_them(script, tmp_path, capsys):
    masks = write_set("sav", tmp_path / "SA-V", "val")
    write_set("vost", tmp_path / "VOST", "train")
    none = [f"--{name}_root=none" for name in ("static", "bl", "yv", "davis", "davis16", "yv18")]
    flags = [*none, "--num_workers", 0, "--layout", f"sav={tmp_path / 'SA-V'}", f"vost={tmp_path / 'VOST'}"]
    assert script("check_data", *flags) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["SA-V", "val", "4", "-", "-"] in lines
    assert ["VOST", "val", "-", "-", "absent"] in lines
    assert ["VOST", "train", "2", "-", "-"] in lines
    assert ["SA-V", "val:", "ready"] in lines
    write_label_map(masks / "cat/001/00002.png", np.zeros((8, 8), np.uint8), None)
    assert script("check_data", *flags) == 1
    assert "cat/001/00002.png: mask is 8x8, its image is 32x48" in capsys.readouterr().out
    assert script("check_data", "--layout", "moose=x") == 2
    assert "expected NAME=DIR with one of mose, lvos" in capsys.readouterr().err
