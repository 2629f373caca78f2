"""The layers of the project: which package may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

GROUND = {"util"}
FIRST = {"model", "dataset"}  # never each other
SECOND = {"training", "evaluation"}  # never each other
THIRD = {"annotation"}
ROOMS = sorted(GROUND | FIRST | SECOND | THIRD)
MAY_IMPORT = {
    **{room: {room} for room in GROUND},
    **{room: {room} | GROUND for room in FIRST},
    **{room: {room} | FIRST | GROUND for room in SECOND},
    **{room: {room, "evaluation"} | FIRST | GROUND for room in THIRD},
}
SCRIPTS = sorted([*ROOT.glob("*.py"), *(ROOT / "scripts").rglob("*.py")])


def ours_imported_by(path: Path) -> set[str]:
    """Our top-level packages and scripts that a file imports anywhere, also inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module)
    if path.parent.parent == ROOT / "scripts":  # a script that is a folder may import its own files
        names = [name for name in names if not name.startswith(f"scripts.{path.parent.name}.")]
    places = (ROOT, *(ROOT / "scripts" / part for part in ("", "data", "dev")))  # of single scripts
    scripts = {script.stem for script in SCRIPTS if script.parent in places}
    return {name.split(".")[0] for name in names} & {*ROOMS, "scripts", "tests", *scripts}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room):
    files = sorted((ROOT / room).glob("**/*.py"))
    assert files
    for path in files:
        assert ours_imported_by(path) <= MAY_IMPORT[room], path


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("import scripts.score, eval_davis, eval_youtube", "torch"),  # also for --help
        ("import model; model.load_network('saves/stcn_light.pth')", "torch._dynamo"),
    ],
)
def test_what_takes_seconds_to_load_is_loaded_only_where_it_is_needed(command, module):
    command = f"import sys\n{command}\nassert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True)


def test_nothing_imports_the_scripts_but_tests():
    for path in SCRIPTS:
        assert ours_imported_by(path) <= set(ROOMS), path


def test_no_script_puts_anything_on_the_path():
    """The project is installed."""
    for path in SCRIPTS:
        assert "sys.path" not in path.read_text(), path


def test_scripts_import_util_before_pytorch():
    """OpenMP reads what `util` sets when PyTorch is loaded; every room imports `util` first."""
    for path in SCRIPTS:
        names = []
        for file in (path.with_name("__init__.py"), path):
            for node in ast.parse(file.read_text()).body if file.is_file() else ():
                if isinstance(node, ast.Import):
                    names += [alias.name.split(".")[0] for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names.append(str(node.module).split(".")[0])
        loading = [i for i, name in enumerate(names) if name in ("torch", "torchvision")]
        assert not loading or {*ROOMS} & {*names[: loading[0]]}, path
