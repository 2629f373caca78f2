"""Multi-scale, flip and ensemble: every view is a plain segmentation, and the result is their mean."""

import json

import numpy as np
import pytest
import torch
from conftest import build_light_network, run_script, write_davis, write_video

from evaluation.run import segmenter_of
from model import VideoSegmenter
from model.views import MultiViewSegmenter, View
from util.errors import InputError
from util.label_map import resize_labels
from util.tensors import normalise, resize_image, resize_probabilities, shorter_side_size

SIZE = (60, 90)


@pytest.fixture
def video():
    """Six frames; objects 7 and 3 enter at the first, object 1 at the fourth."""
    rng = np.random.default_rng(0)
    first, later = np.zeros((2, *SIZE), dtype=np.uint8)
    first[5:30, 5:40], first[30:55, 30:80] = 7, 3
    later[0:25, 60:85] = 1
    return rng.integers(0, 256, (6, *SIZE, 3), dtype=np.uint8), {0: first, 3: later}


def one_view(network, size, flip, frames, masks) -> list[np.ndarray]:
    """Probabilities of each frame by one segmenter; resized and flipped by hand, in this order, before and after."""
    segmenter, results = VideoSegmenter(network, memory_every=2), []
    working = shorter_side_size(*SIZE, size)
    for t, frame in enumerate(frames):
        image = resize_image(normalise(torch.from_numpy(frame)), working)
        mask = resize_labels(masks[t], working) if t in masks else None
        if flip:
            image, mask = image.flip(2), None if mask is None else np.fliplr(mask)
        found = segmenter.step(image, mask)
        results.append(resize_probabilities(found.flip(2) if flip else found, SIZE).numpy())
    return results


def test_the_result_is_the_mean_of_the_views(video):
    frames, masks = video
    networks = [build_light_network(seed) for seed in (0, 1)]
    alone = [one_view(n, size, flip, frames, masks) for n in networks for size in (48, 64) for flip in (False, True)]
    segmenter = segmenter_of(networks, [48, 64], True, memory_every=2)()
    assert isinstance(segmenter, MultiViewSegmenter)
    for t, frame in enumerate(frames):
        found = segmenter.step(frame.transpose(2, 0, 1) if t % 2 else frame, masks.get(t))
        np.testing.assert_allclose(found, np.mean([of_view[t] for of_view in alone], axis=0), atol=1e-5)
        labels = segmenter.to_labels(found)
    assert segmenter.object_ids == [3, 7, 1]
    assert set(labels.unique().tolist()) <= {0, 1, 3, 7}


def test_a_single_view_is_a_plain_segmenter():
    assert isinstance(segmenter_of([build_light_network()], None, False, size=48)(), VideoSegmenter)
    assert segmenter_of([build_light_network()], [64], False, size=48)().size == 64


def test_the_kernel_goes_by_the_size(video):
    networks = [build_light_network()]
    kernels = {"none": [False, False], "large": [False, True], "all": [True, True]}
    for kernel, expected in kernels.items():
        segmenter = segmenter_of(networks, [480, 600], False, kernel)()
        assert [one.bank.kernel for one in segmenter._views] == expected
    assert segmenter_of(networks, None, False, "large", size=600)().bank.kernel
    with pytest.raises(InputError, match="--kernel: is for sizes above 480, of which there is none"):
        segmenter_of(networks, None, False, "large", size=480)
    with pytest.raises(InputError, match="--kernel large: goes by the size"):
        segmenter_of(networks, None, False, "large")
    stm = segmenter_of([build_light_network(arch="stm")], [48], False, "all")()
    frames, masks = video
    for t in (0, 1):
        assert stm.step(frames[t], masks.get(t)).shape == (3, *SIZE)
    assert all(bank.kernel for bank in stm.bank._banks)


def test_frames_that_nobody_wants_give_nothing(video):
    frames, masks = video
    segmenter = MultiViewSegmenter([View(build_light_network(), 48, flip) for flip in (False, True)])
    assert segmenter.step(frames[0], masks[0], False) is None
    assert segmenter.step(frames[1], None, False) is None
    assert segmenter.step(frames[2]).shape == (3, *SIZE)


def test_without_views_there_is_no_segmenter():
    with pytest.raises(ValueError, match="views: expected at least 1, found 0"):
        MultiViewSegmenter([])


def test_both_scripts_take_sizes_flips_and_several_networks(tmp_path, light_file, capsys):
    labels = np.zeros((6, *SIZE), dtype=np.uint8)
    labels[:, 10:40, 10:50] = 1
    own = tmp_path / "own"
    write_video(own / "JPEGImages/a", own / "Annotations/a", [labels[0], *[None] * 5])
    flags = ["--model", light_file, light_file, "--sizes", 48, 64, "--flip", "--kernel", "all", "--device", "cpu"]
    assert run_script("eval_youtube", "--yv_path", own, "--output", tmp_path / "y", *flags) == 0
    settings = json.loads((tmp_path / "y/run.json").read_text())["settings"]
    assert (settings["sizes"], settings["flip"], settings["kernel"]) == ([48, 64], True, "all")
    assert len(settings["model"].split()) == 2
    assert run_script("eval_youtube", "--yv_path", own, "--output", tmp_path / "y", *flags[:3], "--sizes", 48) == 2
    assert "sizes was [48, 64], is [48]" in capsys.readouterr().err

    davis = write_davis(tmp_path / "DAVIS", {"a": list(labels)})
    assert run_script("eval_davis", "--davis_path", davis, "--output", tmp_path / "d", *flags) == 0
    assert "J&F-Mean" in capsys.readouterr().out
