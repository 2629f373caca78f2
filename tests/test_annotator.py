"""The robot in place of the person at the page (`scripts/eval_annotator.py`)."""

import json
from functools import partial

import eval_annotator
import numpy as np
import pytest
import torch
from conftest import run_script

from dataset.davis import davis_videos
from dataset.robot import UNMARKED
from evaluation.metrics import score_masks
from model import VideoSegmenter, save_network
from model.scribble import ScribbleNetwork


def test_a_cut_that_knows_the_truth_needs_no_scribbles_and_its_correction_makes_that_frame_right(tiny_davis, light_network):
    (video,) = davis_videos(tiny_davis)
    truth = [video.read_mask(path) for _, path in sorted(video.truth.items())][:5]
    objects = [i for i in np.unique(truth[0]).tolist() if i]
    asked = []

    def cut(image, mask, others, on, off):
        """The true mask of the object that most of the marks are on, in whichever frame the image is of."""
        frame = next(t for t, shown in enumerate(video.frames()) if np.array_equal(shown.image, image))
        marked = truth[frame][mask if not on.any() else on]
        asked.append(frame)
        return truth[frame] == np.bincount(marked[marked > 0]).argmax()

    found = eval_annotator.annotate(partial(VideoSegmenter, light_network, size=48), cut, video, lambda: None, frames=5)
    assert found["box"] == found["scribbled"] == [100] * len(objects)
    assert found["actions"] == len(objects)
    segmenter = VideoSegmenter(light_network, size=48)
    scores = [100.0]
    for t, frame in enumerate(list(video.frames())[:5]):
        labels = segmenter.to_labels(segmenter.step(frame.image, truth[0] if t == 0 else None)).numpy()
        if t:
            scores.append(100 * np.mean([score_masks(truth[t] == i, labels == i)[0] for i in objects]))
    assert found["followed"] == pytest.approx(np.mean(scores))
    assert found["worst frame"] == int(np.argmin(scores))
    assert set(asked) == {0, found["worst frame"]}
    assert found["corrected"] > found["followed"]


def test_a_box_takes_pixels_of_objects_that_lie_mostly_outside_of_what_is_found():
    truth = np.zeros((10, 10), bool)
    truth[:, :5] = True
    labels = np.zeros((10, 10), np.uint8)
    labels[:, 4:8] = 1  # a quarter of it is in what is found
    labels[:2, :2] = 2  # all of it
    boxed = eval_annotator.box(lambda image, inside, others, on, off: inside, None, truth, labels, 3)
    assert (boxed[:2, :2] == 2).all()
    assert (boxed[2:, :5] == 3).all()
    assert (boxed[:, 5:8] == 1).all()


def test_the_order_of_frames_by_sureness_is_compared_with_that_by_j():
    pairs = [[90.0, 50.0], [20.0, 10.0], [95.0, 99.0], [30.0, 60.0]]  # ranks 3 1 4 2 and 2 1 4 3
    assert eval_annotator.rank_correlation(pairs) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert eval_annotator.rank_correlation(pairs[:2]) is None
    assert eval_annotator.rank_correlation([[90.0, j] for j in (1.0, 2.0, 3.0)]) is None


def test_strokes_are_counted_once():
    first = np.full((20, 20), UNMARKED, np.uint8)
    first[2, 2:6] = first[10, 2:6] = 1
    second = first.copy()
    second[15, 2:6] = 0
    assert eval_annotator.count_strokes([first, second, second]) == 3


def test_the_script_writes_a_table_and_goes_on(moving_davis, light_file, tmp_path, capsys):
    torch.manual_seed(0)
    save_network(ScribbleNetwork(), tmp_path / "scribbles.pth")
    flags = ["--model", light_file, "--davis_path", moving_davis, "--scribble_model", tmp_path / "scribbles.pth"]
    flags += ["--device", "cpu", "--size", 48, "--frames", 3, "--output", tmp_path / "out"]
    assert run_script("eval_annotator", *flags) == 0
    (row,) = json.loads((tmp_path / "out/annotator.json").read_text())["rows"]
    assert 0 <= row["followed"] <= 100
    capsys.readouterr()
    assert run_script("eval_annotator", *flags) == 0
    assert "steps" not in capsys.readouterr().err  # nothing was done again
    assert run_script("eval_annotator", *flags, "--frames", 2) == 2
    assert "other settings" in capsys.readouterr().err
