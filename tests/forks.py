"""Scripts as processes of their own, without the seconds that imports take: forks of this process, which has them."""

import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import torch
from conftest import run_script


class Fork:
    """Some processes that do this work, which returns a status, under the environments given, that print to `output`."""

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
            os.environ.update({"OMP_NUM_THREADS": "1", **environment})
            torch.set_num_threads(1)
            os.dup2(os.open(os.devnull, os.O_RDWR) if output is None else output, 1)
            os.dup2(1, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
            signal.signal(signal.SIGINT, signal.default_int_handler)
            status = work() or 0
            sys.stdout.flush()
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

    def ended(self) -> bool:
        """Whether one has ended."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return bool(self.status) or any(os.waitid(os.P_PID, pid, flags) is not None for pid in self.pids)


def ranks(count: int) -> list[dict[str, str]]:
    """The environments in which torchrun starts `count` processes; none for one alone."""
    if count == 1:
        return []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    return [{**common, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(count)]


class ForkedScript(Fork):
    """A script with its arguments, in one process or as one rank in each of some; it prints to the file `log`."""

    def __init__(self, log: Path, *words: object, processes: int = 1) -> None:
        self.log = log
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        super().__init__(partial(run_script, *words), *ranks(processes), output=descriptor)
        os.close(descriptor)

    def until(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Wait until it holds; fails if the script ends before."""
        end = time.monotonic() + seconds
        while not condition():
            assert not self.ended(), self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def finish(self) -> str:
        """What it has printed, once it has ended well."""
        assert not any(self.wait()), self.log.read_text()
        return self.log.read_text()
