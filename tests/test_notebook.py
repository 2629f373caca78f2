"""The notebook runs as committed, from its own folder, and its committed outputs are small."""

import json

import matplotlib
import matplotlib.pyplot as plt
import nbclient
import nbformat
import pytest
from conftest import ROOT

TOUR = ROOT / "notebooks" / "tour.ipynb"


def score_in(printed: str) -> float:
    return float(printed.split("J&F ")[1].split()[0])


def test_the_cells_of_the_tour_run_one_after_the_other(demo_data, monkeypatch, capsys):
    """Without Jupyter, and with the data that the tests have made."""
    monkeypatch.chdir(TOUR.parent)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: None)
    code = ["".join(cell["source"]) for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]
    with matplotlib.rc_context({"backend": "Agg"}):
        exec("\n".join(code).replace('root / "demo" / "data"', f"Path({str(demo_data)!r})"), {})
        plt.close("all")
    assert score_in(capsys.readouterr().out) > 50  # copying the first mask has 23


@pytest.mark.slow
def test_the_tour_runs_in_jupyter_from_its_own_folder():
    notebook = nbformat.read(TOUR, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert score_in(printed) > 50


def test_its_outputs_are_committed_and_small():
    cells = json.loads(TOUR.read_text())["cells"]
    assert sum("image/png" in json.dumps(cell.get("outputs", ())) for cell in cells) == 4
    assert TOUR.stat().st_size < 600_000
