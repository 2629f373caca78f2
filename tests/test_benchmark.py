"""The benchmark reports on every subject, with little data."""

import re

import pytest
from conftest import run_script
from PIL import Image

from scripts.benchmark.against import run_once
from scripts.benchmark.videos import VideoJob
from util.errors import InputError

SMALL = ("--size", "48x64", "--repeats", 1, "--device", "cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--read", "--objects", 2, "--memory", 3), r"ms"),
        (("--parts", "--objects", 2, "--memory", 3), r"decoding"),
        (
            ("--training", "--objects", 2, "--batch", 1, "--crop", 32, "--amp"),
            r"bfloat16: [\d.]+ s a step.* \d+ MiB",
        ),
    ],
    ids=lambda value: value[0][2:] if isinstance(value, tuple) else "",
)
def test_one_process_reports(flags, expected, light_file, capsys):
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL, "--model", light_file) == 0
    assert re.search(expected, capsys.readouterr().out)


@pytest.mark.slow
def test_videos_are_measured_in_processes_of_their_own(light_file, tmp_path, capsys):
    small = (*SMALL, "--model", light_file, "--frames", 12)
    assert run_script("scripts.benchmark.__main__", "--video", "--objects", 3, "--late", 1, *small) == 0
    out = capsys.readouterr().out
    assert "48x64, 3 objects of which 1 enter late, 12 frames: " in out
    figures = re.search(r"frames: ([\d.]+) frames/s, plainly ([\d.]+), ([\d.]+) times as fast", out)
    ours, plain, ratio = map(float, figures.groups())
    assert ratio == pytest.approx(ours / plain, rel=0.2)
    flags = ("--long", "--max_memory_frames", 2, "--output", tmp_path / "long.png")
    assert run_script("scripts.benchmark.__main__", *flags, *small) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 12 + 1
    with Image.open(tmp_path / "long.png") as plot:
        assert plot.width > plot.height > 100


PEER = """
import numpy as np
import torch
from model import load_network
from model.plain import segment_plainly
from util.tensors import normalise

network = load_network({model!r})

def segment(frames, first_mask):
    assert all(frame.shape == first_mask.shape + (3,) and frame.dtype == np.uint8 for frame in frames)
    with torch.no_grad():
        images = torch.stack([normalise(torch.from_numpy(frame)) for frame in frames])
        results = segment_plainly(network, images, {{0: torch.from_numpy(first_mask)}})
    labels = np.stack([probabilities.argmax(dim=0).numpy() for _, probabilities in results])
    labels[:, 0, :16] = 77  # a quarter of a row of 64 pixels, of 48 rows
    return labels
"""


@pytest.mark.slow
def test_another_implementation_is_timed_beside_ours(light_file, tmp_path, capsys):
    peer = tmp_path / "peer.py"
    peer.write_text(PEER.format(model=str(light_file)))
    flags = ("--video", "--against", peer, "--model", light_file, "--objects", 2, "--frames", 7)
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL) == 0
    out = capsys.readouterr().out
    assert out.startswith("48x64, 2 objects, 7 frames: ")
    figures = re.search(r"([\d.]+) frames/s, \S+peer.py ([\d.]+), ratio ([\d.]+), .* at ([\d.]+) % of the pixels", out)
    ours, theirs, ratio, equal = map(float, figures.groups())
    assert ratio == pytest.approx(ours / theirs, rel=0.05)
    assert equal == pytest.approx(100 * (1 - 0.25 / 48), abs=0.1)


@pytest.mark.parametrize("result", ["[mask]", "[mask / 2, mask / 2]"])
def test_what_is_no_label_map_for_each_frame_is_told(result, tmp_path):
    (tmp_path / "peer.py").write_text(f"def segment(frames, mask):\n    return {result}")
    job = VideoJob("ours", "none.pth", (48, 64), 2, 1, 0, None, False, "cpu", None)
    with pytest.raises(InputError, match=r"peer.py: expected labels as integers \(2, 48, 64\), found (uint8 \(1|float)"):
        run_once(job, tmp_path / "peer.py", 2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--long", "--against", "peer.py"), "--against: goes with --video, without --late"),
        (("--video", "--against", "peer.py"), "peer.py: no such file"),
        (("--video", "--objects", 101), "--objects: expected at most 100, found 101"),
        (("--long", "--frames", 9), "--frames: expected at least 10, found 9"),
        (("--video", "--output", "a.png"), "error: --"),
        (("--parts", "--max_memory_frames", 3), "error: --"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(str, value)),
)
def test_what_cannot_be_measured_is_told_at_once(flags, message, capsys):
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL) == 2
    assert message in capsys.readouterr().err
