"""Results of any data set are scored, reported and drawn; what cannot be scored is told and costs the others nothing."""

import csv
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import PALETTE, write_davis, write_video
from PIL import Image

from dataset.davis import davis_videos
from dataset.own_video import open_video
from dataset.sources import own_videos
from dataset.youtube import youtube_videos
from util.errors import InputError
from util.label_map import write_label_map


def labels(t: int) -> np.ndarray:
    """Two objects; the second enters at frame 2."""
    result = np.zeros((32, 48), np.uint8)
    result[4:16, 2 + t : 18 + t] = 1
    if t > 1:
        result[18:30, 20 - t : 40 - t] = 2
    return result


LABELS = {"cat": [labels(t) for t in range(5)], "dog": [labels(t) for t in range(6)]}


@pytest.fixture
def own(tmp_path) -> Path:
    root = tmp_path / "own"
    for name, masks in LABELS.items():
        write_video(root / "JPEGImages" / name, root / "Annotations" / name, masks)
    return root


@pytest.fixture
def davis(tmp_path) -> Path:
    return write_davis(tmp_path / "DAVIS", LABELS)


def scores_in(folder: Path, split: str = "valid") -> dict[str, float]:
    with open(folder / f"per-sequence_results-{split}.csv") as file:
        return {row["Sequence"]: float(row["J-Mean"]) for row in csv.DictReader(file)}


def test_the_masks_of_segment_video_are_scored_as_they_are(own, davis, script, tmp_path, capsys):
    every = tmp_path / "every"
    for name in ("cat", "dog"):
        shutil.copytree(own / "Annotations" / name, every / name / "masks")
        (every / name / "overlay.mp4").touch()
    assert script("score", "--results", every, "--yv_path", own, "--processes", 1) == 0
    assert scores_in(every) == {"cat_1": 1, "cat_2": 1, "dog_1": 1, "dog_2": 1}
    assert (every / "per-object_results-valid.csv").read_text().splitlines()[-1].startswith("all,all,1.000,1.000")
    assert script("score", "--results", every, "--davis_path", davis, "--processes", 1) == 0
    assert scores_in(every, "val") == {"cat_1": 1, "dog_1": 1}
    assert script("score", "--results", every / "dog", "--yv_path", own, "--truth", own, "--processes", 1) == 0
    assert scores_in(every / "dog") == {"dog_1": 1, "dog_2": 1}
    (every / "dog").rename(tmp_path / "holiday")
    capsys.readouterr()
    assert script("score", "--results", tmp_path / "holiday", "--yv_path", own, "--processes", 1) == 2
    assert "holiday: holds masks of one video; name the folder like it, one of cat, dog" in capsys.readouterr().err
    shutil.rmtree(own / "JPEGImages/cat")
    shutil.rmtree(own / "Annotations/cat")
    assert script("score", "--results", tmp_path / "holiday", "--yv_path", own, "--processes", 1) == 0


def test_a_sequence_too_short_to_score_is_told_and_the_others_are_scored(davis, script, tmp_path, capsys):
    for path in sorted((davis / "JPEGImages/480p/cat").iterdir())[2:]:
        path.unlink()
        (davis / "Annotations/480p/cat" / f"{path.stem}.png").unlink()
    shutil.copytree(davis / "Annotations/480p", tmp_path / "results")
    assert script("score", "--results", tmp_path / "results", "--davis_path", davis, "--processes", 1) == 0
    assert scores_in(tmp_path / "results", "val") == {"dog_1": 1}
    assert capsys.readouterr().err.startswith("warning: not scored: cat: expected ground truth of at least 3 frames, found 2")
    page = tmp_path / "page.html"
    assert script("report", tmp_path / "results", "--davis_path", davis, "--output", page) == 0
    assert "dog" in page.read_text()


