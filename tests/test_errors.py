"""How scripts end on bad input, signals and closed pipes."""

import signal
import subprocess
import sys

import pytest

import util
from util.errors import InputError, names_some, one_line_errors

PRINTS_FOR_EVER = """
from util.errors import one_line_errors

@one_line_errors
def main():
    while True:
        print("line")

raise SystemExit(main())
"""


def test_many_names_are_cut_short():
    assert names_some({"c", "a", "b"}) == "a, b, c"
    assert names_some(["e", "d", "c", "b", "a"]) == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("a.png: no such file"), 2, "error: a.png: no such file\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (InputError("a\nb\x9b\u202e.png: " + "x" * 5000), 2, r"error: a\nb\x9b\u202e.png: "),
        (InputError("many words " * 900), 2, "error: many words"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
        (FileNotFoundError(2, "No such file", "x" * 5000), 2, "error: xxx"),
        (MemoryError("Unable to allocate 4 TiB"), 2, "error: not enough memory (Unable to allocate 4 TiB"),
        (MemoryError(), 2, "error: not enough memory ("),
    ],
)
def test_an_error_of_the_user_is_one_printable_short_line_and_a_status(error, status, line, capsys, monkeypatch):
    handled: list[tuple] = []
    monkeypatch.setattr(signal, "signal", lambda *given: handled.append(given))

    @one_line_errors
    def main():
        raise error

    assert main() == status
    told = capsys.readouterr().err
    assert told.startswith(line)
    assert told.strip().count("\n") == 0
    assert len(told) < 2100
    assert max(map(len, told.split())) <= 200
    assert handled == [(signal.SIGINT, signal.SIG_DFL)] * (status == 130)  # a second Ctrl-C ends it at once


def test_a_reader_that_goes_away_ends_a_script_quietly():
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS_FOR_EVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_output_that_cannot_be_written_is_an_error_not_a_success(capfd):
    script = "from util.errors import one_line_errors\nraise SystemExit(one_line_errors(lambda: print('x'))())"
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", script], stdout=full).returncode == 2
    assert capfd.readouterr().err == "error: No space left on device\n"


def test_streams_that_the_caller_has_closed_lead_nowhere(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    util.open_closed_streams()
    with sys.stdin, sys.stdout, sys.stderr:
        assert (sys.stdin.read(), sys.stdout.write("x"), sys.stderr.fileno() > 0) == ("", 1, True)


def test_what_ends_imports_is_one_line(capsys):
    error = ImportError("libtorch.so: failed to map segment from shared object")
    util._told(ImportError, error, None)
    util._told(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == f"error: not enough memory ({error})\n\ninterrupted\n"
