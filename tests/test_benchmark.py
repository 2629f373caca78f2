"""The benchmark reports on every subject, on little data."""

import re

import pytest
import torch
from conftest import run_script
from PIL import Image

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
    assert run_script("scripts.benchmark.__main__", "--long", "--max_memory_frames", 2, *small) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 12
    assert run_script("scripts.benchmark.__main__", "--growth", "--output", tmp_path / "growth.png", *small) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert [row[0] for row in rows] == ["frames"] * 4 + ["objects"] * 4 + ["pixels"] * 4
    assert all(float(figure) > 0 for row in rows for figure in row[1:4])
    with Image.open(tmp_path / "growth.png") as plot:
        assert plot.width > plot.height > 100


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--video", "--memory", 5, "--objects", 2, "--late", 1), "--late: goes without --memory"),
        (("--video", "--objects", 11), "--objects: expected at most 10, found 11"),
        (("--long", "--frames", 9), "--frames: expected at least 10, found 9"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(str, value)),
)
def test_what_cannot_be_measured_is_told_at_once(flags, message, capsys):
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL) == 2
    assert message in capsys.readouterr().err
