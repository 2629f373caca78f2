"""torchrun: which of how many processes this is, on which device it works, and how processes agree."""

import os
import signal
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Evaluation shares work out by video, so ranks finish minutes or hours apart.  A rank that dies is noticed by its closed
# connection and by torchrun, not by this.
PATIENCE = timedelta(days=30)


class Processes:
    """The processes that torchrun started, as a context; without torchrun this one alone.

    They talk over gloo; with `cuda` gradients go over NCCL.
    """

    def __init__(self, *, cuda: bool = False) -> None:
        self.cuda = cuda
        self._talk: Any = None  # over gloo; `None` is the group of all that `dist` has by itself
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))

    def __enter__(self) -> "Processes":
        if self.world > 1:
            store, rank, world = next(dist.rendezvous("env://"))
            # torchrun keeps its store when it restarts its processes, which must not find the addresses of the dead there
            store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
            common = {"store": store, "rank": rank, "world_size": world}
            if self.cuda:
                dist.init_process_group("nccl", **common)
                self._talk = dist.new_group(backend="gloo", timeout=PATIENCE)
            else:
                dist.init_process_group("gloo", timeout=PATIENCE, **common)
        return self

    def __exit__(self, *error: object) -> None:
        if self.world > 1:
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
        """`sum` of which the result is there when `wait()` has returned."""
        return dist.all_reduce(tensor, group=self._talk, async_op=True)


class StopRequest:
    """SIGTERM or SIGINT to any rank, as something that all ranks learn of at the same step; a context."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.asked = False
        self._flag = torch.zeros(1)
        self._work: dist.Work | None = None
        self._handlers: dict[int, Any] = {}  # as they were before

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
        self._restore()  # who asks twice does not want to wait

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def agreed(self) -> bool:
        """Whether a rank had been asked to stop by the last call; every rank calls this once a step."""
        if self.processes.world == 1:
            return self.asked
        agreed = False
        if self._work is not None:  # it has had a step's time, so that nobody waits
            self._work.wait()
            agreed = bool(self._flag.item())
        self._flag = torch.tensor([float(self.asked)])
        self._work = self.processes.sum_later(self._flag)
        return agreed
