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


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_cases_end_as_they_say_and_touch_nothing_else(every, tmp_path):
    run_in_sandbox(tmp_path, "cases.py", "--every", every)


@pytest.mark.parametrize("subject", ["eval_davis.py", "preparation"])
def test_a_killed_run_goes_on_bit_for_bit(subject, tmp_path):
    run_in_sandbox(tmp_path, "kills.py", "--times", 1, "--only", subject)


@pytest.mark.slow
def test_all_killed_runs_go_on_bit_for_bit(tmp_path):
    run_in_sandbox(tmp_path, "kills.py", "--times", 5)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["giving a mask", "removing an object", "taking a mask back", "exporting"])
def test_a_call_that_is_killed_while_it_saves_has_not_happened_or_has_happened_whole(call, tmp_path):
    run_in_sandbox(tmp_path, "kills.py", "--times", 100, "--only", call)


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
