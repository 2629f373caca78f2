"""What command-line flags are made of: types that say what they expect, and help that shows defaults."""

import argparse
import math


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows each flag's default; where that is `None` the help says in words what it means."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def positive_int(text: str) -> int:
    """For argparse: an integer of at least 1."""
    return _int_from(1, text)


def non_negative_int(text: str) -> int:
    """For argparse: an integer of at least 0."""
    return _int_from(0, text)


def positive_float(text: str) -> float:
    """For argparse: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def fraction(text: str) -> float:
    """For argparse: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return value


def _int_from(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, found {text!r}")
    return value


def count_or_all(text: str) -> int | None:
    """For argparse: `None` for 'all'."""
    return None if text == "all" else positive_int(text)
