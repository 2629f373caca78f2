"""Masks carried through a part of a video, and how sure the results are."""

import shutil

import numpy as np
import pytest
import torch
from films import noise, square, write_film
from PIL import Image

from dataset.video_file import FrameFolder, VideoFile
from evaluation.propagate import Propagation
from evaluation.sureness import EDGE, agreement, edge_margin
from model import VideoSegmenter

LENGTH = 10


@pytest.fixture
def video(tmp_path) -> FrameFolder:
    (tmp_path / "frames").mkdir()
    for t in range(LENGTH):
        Image.fromarray(noise(t)).save(tmp_path / f"frames/{t:02d}.png")
    return FrameFolder(tmp_path / "frames")


@pytest.fixture
def maker(light_network):
    return lambda: VideoSegmenter(light_network, memory_every=2)


def run(propagation: Propagation) -> dict[int, np.ndarray]:
    """Each result, once."""
    found, waiting = {}, {}
    for step in propagation.backwards():
        waiting[step.index] = step.estimate
        if step.index < propagation.first:
            found[step.index] = step.labels
    for step in propagation.forwards(waiting.get):
        if step.labels is not None:
            assert step.index not in found
            found[step.index] = step.labels
    assert propagation.done == propagation.steps
    return found


@pytest.mark.parametrize(
    ("span", "given", "steps"),
    [
        (range(3, 9), (3, 8), 12),
        (range(2, 10), (2, 4, 7), 6 + 8),
        (range(0, 5), (4,), 5 + 1),
        (range(6, 10), (6,), 4),
        (range(5, 6), (5,), 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("detailed", [False, True])
def test_a_span_is_segmented_as_if_it_were_the_whole_video(span, given, steps, detailed, video, maker, tmp_path):
    masks = {frame: square((4 + frame, 4), (30, 3 * frame)) for frame in given}
    (tmp_path / "part").mkdir()
    for t in span:
        shutil.copy(video.paths[t], tmp_path / "part")
    whole = run(Propagation(FrameFolder(tmp_path / "part"), {f - span.start: masks[f] for f in given}, maker))
    part = Propagation(video, masks, maker, span=span, detailed=detailed)
    assert part.steps == steps
    found = run(part)
    assert sorted(found) == list(span)
    for t in span:
        np.testing.assert_array_equal(found[t], whole[t - span.start])


def test_a_video_file_starts_anywhere(tmp_path):
    write_film(tmp_path / "film.mp4", [noise(t) for t in range(40)], gop=18)
    video = VideoFile(tmp_path / "film.mp4")
    frames = list(video.forwards())
    for start in (0, 1, 17, 18, 39, 40):
        found = list(video.forwards(start))
        assert [frame.index for frame in found] == list(range(start, 40))
        assert all((frame.image == frames[frame.index].image).all() for frame in found[:2])


def test_masks_outside_tell_of_objects_that_those_inside_do_not_show(video, maker):
    """Object 2 is hidden where the span begins and, in the other direction, where it ends."""
    inside = {3: square((4, 4)), 7: square((8, 8))}
    outside = {0: square((4, 4), (40, 20)), 9: square((4, 4), (40, 20), (20, 30))}
    for masks, expected in ((inside, [1]), ({**inside, 0: outside[0]}, [1, 2]), ({**inside, **outside}, [1, 2, 3])):
        propagation = Propagation(video, dict(sorted(masks.items())), maker, span=range(3, 8))
        assert propagation.steps == 10
        known: set[int] = set()
        waiting = {}
        for step in propagation.backwards():
            waiting[step.index] = step.estimate
            known |= set(propagation.segmenter.object_ids)
        for _ in propagation.forwards(waiting.get):
            known |= set(propagation.segmenter.object_ids)
        assert sorted(known) == expected


def test_only_who_asks_gets_details(video, maker):
    masks = {2: square((4, 4)), 5: square((8, 8))}
    steps = list(Propagation(video, masks, maker).backwards())
    assert [step.index for step in steps if step.labels is not None] == [1, 0]
    assert {step.sureness for step in steps} == {None}
    propagation = Propagation(video, masks, maker, detailed=True)
    steps = list(propagation.backwards())
    assert [step.index for step in steps if step.labels is not None] == [4, 3, 2, 1, 0]
    waiting = {step.index: step.estimate for step in steps}
    for frame in [*steps, *propagation.forwards(waiting.get)]:
        if frame.labels is not None:
            assert frame.sureness is not None
            assert 0 <= frame.sureness <= 1


def test_the_margin_near_edges_is_that_of_a_loop_over_pixels():
    probabilities = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0)) * 0.1
    probabilities[0] += 1
    probabilities[1, 4:12, 5:15] += 2
    probabilities /= probabilities.sum(dim=0)
    labels, margins = probabilities.argmax(dim=0), []
    for y in range(20):
        for x in range(24):
            near = labels[max(0, y - EDGE) : y + EDGE + 1, max(0, x - EDGE) : x + EDGE + 1]
            if near.min() != near.max():
                worst, best = probabilities[:, y, x].sort().values[-2:]
                margins.append(float(best - worst))
    assert edge_margin(probabilities) == pytest.approx(np.mean(margins))


def test_where_nothing_is_found_the_margin_is_that_of_the_least_sure_pixel():
    probabilities = torch.full((2, 8, 8), 0.1)
    probabilities[0] = 0.9
    assert edge_margin(probabilities) == pytest.approx(0.8)
    probabilities[:, 3, 3] = torch.tensor([0.6, 0.4])
    assert edge_margin(probabilities) == pytest.approx(0.2)
    assert edge_margin(probabilities[:1]) == 1


def test_agreement_is_that_of_the_objects_weighted_by_the_blend():
    one, other = np.zeros((4, 8), np.uint8), np.zeros((4, 8), np.uint8)
    assert agreement(one, other, 0.5) == 1
    one[:, :4], other[:, 2:6] = 5, 5  # a third
    one[0, 7] = 2  # which the other does not see
    assert agreement(one, other, 0.5) == pytest.approx((1 / 3 + 0) / 2)
    assert agreement(one, other, 0.1) == pytest.approx(agreement(one, other, 0.9))
    assert agreement(one, other, 0.1) == pytest.approx(1 - 0.2 * (1 - 1 / 6))
    assert agreement(one, other, 0) == 1


@pytest.mark.parametrize("shown", [False, True])
def test_a_pass_that_was_only_told_of_an_absence_leaves_the_object_to_the_other(shown, video, maker):
    masks = {0: square((4, 4), (40, 20)), 7: square((8, 8), (40, 20)) if shown else square((8, 8))}
    propagation = Propagation(video, masks, maker, stated={0: [1, 2], 7: [1, 2]})
    waiting = {step.index: step.estimate for step in propagation.backwards()}
    assert all(waiting[t].ids.tolist() == ([1, 2] if shown else [1]) for t in range(1, 7))
    found = {step.index: step.labels for step in propagation.forwards(waiting.get)}
    assert (found[0] == 2).any()
    assert (found[7] == 2).any() == shown
