"""Work done ahead of where it is needed, in threads or processes, and never too far ahead."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, limit: int) -> Iterator[Result]:
    """`map(function, items)`, computed in `pool` at most `limit` items ahead; results in order.

    Items are taken as they are submitted.  Whoever stops early cancels what has not begun.
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


def read_ahead(pool: Executor, items: Iterable[Item]) -> Iterator[Item]:
    """The items, each taken in `pool` (of one thread) while the one before it is worked on."""
    iterator = iter(items)

    def take() -> list[Item]:
        return list(itertools.islice(iterator, 1))

    following = pool.submit(take)
    while items := following.result():
        following = pool.submit(take)
        yield from items
