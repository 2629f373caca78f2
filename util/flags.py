"""Building blocks of command-line flags: types that state what they expect, and help that shows defaults."""

import argparse
import math
from collections.abc import Callable
from typing import Any, NoReturn

from util.errors import one_line, shorten, wait_for_rank_0

LARGEST = 1e6  # for learning rates and the like: far beyond any useful value, and safe in float32


class _DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows each flag's default, except those that are nothing (`None`, off, an empty list) or told in words."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default, text = action.default, action.help or ""
        if default is None or default is False or default == [] or "(default:" in text:
            return text
        if isinstance(default, list):
            return f"{text} (default: {' '.join(map(str, default))})"
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser for scripts that may run under torchrun, where a wrong flag is said once.  Its description is the first line of
    `doc`, the script's docstring; its help shows defaults.
    """

    def __init__(self, doc: str | None, **options: Any) -> None:
        description = (doc or "").strip().split("\n")[0]
        super().__init__(description=description, formatter_class=_DefaultsFormatter, **options)

    def error(self, message: str) -> NoReturn:
        wait_for_rank_0()
        super().error(one_line(message))


def int_between(least: int, most: int | None = None) -> Callable[[str], int]:
    """For argparse: an integer from `least` to `most`, or of at least `least`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            expected = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"expected an integer {expected}, found {shorten(text)!r}")
        return value

    return read


positive_int = int_between(1)
non_negative_int = int_between(0)
seed_int = int_between(0, 2**63 - 1)  # which both PyTorch and NumPy accept
worker_count = int_between(0, 256)  # processes or threads, 0 for none


def positive_float(text: str) -> float:
    """For argparse: a number above 0 and at most `LARGEST`."""
    return _float(text, lambda value: 0 < value <= LARGEST, f"above 0, at most {LARGEST:g}")


def float_between(least: float, most: float) -> Callable[[str], float]:
    """For argparse: a number from `least` to `most`."""
    return lambda text: _float(text, lambda value: least <= value <= most, f"from {least:g} to {most:g}")


def _float(text: str, fits: Callable[[float], bool], expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not fits(value):
        raise argparse.ArgumentTypeError(f"expected a number {expected}, found {shorten(text)!r}")
    return value


def name_and_count(text: str) -> tuple[str, int]:
    """For argparse: a name and an integer of at least 0, as `NAME=N`."""
    name, equals, count = text.rpartition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=N, found {shorten(text)!r}")
    return name, non_negative_int(count)


def count_or_all(text: str) -> int | None:
    """For argparse: an integer of at least 1, or `None` for 'all'."""
    return None if text == "all" else positive_int(text)
