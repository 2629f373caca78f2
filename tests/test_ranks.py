"""Trouble with one of two processes under torchrun: what ends, what goes on, and how often it is said."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, run_script, write_davis
from films import square
from test_train import CPU, SIX, assert_same_run, flags_of

from model.checkpoint import read
from util.lock import Lock

pytestmark = pytest.mark.slow

LENGTHS = {"ant": 20, "bee": 60, "cow": 40}  # bee is for one rank, the others for the other one
FULL_DISK = """
import os, resource, runpy, signal, sys
if os.environ["RANK"] == sys.argv[1]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write of more bytes raises
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
sys.argv = sys.argv[2:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def full_disk(tmp_path) -> Callable[[int], list[object]]:
    """What to put before a script so that this rank can write nothing."""
    wrapper = tmp_path / "full_disk.py"
    wrapper.write_text(FULL_DISK)
    return lambda rank: [wrapper, rank]


def torchrun(*command: object, restarts: int = 0) -> subprocess.Popen:
    options = ("--standalone", "--nproc_per_node=2", f"--max-restarts={restarts}")
    launcher = [sys.executable, "-m", "torch.distributed.run", *options]
    arguments = [*launcher, *map(str, command)]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=CPU, start_new_session=True
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]


def finish(process: subprocess.Popen) -> str:
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def end(process: subprocess.Popen) -> str:
    """What a failing run prints."""
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1, output  # torchrun's own status
    return output


def own_lines(output: str) -> list[str]:
    """Errors that our code prints, not torchrun; there must be no traceback of ours."""
    assert str(ROOT / "util") not in output
    assert str(ROOT / "evaluation") not in output
    return [line for line in output.splitlines() if line.startswith(("error:", "rank ", "asked to stop"))]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.fixture
def flags(tmp_path, light_file) -> list[object]:
    """`eval_davis.py` on three videos."""
    root = write_davis(tmp_path / "DAVIS", {name: [square((8, 8))] * length for name, length in LENGTHS.items()})
    return ["--model", light_file, "--davis_path", root, "--device", "cpu", "--output"]


def masks(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("*/*.png"))}


def test_an_error_that_all_ranks_have_is_said_once(flags, tmp_path):
    output = end(torchrun(ROOT / "eval_davis.py", *flags, tmp_path / "out", "--model", tmp_path / "none.pth"))
    assert own_lines(output) == [f"error: {tmp_path / 'none.pth'}: no such checkpoint"]


def test_a_wrong_flag_is_said_once(flags, tmp_path):
    output = end(torchrun(ROOT / "eval_davis.py", *flags, tmp_path / "out", "--size", "x"))
    assert output.count("error: argument --size: expected an integer from 16 to 4096, found 'x'") == 1


def test_two_ranks_refuse_a_folder_that_is_in_use(flags, tmp_path):
    with Lock(tmp_path / "out", "something else"):
        output = end(torchrun(ROOT / "eval_davis.py", *flags, tmp_path / "out"))
    (line,) = own_lines(output)
    assert line.startswith(f"error: {tmp_path / 'out'}: ")
    assert not (tmp_path / "out/run.json").exists()


def test_a_killed_rank_ends_the_evaluation_and_the_same_command_continues(flags, tmp_path):
    out = tmp_path / "out"
    process = torchrun(ROOT / "eval_davis.py", *flags, out)
    wait_until(lambda: any(out.glob(".*.partial/*.png")), process)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    assert own_lines(end(process)) == []  # torchrun says which rank it was
    assert finish(torchrun(ROOT / "eval_davis.py", *flags, out)).count(" frames per second of processing") == 1
    assert run_script("eval_davis", *flags, tmp_path / "alone") == 0
    assert masks(out) == masks(tmp_path / "alone")
    assert len(masks(out)) == sum(LENGTHS.values())


