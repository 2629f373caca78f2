"""The segmenter against a plain one, and its treatment of masks, skipped frames and streams."""

import io
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from conftest import build_light_network

from model import VideoSegmenter, inference
from model.plain import aggregate_plainly, decode_plainly, encode_value_plainly, read_plainly, segment_plainly
from util.label_map import resize_labels
from util.tensors import (
    normalise,
    one_hot,
    padding_to_stride,
    resize_image,
    resize_probabilities,
    shorter_side_size,
    unpad,
)

HEIGHT, WIDTH = 37, 52  # not multiples of 16


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """Fourteen frames (T, H, W, 3) uint8 of drifting noise."""
    rng = np.random.default_rng(0)
    canvas = torch.from_numpy(rng.integers(0, 256, (HEIGHT, WIDTH + 28, 3), dtype=np.uint8))
    return torch.stack([canvas[:, 2 * t : 2 * t + WIDTH] for t in range(14)])


def box(*boxes: tuple[int, int, int]) -> torch.Tensor:
    """A label map with squares: (id, top, left)."""
    labels = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    for number, top, left in boxes:
        labels[top : top + 12, left : left + 14] = number
    return labels


MASKS = {
    "several objects with sparse ids": {0: box((2, 5, 5), (9, 20, 30), (200, 2, 35))},
    "objects that enter later": {0: box((2, 5, 5)), 4: box((7, 20, 30), (3, 2, 35)), 11: box((1, 22, 8))},
    "the first object enters later": {3: box((5, 5, 5))},
    "an object given again": {0: box((1, 5, 5), (2, 20, 30)), 6: box((2, 18, 20), (4, 3, 30))},
    "ignored pixels": {0: box((1, 5, 5), (255, 5, 12)), 3: box((255, 3, 3), (2, 20, 20))},
}


LATE = MASKS["objects that enter later"]


