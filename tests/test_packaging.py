"""The project's metadata agrees across files."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 or newer reads TOML")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!;\[ ]", line)[0].lower() for line in requirements}


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def test_requirements_txt_lists_the_dependencies():
    assert lines("requirements.txt") == PROJECT["project"]["dependencies"]


def test_the_versions_that_were_tried_are_those_of_what_is_needed():
    extras = [line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra]
    needed = names([*PROJECT["project"]["dependencies"], *extras])
    assert needed <= names(lines("constraints.txt"))


def test_the_lock_holds_what_was_tried_with_a_hash_for_each():
    pins = dict(
        re.findall(r"^(\S+)==(\S+) \\\n    --hash=sha256:", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    )
    tried = {line.split("==")[0]: line.split("==")[1].split(";")[0] for line in lines("constraints.txt")}
    assert tried.items() <= pins.items()
    extras = [line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra]
    assert names([*PROJECT["project"]["dependencies"], *extras]) <= pins.keys()


def test_every_room_is_installed():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == rooms


def test_versions_agree():
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_packages_are_found_from_anywhere(tmp_path):
    """Once the project is installed (`pip install -e .`), notebooks and scripts can import it from any folder."""
    code = (
        "from importlib.util import find_spec; print([find_spec(room) is not None for room in ('model', 'dataset', 'util')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    if "True" not in done.stdout:
        pytest.skip("the project is not installed in this environment")
    assert "False" not in done.stdout
