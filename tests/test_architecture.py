"""The floors of the house: who may import whom."""

import ast

import pytest
from conftest import ROOT

ROOMS = ("evaluation", "model", "dataset", "util")
MAY_IMPORT = {
    "util": {"util"},
    "model": {"model", "util"},
    "dataset": {"dataset", "util"},
    "evaluation": {"evaluation", "model", "dataset", "util"},
}


def ours_imported_by(path) -> set[str]:
    """The top-level names of ours that a file imports anywhere in it, functions included."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module)
    scripts = {script.stem for script in [*ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py")]}
    return {name.split(".")[0] for name in names} & {*ROOMS, "scripts", "tests", *scripts}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room):
    files = sorted((ROOT / room).glob("**/*.py"))
    assert files
    for path in files:
        assert ours_imported_by(path) <= MAY_IMPORT[room], path


def test_nothing_imports_the_scripts_but_tests():
    for path in [*ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        assert ours_imported_by(path) <= set(ROOMS), path