def test_a_video_without_masks_fails_alone(own, light_file, script, tmp_path, capsys):
    (own / "JPEGImages/ant").mkdir()
    for t in range(2):
        Image.new("RGB", (48, 32)).save(own / f"JPEGImages/ant/{t:05d}.jpg")
    with pytest.raises(InputError):
        youtube_videos(own)
    flags = ("--yv_path", own, "--model", light_file, "--output", tmp_path / "out", "--size", 32)
    assert script("eval_youtube", *flags) == 1
    assert "failed: ant: expected masks in " in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out/Annotations").iterdir()} == {"cat", "dog"}
    assert script("score", "--results", tmp_path / "out", "--yv_path", own, "--processes", 1) == 0
    assert "warning: left out: ant: expected masks" in capsys.readouterr().err
    for path in (own / "Annotations").iterdir():
        shutil.rmtree(path)
    with pytest.raises(InputError):
        youtube_videos(own, left_out=[])


@pytest.mark.parametrize("name", ["00002.png", "mask.png"])
def test_a_mask_among_the_frames_of_a_video_fails_alone(name, davis, light_file, script, tmp_path, capsys):
    (davis / "JPEGImages/480p/cat/00002.jpg").unlink()
    write_label_map(davis / "JPEGImages/480p/cat" / name, labels(1), PALETTE)
    flags = ("--model", light_file, "--size", 32, "--output", tmp_path / "out")
    assert script("eval_davis", "--davis_path", davis, *flags) == 1
    assert f"failed: cat: {davis}/JPEGImages/480p/cat/{name}: .png among frames that are .jpg" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"dog"}


def test_results_that_tell_no_objects_apart_are_told(own, script, tmp_path, capsys):
    for path in (own / "Annotations").rglob("*.png"):
        with Image.open(path) as image:
            white = np.where(np.array(image) > 0, np.uint8(255), np.uint8(0))
        write_label_map(tmp_path / "white" / path.parent.name / path.name, white, None)
    assert script("score", "--results", tmp_path / "white", "--yv_path", own, "--processes", 1) == 0
    told = capsys.readouterr().err
    assert "cat: results hold 0 and 255 only, which is object 1, but the truth has objects 1, 2" in told
    shutil.copytree(own / "Annotations", tmp_path / "results")
    assert script("score", "--results", tmp_path / "results", "--yv_path", own, "--processes", 1) == 0
    assert "results hold" not in capsys.readouterr().err
    for path in (tmp_path / "results").rglob("*.png"):
        with Image.open(path) as image:
            write_label_map(path, 100 * np.array(image), None)
    assert script("score", "--results", tmp_path / "results", "--yv_path", own, "--processes", 1) == 0
    assert "cat: results hold object 100, but the truth has only 1, 2" in capsys.readouterr().err


def test_results_whose_colours_or_frames_are_not_those_of_the_truth_are_refused(own, script, tmp_path, capsys):
    def score() -> int:
        return script("score", "--results", tmp_path / "results", "--yv_path", own, "--processes", 1)

    shutil.copytree(own / "Annotations", tmp_path / "results")
    for path in (tmp_path / "results").rglob("*.png"):
        with Image.open(path) as image:
            colours = np.array([(0, 0, 0), (255, 127, 14), (31, 119, 180)], np.uint8)
            Image.fromarray(colours[np.array(image)]).save(path)
    assert score() == 2
    assert "cat: results have colours of their own; save the numbers of the truth, 1, 2" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "results")
    shutil.copytree(own / "Annotations", tmp_path / "results")
    for folder in (tmp_path / "results").iterdir():
        for path in sorted(folder.iterdir(), reverse=True):
            path.rename(folder / f"{int(path.stem) + 1:05d}.png")
    assert score() == 2
    assert "expected results named like frames, 00000 to 0000" in capsys.readouterr().err


def test_results_of_all_frames_but_the_last_are_told_to_be_perhaps_those_of_the_next(davis, script, tmp_path, capsys):
    truth = davis / "Annotations/480p"
    for folder in truth.iterdir():
        *_, last = files = sorted(folder.iterdir())
        (tmp_path / "results" / folder.name).mkdir(parents=True)
        for path, after in itertools.pairwise(files):
            shutil.copy(after, tmp_path / "results" / folder.name / path.name)
    assert script("score", "--results", tmp_path / "results", "--davis_path", davis, "--processes", 1) == 0
    assert f"has results of all frames but the last, {last.stem}: are they numbered from" in capsys.readouterr().err


