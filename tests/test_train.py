"""`train.py` as its users run it: it learns, stops, resumes bit for bit, and reports errors."""

import copy
import itertools
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_light_network, run_script
from forks import ForkedScript
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import eval_youtube
import train
from model import checkpoint, load_network, save_network
from model.released import from_released, to_released
from training import step
from training.flags import FINETUNING
from training.loop import EXIT_DIVERGED
from training.start import checkpoints_in, prepare_others_filter
from util.distributed import EXIT_STOPPED
from util.label_map import read_label_map, write_label_map

SMALL = {"key_backbone": "resnet18", "key_dim": 8, "value_dim": 32, "crop": 64, "device": "cpu", "log_every": 1, "lr": 1e-3}
CPU = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def flags_of(demo_data: Path, folder: Path, *more: object, stage: int = 3) -> list[str]:
    roots = {"static": "static", "bl": "BL30K", "yv": "YouTube", "davis": "DAVIS/2017"}
    flags = [f"--{name}_root={demo_data / place}" for name, place in roots.items()]
    flags += [f"--{name}={value}" for name, value in SMALL.items()]
    flags += ["--id", "x", "--stage", stage, "--save_dir", folder, "--num_workers", 0, "--no_pretrained", *more]
    return [str(flag) for flag in flags]


@pytest.fixture
def run(demo_data, script, tmp_path):
    """`train.py` in this process; returns the exit status."""

    def run_in(folder: Path = tmp_path, *more: object, stage: int = 3) -> int:
        return script("train", *flags_of(demo_data, folder, *more, stage=stage))

    return run_in


@pytest.fixture
def fork(tmp_path) -> Iterator[Callable[..., ForkedScript]]:
    """`train.py` with these flags as forks of this process."""
    forks = []

    def begin(flags: list[str], processes: int = 1) -> ForkedScript:
        forks.append(ForkedScript(tmp_path / f"{len(forks)}.log", "train", *flags, processes=processes))
        return forks[-1]

    yield begin
    for each in forks:
        each.kill()


def scalars(folder: Path, stage: int = 3) -> dict[str, list[tuple[int, float]]]:
    """The values in the TensorBoard log, except those that depend on the machine."""
    events = EventAccumulator(str(folder / f"x_s{stage}/log"), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith(("speed/", "peak_memory"))]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def assert_same_run(found: Path, expected: Path) -> None:
    assert_same_network(found / "x_s3.pth", expected / "x_s3.pth")
    assert scalars(found) == scalars(expected)
    assert [step for step, _ in scalars(found)["loss/total"]] == [1, 2, 3, 4, 5, 6]


SIX = ("-i", 6, "-b", 1, "--save_every", 3)
FOUR = ("-i", 4, "-b", 1, "--save_every", 1, "--keep", 9)


@pytest.fixture(scope="session")
def four(demo_data, tmp_path_factory) -> Path:
    """Four iterations, with a checkpoint of each."""
    folder = tmp_path_factory.mktemp("four")
    assert run_script("train", *flags_of(demo_data, folder, *FOUR)) == 0
    return folder


@pytest.fixture
def trained(four, tmp_path) -> Path:
    """The same, to go on with.  Its files are links to those of `four`: none may be written in place."""
    return Path(shutil.copytree(four, tmp_path, copy_function=os.link, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def one(demo_data, tmp_path_factory) -> Path:
    """A run of one iteration.  Its frames are not those of the first of four: their distance goes by what is left."""
    folder = tmp_path_factory.mktemp("one")
    assert run_script("train", *flags_of(demo_data, folder, "-i", 1, "-b", 1)) == 0
    return folder


def checkpoint_of(folder: Path, iteration: int) -> Path:
    return folder / f"x_s3/checkpoint_{iteration:07d}.pth"


def forget(folder: Path, *iterations: int) -> None:
    """Let the run be as it was before these iterations."""
    for path in (folder / "x_s3.pth", *(checkpoint_of(folder, number) for number in iterations)):
        path.unlink()


def assert_same_network(found: Path, expected: Path) -> None:
    ours, theirs = (load_network(path).state_dict() for path in (found, expected))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.fixture(scope="session")
def undisturbed(demo_data, tmp_path_factory):
    """Six uninterrupted iterations, for a number of processes."""
    folders = {}

    def make(processes: int) -> Path:
        if processes not in folders:
            folders[processes] = tmp_path_factory.mktemp("undisturbed")
            flags = flags_of(demo_data, folders[processes], *SIX)
            ForkedScript(folders[processes] / "log", "train", *flags, processes=processes).finish()
        return folders[processes]

    return make


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 1), (1, 3), (2, 1), (2, 0), (2, 3)])
def test_a_killed_run_goes_on_bit_for_bit(processes, workers, undisturbed, fork, demo_data, tmp_path):
    flags = flags_of(demo_data, tmp_path, *SIX, "--num_workers", workers)
    run = fork(flags, processes)
    run.until((tmp_path / "x_s3/checkpoint_0000003.pth").exists)
    run.kill()
    assert not (tmp_path / "x_s3.pth").exists()
    assert "resuming after 3 of 6 iterations" in fork(flags, processes).finish()
    assert_same_run(tmp_path, undisturbed(processes))