@pytest.mark.parametrize(
    ("masks", "options"),
    [
        *((masks, {"memory_every": 3, "include_last": True, "top_k": 7}) for masks in MASKS.values()),
        *((LATE, options) for options in ({}, {"memory_every": 2, "top_k": 3})),
    ],
)
def test_it_equals_a_segmenter_with_a_bank_for_each_object_and_whole_matrices(masks, options, frames, light_network):
    plain = segment_plainly(light_network, torch.stack([normalise(frame) for frame in frames]), masks, **options)
    segmenter = VideoSegmenter(light_network, **options)
    for t, (frame, (ids, expected)) in enumerate(zip(frames, plain, strict=True)):
        found = segmenter.step(frame, masks.get(t))
        assert segmenter.object_ids == ids
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0, msg=f"frame {t}")
        torch.testing.assert_close(found.sum(dim=0), torch.ones(HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("include_last", "size", "resize_back"), [(False, None, False), (True, 32, False), (True, None, True)]
)
def test_what_is_done_to_a_result_does_not_reach_the_next_frame(include_last, size, resize_back, frames, light_network):
    pristine, spoilt = (VideoSegmenter(light_network, size=size, memory_every=2, include_last=include_last) for _ in range(2))
    for t, frame in enumerate(frames[:6]):
        mask = LATE.get(t)
        expected, found = (each.step(frame, mask, resize_back=resize_back) for each in (pristine, spoilt))
        assert torch.equal(found, expected), f"frame {t}"
        found.numpy()[:] = 0


def test_a_segmenter_resizes_in_and_out_by_itself(frames, light_network):
    inside, outside = VideoSegmenter(light_network, size=32), VideoSegmenter(light_network)
    size = shorter_side_size(HEIGHT, WIDTH, 32)
    assert size != (HEIGHT, WIDTH)
    mask = box((1, 5, 5), (2, 20, 30))
    for t, frame in enumerate(frames[:3]):
        given = mask if t == 0 else None
        found = inside.step(frame, given)
        small = None if given is None else resize_labels(given.numpy(), size)
        expected = outside.step(resize_image(normalise(frame), size), small)
        assert torch.equal(found, resize_probabilities(expected, (HEIGHT, WIDTH)))
        assert inside.to_labels(found).shape == (HEIGHT, WIDTH)
    assert inside.step(frames[0], resize_back=False).shape[-2:] == size


@pytest.mark.parametrize("flip", [False, True])
def test_an_object_that_is_tiny_at_the_size_of_the_network_keeps_a_pixel_of_its_own(flip, frames, light_network):
    mask = box((3, 5, 5))
    mask[31, 40:42] = 8
    segmenter = VideoSegmenter(light_network, size=16, flip=flip)
    assert 8 not in resize_labels(mask.numpy(), shorter_side_size(HEIGHT, WIDTH, 16))
    found = segmenter.step(frames[0], mask)
    assert segmenter.object_ids == [3, 8]
    row, column = divmod(int(found[2].argmax()), WIDTH)
    assert abs(row - 31) <= 2
    assert abs(column - 40) <= 3
    with pytest.raises(ValueError, match="expected numbered objects"):
        segmenter.step(frames[1], mask > 0)
    crowded = box((3, 5, 5))
    crowded[30:33, 38:41] = torch.arange(10, 19, dtype=torch.uint8).reshape(3, 3)
    segmenter = VideoSegmenter(light_network, size=16, flip=flip)
    segmenter.step(frames[0], crowded)
    assert segmenter.object_ids == [3, *range(10, 19)]


def test_frames_that_nobody_wants_change_nothing_and_are_not_computed(frames, light_network):
    wanted = {0, 3, 8, 13}
    mask = box((1, 5, 5), (2, 20, 30))
    every, some = VideoSegmenter(light_network), VideoSegmenter(light_network)
    computed = []
    for t, frame in enumerate(frames):
        all_of_them = every.step(frame, mask if t == 0 else None)
        found = some.step(frame, mask if t == 0 else None, wanted=t in wanted)
        if found is not None:
            computed.append(t)
            torch.testing.assert_close(found, all_of_them)
    assert computed == sorted(wanted | {5, 10})


def saved_and_loaded(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize(
    ("masks", "arch", "options"),
    [
        ("several objects with sparse ids", "stcn", {}),
        ("objects that enter later", "stcn", {"memory_every": 2, "max_memory_frames": 2, "top_k": 3}),
        ("the first object enters later", "stcn", {"memory_every": 1, "max_memory_frames": 3, "include_last": True}),
        ("objects that enter later", "stcn", {"memory_every": 3, "include_last": True, "top_k": None}),
        ("objects that enter later", "stm", {"memory_every": 2}),
    ],
)
def test_going_on_from_a_snapshot_gives_bitwise_the_same(masks, arch, options, frames):
    masks, network = MASKS[masks], build_light_network(arch=arch)
    undisturbed, stopped = VideoSegmenter(network, **options), VideoSegmenter(network, **options)
    for t, frame in enumerate(frames):
        expected = undisturbed.step(frame, masks.get(t))
        state = saved_and_loaded(stopped.state_dict())
        stopped = VideoSegmenter(network, **options)  # a new process would have no more than this
        stopped.load_state_dict(state)
        assert torch.equal(stopped.step(frame, masks.get(t)), expected), t
        assert stopped.object_ids == undisturbed.object_ids
    if arch == "stcn":
        assert stopped.bank.frames == undisturbed.bank.frames > 1


def test_two_segmenters_go_on_from_one_state_without_each_others_frames(frames, light_network):
    options = {"memory_every": 1, "max_memory_frames": 2}  # so that cells of the bank are used again
    first = VideoSegmenter(light_network, **options)
    for t, frame in enumerate(frames[:5]):
        first.step(frame, box((2, 5, 5)) if t == 0 else None)
    state = saved_and_loaded(first.state_dict())
    results = []
    for way in (frames[5:9], frames[9:13], frames[5:9]):
        segmenter = VideoSegmenter(light_network, **options)
        segmenter.load_state_dict(state)
        results.append(torch.stack([segmenter.step(frame) for frame in way]))
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize("part", ["encode_key", "memorise", "decode", "resize_probabilities"])
def test_a_frame_may_be_given_again_after_an_interruption(part, frames, light_network, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    undisturbed, disturbed = (VideoSegmenter(light_network, memory_every=3, size=24) for _ in range(2))
    for t, frame in enumerate(frames):
        mask = LATE.get(t)
        if t == 4:  # when the frame before enters the memory, and objects the video
            with monkeypatch.context() as patch:
                patch.setattr(light_network if hasattr(light_network, part) else inference, part, interrupt)
                with pytest.raises(KeyboardInterrupt):
                    disturbed.step(frame, mask)
        assert torch.equal(disturbed.step(frame, mask), undisturbed.step(frame, mask)), t


def test_a_frame_that_is_memorised_again_after_an_interruption_is_there_once(frames, light_network, monkeypatch):
    segmenter = VideoSegmenter(light_network)
    with monkeypatch.context() as patch:
        patch.setattr(light_network, "memorise", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            segmenter.memorise(frames[0], LATE[0])
    segmenter.memorise(frames[0], LATE[0])
    segmenter.step(frames[1])
    assert segmenter.bank.frames == 1


def test_the_last_frame_is_never_encoded_as_memory(frames, light_network, monkeypatch):
    encoded = []
    memorise = light_network.memorise
    monkeypatch.setattr(light_network, "memorise", lambda *a: encoded.append(1) or memorise(*a))
    segmenter = VideoSegmenter(light_network, memory_every=1)
    for t, frame in enumerate(frames[:4]):
        segmenter.step(frame, box((1, 5, 5)) if t == 0 else None)
    assert len(encoded) == 3


def test_before_the_first_object_all_is_background(frames, light_network):
    segmenter = VideoSegmenter(light_network)
    assert segmenter.step(frames[0], wanted=False) is None
    probabilities = segmenter.step(frames[1])
    assert torch.equal(probabilities, torch.ones(1, HEIGHT, WIDTH))
    assert not segmenter.to_labels(probabilities).any()


def test_the_first_mask_comes_back_under_the_data_sets_own_ids(frames, light_network):
    mask = box((9, 5, 5), (2, 20, 30))
    segmenter = VideoSegmenter(light_network)
    assert torch.equal(segmenter.to_labels(segmenter.step(frames[0], mask)), mask)
    assert segmenter.object_ids == [2, 9]
    assert segmenter.step(frames[1]).is_inference()  # without gradients


def test_numpy_torch_and_normalised_frames_give_the_same(frames, light_network):
    mask = box((1, 5, 5))
    read_only = frames[0].numpy().copy()
    read_only.flags.writeable = False
    given = [
        (frames[0], mask),
        (read_only, mask.numpy().astype(np.int32)),
        (normalise(frames[0]), mask.long()),
        (frames[0].permute(2, 0, 1), mask),
        (frames[0].numpy()[:, ::-1][:, ::-1], mask.bool()),
    ]
    results = []
    for image, labels in given:
        segmenter = VideoSegmenter(light_network)
        segmenter.step(image, labels)
        results.append(segmenter.step(frames[1]))
    assert all(torch.equal(result, results[0]) for result in results)


def test_white_on_black_is_object_1(frames, light_network):
    mask = box((1, 5, 5))
    results = []
    for given in (mask, 255 * mask, mask.bool(), (255 * mask).numpy().astype(np.int64)):
        segmenter = VideoSegmenter(light_network)
        assert not segmenter.to_labels(segmenter.step(frames[0], torch.zeros_like(mask))).any()  # no object yet
        segmenter.step(frames[1], given)
        results.append(segmenter.step(frames[2]))
        segmenter.step(frames[3], given)  # which does not make another object of it
        assert segmenter.object_ids == [1]
    assert all(torch.equal(result, results[0]) for result in results)
    with pytest.raises(ValueError, match=r"mask: expected white on black, .* found 255 and other numbers"):
        segmenter.step(frames[4], box((255, 5, 5), (2, 20, 30)))
    numbered = VideoSegmenter(light_network)
    numbered.step(frames[0], box((7, 5, 5)))
    for unnumbered in (255 * mask, mask.bool()):
        with pytest.raises(ValueError, match=r"mask: expected numbered objects, .* found only 0 and 255"):
            numbered.step(frames[1], unnumbered)
    white = VideoSegmenter(light_network)
    white.step(frames[0], mask.bool())
    white.step(frames[1], mask)
    white.step(frames[2], 255 * mask)
    assert white.object_ids == [1]
    with pytest.raises(ValueError, match="mask: expected white on black, like the first mask of this video, found numbers"):
        white.step(frames[3], box((3, 5, 5)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.uint64, bool])
def test_a_mask_may_have_any_type_of_integers(dtype, frames, light_network):
    found = []
    for mask in (box((1, 5, 5)).numpy(), box((1, 5, 5)).numpy().astype(dtype)):
        segmenter = VideoSegmenter(light_network)
        found.append([segmenter.step(frame, mask if t == 0 else None) for t, frame in enumerate(frames[:2])])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (torch.zeros(32, 32, 3), None, r"image: expected .*\(3, H, W\) float.*found \(32, 32, 3\)"),
        (torch.zeros(1, 32, 32), None, "image: expected"),
        (torch.zeros(3, 32, 32, dtype=torch.int64), None, "image: expected"),
        (torch.full((3, 32, 32), 127.0), None, "image: expected normalised values, about -2 to 3, found 127"),
        (torch.full((3, 32, 32), torch.nan), None, "image: expected normalised values, about -2 to 3, found nan"),
        (torch.zeros(3, 32, 48), None, r"image: expected the size of the frames before, \(32, 32\), found \(32, 48\)"),
        (torch.zeros(3, 32, 32), torch.zeros(32, 31, dtype=torch.uint8), "mask: expected.*size"),
        (torch.zeros(3, 32, 32), torch.zeros(32, 32), "mask: expected an integer"),
        (torch.zeros(3, 32, 32), torch.zeros(32, 32, dtype=torch.complex64), "mask: expected an integer"),
        (torch.zeros(3, 32, 32), torch.full((32, 32), 256), "mask: expected ids from 0 to 255, found 256"),
        (torch.zeros(3, 32, 32), np.full((32, 32), 300, np.uint16), "mask: expected ids from 0 to 255, found 300"),
    ],
)
def test_wrong_arrays_are_told_what_was_expected(image, mask, message, light_network):
    segmenter = VideoSegmenter(light_network)
    segmenter.step(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match=message):
        segmenter.step(image, mask)


def test_the_size_of_a_frame_that_was_refused_does_not_bind_the_next(frames, light_network):
    segmenter = VideoSegmenter(light_network)
    with pytest.raises(ValueError, match="mask: expected an integer label map of the frame's size"):
        segmenter.step(torch.zeros(3, 64, 64), box((1, 5, 5)))
    segmenter.step(frames[0], box((1, 5, 5)))
    assert segmenter.object_ids == [1]


def test_mixed_precision_stays_close(frames, light_network):
    results = []
    for amp in (False, True):
        segmenter = VideoSegmenter(light_network.for_inference(amp=amp))
        segmenter.step(frames[0], box((1, 5, 5)))
        results.append(segmenter.step(frames[1]))
    assert results[1].dtype == torch.float32
    torch.testing.assert_close(*results, atol=0.05, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives(frames):
    results = []
    for device in ("cpu", "cuda"):
        segmenter = VideoSegmenter(build_light_network().to(device))
        for t, frame in enumerate(frames):
            found = segmenter.step(frame, box((1, 5, 5), (2, 20, 30)) if t == 0 else None)
        results.append(found.cpu())
    torch.testing.assert_close(*results, atol=1e-2, rtol=0)


def test_a_mask_that_states_an_object_and_does_not_show_it_says_that_it_is_not_there(frames, light_network):
    segmenter, silent = VideoSegmenter(light_network), VideoSegmenter(light_network)
    for each in (segmenter, silent):
        each.step(frames[0], box((1, 5, 5), (2, 20, 30)))
    told = segmenter.step(frames[1], box((1, 5, 7)), stated=[1, 2, 3])
    assert segmenter.object_ids == [1, 2]  # 3 has not been shown anywhere
    assert told[2].max() < 1e-3
    assert silent.step(frames[1], box((1, 5, 7)))[2].max() > 0.01
    assert segmenter.step(frames[2], box(), stated=[1])[1].max() < 1e-3


# masks that the segmenter knows before the video reaches them


@torch.inference_mode()
def segment_knowing_masks_plainly(network, frames, masks, *, memory_every, top_k, include_last=False):
    """As `segment_plainly`, with two objects that all masks show: all of these frames are in the memory from the start."""
    padding = padding_to_stride(HEIGHT, WIDTH)
    images = torch.nn.functional.pad(torch.stack([normalise(frame) for frame in frames]), padding).split(1)
    given = {t: one_hot(torch.nn.functional.pad(mask, padding), [1, 2]) for t, mask in masks.items()}
    encoded = [network.encode_key(image) for image in images]

    def row(t, objects):
        key, value = encoded[t].key[0], encode_value_plainly(network, images[t], objects, encoded[t].f16)
        return key.flatten(1), value.flatten(2)

    memory = [row(t, aggregate_plainly(objects)[1:]) for t, objects in given.items()]
    last, last_memory, results = [], 0, []
    for t in range(len(frames)):
        keys, values = zip(*memory, *last, strict=True)
        readout = read_plainly(torch.cat(keys, dim=1), torch.cat(values, dim=2), encoded[t].key[0].flatten(1), top_k)
        logits = decode_plainly(network, readout.unflatten(2, encoded[t].key.shape[2:]), encoded[t])
        probabilities = aggregate_plainly(given[t] if t in given else logits.sigmoid())
        last = []
        if t in given or t - last_memory >= memory_every:
            last_memory = t
            memory += [] if t in given else [row(t, probabilities[1:])]
        elif include_last:
            last = [row(t, probabilities[1:])]
        results.append(unpad(probabilities, padding))
    return results


@pytest.mark.parametrize(
    ("order", "options"),
    [((0, 4, 12), {"memory_every": 3, "top_k": 7}), ((12, 0, 4), {"memory_every": 2, "top_k": 3, "include_last": True})],
)
def test_memorised_masks_are_read_from_the_first_frame_on_and_once_only(order, options, frames, light_network):
    masks = {0: box((1, 5, 5), (2, 20, 30)), 4: box((1, 20, 10), (2, 2, 30)), 12: box((1, 3, 20), (2, 22, 4))}
    expected = segment_knowing_masks_plainly(light_network, frames, masks, **options)
    segmenter = VideoSegmenter(light_network, **options)
    for t in order:
        segmenter.memorise(frames[t], masks[t])
    for t, frame in enumerate(frames):
        found = segmenter.step(frame, masks.get(t), memorised=True)
        torch.testing.assert_close(found, expected[t], atol=1e-4, rtol=0, msg=f"frame {t}")
    assert segmenter.bank.frames > 3


@pytest.mark.parametrize("arch", ["stcn", "stm"])
@pytest.mark.parametrize(
    "options", [{}, {"memory_every": 2, "max_memory_frames": 2, "top_k": 3}, {"include_last": True, "top_k": None}], ids=str
)
def test_a_first_mask_that_was_memorised_changes_no_bit(arch, options, frames):
    network = build_light_network(arch=arch)
    plain, knowing = VideoSegmenter(network, **options), VideoSegmenter(network, **options)
    mask = box((2, 5, 5), (9, 20, 30))
    knowing.memorise(frames[0], mask)
    for t, frame in enumerate(frames[:8]):
        given = mask if t == 0 else None
        assert torch.equal(knowing.step(frame, given, memorised=True), plain.step(frame, given)), t
    assert knowing.object_ids == plain.object_ids == [2, 9]


def test_memorised_objects_enter_in_the_order_of_the_calls_and_what_a_mask_leaves_out_is_predicted(frames, light_network):
    """As frames of a video, the last of which is the step."""
    masks = [box((5, 5, 5)), box((2, 20, 30)), box((2, 2, 30), (7, 22, 4)), box()]
    plain, knowing = (VideoSegmenter(light_network, memory_every=99) for _ in range(2))
    for t, mask in enumerate(masks):
        plain.step(frames[t], mask)
        knowing.memorise(frames[t], mask)
    assert knowing.object_ids == plain.object_ids == [5, 2, 7]
    assert knowing.bank.frames == 3
    assert torch.equal(knowing.step(frames[8]), plain.step(frames[8]))


def test_a_mask_may_be_memorised_that_states_an_object_which_only_a_later_one_shows(frames, light_network):
    segmenter, silent = VideoSegmenter(light_network), VideoSegmenter(light_network)
    segmenter.memorise(frames[0], box((1, 5, 5)), stated=[1, 2])
    silent.memorise(frames[0], box((1, 5, 5)), stated=[1])
    for each in (segmenter, silent):
        each.memorise(frames[3], box((1, 5, 9), (2, 20, 30)))
        assert each.object_ids == [1, 2]
    told, untold = segmenter.step(frames[0])[2], silent.step(frames[0])[2]
    assert (told - untold).abs().max() > 1e-3  # the same frame is in the memory of object 2, without it


def test_memorised_frames_never_leave_a_bounded_memory(frames, light_network):
    segmenter = VideoSegmenter(light_network, memory_every=1, max_memory_frames=2)
    for t in (0, 6, 9, 12):
        segmenter.memorise(frames[t], box((1, 5, 5)))
    kept = segmenter.bank._frames[:4]
    for frame in frames:
        segmenter.step(frame)
        assert segmenter.bank._frames[:4] == kept
        assert segmenter.bank.frames <= 5
