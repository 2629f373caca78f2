"""Write requirements.lock: every package that the project and its extras need, directly or not, with version and hash.

python scripts/dev/lock.py                                     # after a change of pyproject.toml or constraints.txt
pip install --require-hashes -r requirements.lock && pip install --no-deps -e .

The hashes are those of the files that pip would install here, so the lock holds for this kind of machine and this Python
alone; its first line says which.  Nothing is installed.
"""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from util.errors import InputError, one_line_errors, shorten
from util.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"


def requirements() -> list[str]:
    """Those of the project and all its extras."""
    try:
        import tomllib  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InputError(f"Python {platform.python_version()}: expected 3.11 or newer, which reads TOML") from error
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]


def resolve(wanted: list[str]) -> dict[str, tuple[str, str]]:
    """What pip would install: name -> version and SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        flags = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report), "-c", str(ROOT / "constraints.txt")]
        command = [sys.executable, "-m", "pip", "install", *flags, "--", *wanted]
        print("asking pip, which takes a minute or more", file=sys.stderr)
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            raise InputError(f"pip install --dry-run: exit status {done.returncode} ({shorten(lines[-1])})")
        entries = json.loads(report.read_text())["install"]
    locked = {}
    for entry in entries:
        name, version = entry["metadata"]["name"], entry["metadata"]["version"]
        sha256 = entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if sha256 is None:
            raise InputError(f"{name} {version}: expected a hash from pip, found none; is pip older than 22.2?")
        locked[name.lower().replace("_", "-")] = version, sha256
    return locked


@one_line_errors
def main() -> None:
    locked = resolve(requirements())
    where = f"{platform.system()} {platform.machine()}, Python {sys.version_info.major}.{sys.version_info.minor}"
    lines = [f"# {where}.  Made by `python scripts/dev/lock.py`."]
    lines += [f"{name}=={version} --hash=sha256:{sha256}" for name, (version, sha256) in sorted(locked.items())]
    write_atomically(LOCK, lambda file: file.write("".join(f"{line}\n" for line in lines).encode()))
    print(f"{LOCK}: {len(locked)} packages")


if __name__ == "__main__":
    sys.exit(main())
