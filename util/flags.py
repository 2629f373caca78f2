"""What command-line flags are made of: types that say what they expect, and help that shows defaults."""

import argparse
import math
from collections.abc import Callable

from util.errors import shorten

LARGEST = 1e6  # of learning rates and the like: far beyond use, and float32 still holds it
MOST_WORKERS = 256


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows each flag's default; where that is `None` the help says in words what it means."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def first_line(doc: str | None) -> str:
    """Of a module's docstring: what `--help` says of a script."""
    return (doc or "").strip().split("\n")[0]


def positive_int(text: str) -> int:
    """For argparse: an integer of at least 1."""
    return _int_from(1, text)


def non_negative_int(text: str) -> int:
    """For argparse: an integer of at least 0."""
    return _int_from(0, text)


def seed_int(text: str) -> int:
    """For argparse: a seed that PyTorch and NumPy both take."""
    return _int_from(0, text, 2**63 - 1)


def worker_count(text: str) -> int:
    """For argparse: a number of processes or threads, 0 for none."""
    return _int_from(0, text, MOST_WORKERS)


def int_between(least: int, most: int) -> Callable[[str], int]:
    """For argparse: an integer from `least` to `most`."""
    return lambda text: _int_from(least, text, most)


def positive_float(text: str) -> float:
    """For argparse: a number above 0 and up to `LARGEST`."""
    return _float(text, lambda value: 0 < value <= LARGEST, f"above 0, at most {LARGEST:g}")


def float_between(least: float, most: float) -> Callable[[str], float]:
    """For argparse: a number from `least` to `most`."""
    return lambda text: _float(text, lambda value: least <= value <= most, f"from {least:g} to {most:g}")


def fraction(text: str) -> float:
    """For argparse: a number from 0 to 1."""
    return float_between(0, 1)(text)


def _float(text: str, fits: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"expected a number {expected}, found {shorten(text)!r}")
    return value


def _int_from(least: int, text: str, most: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or (most is not None and value > most):
        expected = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise argparse.ArgumentTypeError(f"expected an integer {expected}, found {shorten(text)!r}")
    return value


def count_or_all(text: str) -> int | None:
    """For argparse: `None` for 'all'."""
    return None if text == "all" else positive_int(text)