def test_a_rank_that_stands_still_is_waited_for(flags, tmp_path):
    out = tmp_path / "out"
    process = torchrun(ROOT / "eval_davis.py", *flags, out)
    wait_until(lambda: any(out.glob(".*.partial/*.png")), process)
    slow = children(process.pid)[-1]
    os.kill(slow, signal.SIGSTOP)
    time.sleep(10)
    assert process.poll() is None
    os.kill(slow, signal.SIGCONT)
    assert "120 frames: " in finish(process)
    assert len(masks(out)) == sum(LENGTHS.values())


def test_a_rank_without_disk_fails_its_videos_alone(flags, full_disk, tmp_path):
    out = tmp_path / "out"
    output = end(torchrun(*full_disk(1), ROOT / "eval_davis.py", *flags, out))
    assert own_lines(output) == []
    failed = [line for line in output.splitlines() if line.startswith("failed: ")]
    assert 1 <= len(failed) <= 2
    assert all("cannot write (File too large)" in line for line in failed)
    assert 60 <= len(masks(out)) < 120
    finish(torchrun(ROOT / "eval_davis.py", *flags, out))
    assert len(masks(out)) == 120


def test_rank_0_without_disk_ends_the_evaluation_with_one_line(flags, full_disk, tmp_path):
    output = end(torchrun(*full_disk(0), ROOT / "eval_davis.py", *flags, tmp_path / "out"))
    assert own_lines(output) == [f"error: {tmp_path / 'out/run.json'}: cannot write (File too large)"]


def test_training_without_disk_ends_with_one_line_and_the_same_command_continues(full_disk, demo_data, tmp_path):
    flags = flags_of(demo_data, tmp_path / "saves", "-i", 6, "-b", 2, "--save_every", 3)
    (tmp_path / "saves").mkdir()
    (line,) = own_lines(end(torchrun(*full_disk(0), ROOT / "train.py", *flags)))
    assert line == f"error: {tmp_path / 'saves'}: File too large"
    assert not (tmp_path / "saves/x_s3.pth").exists()
    finish(torchrun(ROOT / "train.py", *flags))
    whole = flags_of(demo_data, tmp_path / "whole", "-i", 6, "-b", 2, "--save_every", 3)
    finish(torchrun(ROOT / "train.py", *whole))
    assert_same_run(tmp_path / "saves", tmp_path / "whole")


def test_a_killed_rank_ends_the_training_without_a_traceback_of_ours(demo_data, tmp_path):
    process = torchrun(ROOT / "train.py", *flags_of(demo_data, tmp_path, "-i", 400, "-b", 1, "--save_every", 5))
    wait_until((tmp_path / "x_s3/checkpoint_0000005.pth").exists, process)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    lines = own_lines(end(process))
    assert len(lines) <= 1
    assert all(line.startswith("asked to stop, but another process is gone") for line in lines)


def test_a_rank_that_dies_in_training_is_restarted_and_the_weights_are_the_same(demo_data, tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    finish(torchrun(ROOT / "train.py", *flags_of(demo_data, undisturbed, *SIX)))
    process = torchrun(ROOT / "train.py", *flags_of(demo_data, disturbed, *SIX), restarts=2)
    wait_until((disturbed / "x_s3/checkpoint_0000003.pth").exists, process)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    assert "resuming after 3 of 6 iterations" in finish(process)
    assert_same_run(disturbed, undisturbed)


def test_a_training_that_torchrun_asks_to_stop_saves_and_goes_on(demo_data, tmp_path):
    flags = flags_of(demo_data, tmp_path, "-i", 400, "-b", 1, "--save_every", 400)
    process = torchrun(ROOT / "train.py", *flags)
    wait_until((tmp_path / "x_s3/log").exists, process)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    stopped = int(re.search(r"stopped after (\d+) iterations", end(process))[1])
    assert read(tmp_path / f"x_s3/checkpoint_{stopped:07d}.pth")["iteration"] == stopped
    process = torchrun(ROOT / "train.py", *flags)
    assert any(f"resuming after {stopped} of 400" in line for line in process.stdout)
    for pid in [process.pid, *children(process.pid)]:  # torchrun puts each rank into its own session
        os.kill(pid, signal.SIGKILL)
    process.communicate()