@pytest.mark.parametrize(
    ("stage", "workers"), [(3, (0, 2)), *[pytest.param(n, (0, 1, 2, 3), marks=pytest.mark.slow) for n in (0, 3)]]
)
def test_worker_processes_change_no_bit(stage, workers, run, tmp_path):
    for count in workers:
        assert run(tmp_path / f"{count}", "-i", 3, "-b", 1, "--num_workers", count, stage=stage) == 0
        assert_same_network(tmp_path / f"{count}/x_s{stage}.pth", tmp_path / f"0/x_s{stage}.pth")
        assert scalars(tmp_path / f"{count}", stage) == scalars(tmp_path / "0", stage)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on(fork, demo_data, tmp_path):
    flags = flags_of(demo_data, tmp_path, "-i", 400, "-b", 1, "--save_every", 1, "--keep", 400)
    run = fork(flags)
    run.until(checkpoint_of(tmp_path, 1).exists)
    assert run.kill(signal.SIGTERM) == [EXIT_STOPPED]
    stopped = int(re.search(r"stopped after (\d+) iterations", run.log.read_text())[1])
    assert checkpoint.read(checkpoint_of(tmp_path, stopped))["iteration"] == stopped
    run = fork(flags)
    run.until(lambda: f"resuming after {stopped} of 400" in run.log.read_text())


def gradients(folder: Path) -> list[torch.Tensor]:
    """The gradients of the first iteration, from Adam's first moment, which is a tenth of them."""
    state = checkpoint.read(checkpoint_of(folder, 1))["optimizer"]["state"]
    return [10 * state[number]["exp_avg"] for number in sorted(state)]


def test_a_batch_may_be_split_over_passes_and_processes(run, fork, demo_data, tmp_path):
    assert run(tmp_path / "whole", "-i", 1, "-b", 2) == 0
    assert run(tmp_path / "passes", "-i", 1, "-b", 1, "--accumulate", 2) == 0
    fork(flags_of(demo_data, tmp_path / "processes", "-i", 1, "-b", 1), processes=2).finish()
    for way in ("passes", "processes"):
        for found, expected in zip(gradients(tmp_path / way), gradients(tmp_path / "whole"), strict=True):
            # where rounding changes the sign of a ReLU's input, single entries differ by a few thousandths of the largest
            assert (found - expected).norm() <= 5e-3 * expected.norm() + 1e-8