def test_a_report_and_a_picture_of_ones_own_data(own, script, tmp_path):
    page, drawn, results = tmp_path / "page.html", tmp_path / "drawn.png", tmp_path / "results"
    shutil.copytree(own / "Annotations", results)
    assert script("report", results, "--yv_path", own, "--output", page, "--frames", 4) == 0
    text = page.read_text()
    assert text.count('id="sequence-') == 2
    assert "100.0" in text
    assert "nan" not in text
    assert script("show_results", "--results", results, "--yv_path", own, "--output", drawn, "--frames", 2) == 0
    with Image.open(drawn) as image:
        assert image.height > 4 * 160  # result and truth of two videos


@pytest.mark.parametrize("part", ["JPEGImages", "Annotations"])
def test_pictures_of_a_data_set_that_lie_in_no_folder_are_told(part, own):
    for path in (own / part / "cat").iterdir():
        path.rename(own / part / path.name)
    for read in (youtube_videos, own_videos):
        with pytest.raises(InputError, match=rf"{part}: expected a folder for each video, found 00000.*segment_video.py$"):
            read(own)


def test_a_folder_above_or_below_is_answered_with_the_right_one(own, davis, tmp_path):
    youtube = tmp_path / "YouTube"
    shutil.copytree(own, youtube / "valid")
    (youtube / "valid/meta.json").write_text("{}")
    with pytest.raises(InputError, match=rf"valid: expected the folder of YouTube-VOS, found its valid/; give {youtube}$"):
        youtube_videos(youtube / "valid")
    with pytest.raises(InputError, match=rf"own/JPEGImages: expected .*; did you mean {own}\?$"):
        youtube_videos(own / "JPEGImages")
    with pytest.raises(InputError, match=rf"JPEGImages: no such folder; did you mean {youtube}/valid\?$"):
        own_videos(youtube)
    with pytest.raises(InputError, match=rf"480p: expected trainval/.*; did you mean {davis}\?$"):
        davis_videos(davis / "JPEGImages/480p")
    with pytest.raises(InputError, match=rf"own: expected frames .*; did you mean {own}/JPEGImages/cat\?$"):
        open_video(own)


def test_a_split_of_ones_own_videos_is_refused(own, light_file, script, tmp_path, capsys):
    for command in (["score", "--results", tmp_path], ["eval_youtube", "--model", light_file, "--output", tmp_path / "out"]):
        assert script(*command, "--yv_path", own, "--split", "valid") == 2
        assert "--split valid: goes with a data set, found videos of one's own\n" in capsys.readouterr().err
    assert script("eval_rounds", "--path", own, "--davis_path", own, "--output", tmp_path / "out") == 2
    assert "--davis_path: not allowed with argument --path" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_chosen_videos_alone_are_looked_at(own, davis, script, tmp_path, capsys):
    for image in (davis / "JPEGImages/480p/dog").iterdir():
        image.unlink()
    (tmp_path / "list.txt").write_text("cat\n")
    for name in ("cat", "dog"):
        shutil.copytree(own / "Annotations" / name, tmp_path / "results" / name)
    for chosen in (["--videos", "cat"], ["--list", tmp_path / "list.txt"]):
        assert script("score", "--results", tmp_path / "results", "--davis_path", davis, *chosen, "--processes", 1) == 0
        assert scores_in(tmp_path / "results", "val") == {"cat_1": 1}
    flags = ["--yv_path", own, "--videos", "dog", "--processes", 1]
    assert script("score", "--results", tmp_path / "results", *flags) == 0
    assert scores_in(tmp_path / "results") == {"dog_1": 1, "dog_2": 1}
    assert [video.name for video in youtube_videos(own, only=["dog", "cat", "dog"])] == ["dog", "cat"]
    for problem in (["--videos", "cat", "--list", tmp_path / "list.txt"], ["--list", tmp_path / "none"], ["--videos", "cow"]):
        assert script("score", "--results", tmp_path / "results", "--davis_path", davis, *problem) == 2
    assert "expected some of cat, dog" in capsys.readouterr().err.splitlines()[-1]
