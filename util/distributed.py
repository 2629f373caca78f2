"""Processes under torchrun: rank, world size, and communication between ranks."""

import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from util.errors import InputError, wait_for_rank_0

# Evaluation is divided by video, so ranks finish minutes or hours apart.  A dead rank is detected by its closed connection
# and by torchrun, not by this timeout.
PATIENCE = timedelta(days=30)


EXIT_STOPPED = 75  # asked to stop; a checkpoint was saved
EXIT_ALONE = 76  # another process is gone
WAIT_FOR_TORCHRUN = 20  # seconds, in which it ends a process whose fellow is gone


def is_lost_connection(error: object) -> bool:
    """Whether an exception says that another process is gone: gloo's errors have no class of their own."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class Processes:
    """The processes that torchrun started, as a context; without torchrun, this process alone.

    They communicate over gloo; with `cuda`, gradients go over NCCL if each has a GPU of its own.
    """

    def __init__(self, *, cuda: bool = False) -> None:
        self.cuda = cuda
        self._talk: Any = None  # the gloo group; `None` is the default group of `dist`
        given = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE")]
        if given == [None, None]:
            given = ["0", "1"]
        if not all(value is not None and value.isascii() and value.isdecimal() for value in given):
            raise InputError(f"RANK and WORLD_SIZE: expected numbers in both, as torchrun sets them, found {given}")
        self.rank, self.world = (int(str(value)) for value in given)
        if self.rank >= self.world:
            raise InputError(f"RANK: expected less than WORLD_SIZE, {self.world}, found {self.rank}")

    def __enter__(self) -> "Processes":
        if self.world > 1:
            store, rank, world = next(dist.rendezvous("env://"))
            # torchrun keeps its store when it restarts processes; they must not find the addresses of the dead ones there
            store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
            common = {"store": store, "rank": rank, "world_size": world}
            here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes; other starters than torchrun give each its GPU
            if self.cuda and torch.cuda.device_count() >= here:
                dist.init_process_group("nccl", **common)
                self._talk = dist.new_group(backend="gloo", timeout=PATIENCE)
            else:
                dist.init_process_group("gloo", timeout=PATIENCE, **common)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.world == 1:
            return
        if is_lost_connection(error):  # that process has said why; torchrun names it, and ends this one too
            time.sleep(WAIT_FOR_TORCHRUN)
            print(f"rank {self.rank}: another process is gone ({error})", file=sys.stderr)
            os._exit(EXIT_ALONE)  # a normal exit would wait for the other processes
        if error is not None:
            wait_for_rank_0()  # before others lose the connection
        dist.destroy_process_group()

    def broadcast(self, item: Any) -> Any:
        """Rank 0's item, on every rank."""
        items = [item]
        if self.world > 1:
            dist.broadcast_object_list(items, group=self._talk)
        return items[0]

    def gather(self, item: Any) -> list[Any]:
        """The items of all ranks, on rank 0; an empty list elsewhere."""
        if self.world == 1:
            return [item]
        items = [None] * self.world if self.rank == 0 else None
        dist.gather_object(item, items, group=self._talk)
        return items or []

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of the ranks' tensors (on the CPU), on every rank."""
        if self.world > 1:
            dist.all_reduce(tensor, group=self._talk)
        return tensor

    def sum_later(self, tensor: Tensor) -> dist.Work:
        """Asynchronous, in-place `sum`: `tensor` holds the result once `wait()` has returned."""
        return dist.all_reduce(tensor, group=self._talk, async_op=True)


class StopRequest:
    """A context that makes SIGTERM or SIGINT on any rank known to all ranks at the same step."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.asked = False
        self._flag = torch.zeros(1)
        self._work: dist.Work | None = None
        self._handlers: dict[int, Any] = {}  # the previous ones, to restore

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()
        if self._work is not None and error[0] is None:
            self._work.wait()

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True
        self._restore()  # a second signal ends the process at once

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def agreed(self) -> bool:
        """Whether any rank had been asked to stop when the previous call was made.  Every rank calls this once per step."""
        if self.processes.world == 1:
            return self.asked
        agreed = False
        if self._work is not None:  # it has had a whole step to finish, so this rarely waits
            self._work.wait()
            agreed = bool(self._flag.item())
        self._flag = torch.tensor([float(self.asked)])
        self._work = self.processes.sum_later(self._flag)
        return agreed
