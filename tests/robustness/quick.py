"""A few cases of each kind, in one process: importing takes longer than they do.  Run it only in the sandbox."""

import sys
from pathlib import Path

import cases
import generated
import kills
import requested

OF_EACH_KIND = (
    "a bomb as a mask",
    "a list of 300 MiB",
    "a network of that name",
    "an archive on a full disk",
    "eval_davis --top -3",
    "an archive through a link",
    "a film with a colon",
    "code in a checkpoint: zip",
)
FEW = (  # programs with their arguments
    (kills, "--times", "1", "--only", "preparation"),  # first, since it forks
    (cases, f"^({'|'.join(OF_EACH_KIND)})$"),
    (requested, "--cases", "100"),
    (generated, "--cases", "8", "--only", "train", "eval_davis", "score"),  # last, since it limits memory
)

if __name__ == "__main__":
    failed = False
    for number, (program, *flags) in enumerate(FEW):
        folder = Path(sys.argv[1], str(number))
        folder.mkdir()
        failed |= bool(program.main([str(folder), *flags]))
    sys.exit(failed)
