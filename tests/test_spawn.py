"""Workers that are started by `spawn`, as on macOS, on Windows and by Python 3.14: what they need can be pickled."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import train_scribble
from conftest import ROOT, run_script
from test_train import CPU, flags_of

import train
from dataset.sampling import Draws
from dataset.sources import stage_sources

TRAININGS = ["stage 0", "stage 1", "stage 2", "stage 3", "scribble"]
SPAWN = "import multiprocessing\nmultiprocessing.set_start_method('spawn')\n"


def command_of(what: str, demo_data, folder) -> tuple[str, list[object]]:
    """A script and its flags."""
    if what != "scribble":
        return "train", flags_of(demo_data, folder, "-i", 2, "-b", 1, stage=int(what[-1]))
    roots = ["--static_root", demo_data / "static", "--davis_root", demo_data / "DAVIS/2017", "--yv_root", "none"]
    run = ["--id", "x", "--save_dir", folder, "-i", 2, "-b", 1, "--crop", 48, "--device", "cpu", "--no_pretrained"]
    return "scripts/train_scribble", [*roots, *run]


def assert_survives(draws: Draws) -> None:
    found, expected = pickle.loads(pickle.dumps(draws))[3], draws[3]
    assert found.name == expected.name
    assert np.array_equal(found.frames, expected.frames)


@pytest.mark.parametrize("what", TRAININGS)
def test_the_samples_of_every_training_can_go_to_such_a_worker(what, demo_data, tmp_path, monkeypatch):
    runs = []
    for module in (train, train_scribble):
        monkeypatch.setattr(module, "loop", lambda run: runs.append(run) or 0)
    script, flags = command_of(what, demo_data, tmp_path)
    assert run_script(script.rsplit("/")[-1], *flags) == 0
    assert_survives(runs[0].draws)


def test_so_can_those_of_a_curriculum_that_is_not_given(demo_data):
    assert_survives(Draws(stage_sources(0, {"static_root": str(demo_data / "static")}, crop=32), seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["stage 3", "scribble"])
def test_training_runs_with_such_a_worker(what, demo_data, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SPAWN)
    script, flags = command_of(what, demo_data, tmp_path / "saves")
    environment = {**CPU, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    command = [sys.executable, ROOT / f"{script}.py", *map(str, flags), "--num_workers", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "network: " in done.stdout