def test_gradients_are_clipped_to_the_norm_that_is_given(run, one, tmp_path):
    assert run(tmp_path, "-i", 1, "-b", 1, "--clip_grad", 0.1) == 0
    clipped, whole = (torch.cat([gradient.flatten() for gradient in gradients(folder)]) for folder in (tmp_path, one))
    assert whole.norm() > 0.2
    torch.testing.assert_close(clipped, whole * 0.1 / whole.norm(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("stage", [0, 1, pytest.param(2, marks=pytest.mark.slow), 3])
def test_every_stage_trains_and_logs(stage, run, tmp_path, capsys):
    assert run(tmp_path, "-i", 1, "-b", 2, "--image_every", 1, stage=stage) == 0
    logged = scalars(tmp_path, stage)
    slots = 1 if stage == 0 else 2
    names = {"loss/frame_1", "loss/frame_2", "loss/total", "gradient_norm", "learning_rate", "max_skip", "kept_pixels"}
    assert names <= logged.keys()
    assert f"iou/object_{slots}" in logged
    assert f"iou/object_{slots + 1}" not in logged
    events = EventAccumulator(str(tmp_path / f"x_s{stage}/log"))
    events.Reload()
    assert events.Tags()["images"] == ["samples"]
    filter_of_others = load_network(tmp_path / f"x_s{stage}.pth").value_encoder.stages.conv1.weight[:, 4:]
    assert bool(filter_of_others.any()) == (stage > 0)
    assert f"stage {stage} on " in capsys.readouterr().out


def test_a_stage_can_be_checked_without_training(run, tmp_path, capsys):
    assert run(tmp_path, "--check", "--load_network", tmp_path / "not yet.pth") == 0
    assert "stage 3 on " in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert run(tmp_path, "--check", "--bl_root", tmp_path / "nowhere", stage=1) == 2
    assert "nowhere" in capsys.readouterr().err


def test_stages_that_get_the_same_flags_leave_out_the_data_of_one_another(run, demo_data, tmp_path, capsys):
    photos = shutil.copytree(demo_data / "static/ecssd", tmp_path / "portraits")
    same = ("--check", "--own_root", demo_data / "BL30K", "--photo_root", photos, "--mix", "BL30K=2", "portraits=3", "fss=0")
    assert run(tmp_path, *same, "--also_stages", 0, 3, stage=0) == 0
    out = capsys.readouterr().out
    assert "portraits" in out
    assert "x 3" in out
    assert "fss" not in out
    assert "BL30K" not in out
    assert run(tmp_path, *same, "--also_stages", 0, 3) == 0
    out = capsys.readouterr().out
    assert "x 2" in out
    assert "portraits" not in out
    assert run(tmp_path, *same, "portrait=3", "--also_stages", 0, 3) == 2
    assert "found portrait\n" in capsys.readouterr().err
    assert run(tmp_path, *same) == 2
    assert "--photo_root: expected stage 0, found 3" in capsys.readouterr().err


def test_it_learns(run, tmp_path):
    assert run(tmp_path, "-i", 14, "-b", 2, stage=0) == 0
    losses = [value for _, value in scalars(tmp_path, 0)["loss/total"]]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_a_finished_run_is_left_alone_and_refuses_other_arguments_with_what_differs(run, trained, capsys):
    before = (trained / "x_s3.pth").stat().st_mtime_ns
    assert run(trained, *FOUR) == 0
    assert "already finished, after 4 iterations" in capsys.readouterr().out
    assert (trained / "x_s3.pth").stat().st_mtime_ns == before
    assert run(trained, "-i", 4, "-b", 2, "--lr", 0.5, "--seed", 3, "--min_area", 0.2) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "min_area was 0.36, is 0.2" in error
    assert "lr was 0.001, is 0.5" in error
    assert "seed was 0, is 3" in error
    assert "samples an iteration was 1, is 2" in error
    assert run(trained, *FOUR, "--resume", "never") == 2
    assert "holds a run" in capsys.readouterr().err
    (trained / "x_s3").rename(trained / "elsewhere")
    assert run(trained, *FOUR) == 2
    assert f"{trained / 'x_s3.pth'}: already exists, but not the run it came from" in capsys.readouterr().err


def test_a_finished_run_is_extended_under_the_schedule_of_the_longer_run(run, tmp_path, capsys):
    flags = ("-b", 1, "--schedule", "cosine", "--steps")
    assert run(tmp_path, "-i", 1, *flags) == 0
    first = load_network(tmp_path / "x_s3.pth").state_dict()
    assert run(tmp_path, "-i", 2, *flags) == 0
    assert "resuming after 1 of 2 iterations" in capsys.readouterr().out
    assert scalars(tmp_path)["learning_rate"] == [(1, pytest.approx(1e-3)), (2, pytest.approx(5e-4))]
    then = load_network(tmp_path / "x_s3.pth").state_dict()
    assert not all(torch.equal(first[name], tensor) for name, tensor in then.items())
    assert run(tmp_path, "-i", 1, *flags) == 2
    assert "iterations was 2, is 1" in capsys.readouterr().err


def test_the_moving_average_of_the_weights_is_the_result_and_goes_on_bit_for_bit_like_means_of_figures(run, tmp_path):
    flags = ("-i", 3, "-b", 1, "--save_every", 1, "--keep", 9, "--ema", 0.75, "--log_every", 2)
    assert run(tmp_path, *flags) == 0
    found, logged = load_network(tmp_path / "x_s3.pth").state_dict(), scalars(tmp_path)
    assert [step for step, _ in logged["loss/total"]] == [2, 3]
    weights = [checkpoint.read(path)["network"] for path in reversed(checkpoints_in(tmp_path / "x_s3"))]
    for name, first in weights[0].items():
        if first.is_floating_point():
            expected = first
            for later in weights[1:]:
                expected = 0.75 * expected + 0.25 * later[name]
            torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-7)
    (tmp_path / "x_s3.pth").replace(tmp_path / "whole.pth")
    assert_same_network(checkpoint_of(tmp_path, 3), tmp_path / "whole.pth")
    for number in (2, 3):
        checkpoint_of(tmp_path, number).unlink()
    assert run(tmp_path, *flags) == 0
    assert_same_network(tmp_path / "x_s3.pth", tmp_path / "whole.pth")
    assert scalars(tmp_path) == logged


def test_weights_that_are_not_finite_are_not_saved_as_a_network(run, trained, capsys):
    content = torch.load(checkpoint_of(trained, 3), weights_only=True)
    for moments in content["optimizer"]["state"].values():
        moments["exp_avg"].fill_(3e38)
        moments["exp_avg_sq"].zero_()
    forget(trained, 3, 4)
    torch.save(content, checkpoint_of(trained, 3))
    assert run(trained, *FOUR) == EXIT_DIVERGED
    assert "weights are not finite at the end" in capsys.readouterr().out
    assert not (trained / "x_s3.pth").exists()


def test_a_damaged_checkpoint_is_passed_over(run, four, trained, capsys):
    forget(trained, 4)
    newest = checkpoint_of(trained, 4)
    newest.write_bytes(checkpoint_of(four, 4).read_bytes()[:1000])
    assert run(trained, *FOUR) == 0
    told = capsys.readouterr()
    assert f"warning: {newest}: expected a checkpoint" in told.err
    assert "resuming after 3 of 4" in told.out
    assert_same_network(trained / "x_s3.pth", four / "x_s3.pth")


def test_a_checkpoint_with_odd_content_is_one_line(run, trained, tmp_path, capsys):
    content = torch.load(checkpoint_of(trained, 3), weights_only=True)
    forget(trained, 4)
    odd = {"optimizer": "text", "scaler": None, "means": 7.5, "random_state": "text", "iteration": None}
    for entry, value in odd.items():
        torch.save(content | {entry: value}, tmp_path / "odd.pth")
        assert run(trained, *FOUR, "--resume", tmp_path / "odd.pth") == 2, entry
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {tmp_path / 'odd.pth'}: expected ")


def test_a_loss_that_is_not_finite_at_the_end_is_told(run, tmp_path, monkeypatch, capsys):
    losses = step.clip_losses
    monkeypatch.setattr(step, "clip_losses", lambda *arguments: losses(*arguments) * float("nan"))
    for _ in range(2):  # the second time, nothing is left to do
        assert run(tmp_path, "-i", 1, "-b", 1) == EXIT_DIVERGED
        assert "error: the loss was not finite in the last 1 iterations" in capsys.readouterr().out
    assert not (tmp_path / "x_s3.pth").exists()


@pytest.mark.parametrize(("name", "folder"), [("train", "x_s3"), ("train_scribble", "x")])
def test_a_log_is_not_written_through_a_link(name, folder, script, demo_data, tmp_path, capsys):
    (tmp_path / "saves" / folder).mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "saves" / folder / "log").symlink_to(tmp_path / "mine")
    flags = ("--davis_root", demo_data / "DAVIS/2017", "--yv_root", "none", "--no_pretrained", "--device", "cpu")
    stage = ("--stage", 3) if name == "train" else ()
    assert script(name, "--id", "x", "--save_dir", tmp_path / "saves", *stage, "-i", 1, "-b", 1, *flags) == 2
    assert "expected a plain name, inside" in capsys.readouterr().err
    assert not [*(tmp_path / "mine").iterdir()]


