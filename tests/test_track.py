"""DAVIS's interactive track: its robot, its figures, and the script, against what its own package answered."""

import json
import zipfile

import numpy as np
import pytest
import torch
from conftest import run_script
from PIL import Image
from scipy.spatial.distance import cdist

from dataset.robot import UNMARKED, mark, track_scribbles
from evaluation.track import draw_by_track, read_start, summary
from model import save_network
from model.scribble import ScribbleNetwork
from util.errors import InputError

# what davisinteractive 1.0.4 drew on `two_ellipses`: points of its curves at 0, 1/4, 1/2, 3/4 and 1, by label
RECORDED = {
    0: [[66.0, 16.0], [74.8, 20.4], [83.5, 20.5], [91.6, 21.8], [100.0, 30.0]],
    1: [[39.0, 44.0], [32.3, 52.0], [28.9, 60.0], [32.4, 68.0], [39.0, 76.0]],
    2: [[120.0, 29.0], [120.0, 45.0], [120.0, 61.0], [120.0, 77.0], [120.0, 93.0]],
}


def two_ellipses() -> tuple[np.ndarray, np.ndarray]:
    """The truth, and a result with half of object 1, nothing of object 2, and a square too much."""
    y, x = np.mgrid[:120, :160]
    truth = np.zeros((120, 160), np.uint8)
    truth[((x - 50) / 35) ** 2 + ((y - 60) / 18) ** 2 < 1] = 1
    truth[((x - 120) / 12) ** 2 + ((y - 60) / 40) ** 2 < 1] = 2
    found = np.where(x < 40, 0, truth)
    found[10:30, 60:100] = 1
    found[truth == 2] = 0
    return truth, found.astype(np.uint8)


def test_the_robot_draws_where_the_tracks_own_robot_drew():
    truth, found = two_ellipses()
    scribbles = track_scribbles(truth, found)
    assert [scribble.label for scribble in scribbles] == [0, 1, 2]
    for label, path in scribbles:
        near = cdist(RECORDED[label], path * [160, 120]).min(axis=1)
        assert near[1:4].max() < 2.5
        assert near.max() < 9  # at the ends, both choose among equals at random
    marks = mark(scribbles, truth.shape)
    assert set(np.unique(marks)) == {0, 1, 2, UNMARKED}
    assert track_scribbles(truth, truth) == []


def test_the_figures_are_those_of_the_tracks_own_package():
    def rounds(*pairs):
        ends = np.cumsum([seconds for _, seconds in pairs])
        return [{"J&F": score, "seconds": end} for (score, _), end in zip(pairs, ends, strict=True)]

    samples = [
        rounds((50, 10), (60, 20), (70, 40)),
        rounds((30, 30), (45, 75)),  # out of time before the third
        rounds((80, 5), (75, 5), (90, 6)),
    ]
    found = summary(samples, [100, 100, 100], rounds=3)
    assert found["seconds"] == pytest.approx([0, 15, 145 / 3, 191 / 3, 100])
    assert found["J&F"] == pytest.approx([0, 160 / 3, 60, 205 / 3, 205 / 3])
    assert found["auc"] == pytest.approx(57.55555556)  # as davisinteractive 1.0.4 says
    assert found["at_60"] == pytest.approx(66.34057971)
    assert summary([[]], [100], rounds=2)["auc"] == 0


def write_start(file, frames: int, **changes) -> None:
    line = {"path": [[0.3, 0.4], [0.5, 0.5]], "object_id": 1, "start_time": 0, "end_time": 1}
    lines = [[] for _ in range(frames)]
    lines[2] = [line | changes]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"sequence": file.parent.name, "scribbles": lines}))


def test_a_persons_scribbles_come_first_and_anything_else_is_refused(tmp_path):
    path = tmp_path / "video/001.json"
    write_start(path, 4)
    start = read_start(path, 4)
    assert start.frame == 2
    truth = np.zeros((50, 100), np.uint8)
    first = draw_by_track(start)(truth, None)
    assert first[20, 30] == first[25, 50] == 1
    assert first[0, 0] == UNMARKED
    truth[10:30, 20:60] = 1
    assert (draw_by_track(None)(truth, None) == 1).any()
    assert (draw_by_track(start)(truth, truth) == UNMARKED).all()
    with pytest.raises(InputError, match="expected scribbles on one frame of 5, found them on 1 of 4"):
        read_start(path, 5)
    for changes in ({"path": [[1]]}, {"object_id": "1"}, {"object_id": 255}, {"path": [[0, float("inf")]]}):
        write_start(path, 4, **changes)
        with pytest.raises(InputError, match="expected scribbles of DAVIS's interactive track"):
            read_start(path, 4)


def test_the_script_starts_in_the_middle_goes_on_and_says_who_drew_first(moving_davis, light_file, tmp_path, capsys):
    network = tmp_path / "scribbles.pth"
    torch.manual_seed(0)
    save_network(ScribbleNetwork(), network)
    out = tmp_path / "out"
    flags = ["--model", light_file, "--davis_path", moving_davis, "--scribble_model", network, "--device", "cpu"]
    flags += ["--interactions", 2, "--output"]
    assert run_script("eval_interactive", *flags, out) == 0
    assert "first scribbles: the robot's, on first frames" in capsys.readouterr().out
    for name in ("001", "002"):
        write_start(tmp_path / f"scribbles/cat/{name}.json", 4)
    assert run_script("eval_interactive", *flags, out, "--scribbles", tmp_path / "scribbles") == 2
    assert "other settings" in capsys.readouterr().err
    (tmp_path / "scribbles").rename(moving_davis / "Scribbles")
    assert run_script("eval_interactive", *flags, tmp_path / "two") == 0
    (found,) = json.loads((tmp_path / "two/samples.json").read_text())["videos"].values()
    assert [sample[0]["frame"] for sample in found["samples"]] == [2, 2]
    assert [len(sample) for sample in found["samples"]] == [2, 2]
    write_start(moving_davis / "Scribbles/cat/002.json", 4, path=[[0.1, 0.9], [0.2, 0.9]])
    assert run_script("eval_interactive", *flags, tmp_path / "two") == 0
    (again,) = json.loads((tmp_path / "two/samples.json").read_text())["videos"].values()
    assert again["samples"][0][0]["J&F"] == found["samples"][0][0]["J&F"]
    assert again["samples"][1][0]["mask"] != found["samples"][1][0]["mask"]
    assert Image.open(tmp_path / "two/interactive.png").width > 300
    content = json.loads((tmp_path / "two/interactive.json").read_text())
    assert [row["interaction"] for row in content["rows"]] == [1, 2]
    assert 0 <= content["auc"] <= 100
    assert run_script("eval_interactive", *flags, tmp_path / "x", "--scribbles", tmp_path) == 2
    assert "no scribbles for" in capsys.readouterr().err
    (moving_davis / "Annotations/480p/cat/00003.png").unlink()
    assert run_script("eval_interactive", *flags, tmp_path / "x") == 2
    assert "cat/00003: no ground truth" in capsys.readouterr().err


def test_the_archive_of_scribbles_is_put_beside_the_frames(tmp_path):
    archive = tmp_path / "DAVIS-2017-scribbles-trainval.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("DAVIS/Scribbles/bear/001.json", "DAVIS/Scribbles/bear/002.json", "DAVIS/README.md"):
            file.writestr(name, b"{}")
    assert run_script("prepare_davis", archive, "--output", tmp_path / "DAVIS") == 0
    found = sorted(path.name for path in (tmp_path / "DAVIS/2017/trainval/Scribbles/bear").iterdir())
    assert found == ["001.json", "002.json"]
