"""A few cases of each kind, in one process: importing takes longer than they do.  Run it only in the sandbox."""

import sys
from pathlib import Path

import cases
import generated
import kills
import requested

FEW = (
    (kills, "--times 1 --only preparation"),  # first, since it forks
    (kills, "--times 1 --only eval_davis.py"),
    (cases, "--every 4"),
    (requested, "--cases 100"),
    (generated, "--cases 8 --only train eval_davis score"),  # last, since it limits memory
)

if __name__ == "__main__":
    failed = False
    for number, (program, flags) in enumerate(FEW):
        folder = Path(sys.argv[1], str(number))
        folder.mkdir()
        failed |= bool(program.main([str(folder), *flags.split()]))
    sys.exit(failed)
