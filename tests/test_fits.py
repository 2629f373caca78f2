"""The estimate of a video's memory against what is taken, and what happens when it is more than there is."""

import functools
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_light_network, write_davis, write_video
from films import square, write_folder

from annotation.session import Session
from annotation.worker import Worker
from dataset.frame_folder import FrameFolder
from evaluation.fits import WAYS, Claims, refuse_too_large
from model import VideoSegmenter
from model.views import MultiViewSegmenter, View
from scripts.benchmark.made_up import made_up_frame, made_up_mask
from scripts.benchmark.videos import VideoJob, in_own_process
from util import device
from util.device import available_memory
from util.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("arch", "options", "objects", "frames"),
    [
        ("stcn", {}, 1, 41),
        ("stm", {"memory_every": 1}, 5, 18),
        ("stcn", {"max_memory_frames": 3, "memory_every": 1}, 2, 12),
        ("stm", {"include_last": True}, 2, 22),
        ("stcn", {"size": 32}, 3, 12),
    ],
    ids=str,
)
def test_the_memory_bank_is_as_large_as_estimated(arch, options, objects, frames):
    size = (48, 70)
    network = build_light_network(arch=arch).for_inference()
    segmenter = VideoSegmenter(network, **options)
    expected = segmenter.footprint(size, objects=objects, frames=frames, given=1).bank
    segmenter.step(made_up_frame(size), made_up_mask(size, range(1, 1 + objects)))
    for _ in range(frames - 1):
        segmenter.step(made_up_frame(size))
    state = segmenter.bank.state_dict()
    banks = state.get("objects", [state])
    slabs = [slab for bank in banks for slab in bank["slabs"]]
    stored = [tensor for slab in slabs for tensor in (slab["keys"], *slab["values"].values())]
    found = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    slab = expected * len(banks) / len(slabs)
    assert found - slab <= expected <= 1.01 * (found + slab)  # the last frame is not remembered; one slab may be begun


@pytest.mark.slow
@pytest.mark.parametrize(("size", "objects", "frames"), [((480, 854), 1, 3), ((240, 432), 100, 3)])
def test_peak_memory_is_as_estimated_within_a_factor_of_two(size, objects, frames, light_file, light_network):
    expected = VideoSegmenter(light_network.for_inference()).footprint(size, objects=objects, frames=frames).total
    job = VideoJob("ours", str(light_file), size, frames, objects, 0, None, False, "cpu", 1)
    measured = max(in_own_process(job).peak_bytes)
    assert measured > 2**24  # enough to tell it from what libraries take
    assert expected / 2 < measured < 2 * expected


def test_the_value_encoder_takes_many_objects_in_parts(light_network):
    generator = torch.Generator().manual_seed(0)
    image, masks = torch.randn(1, 3, 32, 48, generator=generator), torch.rand(1, 19, 32, 48, generator=generator)
    fast = light_network.for_inference()
    with torch.inference_mode():
        _, found = fast.memorise(image, masks, fast.encode_key(image))
        _, expected = light_network.memorise(image, masks, light_network.encode_key(image))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture
def little_memory(monkeypatch):
    """Makes so many bytes available."""
    return lambda there: monkeypatch.setattr("evaluation.fits.available_memory", lambda _: there)


def test_the_first_flag_that_helps_is_advised(light_network, little_memory):
    segmenter = VideoSegmenter(light_network.for_inference())
    video = {"objects": 3, "frames": 10_000, "given": 1}
    needs = {flags: segmenter.footprint((1080, 1920), **(video | changes)).total for flags, changes in WAYS.items()}
    advised = set()
    for needed in needs.values():
        little_memory(needed)
        first = next(flags for flags in WAYS if needs[flags] <= needed)
        with pytest.raises(InputError, match=f"; {first} would fit, --check_memory off tries") as caught:
            refuse_too_large(segmenter, (1080, 1920), **video)
        advised.add(first)
        assert "10000 frames of 1080x1920 with 3 objects need about" in str(caught.value)
    assert len(advised) >= 3
    little_memory(10)
    with pytest.raises(InputError, match="fewer objects or a smaller video would fit"):
        refuse_too_large(segmenter, (1080, 1920), **video)
    little_memory(None)  # the system does not say
    refuse_too_large(segmenter, (1080, 1920), **video)


def test_each_view_has_a_memory_and_one_at_a_time_computes(light_network):
    network = light_network.for_inference()
    parts = [VideoSegmenter(network, size=size).footprint((64, 64), objects=2, frames=50, given=1) for size in (32, 64)]
    both = MultiViewSegmenter([View(network, 32), View(network, 64)]).footprint((64, 64), objects=2, frames=50, given=1)
    assert both.bank == sum(part.bank for part in parts)
    assert both.frame == max(part.frame for part in parts)


