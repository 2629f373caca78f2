"""The notebook runs as committed, from its own folder, and its committed outputs are small."""

import json

import nbclient
import nbformat
from conftest import ROOT

TOUR = ROOT / "notebooks" / "tour.ipynb"


def test_the_tour_runs_from_its_own_folder():
    notebook = nbformat.read(TOUR, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    score = float(printed.split("J&F ")[1].split()[0])
    assert score > 50  # copying the first mask has 23


def test_its_outputs_are_committed_and_small():
    cells = json.loads(TOUR.read_text())["cells"]
    assert sum("image/png" in json.dumps(cell.get("outputs", ())) for cell in cells) == 4
    assert TOUR.stat().st_size < 600_000