def test_a_later_stage_draws_the_filter_that_stage_0_had_no_use_for(run, tmp_path, capsys):
    assert run(tmp_path, "-i", 1, "-b", 1, stage=0) == 0
    filters = []
    for _ in range(2):
        network = load_network(tmp_path / "x_s0.pth")
        assert not network.value_encoder.stages.conv1.weight[:, 4:].any()
        prepare_others_filter(network, stage=3, seed=0)
        filters.append(network.value_encoder.stages.conv1.weight[:, 4:].detach().clone())
    drawn = filters[0].flatten(1)
    torch.testing.assert_close(drawn.T @ drawn, torch.eye(49), atol=1e-5, rtol=0)
    assert torch.equal(*filters)
    assert run(tmp_path, "-i", 1, "-b", 1, "--after", 0, "--lr", 1e-6) == 0
    kept = load_network(tmp_path / "x_s3.pth")
    before = kept.value_encoder.stages.conv1.weight[:, 4:].detach().clone()
    torch.testing.assert_close(before, filters[0], atol=1e-5, rtol=0)
    prepare_others_filter(kept, stage=2, seed=5)
    assert torch.equal(kept.value_encoder.stages.conv1.weight[:, 4:], before)
    flags = ("--load_model", tmp_path / "x_s0/checkpoint_0000001.pth", "-b", 1)  # which takes the optimiser's state too
    assert run(tmp_path / "other", "-i", 1, *flags) == 2
    assert "has done 1 iterations of 1 already" in capsys.readouterr().err
    assert run(tmp_path / "other", "-i", 2, *flags, "--lr", 1e-6, "--steps", 1) == 0
    assert "resuming after 1 of 2" in capsys.readouterr().out
    assert scalars(tmp_path / "other")["learning_rate"] == [(2, pytest.approx(1e-7))]
    assert load_network(tmp_path / "other/x_s3.pth").value_encoder.stages.conv1.weight[:, 4:].any()


