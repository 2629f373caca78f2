"""The cores, threads and device of a process."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from training.config import TrainConfig
from util import device
from util.ahead import available_cores
from util.device import use_threads
from util.distributed import Processes
from util.errors import InputError

ALL = (
    "import annotation.worker, dataset.sampling, evaluation.run, model, training.loop, train, eval_davis, eval_youtube\n"
    "import segment_video, annotate, train_scribble\n"
)


def imported(code: str) -> subprocess.CompletedProcess:
    """What a process says that only imports, and what OpenMP says about itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done


def test_everything_imports_without_modules_of_unix_and_without_saying_anything():
    """As on Windows; the programs that only tests and developers run are left out."""
    done = imported(
        f"import sys, warnings; warnings.simplefilter('ignore'); sys.modules |= {{'fcntl': None, 'resource': None}}\n{ALL}"
        "from util.device import peak_memory; assert peak_memory() == ('resident', 0)"
    )
    openmp = r"(?s)OPENMP DISPLAY ENVIRONMENT BEGIN.*OPENMP DISPLAY ENVIRONMENT END"
    assert done.stdout + re.sub(openmp, "", done.stderr).strip() == ""
    assert "GOMP_SPINCOUNT" not in done.stderr or "GOMP_SPINCOUNT = '4000'" in done.stderr


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 3), ("150000 100000", 2), ("50000 100000", 1), ("broken", 3)])
def test_a_container_may_have_fewer_cores_than_the_machine(quota, cores, monkeypatch):
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.setattr(device.Path, "read_text", lambda path: quota)
    assert available_cores() == cores


def test_threads_are_those_asked_for_or_as_many_as_there_are_cores(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(device, "available_cores", lambda: 1)
        torch.set_num_threads(2)
        use_threads(None)
        assert torch.get_num_threads() == 1
        use_threads(2)
        assert torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        use_threads(None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_mps_is_used_where_it_is_asked_for_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.device_of("auto") == torch.device("cpu")
    assert device.device_of("mps") == torch.device("mps")


def test_where_pytorch_does_not_tell_what_a_cpu_can_do_auto_is_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # as in PyTorch 2.10
    assert not device.half_precision_chosen("auto", torch.device("cpu"))
    assert device.half_precision_chosen("on", torch.device("cpu"))


@pytest.mark.parametrize("able", [True, False])
def test_half_precision_that_the_processor_does_not_have_is_warned_of(able, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able}, raising=False)
    assert device.half_precision_chosen("on", torch.device("cpu"))
    assert TrainConfig(1, 1, amp_dtype="bfloat16").autocast_dtype(torch.device("cpu")) is torch.bfloat16
    assert capsys.readouterr().err.count("warning: this processor computes bfloat16 in float32") == (0 if able else 2)
    assert not device.half_precision_chosen("off", torch.device("cpu"))
    assert TrainConfig(1, 1).autocast_dtype(torch.device("cpu")) is None
    assert not capsys.readouterr().err


@pytest.mark.parametrize("name", ["meta", "abacus", "", "xpu", "cpu:x"])
def test_a_device_that_cannot_be_is_told(name):
    with pytest.raises(InputError, match=r"--device .*expected auto, cpu, cuda, cuda:N or mps"):
        device.device_of(name)


@pytest.mark.parametrize(("rank", "world"), [("1", None), (None, "2"), ("2", "2"), ("-1", "2"), ("one", "2")])
def test_half_of_what_torchrun_sets_is_named(rank, world, monkeypatch):
    for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="RANK"):
        Processes()


def test_a_worker_ends_when_the_process_that_started_it_is_killed():
    program = (
        "import multiprocessing, os, signal\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from util.ahead import prepare_worker\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), prepare_worker)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    worker = Path(f"/proc/{int(done.stdout)}/stat")
    for _ in range(200):
        if not worker.exists() or worker.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the worker lives on")
