"""Rounds of corrections: with true masks, and with the robot's scribbles."""

import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from conftest import run_script
from PIL import Image

from dataset.davis import davis_videos
from dataset.robot import UNMARKED
from evaluation.cut import cut_from_scribbles, cut_with_network
from evaluation.metrics import score_masks
from evaluation.rounds import Robot, give_truth, rounds_of
from evaluation.tables import over_videos
from model import VideoSegmenter, save_network
from model.scribble import ScribbleNetwork
from util.errors import InputError


def test_rounds_correct_the_worst_frame_and_compute_its_interval_alone(moving_davis, light_network):
    (video,) = davis_videos(moving_davis)
    heard = []
    maker = partial(VideoSegmenter, light_network)
    found = rounds_of(maker, video, lambda: heard.append(1), give=give_truth, rounds=99)
    assert len(heard) == len(found) == len(video)
    truth = [video.read_mask(path) for _, path in sorted(video.truth.items())]
    objects = [i for i in np.unique(truth[0]).tolist() if i]
    segmenter = maker()
    scores = []
    for t, frame in enumerate(video.frames()):
        labels = segmenter.to_labels(segmenter.step(frame.image, truth[0] if t == 0 else None)).numpy()
        labels = truth[0] if t == 0 else labels
        scores.append(np.mean([score_masks(truth[t] == i, labels == i) for i in objects]))
    assert found[0]["J&F"] == pytest.approx(100 * np.mean(scores))
    assert found[0]["frames"] == len(video)
    worst = int(np.argmin([2, *scores[1:]]))
    assert [found[0]["frame"], found[1]["frame"]] == [0, worst]
    # from the first given frame to the worst and back, and on to the end
    assert found[1]["frames"] - found[0]["frames"] == (worst + 1) + len(video)
    assert found[-1]["J&F"] == pytest.approx(100)  # all frames are given
    assert {of_round["mask"] for of_round in found} == {100}
    assert [of_round["seconds"] for of_round in found] == sorted(of_round["seconds"] for of_round in found)


def test_a_robot_corrects_what_the_rounds_have_found(tiny_davis, light_network):
    (video,) = davis_videos(tiny_davis)
    asked = []

    def give(image, truth, found):
        asked.append((truth, found))
        return Robot(cut_from_scribbles, 2).give(image, truth, found)

    found = rounds_of(partial(VideoSegmenter, light_network, size=48), video, lambda: None, give=give, rounds=3)
    assert [before is None for _, before in asked] == [True, False, False]
    truth, before = asked[1]
    objects = [i for i in np.unique(truth).tolist() if i]
    worst = 100 * np.mean([score_masks(truth == i, before == i) for i in objects])
    assert found[1]["mask"] > worst
    assert len({of_round["frame"] for of_round in found}) == 3


def test_a_frame_may_be_given_again_and_late_rounds_do_not_count(moving_davis, light_network):
    (video,) = davis_videos(moving_davis)
    heard = []

    def give(image, truth, found):
        return np.zeros_like(truth) if found is None else truth, 10.0

    def rounds(**options) -> list[dict[str, float]]:
        maker = partial(VideoSegmenter, light_network)
        return rounds_of(maker, video, lambda: heard.append(1), give=give, rounds=3, **options)

    assert [of_round["frame"] for of_round in rounds(again=True)][:2] == [0, 0]  # nothing was found, so all are as bad
    assert len({of_round["frame"] for of_round in rounds()}) == 3
    heard.clear()
    within = rounds(limit=25)  # each takes ten seconds and a little
    assert len(within) == len(heard) == 2
    assert within[-1]["seconds"] <= 25


def two_ellipses() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:240, :320]
    truth = np.zeros((240, 320), np.uint8)
    truth[(y - 120) ** 2 + 9 * (x - 90) ** 2 < 90**2] = 1
    truth[4 * (y - 120) ** 2 + (x - 220) ** 2 < 80**2] = 2
    colours = np.array([(40, 90, 150), (200, 60, 40), (60, 190, 60)])
    image = colours[truth] + np.random.default_rng(0).integers(-20, 20, (240, 320, 3))
    return image.clip(0, 255).astype(np.uint8), truth


def test_grabcut_makes_masks_of_two_objects_from_scribbles():
    image, truth = two_ellipses()
    (first, *_) = looked = Robot(cut_from_scribbles, 3).look_at(image, truth, None)
    for look in looked:
        for i in (1, 2):
            assert score_masks(truth == i, look.labels == i)[0] > 0.9
        marked = look.scribbles != UNMARKED
        assert (look.labels[marked] == look.scribbles[marked]).all()
    assert first.seconds <= looked[-1].seconds


def test_an_object_that_nobody_complains_about_keeps_its_mask():
    image, truth = two_ellipses()
    found = truth.copy()
    found[:, 220:] = 0  # half of object 2
    cuts = []

    def cut(image, mask, others, on, off):
        cuts.append((mask.copy(), on.copy(), off.copy()))
        return mask | on

    last = Robot(cut, 1).look_at(image, truth, found)[-1]
    ((mask, on, off),) = cuts  # of object 2 alone
    assert (mask == (found == 2)).all()
    assert on.any()
    assert not off.any()
    assert (last.labels == np.where(on, 2, found)).all()


