"""One-line messages for errors that the user can fix."""

import contextlib
import functools
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable

LONGEST_QUOTE, LONGEST_LINE = 200, 2000  # characters
LONG_WORD = re.compile(rf"\S{{{LONGEST_QUOTE + 1},}}")
SIGPIPE = 13  # which Windows does not name
WAIT_FOR_RANK_0 = 10  # seconds: the end of a process can take some


class InputError(ValueError):
    """Invalid input: a file, flag or device that the program cannot use.

    The message is one line with the file (or flag), what was expected and what was found.  Scripts print it without a
    traceback and exit with `status`.
    """

    status = 2


class WriteError(InputError):
    """A file or folder cannot be written: the disk is full, or there is no permission."""


def names_some(names: Iterable[str]) -> str:
    """`a, b, c and 4 more`: the first three names in sorted order, for a one-line message."""
    names = [shorten(name, LONGEST_QUOTE) for name in sorted(names)]
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def shorten(value: object, limit: int = 80) -> str:
    """A value as text for a one-line message: strings that can be printed as they are, all else as `repr`, cut to about
    `limit` characters.
    """
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 20]}... ({len(text)} characters)"


def warn(text: str) -> None:
    """Print a warning line to standard error, on rank 0 only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"warning: {one_line(text)}", file=sys.stderr)


def print_note(text: str) -> None:
    """Print a line about what was decided for the user to standard error."""
    print(f"note: {one_line(text)}", file=sys.stderr)


@functools.cache
def wait_for_rank_0() -> None:
    """Under torchrun, errors that all ranks have are said once: ranks other than 0 wait before they say theirs.

    If rank 0 has the same error, it ends meanwhile, and torchrun ends the others.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(WAIT_FOR_RANK_0)


def one_line(text: str) -> str:
    """A message with all that cannot be printed (such as line breaks in file names) escaped, and long words cut, which files
    and command lines may hold.
    """
    text = LONG_WORD.sub(lambda found: _cut(found[0], LONGEST_QUOTE), text[: 10 * LONGEST_LINE])
    return _cut(printable(text), LONGEST_LINE)


def printable(text: str) -> str:
    """The text with all that cannot be printed or encoded escaped, such as what file names may hold."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _cut(text: str, limit: int) -> str:
    """The text without its middle, if it is longer than that."""
    return text if len(text) <= limit else f"{text[: limit // 2 - 10]}...{text[10 - limit // 2 :]}"


def one_line_errors(main: Callable[[], int | None]) -> Callable[[], int]:
    """Decorate a script's `main`: an `InputError` is printed as one line to standard error and becomes the exit status.

    Ctrl-C and a closed pipe (`script.py | head`) also end the script without a traceback, with the shell's usual status.
    Characters that the terminal cannot show are escaped, on both streams.
    """

    @functools.wraps(main)
    def wrapped() -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            status = main() or 0
            sys.stdout.flush()  # where an error can be told
            return status
        except InputError as error:
            wait_for_rank_0()
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            return error.status
        except KeyboardInterrupt:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # another one ends it at once, with no word on what is left
            print("\ninterrupted", file=sys.stderr)
            return 128 + signal.SIGINT
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
            return 128 + SIGPIPE
        except MemoryError as error:
            print(f"error: not enough memory ({one_line(str(error)) or 'for Python itself'})", file=sys.stderr)
            return 2
        except OSError as error:  # a full disk, a folder without permission, no folder for temporary files
            if error.strerror is None:
                raise
            wait_for_rank_0()
            place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
            print(f"error: {one_line(place + error.strerror)}", file=sys.stderr)
            with contextlib.suppress(OSError, ValueError):  # what cannot be written is not tried again at exit
                sys.stdout.flush()
                return 2
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 2

    return wrapped