def test_a_video_that_does_not_fit_fails_alone(light_file, light_network, script, little_memory, tmp_path, capsys):
    sizes = {"large": (160, 240), "small": (32, 48)}
    root = write_davis(tmp_path / "DAVIS", {name: [square((8, 8), size=size)] * 3 for name, size in sizes.items()})
    segmenter = VideoSegmenter(light_network.for_inference())
    little_memory(segmenter.footprint(sizes["large"], objects=1, frames=3).total - 1)
    out = tmp_path / "out"
    flags = ("--model", light_file, "--davis_path", root, "--output", out, "--device", "cpu", "--amp", "off")
    assert script("eval_davis", *flags) == 1
    assert "failed: large: 3 frames of 160x240 with 1 object need about 0.0 GiB" in capsys.readouterr().out
    assert {path.parent.name for path in out.rglob("*.png")} == {"small"}
    assert script("eval_davis", *flags, "--check_memory", "off") == 0
    assert {path.parent.name for path in out.rglob("*.png")} == {"small", "large"}


def test_the_script_for_a_video_refuses_before_it_writes(light_file, script, little_memory, tmp_path, capsys):
    folder, mask = tmp_path / "frames", np.zeros((48, 64), np.uint8)
    mask[8:30, 8:30] = 1
    write_video(folder, tmp_path / "masks", [mask, None, None])
    little_memory(1000)
    out = tmp_path / "out"
    flags = (folder, "--mask", tmp_path / "masks/00000.png", "--model", light_file, "--output", out, "--device", "cpu")
    assert script("segment_video", *flags) == 2
    error = capsys.readouterr().err
    note, refusal = error.splitlines()
    assert note.startswith("note: frames are enlarged")
    assert refusal.startswith("error: 3 frames of 48x64 with 1 object need about")
    assert not out.exists()
    assert script("segment_video", *flags, "--check_memory", "off") == 0


def test_the_page_tells_that_a_video_does_not_fit(light_network, little_memory, tmp_path):
    session = Session(tmp_path / "out", FrameFolder(write_folder(tmp_path / "frames", 4)), "frames")
    session.add_object("dog")
    session.give(0, square((4, 4)))
    little_memory(1000)
    make = functools.partial(VideoSegmenter, light_network.for_inference())
    for check, failed in ((True, True), (False, False)):
        worker = Worker(session, make, check_memory=check)
        worker.start("follow", worker.follow)
        while worker.job.running:
            time.sleep(0.01)
        assert worker.job.failed == failed
        assert ("need about" in worker.job.message) == failed


def test_what_is_followed_at_once_must_fit_together(light_network, little_memory):
    segmenter = VideoSegmenter(light_network.for_inference())
    video = {"objects": 1, "frames": 100, "given": 1}
    needed = segmenter.footprint((96, 160), **video).total
    claims, refuse = Claims(), functools.partial(refuse_too_large, segmenter, (96, 160), **video)
    little_memory(2 * needed)
    claims.claim("one", [lambda claims: refuse(claims=claims)])
    little_memory(2 * needed - 10)  # of which the first has taken 10
    claims.claim("two", [lambda claims: refuse(claims=claims)])
    with pytest.raises(InputError, match=r"0\.0 GiB are available"):
        claims.claim("three", [lambda claims: refuse(claims=claims)])
    claims.drop("one")
    claims.claim("three", [lambda claims: refuse(claims=claims)])


def test_a_control_group_may_leave_less_than_the_machine_has(monkeypatch):
    files = {
        "/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
        "/sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 1000\n",
        "/sys/fs/cgroup/memory.current": "3000\n",
        "/sys/fs/cgroup/memory.max": "max\n",
    }
    monkeypatch.setattr(device.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 9000, "SC_PAGE_SIZE": 1024}[name])
    monkeypatch.setattr(device.Path, "read_text", lambda path: files[str(path)])
    assert available_memory(CPU) == 8000 * 1024
    files["/sys/fs/cgroup/memory.max"] = "10000\n"
    assert available_memory(CPU) == 8000
    files["/sys/fs/cgroup/memory.max"] = "1500\n"
    assert available_memory(CPU) == 0


def test_this_machine_says_how_much_memory_is_available():
    if not Path("/proc/meminfo").exists():
        pytest.skip("only Linux says how much memory is available")
    there = available_memory(CPU)
    assert there is not None
    assert 2**24 < there < 2**46
