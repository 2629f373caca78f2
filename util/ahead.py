"""Bounded read-ahead: work done in threads or processes a limited number of items before it is needed."""

import contextlib
import itertools
import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

from util.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The number of cores that this process may use: its CPU affinity, limited by its control group's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # not Linux, no control group, or no limit ("max")
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def map_ahead(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, limit: int) -> Iterator[Result]:
    """`map(function, items)`, computed in `pool` at most `limit` items ahead; results come in order.

    Items are taken as they are submitted.  If the caller stops early, work that has not begun is cancelled.
    """
    ahead: deque = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > limit:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


def map_parallel(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """`map(function, items)` in `workers` processes (0: in this one), a few items ahead; results come in order.

    Raises `InputError` if a process dies, or none can be started.
    """
    if workers == 0:
        yield from map(function, items)
        return
    # not fork: a fork of a process that has run threads may hang
    context = multiprocessing.get_context("spawn")
    try:
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=prepare_worker)
    except (OSError, ImportError) as error:  # no /dev/shm, no open files left
        raise InputError(f"cannot start worker processes ({error}); run without them") from error
    try:
        with pool:
            yield from map_ahead(pool, function, items, limit=8 * workers)
    except BrokenProcessPool as error:
        raise InputError("a worker process died; out of memory or open files? Run it again with fewer") from error
    except KeyboardInterrupt:  # a second one, perhaps, while the pool waits for its workers
        for worker in (pool._processes or {}).values():
            worker.kill()
        raise


def read_ahead(pool: Executor, items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; each is fetched in `pool` (one thread) while the caller works on the one before it."""
    iterator = iter(items)

    def take() -> list[Item]:
        return list(itertools.islice(iterator, 1))

    following = pool.submit(take)
    while items := following.result():
        following = pool.submit(take)
        yield from items


def prepare_worker() -> None:
    """Call it first in a worker process: the main process handles Ctrl-C, and the worker ends when that dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
