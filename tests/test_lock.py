"""Two runs into one folder: the second is refused, and a dead one holds nothing."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_script

from util.errors import InputError
from util.lock import LOCK, Lock

HOLD = """\
import os, sys, time
from util.lock import Lock
lock = Lock(sys.argv[1], "it")
read, write = os.pipe()
if not os.fork():
    os.write(write, str(os.getpid()).encode())
    time.sleep(60)
open(sys.argv[1] + "/child", "wb").write(os.read(read, 20))  # now the worker runs
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_is_for_one_at_a_time_and_leaves_nothing(tmp_path):
    out = tmp_path / "new/out"
    with Lock(out, "it"):
        with pytest.raises(InputError, match=f"{out}: another run of it works in this folder"):
            Lock(out, "it")
        assert [path.name for path in out.iterdir()] == [LOCK]
    assert not (tmp_path / "new").exists()
    with Lock(out, "it"):
        (out / "result").touch()
    assert [path.name for path in out.iterdir()] == ["result"]


def test_a_file_of_that_name_with_content_is_refused_and_kept(tmp_path):
    (tmp_path / LOCK).write_text("precious")
    with pytest.raises(InputError, match=f"{LOCK}: expected a lock file, which is empty"):
        Lock(tmp_path, "it")
    assert (tmp_path / LOCK).read_text() == "precious"


def test_a_killed_process_holds_nothing_even_if_its_workers_live(tmp_path):
    command = [sys.executable, "-c", HOLD, tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        with pytest.raises(InputError, match="another run"):
            Lock(tmp_path, "it")
    finally:
        process.kill()
        process.wait()
    child = int((tmp_path / "child").read_text())
    os.kill(child, 0)  # it lives
    Lock(tmp_path, "it").release()
    os.kill(child, signal.SIGKILL)


def test_of_many_at_once_one_has_it_at_a_time(tmp_path):
    """Each of 4 processes takes and frees the lock 40 times, also just when another one removes the file and the folder."""
    script = (
        "import os, sys; from util.lock import Lock; from util.errors import InputError; got = 0\n"
        "while got < 40:\n"
        "    try:\n"
        "        with Lock(sys.argv[1] + '/out', 'it'):\n"
        "            open(sys.argv[1] + '/busy', 'x').close(); got += 1\n"
        "            os.unlink(sys.argv[1] + '/busy')\n"
        "    except InputError: pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    several = [subprocess.Popen([sys.executable, "-c", script, tmp_path], env=environment) for _ in range(4)]
    assert [process.wait(60) for process in several] == [0] * 4
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_needs_no_lock(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with Lock(tmp_path, "it"), Lock(tmp_path, "it"):
        pass


def test_a_file_system_without_locks_gets_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Lock(tmp_path, "it"):
        assert "cannot be locked (No locks available); let no other run write there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_only_rank_0_takes_the_lock(tmp_path, monkeypatch):
    with Lock(tmp_path, "it"):
        monkeypatch.setenv("RANK", "1")
        with Lock(tmp_path, "it"):
            pass
        assert (tmp_path / LOCK).exists()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("elsewhere")])
def test_what_is_no_file_is_no_lock(make, tmp_path):
    make(tmp_path / LOCK)
    with pytest.raises(InputError, match=f"{LOCK}: expected a lock file"):
        Lock(tmp_path, "it")
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture
def commands(light_file, demo_data, tmp_path):
    """Of each script that fills a folder: the folder, and the command."""
    out = tmp_path / "out"
    davis = demo_data / "DAVIS/2017"
    flags = ("--model", light_file, "--output", out)
    masks = davis / "trainval/Annotations/480p"
    video = next(path for path in (davis / "trainval/JPEGImages/480p").iterdir())
    first = masks / video.name / "00000.png"
    train = ("--id", "x", "--stage", "3", "--save_dir", out, "--yv_root", "none", "--davis_root", demo_data / "DAVIS/2017")
    return {
        "eval_davis": (out, ("--davis_path", davis, *flags)),
        "eval_youtube": (out, ("--yv_path", demo_data / "YouTube", *flags)),
        "segment_video": (out, (video, "--mask", first, *flags)),
        "prepare_davis": (out, (davis / "trainval", "--output", out, "--num_workers", "0")),
        "copy_first_mask": (out, ("--davis_path", davis, "--output", out)),
        "train": (out / "x_s3", (*train, "--no_pretrained", "--device", "cpu")),
    }


@pytest.mark.parametrize(
    "script", ["eval_davis", "eval_youtube", "segment_video", "prepare_davis", "copy_first_mask", "train"]
)
def test_a_second_run_into_one_folder_is_refused(script, commands, capsys):
    folder, arguments = commands[script]
    with Lock(folder, "it"):
        assert run_script(script, *arguments) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith(f"error: {folder}: another run of ")
        assert [path.name for path in folder.iterdir()] == [LOCK]
