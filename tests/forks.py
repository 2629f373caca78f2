"""Scripts as processes of their own, without the seconds that imports take: forks of a process that has done nothing else."""

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import torch
from conftest import calibrate_briefly, run_script
from guard import GUARD


class Fork:
    """Forks of this process that do this work, which returns a status, in these environments; they print to `output`."""

    def __init__(self, work: Callable[[], int], *environments: dict[str, str], output: int | None = None) -> None:
        self.pids = [self._start(work, environment, output) for environment in environments or ({},)]
        self.status: list[int] = []

    def _start(self, work: Callable[[], int], environment: dict[str, str], output: int | None) -> int:
        cv2.setNumThreads(1)  # 1 ends its pool of threads at once, none of which survives a fork
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which no child needs
            if pid := os.fork():
                return pid
        status = 70
        try:
            os.setsid()
            status = _work(work, environment, os.open(os.devnull, os.O_RDWR) if output is None else output)
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def kill(self, number: int = signal.SIGKILL) -> list[int]:
        """Send a signal to all that live; returns their statuses once they are dead."""
        if not self.status:
            for pid in self.pids:
                os.kill(pid, number)
        return self.wait()

    def wait(self) -> list[int]:
        """The statuses of all processes, waiting for them: negative if killed."""
        if not self.status:
            self.status = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        return self.status


def ranks(count: int) -> list[dict[str, str]]:
    """The environments in which torchrun starts `count` processes; none for one alone."""
    if count == 1:
        return []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    return [{**common, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(count)]


SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["conftest", "forks", "train", "eval_davis", "annotate", "annotation.server", "uvicorn"])


class ForkedScript:
    """A script with its arguments, in one process or as one rank in each of some; it prints to the file `log`."""

    def __init__(self, log: Path, *words: object, processes: int = 1, first: Callable[[], object] | None = None) -> None:
        """`first` is called first in each process; it can be pickled."""
        self.log = log
        log.write_text("")
        arguments = [(log, environment, GUARD.allowed, first, [*map(str, words)]) for environment in ranks(processes) or [{}]]
        self.processes = [SERVER.Process(target=_run, args=each) for each in arguments]
        for process in self.processes:
            process.start()

    def kill(self, number: int = signal.SIGKILL) -> list[int]:
        """Send a signal to all that live; returns their statuses once they are dead."""
        for process in self.processes:
            if process.is_alive():
                os.kill(process.pid, number)
        return self.wait()

    def wait(self) -> list[int]:
        """The statuses of all processes, waiting for them: negative if killed."""
        for process in self.processes:
            process.join()
        return [process.exitcode for process in self.processes]

    def until(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Wait until it holds; fails if the script ends before."""
        end = time.monotonic() + seconds
        while not condition():
            assert all(process.is_alive() for process in self.processes), self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def finish(self) -> str:
        """What it has printed, once it has ended well."""
        assert not any(self.wait()), self.log.read_text()
        return self.log.read_text()


def _run(log: Path, environment: dict[str, str], allowed: list[Path], first: Callable | None, words: list[str]) -> None:
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # as outside; else workers would outlive a script that is killed
    calibrate_briefly()
    if first is not None:
        first()
    GUARD.allowed = allowed
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(_work(partial(run_script, *words), environment, os.open(log, os.O_WRONLY | os.O_APPEND)))


def _work(work: Callable[[], int], environment: dict[str, str], output: int) -> int:
    """Do it in one thread, under this environment, printing to this file."""
    os.environ.update({"OMP_NUM_THREADS": "1", **environment})
    torch.set_num_threads(1)
    os.dup2(output, 1)
    os.dup2(1, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    return work() or 0
