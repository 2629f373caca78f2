"""What a user got wrong, told in one line."""

import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable


class InputError(ValueError):
    """Something outside the program is not as it must be.

    The message is one line that names the file (or flag), what was expected and what was found; scripts print it without
    a traceback, and exit with `status`.
    """

    status = 2


def names_some(names: Iterable[str], limit: int = 3) -> str:
    """`a, b, c and 4 more`: the first `limit` of some names, sorted, for a message of one line."""
    names = sorted(names)
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def shorten(value: object, limit: int = 80) -> str:
    """How Python writes a value, for a message of one line: of at most some `limit` characters."""
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 20]}... ({len(text)} characters)"


def warn(text: str) -> None:
    """A line on standard error, from the first process that torchrun started only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {text}", file=sys.stderr)


def _on_one_line(text: str) -> str:
    """A message whose names may hold line breaks and the like, with those escaped."""
    return "".join(repr(c)[1:-1] if ord(c) < 32 or ord(c) == 127 else c for c in text)


def one_line_errors(main: Callable[[], int | None]) -> Callable[[], int]:
    """Make a script's `main` print an `InputError` as one line on standard error and return its exit status.

    Ctrl-C and a closed pipe (`script.py | head`) end it without a traceback, with the status that shells give them.
    Names that the terminal cannot show are printed with escapes, on both streams.
    """

    @functools.wraps(main)
    def wrapped() -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return main() or 0
        except InputError as error:
            print(f"error: {_on_one_line(str(error))}", file=sys.stderr)
            return error.status
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return 128 + signal.SIGINT
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is flushed at exit has nowhere to go
            return 128 + signal.SIGPIPE
        except OSError as error:  # a full disk, a folder without permission
            if error.filename is None:
                raise
            print(f"error: {_on_one_line(os.fsdecode(error.filename))}: {error.strerror}", file=sys.stderr)
            return 2

    return wrapped
