"""Fetch into saves/ a network that the paper's authors have released.

python scripts/data/download_model.py stcn                        # saves/stcn.pth
python scripts/data/download_model.py stcn --from ~/stcn.pth      # without a network: a file that a browser has fetched

After an interruption, the same command goes on where the download stopped.
"""

import argparse
import contextlib
import http.client
import os
import re
import shutil
import stat
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

from model.checkpoint import load_network
from model.released import PAGE, RELEASED
from util.errors import InputError, one_line_errors
from util.files import digest, open_file, write_atomically
from util.flags import Parser
from util.lock import Lock
from util.progress import progress_bar

PATIENCE = 60  # seconds without an answer
BLOCK = 1 << 20  # bytes


def parser() -> argparse.ArgumentParser:
    result = Parser(__doc__)
    result.add_argument(
        "name", nargs="?", choices=RELEASED, help="the network, which becomes DIR/NAME.pth; without one, prints where they are"
    )
    result.add_argument("--from", dest="source", metavar="FILE", help="take this file, which was fetched by other means")
    result.add_argument("--output", default="saves", metavar="DIR", help="folder for the network")
    result.add_argument(
        "--sha256",
        metavar="HEX",
        type=str.lower,
        help="refuse a file with another sum (the authors publish none; the script prints what it has found)",
    )
    return result


@one_line_errors
def main() -> None:
    arguments = parser().parse_args()
    if arguments.name is None:
        print("\n".join(f"{name:9} trained on {each.trained_on}\n  {each.address}" for name, each in RELEASED.items()))
        return
    address = RELEASED[arguments.name].address
    path = Path(arguments.output, f"{arguments.name}.pth")
    with Lock(path.parent, "download_model.py"):
        if path.exists():
            print(f"{path}: already there")
            check(path, arguments.sha256)
        elif arguments.source:
            check(Path(arguments.source), arguments.sha256)
            with open_file(arguments.source) as file:
                write_atomically(path, lambda copy: shutil.copyfileobj(file, copy))
        else:
            part = path.with_name(f"{path.name}.part")
            fetch(address, part)
            try:
                check(part, arguments.sha256)
            except InputError:
                part.unlink()  # else the next try would go on with it
                raise
            os.replace(part, path)
    print(path)
    print(
        f"trained on {RELEASED[arguments.name].trained_on}; licence: its authors' ({PAGE}), and the terms of these data sets"
    )


def fetch(address: str, part: Path) -> None:
    """Download a file, the rest of it if `part` holds its beginning; raises `InputError` if it cannot be had whole."""
    advice = "fetch it with a browser, then pass --from FILE"
    with contextlib.suppress(FileNotFoundError):
        found = part.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            part.unlink()  # a link: what it leads to would be written
    with open(part, "ab") as file:
        done, total = file.tell(), None
        try:
            with ask(address, done) as answer:
                if answer.headers.get_content_type() == "text/html":
                    raise InputError(f"{address}: expected a network, found a page (too many downloads today?); {advice}")
                if answer.status != http.client.PARTIAL_CONTENT:  # it sends all of it
                    file.truncate(0)
                    done = 0
                if length := answer.headers.get("Content-Length"):
                    total = done + int(length)
                size = -(-(total or 1) >> 20)
                with progress_bar(size, "MiB", start=done >> 20, shown=total is not None) as bar:
                    while block := answer.read(BLOCK):
                        done += file.write(block)
                        bar.update(min(done >> 20, size))
        except (http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            if not done:
                part.unlink()
            raise InputError(f"{address}: cannot be fetched ({reason}); the same command tries again, or {advice}") from error
    if total is not None and done != total:
        raise InputError(f"{address}: broke off after {done} of {total} bytes; the same command goes on")


def ask(address: str, done: int) -> Any:
    """The server's answer, for what follows the first `done` bytes if it can send that."""
    asked = urllib.request.Request(address, headers={"User-Agent": "stcn", **({"Range": f"bytes={done}-"} if done else {})})
    try:
        answer = urllib.request.urlopen(asked, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        if not done or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        return ask(address, 0)  # nothing follows: a whole file that was not checked, or one that has become shorter
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    if answer.status == http.client.PARTIAL_CONTENT and (found is None or int(found[1]) != done):
        answer.close()
        return ask(address, 0)
    return answer


def check(path: Path, expected: str | None) -> None:
    """Print the file's SHA-256; raises `InputError` unless it holds a network, undamaged, and has the sum expected."""
    load_network(path)
    if zipfile.is_zipfile(path) and (damaged := zipfile.ZipFile(path).testzip()):  # PyTorch leaves its checksums unread
        raise InputError(f"{path}: expected an undamaged checkpoint, found another checksum of {damaged}")
    found = digest(path)
    if expected is not None and found != expected:
        raise InputError(f"{path}: expected SHA-256 {expected}, found {found}")
    print(f"SHA-256 {found}")


if __name__ == "__main__":
    sys.exit(main())