def test_without_imagenet_batch_norm_gets_the_statistics_of_data(one):
    network = build_light_network()
    clips = [
        (torch.randn(2, 3, 3, 32, 32) + 2, torch.zeros(2, 1, 32, 32), torch.ones(2, 1, dtype=torch.bool)) for _ in range(3)
    ]
    network.set_statistics(clips)
    frames = torch.cat([clip[0].flatten(0, 1) for clip in clips])
    stages = network.key_encoder.stages
    features = torch.nn.functional.conv2d(frames, stages.conv1.weight, stride=2, padding=3)
    torch.testing.assert_close(stages.bn1.running_mean, features.mean(dim=(0, 2, 3)), atol=1e-3, rtol=1e-3)
    assert not stages.bn1.training
    assert stages.bn1.momentum == 0.1
    assert load_network(one / "x_s3.pth").key_encoder.stages.bn1.running_mean.abs().max() > 0.01


def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_weights(run, tmp_path, monkeypatch, capsys):
    calls = []

    def losses(*arguments):
        calls.append(1)
        return real(*arguments) * (1.0 if len(calls) <= 2 else float("nan"))

    real = step.clip_losses
    monkeypatch.setattr(step, "clip_losses", losses)
    monkeypatch.setattr("training.loop.NONFINITE_LIMIT", 3)
    assert run(tmp_path, "-i", 40, "-b", 1, "--save_every", 2, stage=0) == EXIT_DIVERGED
    assert len(calls) == 5
    newest, *_, oldest = checkpoints_in(tmp_path / "x_s0")
    told = capsys.readouterr().out
    assert "not finite in 3 iterations in a row" in told
    assert f"the last good checkpoint: {oldest}" in told
    assert "/static/" in told.splitlines()[-1]
    before, after = (checkpoint.read(path)["network"] for path in (oldest, newest))
    assert oldest.name == "checkpoint_0000002.pth"
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_samples_that_cannot_be_used_are_reported_at_the_end(run, demo_data, tmp_path, capsys, monkeypatch):
    real = train.Draws.__getitem__
    monkeypatch.setattr(
        train.Draws, "__getitem__", lambda self, draw: real(self, draw)._replace(problems=("a.jpg: cannot read",))
    )
    assert run(tmp_path, "-i", 1, "-b", 2, stage=0) == 0
    assert "1 samples could not be used and were replaced:\n  a.jpg: cannot read" in capsys.readouterr().out


def test_a_run_ends_when_too_many_samples_cannot_be_used_and_names_each_once(run, tmp_path, capsys, monkeypatch):
    real, drawn = train.Draws.__getitem__, itertools.count()
    monkeypatch.setattr("training.journal.PROBLEM_LIMIT", 3)
    monkeypatch.setattr(
        train.Draws, "__getitem__", lambda self, draw: real(self, draw)._replace(problems=(f"{next(drawn) // 2}.jpg: broken",))
    )
    assert run(tmp_path, "-i", 9, "-b", 2, "--num_workers", 0, stage=0) == 2
    told = capsys.readouterr().err
    assert "error: more than 3 samples could not be used; they are named above" in told
    named = re.findall(r"warning: (\d+).jpg: broken", told)
    assert len(named) == len(set(named)) == 4


def test_scores_are_logged_as_it_trains_and_the_best_network_is_kept(run, tiny_davis, tmp_path):
    assert run(tmp_path, "-i", 2, "-b", 1, "--val_every", 1, "--davis_root", tiny_davis, "--yv_root", "none") == 0
    scores = scalars(tmp_path)["validation/J&F"]
    assert [step for step, _ in scores] == [1, 2]
    assert all(0 <= score <= 1 for _, score in scores)
    load_network(tmp_path / "x_s3/best.pth")
    assert checkpoint.read(checkpoint_of(tmp_path, 2))["best"] == pytest.approx(max(s for _, s in scores))


