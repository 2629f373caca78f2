"""Masks carried through a part of a video, and how sure the results are."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from films import noise, square, write_folder
from PIL import Image

from dataset.frame_folder import FrameFolder
from evaluation.propagate import Propagation, expected_iou
from model import VideoSegmenter, blend
from util.label_map import colour_map, read_label_map, write_label_map

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
    ("span", "given", "steps", "detailed"),
    [
        (range(3, 9), (3, 8), 12, False),
        (range(2, 10), (2, 4, 7), 6 + 8, True),
        (range(0, 5), (4,), 5 + 1, False),
        (range(6, 10), (6,), 4, False),
        (range(5, 6), (5,), 1, False),
    ],
    ids=str,
)
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


def passes_by_hand(video, maker, order: list[range], masks, memorised, waiting=(), stated=()) -> dict[int, tuple]:
    """Probabilities and ids by frame, where a segmenter knows some masks before it goes over each of these ranges.

    The masks of `waiting` frames are given when they are reached.
    """
    found = {}
    for frames in order:
        segmenter = maker()
        for t in memorised:
            segmenter.memorise(video.frame(t), masks[t], stated=stated)
        for t in frames:
            probabilities = segmenter.step(
                video.frame(t), masks.get(t), stated=stated, memorised=t not in waiting, resize_back=False
            )
            found[t] = probabilities, list(segmenter.object_ids)
    return found


def only(found: tuple, *numbers: int) -> tuple[torch.Tensor, list[int]]:
    probabilities, ids = found
    return probabilities[[0, *(1 + ids.index(i) for i in numbers)]], list(numbers)


def labels_by_hand(found: tuple) -> np.ndarray:
    probabilities, ids = found
    return np.array([0, *ids])[probabilities.argmax(dim=0).numpy()]


def blended_by_hand(one: tuple, other: tuple, share: float) -> tuple:
    return blend(*one, other[0].half().float(), other[1], share)


def test_the_script_goes_both_ways_and_blends_between(light_network, light_file, script, tmp_path):
    video = FrameFolder(write_folder(tmp_path / "frames", 9))
    masks = {2: square((4, 4), (40, 20)), 6: square((30, 10), (8, 20))}
    for t, labels in masks.items():
        write_label_map(tmp_path / f"{t}.png", labels, colour_map())
    given = [f"{t}:{tmp_path / f'{t}.png'}" for t in masks]
    out = tmp_path / "out"
    flags = ("--mask", *given, "--size", 48, "--amp", "off", "--model", light_file, "--output", out)
    assert script("segment_video", tmp_path / "frames", *flags) == 0
    maker = partial(VideoSegmenter, light_network, max_memory_frames=20)
    forwards, backwards = (passes_by_hand(video, maker, [order], masks, masks) for order in (range(2, 9), range(6, -1, -1)))
    expected = {t: backwards[t] if t < 2 else forwards[t] for t in range(9)}
    expected |= {t: blended_by_hand(forwards[t], backwards[t], (t - 2) / 4) for t in range(3, 6)}
    for t in range(9):
        found = read_label_map(out / f"masks/{t}.png").labels
        np.testing.assert_array_equal(found, masks[t] if t in masks else labels_by_hand(expected[t]))
    assert sorted(path.name for path in out.iterdir()) == ["masks", "overlay.mp4", "segment_video.json", "sheet.png"]
    with Image.open(out / "masks/0.png") as mask:
        assert mask.mode == "P"


@pytest.mark.parametrize(
    ("frame", "options"),
    [(0, {}), (4, {}), (LENGTH - 1, {}), (4, {"max_memory_frames": 2}), (4, {"include_last": True})],
    ids=str,
)
def test_a_pass_with_one_mask_is_that_of_the_segmenter_alone(frame, options, video, light_network):
    def maker():
        return VideoSegmenter(light_network, memory_every=2, **options)

    mask = square((8, 8), (40, 20))
    found = run(Propagation(video, {frame: mask}, maker, stated={frame: [1, 2, 3]}))
    for order in (range(frame, -1, -1) if frame else (), range(frame, LENGTH)):
        segmenter = maker()
        for t in order:
            expected = segmenter.to_labels(segmenter.step(video.frame(t), mask if t == frame else None))
            if t != frame or order[-1] == LENGTH - 1:
                np.testing.assert_array_equal(found[t], expected.numpy())


def test_both_passes_know_all_masks_also_those_outside_the_span(video, maker):
    masks = {
        0: square((4, 4), (40, 20)),
        3: square((20, 4), (30, 30)),
        7: square((8, 8)),  # object 2 is hidden here, where the backward pass starts
        9: square((2, 30), (20, 2)),
    }
    stated = [1, 2]
    found = run(Propagation(video, masks, maker, span=range(2, 9), stated=dict.fromkeys(masks, stated)))
    forwards = passes_by_hand(video, maker, [range(3, 9)], masks, masks, stated=stated)
    backwards = passes_by_hand(video, maker, [range(7, 1, -1)], masks, masks, stated=stated)
    for t in range(2, 9):
        expected = backwards[t] if t < 3 else forwards[t]
        if 3 <= t < 7:
            expected = blended_by_hand(forwards[t], backwards[t], (t - 3) / 4)
        np.testing.assert_array_equal(found[t], labels_by_hand(expected))


def test_a_pass_only_guesses_about_an_object_until_it_comes_to_a_mask_that_tells_of_it(video, maker):
    """Object 2 is new at 5: the forward pass has no say about it before, and no guess in its memory after."""
    masks = {1: square((4, 4)), 5: square((20, 4), (30, 30)), 8: square((2, 30), (20, 2))}
    found = run(Propagation(video, masks, maker))
    forwards = passes_by_hand(video, maker, [range(1, 5), range(5, LENGTH)], masks, masks)
    backwards = passes_by_hand(video, maker, [range(8, -1, -1)], masks, masks)
    assert forwards[2][1] == [1, 2]
    for t in range(LENGTH):
        if t < 1 or t >= 8:
            expected = backwards[t] if t < 1 else forwards[t]
        elif t < 5:
            expected = blended_by_hand(only(forwards[t], 1), backwards[t], (t - 1) / 4)
        else:
            expected = blended_by_hand(forwards[t], backwards[t], (t - 5) / 3)
        np.testing.assert_array_equal(found[t], labels_by_hand(expected))


def test_a_mask_that_leaves_out_an_object_is_known_when_the_pass_has_followed_that_object_to_it(video, maker):
    masks = {1: square((4, 4)), 6: np.where(square((20, 4), (30, 30)) == 2, np.uint8(2), np.uint8(0))}
    found = run(Propagation(video, masks, maker))
    forwards = passes_by_hand(video, maker, [range(1, LENGTH)], masks, [1], waiting=[6])
    backwards = passes_by_hand(video, maker, [range(6, -1, -1)], masks, [1], waiting=[6])
    for t in range(LENGTH):
        expected = backwards[t] if t < 1 else forwards[t]
        if 1 <= t < 6:
            other = backwards[t] if t == 1 else only(backwards[t], 2)
            expected = blended_by_hand(only(forwards[t], 1), other, (t - 1) / 5)
        np.testing.assert_array_equal(found[t], labels_by_hand(expected))


def test_the_memory_is_never_larger_than_estimated(video, light_network, monkeypatch):
    masks = {t: square((4 + t, 4)) for t in (0, 2, 3, 5, 9)}
    for bound in (None, 2):
        largest = []

        def maker(bound=bound, largest=largest):
            segmenter = VideoSegmenter(light_network, memory_every=2, max_memory_frames=bound)
            add = segmenter.bank.add
            monkeypatch.setattr(segmenter.bank, "add", lambda *a, **k: (add(*a, **k), largest.append(segmenter.bank.frames)))
            return segmenter

        propagation = Propagation(video, masks, maker, span=range(3, 9))
        heard = []
        check = "evaluation.propagate.refuse_too_large"
        monkeypatch.setattr(check, lambda *_, claims, heard=heard, **video: heard.append(video))
        propagation.refuse_if_too_large()
        assert heard == [{"objects": 1, "frames": 6 + 3, "given": 5}]
        run(propagation)
        kept = min(6 + 3, 5 + (9 - 1) // 2)
        assert max(largest) <= (kept if bound is None else 5 + 1)


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


def test_sureness_is_the_j_of_the_object_that_is_expected_to_be_worst():
    """Against masks that are drawn from the probabilities again and again."""
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(3, 40, 50, generator=generator) * 0.1
    probabilities[0] += 1
    probabilities[1, 4:24, 5:15] += 4
    probabilities[2, 20:36, 25:45] += 2
    probabilities /= probabilities.sum(dim=0)
    labels, expected = probabilities.argmax(dim=0), []
    for number in (1, 2):
        drawn = torch.rand(200, 40, 50, generator=generator) < probabilities[number]
        mask = labels == number
        expected.append(float(((drawn & mask).sum((1, 2)) / (drawn | mask).sum((1, 2))).mean()))
    assert expected_iou(probabilities, [4, 7]) == pytest.approx(min(expected), abs=2e-3)
    assert abs(expected[0] - expected[1]) > 0.02


def test_an_object_that_must_be_there_and_is_lost_is_not_sure_at_all():
    probabilities = torch.zeros(3, 8, 8)
    probabilities[0], probabilities[0, 2:5, 2:5], probabilities[1, 2:5, 2:5] = 1, 0, 1
    assert expected_iou(probabilities, [4, 7]) == expected_iou(probabilities, [4, 7], there=[4]) == 1
    assert expected_iou(probabilities, [4, 7], there=[4, 7]) == 0
    assert expected_iou(probabilities[:1], []) == 1


def test_an_object_must_be_there_from_its_first_mask_on_unless_the_next_one_says_that_it_is_gone(video, maker):
    masks = {0: square((4, 4), (40, 20)), 4: square((8, 8)), 7: square((8, 8), (40, 20))}
    must = Propagation(video, masks, maker, stated={0: [1, 2], 4: [1, 2], 7: [1, 2]})._must_be_there
    assert [sorted(must(t)) for t in range(9)] == [[1, 2], *[[1]] * 6, [1, 2], [1, 2]]
    must = Propagation(video, masks, maker, stated={0: [1, 2], 4: [1], 7: [1]})._must_be_there  # 4 does not say so of 2
    assert [sorted(must(t)) for t in range(9)] == [[1, 2]] * 9
    must = Propagation(video, {4: masks[4]}, maker)._must_be_there
    assert [sorted(must(t)) for t in range(9)] == [[]] * 4 + [[1]] * 5


def test_a_pass_that_starts_where_an_object_is_absent_has_its_say_about_it(video, maker):
    """It knows from the mask that lies ahead what the object looks like."""
    masks = {0: square((4, 4), (40, 20)), 7: square((8, 8))}
    propagation = Propagation(video, masks, maker, stated={0: [1, 2], 7: [1, 2]})
    waiting = {step.index: step.estimate for step in propagation.backwards()}
    assert all(waiting[t].ids.tolist() == [1, 2] for t in range(7))
    found = {step.index: step.labels for step in propagation.forwards(waiting.get)}
    assert (found[0] == 2).any()
    assert not (found[7] == 2).any()
