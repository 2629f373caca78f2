"""How scripts end on bad input, signals and closed pipes."""

import signal
import subprocess
import sys

import pytest

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
    [(InputError("a.png: no such file"), 2, "error: a.png: no such file"), (KeyboardInterrupt(), 130, "interrupted")],
)
def test_an_error_of_the_user_is_one_line_and_a_status(error, status, line, capsys):
    @one_line_errors
    def main():
        raise error

    assert main() == status
    assert capsys.readouterr().err.strip() == line


def test_a_reader_that_goes_away_ends_a_script_quietly():
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS_FOR_EVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a\nb\x9b\u202e.png: " + "x" * 5000), r"error: a\nb\x9b\u202e.png: "),
        (InputError("many words " * 900), "error: many words"),
        (OSError(28, "No space left on device"), "error: No space left on device"),
        (FileNotFoundError(2, "No such file", "x" * 5000), "error: xxx"),
    ],
)
def test_what_messages_quote_is_printable_and_short(error, line, capsys):
    @one_line_errors
    def main():
        raise error

    assert main() == 2
    told = capsys.readouterr().err
    assert told.startswith(line)
    assert len(told) < 2100
    assert max(map(len, told.split())) <= 200
    assert told.count("\n") == 1


def test_output_that_cannot_be_written_is_an_error_not_a_success(capfd):
    script = "from util.errors import one_line_errors\nraise SystemExit(one_line_errors(lambda: print('x'))())"
    with open("/dev/full", "w") as full:
        assert subprocess.run([sys.executable, "-c", script], stdout=full).returncode == 2
    assert capfd.readouterr().err == "error: No space left on device\n"