@pytest.mark.slow
def test_two_processes_find_the_same_score_and_go_on_after_a_video_that_cannot_be_read(fork, demo_data, short_davis, tmp_path):
    davis = shutil.copytree(short_davis, tmp_path / "DAVIS")
    flags = flags_of(demo_data, tmp_path, "-i", 2, "-b", 1, "--val_every", 1, "--davis_root", davis, "--yv_root", "none")
    fork(flags, processes=2).finish()
    (one, first), (two, _) = scalars(tmp_path)["validation/J&F"]
    assert (one, two) == (1, 2)
    assert 0 <= first <= 1
    broken = next((davis / "trainval/JPEGImages/480p/val1").iterdir())
    broken.write_bytes(broken.read_bytes()[:500])
    more = [str(tmp_path / "more") if word == str(tmp_path) else word for word in flags]
    assert "warning: no validation: " in fork(more, processes=2).finish()
    assert "validation/J&F" not in scalars(tmp_path / "more")
    assert (tmp_path / "more/x_s3.pth").exists()


@pytest.fixture
def own_data(tiny_davis, tmp_path) -> Path:
    """A video of four frames with masks of the first and the last."""
    root = tmp_path / "own"
    for part, frames in (("JPEGImages", "0123"), ("Annotations", "03")):
        for path in (tiny_davis / part / "480p").glob(f"*/0000[{frames}].*"):
            (root / part / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / part / path.parent.name)
    return root


