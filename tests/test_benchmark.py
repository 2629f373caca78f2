"""The benchmark reports on every subject, with little data."""

import re

import pytest
import torch
from conftest import run_script
from PIL import Image

from scripts.benchmark.against import run_once
from scripts.benchmark.videos import VideoJob
from util.errors import InputError

SMALL = ("--size", "48x64", "--repeats", 1, "--device", "cpu")


def test_the_benchmark_of_the_data_says_both_figures(demo_data, script, capsys):
    flags = ["--static_root", demo_data / "static", "--bl_root", demo_data / "none", "--yv_root", demo_data / "YouTube"]
    assert script("scripts.benchmark.__main__", "--data", *flags, "--davis_root", "none", "--crop", 64, "--repeats", 2) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["1"][:2] == ["left", "out:"]
    for stage in "023":
        ours, chain, ratio = map(float, rows[stage])
        assert ours > 0
        assert chain > 0
        assert ratio == pytest.approx(ours / chain, rel=0.1)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--read", "--objects", 2, "--memory", 3), r"ms"),
        (("--parts", "--objects", 2, "--memory", 3), r"decoding"),
        (("--scoring",), r"scoring, 48x64: [\d.]+ ms a frame and object"),
        (("--training", "--objects", 2, "--batch", 1, "--crop", 32), r"[\d.]+ s a step, in bfloat16 [\d.]+ s"),
    ],
    ids=lambda value: value[0][2:] if isinstance(value, tuple) else "",
)
def test_one_process_reports(flags, expected, light_file, capsys):
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL, "--model", light_file) == 0
    assert re.search(expected, capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this PyTorch was built without CUDA")
def test_what_a_gpu_must_hold_grows_with_the_work_and_the_precision(light_file, capsys):
    flags = ("--memory", 3, "--crop", 64, "--model", light_file)
    assert run_script("scripts.benchmark.__main__", "--fits", *SMALL, *flags) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:8]]
    assert [row[0] for row in rows] == ["stage"] * 2 + ["stages"] * 2 + ["frame"] * 3
    for row in rows:
        assert 0 < float(row[-2]) <= float(row[-1])
    for more, less in ((0, 1), (2, 3), (5, 4), (6, 5)):
        assert float(rows[more][-1]) >= float(rows[less][-1])


@pytest.mark.slow
def test_videos_are_measured_in_processes_of_their_own(light_file, tmp_path, capsys):
    small = (*SMALL, "--model", light_file, "--frames", 12)
    assert run_script("scripts.benchmark.__main__", "--video", "--objects", 3, "--late", 1, *small) == 0
    out = capsys.readouterr().out
    assert "48x64, 3 objects of which 1 enter late, 12 frames after 0 in memory" in out
    figures = re.search(r"memory: ([\d.]+) frames/s, plainly ([\d.]+), ([\d.]+) times faster", out)
    ours, plain, ratio = map(float, figures.groups())
    assert ratio == pytest.approx(ours / plain, rel=0.2)
    flags = ("--long", "--max_memory_frames", 2, "--output", tmp_path / "long.png")
    assert run_script("scripts.benchmark.__main__", *flags, *small) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 12 + 1
    assert run_script("scripts.benchmark.__main__", "--growth", "--output", tmp_path / "growth.png", *small) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert [row[0] for row in rows] == ["frames"] * 4 + ["objects"] * 4 + ["pixels"] * 4
    assert all(float(figure) > 0 for row in rows for figure in row[1:4])
    for name in ("long.png", "growth.png"):
        with Image.open(tmp_path / name) as plot:
            assert plot.width > plot.height > 100


PEER = """
import numpy as np
import torch
from model import load_network
from model.plain import segment_plainly
from util.image import normalise

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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\nimport nowhere_to_be_found", "the file fails at line 2: ModuleNotFoundError"),
        ("def segment(:", "the file fails: SyntaxError"),
        ("import sys\nsys.exit(3)", "the file fails at line 2: SystemExit: 3"),
        ("segment = 3", "expected a function segment(frames, first_mask), found 3"),
        ("def segment(frames, mask):\n    return frames[99]", "segment fails at line 2: IndexError"),
        ("def segment(frames, mask):\n    return [mask]", "expected labels as integers (2, 48, 64), found uint8 (1, 48, 64)"),
        (
            "def segment(frames, mask):\n    return [mask / 2, mask / 2]",
            "expected labels as integers (2, 48, 64), found float",
        ),
        ("def segment(frames, mask):\n    return [mask, mask[1:]]", "the result of segment as an array fails: ValueError"),
    ],
)
def test_a_bad_implementation_is_told_in_one_line(content, message, tmp_path):
    peer = tmp_path / "peer.py"
    peer.write_text(content)
    job = VideoJob("ours", "none.pth", (48, 64), 2, 1, 0, 0, None, False, "cpu", None)
    with pytest.raises(InputError) as caught:
        run_once(job, peer, 2)
    assert str(caught.value).startswith(f"{peer}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_implementation_that_ends_its_process_is_told(light_file, tmp_path, capsys):
    flags = ("--video", "--model", light_file, "--against", tmp_path / "peer.py", *SMALL)
    assert run_script("scripts.benchmark.__main__", *flags) == 2
    assert "peer.py: no such file" in capsys.readouterr().err
    (tmp_path / "peer.py").write_text("import os\nos._exit(0)")
    assert run_script("scripts.benchmark.__main__", *flags) == 2
    assert "peer.py: its process ended" in capsys.readouterr().err


@pytest.mark.slow
def test_onnx_runtime_is_timed_beside_pytorch(light_file, capsys):
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    flags = ("--onnx", "--model", light_file, "--objects", 2, "--frames", 6)
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL) == 0
    *rows, last = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == 4
    for row in rows:
        ours, theirs, ratio = map(float, row.split()[-3:])
        assert ratio == pytest.approx(ours / theirs, rel=0.1)
    assert float(re.search(r"at ([\d.]+) %", last)[1]) > 99.9


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--long", "--against", "peer.py"), "--against: goes with --video, without --memory and --late"),
        (("--video", "--memory", 5, "--objects", 2, "--late", 1), "--late: goes without --memory"),
        (("--video", "--objects", 101), "--objects: expected at most 100, found 101"),
        (("--long", "--frames", 9), "--frames: expected at least 10, found 9"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(str, value)),
)
def test_what_cannot_be_measured_is_told_at_once(flags, message, capsys):
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL) == 2
    assert message in capsys.readouterr().err
