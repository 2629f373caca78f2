"""What a user got wrong, told in one line."""

import functools
import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something outside the program is not as it must be.

    The message is one line that names the file (or flag), what was expected and what was found; scripts print it without
    a traceback.
    """


def names_some(names: list[str] | set[str], limit: int = 3) -> str:
    """`a, b, c and 4 more`: the first `limit` of some names, sorted, for a message of one line."""
    names = sorted(names)
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def one_line_errors(main: Callable[[], int | None]) -> Callable[[], int]:
    """Make a script's `main` print an `InputError` as one line on standard error and return exit status 2."""

    @functools.wraps(main)
    def wrapped() -> int:
        try:
            return main() or 0
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2

    return wrapped