def test_own_videos_give_scores_as_it_trains_and_choose_the_best_network(run, own_data, script, tmp_path, monkeypatch, capsys):
    assert eval_youtube.parser().get_default("size") == train.OWN_SIZE
    monkeypatch.setattr(train, "OWN_SIZE", 64)
    assert run(tmp_path / "out", "-i", 2, "-b", 1, "--val_root", own_data) == 0
    ((step, score),) = scalars(tmp_path / "out")["validation/J&F"]
    assert step == 2
    best, results = tmp_path / "out/x_s3/best.pth", tmp_path / "results"
    out = capsys.readouterr().out
    assert f"J&F after 2 iterations: {100 * score:.1f}" in out
    assert f"best by validation, with J&F {100 * score:.1f}: {best}" in out
    flags = ("--model", best, "--output", results, "--amp", "off", "--size", 64)
    assert script("eval_youtube", "--yv_path", own_data, *flags) == 0
    assert script("score", "--yv_path", own_data, "--results", results) == 0
    assert json.loads((results / "scores.json").read_text())["global"]["J&F"] == pytest.approx(score, abs=1e-3)
    last = max((own_data / "Annotations").glob("*/*.png"))
    labels = read_label_map(last).labels
    labels[: len(labels) // 2] = 0
    labels[-9:, :9] = 1
    write_label_map(last, labels, None)
    assert run(tmp_path / "out", "-i", 3, "-b", 1, "--val_root", own_data) == 0
    assert f"validation: other videos than before, so {best} begins anew" in capsys.readouterr().out
    score = dict(scalars(tmp_path / "out")["validation/J&F"])[3]
    assert checkpoint.read(checkpoint_of(tmp_path / "out", 3))["best"] == pytest.approx(score)
    assert run(tmp_path / "out", "-i", 2, "-b", 1, "--val_root", own_data, "--own_root", own_data) == 2
    assert "is trained on (--own_root)" in capsys.readouterr().err
    for path in [path for path in (own_data / "Annotations").glob("*/*.png") if path.stem != "00000"]:
        path.unlink()
    assert run(tmp_path / "none", "-b", 1, "--val_root", own_data) == 2
    assert "expected masks after an object's first" in capsys.readouterr().err


def test_fine_tuning_has_defaults_of_its_own_that_flags_override(light_file, own_data, script, tmp_path, monkeypatch, capsys):
    def parsed(*flags: object):
        monkeypatch.setattr(sys, "argv", ["train.py", "--id", "x", *map(str, flags)])
        return train.parse(train.parser())

    found = parsed("--finetune", light_file, "--batch_size", 2, "--lr", 0.5)
    expected = {**FINETUNING, "batch_size": 2, "lr": 0.5, "load_network": str(light_file)}
    assert {name: getattr(found, name) for name in expected} == expected
    assert parsed("--load_network", light_file).schedule == "step"
    with pytest.raises(train.InputError, match="--finetune: cannot be combined with --load_network"):
        parsed("--finetune", light_file, "--load_network", light_file)
    with pytest.raises(train.InputError, match="or --after"):
        parsed("--finetune", light_file, "--after", 0)
    flags = ("--own_root", own_data, "-i", 1, "-b", 1, "--crop", 64, "--num_workers", 0, "--device", "cpu")
    assert script("train", "--id", "x", "--save_dir", tmp_path, "--finetune", light_file, *flags) == 0
    assert "stage 3 on own (1 x 5)" in capsys.readouterr().out
    tuned, before = (load_network(path).state_dict() for path in (tmp_path / "x_s3.pth", light_file))
    assert max((tuned[name] - tensor).abs().max() for name, tensor in before.items()) == pytest.approx(1e-5, rel=0.1)


def test_learning_rates():
    def rates(*flags: str) -> list[float]:
        config = train.complete(train.parser().parse_args(["--id", "x", *flags]), world=1)
        return [config.learning_rate(config.lr, i) for i in (0, 149_999, 150_000, 299_999)]

    assert rates() == pytest.approx([1e-5, 1e-5, 1e-6, 1e-6])
    assert rates("--steps", "10", "150000", "--gamma", "0.5", "--lr", "8") == pytest.approx([8, 4, 2, 2])
    assert rates("--steps") == pytest.approx([1e-5] * 4)
    cosine = rates("--schedule", "cosine")
    assert cosine[0] == pytest.approx(1e-5)
    assert cosine[2] == pytest.approx(5e-6)
    assert cosine[3] < 1e-12


def test_encoders_may_have_a_learning_rate_of_their_own():
    network = build_light_network()
    arguments = train.parser().parse_args(["--id", "x", "--lr", "1", "--encoder_lr", "0.5", "--optimizer", "adamw"])
    optimizer = train.make_optimizer(network, train.complete(arguments, world=1))
    assert isinstance(optimizer, torch.optim.AdamW)
    by_rate = {group["base_lr"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}
    assert id(network.value_encoder.stages.conv1.weight) in by_rate[0.5]
    assert id(network.key_encoder.projection.weight) in by_rate[1.0]
    assert sum(map(len, by_rate.values())) == len(list(network.parameters()))


@pytest.mark.parametrize(("world", "accumulate", "stage", "batch"), [(1, 1, 0, 16), (2, 1, 0, 8), (2, 2, 3, 2), (8, 1, 1, 1)])
def test_the_batch_is_the_papers_over_all_processes(world, accumulate, stage, batch):
    arguments = train.parser().parse_args(["--id", "x", "--stage", str(stage), "--accumulate", str(accumulate)])
    assert train.complete(arguments, world).batch_size == batch


def test_bad_arguments_are_told_before_anything_is_written(run, tmp_path, capsys):
    def told(*flags: object, stage: int = 3) -> str:
        assert run(tmp_path / "out", *flags, stage=stage) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err.splitlines()[-1]

    for name in ("../x", "/tmp/x", "a/b", ""):
        assert "error: --id: expected a plain name" in told("-i", 1, "-b", 1, "--id", name)
    assert "--crop: expected a multiple of 16, found 60" in told("--crop", 60)
    assert "expected at least one of fss" in told("--static_root", tmp_path / "none", stage=0)
    assert "value_dim: expected a multiple of 16, found 33" in told("-b", 1, "--value_dim", 33)
    assert "none.pth: no such checkpoint" in told("-b", 1, "--load_network", tmp_path / "none.pth")
    assert "--lr: expected a number above 0, at most 1e+06, found '-1'" in told("--lr", -1)
    assert "--ema: expected a number from 0 to 0.999999, found '1'" in told("--ema", 1)
    assert "--batch_size: stage 3 has 8 samples" in told("--accumulate", 3)
    assert "--amp_dtype: float16 needs CUDA" in told("-b", 1, "--amp_dtype", "float16")
    save_network(build_light_network(), tmp_path / "net.pth")
    other = told("-b", 1, "--load_network", tmp_path / "net.pth", "--similarity", "dot")
    assert "--similarity dot: the network to start from has l2" in other
    assert "expected a training checkpoint" in told("-b", 1, "--resume", tmp_path / "net.pth")
    assert "expected a training checkpoint" in told("-b", 1, "--load_model", tmp_path / "net.pth")


def test_a_released_training_checkpoint_goes_on(released_state, tmp_path):
    """Adam numbers parameters in the order of the released network, whose value ResNet has biases that ours lacks."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = [name for name in released_state if not name.endswith(buffers)]
    state = {
        number: {"step": 7, "exp_avg": released_state[name] + 1, "exp_avg_sq": released_state[name].abs()}
        for number, name in enumerate(parameters)
    }
    content = {
        "it": 7,
        "network": released_state,
        "optimizer": {"state": state, "param_groups": [{"params": list(range(len(parameters)))}]},
        "scheduler": {},
    }
    torch.save(content, tmp_path / "x_checkpoint.pth")
    arguments = train.parser().parse_args(["--id", "x", "-i", "9", "--load_model", str(tmp_path / "x_checkpoint.pth")])
    found = train.find_start(arguments, tmp_path / "x_s3", {}, train.Processes())
    assert found.iteration == 7
    optimizer = train.make_optimizer(found.network, train.complete(arguments, world=1))
    holder = train.State(found.network, None, optimizer, None, None)
    holder.load(found.content, same_run=found.same_run)
    released = to_released(found.network.state_dict())
    encoders = ("value_encoder.conv1.weight", "key_encoder.layer2.0.bn1.weight")
    for name in ("key_proj.key_proj.weight", "decoder.pred.bias", *encoders):
        (ours,) = from_released({name: released[name]})
        moments = optimizer.state[dict(found.network.named_parameters())[ours]]
        assert torch.equal(moments["exp_avg"], released_state[name] + 1)
        assert moments["step"] == 7
    assert len(optimizer.state) == len(list(found.network.parameters()))


def test_moments_are_taken_up_in_the_layout_of_the_weights(light_network, tmp_path):
    """The fused optimiser walks through memory; files of runs on a GPU in float32, and the released ones, are contiguous."""
    config = train.complete(train.parser().parse_args(["--id", "x", "-i", "9"]), world=1)
    weights = []
    for fused in (True, False):
        network = copy.deepcopy(light_network).to(memory_format=torch.channels_last)
        optimizer = train.make_optimizer(network, config)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        chosen = torch.Generator().manual_seed(0)
        moments = {
            number: {
                "step": torch.tensor(7.0),
                "exp_avg": torch.randn(parameter.shape, generator=chosen),
                "exp_avg_sq": torch.rand(parameter.shape, generator=chosen),
            }
            for number, parameter in enumerate(parameters)
        }
        content = {"format": "stcn", "optimizer": {"state": moments}, "amp_dtype": "None", "scaler": {}}
        means = train.RunningMeans((), train.Processes())
        train.State(network, None, optimizer, torch.amp.GradScaler("cpu", enabled=False), means).load(content, same_run=False)
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = fused, False
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        weights.append(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    torch.testing.assert_close(*weights)


def test_flags_of_the_network_and_of_how_it_computes_under_an_id_with_a_dot(run, tmp_path):
    was = torch.are_deterministic_algorithms_enabled()
    flags = ("--benchmark", "--deterministic", "--amp_dtype", "bfloat16", "--no_amp", "--no_attention", "--id", "v1.5")
    try:
        assert run(tmp_path, "-i", 1, "-b", 1, *flags) == 0
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(was)
        torch.backends.cudnn.benchmark = False
    assert checkpoint.read(tmp_path / "v1.5_s3/checkpoint_0000001.pth")["amp_dtype"] == "None"
    assert not load_network(tmp_path / "v1.5_s3.pth").config.attention


def test_the_cpu_trains_in_bfloat16_where_asked(run, one, tmp_path):
    assert run(tmp_path, "-i", 1, "-b", 1, "--amp_dtype", "bfloat16") == 0
    full, mixed = (scalars(folder)["loss/total"][0][1] for folder in (one, tmp_path))
    assert full != mixed == pytest.approx(full, rel=0.02)


def test_newer_checkpoints_are_set_aside_the_newest_kept_and_files_that_are_only_called_like_them(run, four, trained):
    folder, own = trained / "x_s3", ["checkpoint_best.pth", ".checkpoint_notes.txt", "checkpoint_1.pth"]
    for name in own:
        (folder / name).write_text("precious")
    (folder / ".checkpoint_0000001.pth.0123abcd").write_text("left by a crash")
    assert run(trained, *FOUR, "--keep", 2, "--resume", checkpoint_of(trained, 2)) == 0
    assert checkpoints_in(folder) == [checkpoint_of(trained, 4), checkpoint_of(trained, 3)]
    assert len(list(folder.glob("*.set_aside"))) == 2
    assert [(folder / name).read_text() for name in own] == ["precious"] * 3
    assert not list(folder.glob(".checkpoint_0*"))
    assert_same_network(trained / "x_s3.pth", four / "x_s3.pth")