def test_an_object_takes_nothing_of_another_one_except_by_scribbles():
    image, truth = two_ellipses()
    found = np.where(truth == 2, 1, truth).astype(np.uint8)  # object 2 is taken for object 1
    torch.manual_seed(0)
    for cut in (cut_from_scribbles, partial(cut_with_network, ScribbleNetwork().eval())):
        everywhere = np.ones(truth.shape, bool)
        on, nothing = np.zeros((2, *truth.shape), bool)
        on[115:125, 200:240] = True
        assert (cut(image, found == 2, everywhere, on, nothing) == on).all()
        last = Robot(cut, 1).look_at(image, truth, found)[-1]
        assert (last.labels[last.scribbles == 2] == 2).all()
        assert (last.labels[last.scribbles == 1] == 1).all()


def test_an_object_gets_what_another_one_gives_up_in_the_same_look():
    image, truth = two_ellipses()
    found = np.where(truth == 1, 2, truth).astype(np.uint8)  # object 1 is taken for object 2
    found[truth == 1] = np.where(np.arange((truth == 1).sum()) < 40, 1, 2)  # but for a few pixels

    def cut(image, mask, others, on, off):
        for region in (truth == 1, truth == 2):
            if (region & on).any():
                mask = mask | region & ~others
            if (region & off).any():
                mask = mask & ~region
        return (mask | on) & ~off

    last = Robot(cut, 1).look_at(image, truth, found)[-1]
    np.testing.assert_array_equal(last.labels, truth)


def test_rounds_are_written_as_tables_curves_and_pictures_and_go_on(moving_davis, light_file, tmp_path, capsys):
    scribbles = tmp_path / "scribbles.pth"
    torch.manual_seed(0)
    save_network(ScribbleNetwork(), scribbles)
    out = tmp_path / "out"
    flags = ["--model", light_file, "--davis_path", moving_davis, "--scribble_model", scribbles, "--device", "cpu"]
    flags += ["--output", out, "--rounds", 2, "--looks", 1, "--source"]
    assert run_script("eval_rounds", *flags, "masks") == 0
    (first,) = json.loads((out / "masks.json").read_text())["videos"].values()
    assert run_script("eval_rounds", *flags, "masks", "grabcut", "network") == 0
    content = json.loads((out / "rounds.json").read_text())
    rows = content["rows"]
    assert [(row["source"], row["round"]) for row in rows] == [(s, n) for s in ("masks", "grabcut", "network") for n in (1, 2)]
    assert [row["seconds"] for row in rows[:2]] == [of_round["seconds"] for of_round in first]  # not computed again
    for source, area in content["area"].items():
        assert area == pytest.approx(np.mean([row["J&F"] for row in rows if row["source"] == source]))
    assert Image.open(out / "rounds.png").width > 300
    assert Image.open(out / "scribbles.png").width > 300
    looked = json.loads((out / "scribbles.json").read_text())["rows"]
    assert [(row["source"], row["look"]) for row in looked] == [("grabcut", 1), ("network", 1)]
    assert looked[0]["J&F"] == pytest.approx(next(row["mask"] for row in rows if row["source"] == "grabcut"))
    assert run_script("eval_rounds", *flags, "masks", "--rounds", 3) == 2
    assert "other settings" in capsys.readouterr().err
    for edited in ("[]", (out / "masks.json").read_text().replace('"J&F"', '"J"', 1)):
        (out / "masks.json").write_text(edited)
        assert run_script("eval_rounds", *flags, "masks") == 2
        assert "or edited" in capsys.readouterr().err
    scribbles.write_bytes(b"x")
    assert run_script("eval_rounds", *flags, "network") == 2
    assert f"{scribbles}: expected a checkpoint" in capsys.readouterr().err


def test_figures_are_made_anew_of_videos_that_have_changed(moving_davis, tmp_path):
    videos, seen = davis_videos(moving_davis), []

    def work(video, on_step):
        seen.append(video.name)
        return len(seen)

    path, names = tmp_path / "figures.json", [video.name for video in videos]
    first = over_videos(path, {}, videos, work)
    assert over_videos(path, {}, videos, work) == first
    for mask in (videos[0].truth[videos[0].images[-1].stem], videos[0].images[0]):  # truth, and what is input
        os.utime(mask, (0, len(seen)))
        found = over_videos(path, {}, videos, work)
        assert found == {**first, names[0]: len(seen)}
    assert seen == [*names, names[0], names[0]]


def test_rounds_need_the_truth_of_every_frame_and_take_any_folder(moving_davis, light_file, tmp_path, capsys):
    data = tmp_path / "data"
    for part in ("JPEGImages", "Annotations"):
        shutil.copytree(moving_davis / part / "480p", data / part)
    flags = ["--model", light_file, "--path", data, "--rounds", 1, "--device", "cpu", "--output", tmp_path / "out"]
    assert run_script("eval_rounds", *flags) == 0
    next((data / "Annotations").glob("*/00003.png")).unlink()
    assert run_script("eval_rounds", *flags) == 2
    assert "00003: no ground truth" in capsys.readouterr().err


def test_a_true_mask_of_another_size_is_refused_before_anything_is_followed(moving_davis, light_network):
    (video,) = davis_videos(moving_davis)
    path = video.truth[sorted(video.truth)[3]]
    Image.open(path).resize((10, 20), 0).save(path)
    with pytest.raises(InputError, match=rf"{path.name}: mask is 20x10, its frame is 48x64"):
        rounds_of(partial(VideoSegmenter, light_network), video, lambda: None, give=give_truth, rounds=1)
