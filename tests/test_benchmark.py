"""The benchmark reports on every subject, with little data."""

import json
import re
import subprocess

import pytest
from conftest import ROOT, run_script
from PIL import Image

SMALL = ("--size", "48x64", "--repeats", 1, "--device", "cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--parts", "--objects", 2, "--memory", 3), "decoding"),
        (("--training", "--objects", 2, "--batch", 1, "--crop", 32, "--amp"), r"bfloat16: [\d.]+ s a step.* \d+ MiB"),
    ],
    ids=["parts", "training"],
)
def test_one_process_reports(flags, expected, light_file, capsys):
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL, "--model", light_file) == 0
    assert re.search(expected, capsys.readouterr().out)


def test_the_parts_of_stm_are_measured_and_videos_only_of_stcn(stm_file, capsys):
    flags = (*SMALL, "--model", stm_file)
    assert run_script("scripts.benchmark.__main__", "--parts", "--objects", 2, "--memory", 3, *flags) == 0
    assert "value encoding" in capsys.readouterr().out
    assert run_script("scripts.benchmark.__main__", "--video", "--frames", 12, *flags) == 2
    assert f"{stm_file}: expected an STCN" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--video", "--objects", 101), "--objects: expected at most 100, found 101"),
        (("--long", "--frames", 9), "--frames: expected at least 10, found 9"),
        (("--video", "--output", "a.png"), "error: --"),
        (("--parts", "--max_memory_frames", 3), "error: --"),
    ],
)
def test_what_cannot_be_measured_is_told_at_once(flags, message, capsys):
    assert run_script("scripts.benchmark.__main__", *flags, *SMALL) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_gpu_shall_tell_runs_on_the_cpu_and_goes_on(tmp_path):
    command = ["bash", ROOT / "scripts/benchmark/gpu.sh", "--quick", "--device", "cpu", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    found = json.loads((tmp_path / "summary.json").read_text())
    assert {step["status"] for step in found.values()} == {0}
    assert any("same bits" in line for line in found["resume"]["told"])
    (tmp_path / "resume.txt").write_text("== resume: cut off\n")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.stdout.count("done before") == len(found) - 1
    assert json.loads((tmp_path / "summary.json").read_text())["resume"]["status"] == 0
