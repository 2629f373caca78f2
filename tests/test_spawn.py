"""Workers that are started by `spawn`, as on macOS, on Windows and by Python 3.14: what they need can be pickled."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_script
from test_train import CPU, flags_of

import train
from dataset.sampling import Draws
from dataset.sources import stage_sources

SPAWN = "import multiprocessing\nmultiprocessing.set_start_method('spawn')\n"


def scribble_flags(demo_data, folder, *more: object) -> list[str]:
    roots = ["--static_root", demo_data / "static", "--davis_root", demo_data / "DAVIS/2017", "--yv_root", "none"]
    run = ["--id", "x", "--save_dir", folder, "-b", 1, "--crop", 48, "--device", "cpu", "--no_pretrained"]
    return [str(flag) for flag in (*roots, *run, *more)]


def commands(demo_data, folder) -> dict[str, tuple[str, list[str]]]:
    return {
        **{f"stage {n}": ("train", flags_of(demo_data, folder, "-i", 2, "-b", 1, stage=n)) for n in range(4)},
        "scribble": ("scripts/train_scribble", scribble_flags(demo_data, folder, "-i", 2)),
    }


def assert_survives(draws: Draws) -> None:
    found, expected = pickle.loads(pickle.dumps(draws))[3], draws[3]
    assert found.name == expected.name
    assert np.array_equal(found.frames, expected.frames)


@pytest.mark.parametrize("what", ["stage 0", "stage 1", "stage 2", "stage 3", "scribble"])
def test_the_samples_of_every_training_can_go_to_such_a_worker(what, demo_data, tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT / "scripts"))
    import train_scribble

    runs = []
    for module in (train, train_scribble):
        monkeypatch.setattr(module, "loop", lambda run: runs.append(run) or 0)
    script, flags = commands(demo_data, tmp_path)[what]
    assert run_script(script.rsplit("/")[-1], *flags) == 0
    assert_survives(runs[0].draws)


def test_so_can_those_of_a_curriculum_that_is_not_given(demo_data):
    assert_survives(Draws(stage_sources(0, {"static_root": str(demo_data / "static")}, crop=32), seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["stage 0", "stage 1", "stage 2", "stage 3", "scribble"])
def test_every_training_runs_with_such_a_worker(what, demo_data, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SPAWN)
    script, flags = commands(demo_data, tmp_path / "saves")[what]
    environment = {**CPU, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    command = [sys.executable, ROOT / f"{script}.py", *flags, "--num_workers", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "network: " in done.stdout
