"""Bad input to all scripts, in a sandbox: see `cases.py`."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

HERE = ROOT / "tests" / "robustness"


def test_every_case_ends_as_it_says_and_touches_nothing_else(tmp_path):
    check = subprocess.run(["bash", HERE / "sandbox.sh", "--check"], capture_output=True, text=True)
    if check.returncode:
        pytest.skip(f"no sandbox can be had here: {check.stderr.strip()}")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = ["bash", HERE / "sandbox.sh", tmp_path, sys.executable, HERE / "cases.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600)
    failed = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert done.returncode == 0, "\n".join([*failed, done.stderr[-2000:]])


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
