"""Bad input to all scripts, and kills, in a sandbox: see `cases.py`, `generated.py` and `kills.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

HERE = ROOT / "tests" / "robustness"


def run_in_sandbox(folder: Path, program: str, *flags: object) -> None:
    """Run a program of this folder in the sandbox; skips the test where none can be had."""
    check = subprocess.run(["bash", HERE / "sandbox.sh", "--check"], capture_output=True, text=True)
    if check.returncode:
        pytest.skip(f"no sandbox can be had here: {check.stderr.strip()}")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = ["bash", HERE / "sandbox.sh", folder, sys.executable, HERE / program, folder, *flags]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900)
    failed = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert done.returncode == 0, "\n".join([*failed, done.stderr[-2000:]])


def test_a_few_cases_of_each_kind_end_well(tmp_path):
    pytest.importorskip("starlette", reason="the extra `web` is not installed")
    run_in_sandbox(tmp_path, "quick.py")


def test_each_command_that_is_tried_exists():
    from trials import COMMANDS

    for name in {command.words[0] for command in COMMANDS.values()}:
        places = [ROOT.joinpath(folder, *name.split(".")) for folder in (".", "scripts", "scripts/data", "scripts/dev")]
        assert any(place.with_suffix(".py").exists() for place in places), name


@pytest.mark.slow
def test_all_cases_end_as_they_say_and_touch_nothing_else(tmp_path):
    run_in_sandbox(tmp_path, "cases.py")


@pytest.mark.slow
def test_generated_cases_end_well(tmp_path):
    run_in_sandbox(tmp_path, "generated.py", "--cases", 200)


@pytest.mark.slow
def test_generated_requests_to_the_page_end_well(tmp_path):
    run_in_sandbox(tmp_path, "requested.py", "--cases", 6000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subject", "times"),
    [
        *[(name, 5) for name in ("training", "training with two processes", "eval_davis.py", "preparation")],
        *[(name, 5) for name in ("segment_video.py", "annotate.py")],
        *[(f"{name}.py", 3) for name in ("eval_youtube", "score", "from_coco", "train_scribble", "download_model")],
        *[(name, 100) for name in ("beginning with masks", "importing a mask", "drawing", "removing an object")],
        *[(name, 100) for name in ("taking a mask back", "taking a step back", "exporting masks", "exporting coco")],
    ],
)
def test_kills(subject, times, tmp_path):  # short, since the folder's name is in those of sockets, of at most 107 bytes
    run_in_sandbox(tmp_path, "kills.py", "--times", times, "--only", subject)


def test_the_sandbox_keeps_everything_but_its_folder(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    script = f"touch {outside} {ROOT}/escaped /escaped; touch {inside}/written; exit 7"
    done = subprocess.run(["bash", HERE / "sandbox.sh", inside, "bash", "-c", script], capture_output=True, text=True)
    if done.returncode == 125:
        pytest.skip(f"no sandbox can be had here: {done.stderr.strip()}")
    assert done.returncode == 7
    assert done.stderr.count("Read-only file system") == 3
    assert (inside / "written").exists()
    assert not outside.exists()
