"""The memory reader against loops in float64."""

import numpy as np
import pytest
import torch
from naive import naive_kernel_read, naive_read, naive_similarity

from model.memory import SLAB, MemoryBank
from model.similarity import SIMILARITIES, similarity, top_k_of

HEIGHT, WIDTH = 2, 3


def random_frames(rng: np.random.Generator, objects: list[int], key_dim: int, value_dim: int):
    """Keys (Ck, h, w) and values (N, Cv, h, w) of as many frames as there are entries in `objects`."""
    for count in objects:
        key = rng.standard_normal((key_dim, HEIGHT, WIDTH))
        yield key, rng.standard_normal((count, value_dim, HEIGHT, WIDTH))


def rows(x: np.ndarray) -> np.ndarray:
    """(C, h, w) -> (hw, C)"""
    return x.reshape(x.shape[0], -1).T


def as_tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).float()


def rows_of_object(frames: list[tuple[np.ndarray, np.ndarray]], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (M, Ck) and values (M, Cv) of the frames since the one at which object n enters."""
    memory = [(rows(key), rows(values[n])) for key, values in frames if n < len(values)]
    keys, values = (np.concatenate(parts) for parts in zip(*memory, strict=True))
    return keys, values


@pytest.mark.parametrize("kind", SIMILARITIES)
@pytest.mark.parametrize("top_k", [1, 20, None])
@pytest.mark.parametrize("objects", [[1], [2, 4, 4, 5, 5, 5], [1] * 5 + [3] * 8], ids=str)  # the last are several slabs
def test_reading_equals_loops_over_positions(kind, top_k, objects, monkeypatch):
    monkeypatch.setattr("model.memory.BLOCK", 60)  # several blocks of positions, to read and to sum
    rng = np.random.default_rng([len(kind), top_k or 0, len(objects)])
    frames = list(random_frames(rng, objects, key_dim=16, value_dim=4))
    query = rng.standard_normal((16, HEIGHT, WIDTH))
    bank = MemoryBank(similarity=kind, top_k=top_k)
    for key, values in frames:
        bank.add(as_tensor(key), as_tensor(values))
    found = bank.read(as_tensor(query)).numpy()
    assert found.shape == (objects[-1], 4, HEIGHT, WIDTH)
    for n in range(objects[-1]):
        expected = naive_read(*rows_of_object(frames, n), rows(query), kind, top_k)
        np.testing.assert_allclose(rows(found[n]), expected, atol=2e-4, err_msg=f"object {n}")


@pytest.mark.parametrize("kind", SIMILARITIES)
@pytest.mark.parametrize(
    ("grid", "top_k", "objects", "block"),
    [((5, 8), 7, [1, 1, 3], 1), ((7, 4), 24, [2], 2**21), ((2, 9), None, [1, 2, 2], 2**21)],
)
def test_kernelized_reading_equals_the_plain_formula(kind, grid, top_k, objects, block, monkeypatch):
    monkeypatch.setattr("model.memory.BLOCK", block)
    rng = np.random.default_rng(len(objects))
    frames = [(rng.standard_normal((5, *grid)), rng.standard_normal((count, 4, *grid))) for count in objects]
    query = rng.standard_normal((5, *grid))
    bank = MemoryBank(similarity=kind, top_k=top_k, kernel=True)
    for key, values in frames:
        bank.add(as_tensor(key), as_tensor(values))
    found = bank.read(as_tensor(query)).numpy()
    for n in range(objects[-1]):
        expected = naive_kernel_read(*rows_of_object(frames, n), rows(query), grid, kind, top_k)
        np.testing.assert_allclose(rows(found[n]), expected, atol=1e-3, err_msg=f"object {n}")


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_similarity_equals_equation_4_up_to_what_the_softmax_ignores(kind):
    rng = np.random.default_rng(0)
    memory, query = rng.standard_normal((2, 5, 8)), rng.standard_normal((2, 4, 8))
    found = similarity(as_tensor(memory), as_tensor(query), kind).numpy()
    assert found.shape == (2, 4, 5)
    for b in range(2):
        for q in range(4):
            expected = [naive_similarity(m, query[b, q], kind) for m in memory[b]]
            offset = found[b, q] - expected
            np.testing.assert_allclose(offset - offset[0], 0, atol=1e-4)
            if kind != "l2":
                np.testing.assert_allclose(offset, 0, atol=1e-4)


def test_a_similarity_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="similarity: expected one of l2, dot, cosine, cosine_scaled, found 'L2'"):
        similarity(torch.zeros(1, 4, 8), torch.zeros(1, 4, 8), "L2")


def test_similarity_is_float32_of_half_precision_keys_and_under_autocast():
    keys = torch.randn(1, 6, 16, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarity(keys, keys, "l2")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, similarity(keys.float(), keys.float(), "l2"))


def first_rows(bank: MemoryBank) -> list[torch.Tensor]:
    """Of each frame in the bank, the first object's value at the first position."""
    return [bank._rows(bank._slabs[frame.cell // SLAB].values[0], frame.cell)[0] for frame in bank._frames]


def reading_of(keys: list[int], query: int, bound: int | None) -> list[int]:
    """The frames that are left after reading with `query`; each has one position, and its number as its value."""
    bank = MemoryBank(max_frames=bound, top_k=2)
    for number, key in enumerate(keys):
        bank.add(torch.eye(4)[key].reshape(4, 1, 1) * 9, torch.full((1, 1, 1, 1), float(number)), annotated=number == 0)
        bank.read(torch.eye(4)[query].reshape(4, 1, 1) * 9)
    return [int(row.item()) for row in first_rows(bank)]


@pytest.mark.parametrize("objects", [1, 3])
def test_a_frame_that_is_refused_leaves_the_bank_as_it_was(objects):
    torch.manual_seed(0)
    bank, query = MemoryBank(top_k=5), torch.randn(8, 3, 4)
    for temporary in (False, True):
        bank.add(torch.randn(8, 3, 4), torch.randn(2, 16, 3, 4), temporary=temporary)
    expected = bank.read(query)
    with pytest.raises(ValueError, match=f"expected 2 objects, found {objects}"):
        bank.add(torch.randn(8, 3, 4), torch.randn(objects, 16, 3, 4), temporary=True)
    for grid in ((3, 4), (2, 4)):
        with pytest.raises(ValueError, match="key and values: expected 12 positions, as before, found"):
            bank.add(torch.randn(8, *grid), torch.randn(2, 16, 2, 4))
    assert bank.frames == 2
    assert torch.equal(bank.read(query), expected)


def test_a_bounded_bank_forgets_what_is_used_least_but_neither_the_annotated_nor_the_newest_frame():
    # frame 0 is a given one and matches no query; every query matches frame 2
    assert reading_of([0, 1, 2, 1, 3, 1], query=2, bound=3) == [0, 2, 5]
    assert reading_of([0, 1, 2, 1, 3, 1], query=2, bound=None) == [0, 1, 2, 3, 4, 5]
    assert reading_of([0, 1, 2, 1, 3, 1], query=2, bound=1) == [0, 5]


@pytest.mark.parametrize("top_k", [3, None])
def test_usage_is_the_affinity_that_a_frame_has_received(top_k):
    rng = np.random.default_rng(3)
    frames = list(random_frames(rng, [1, 1, 2, 2], key_dim=5, value_dim=2))
    bank = MemoryBank(top_k=top_k, max_frames=9)
    for key, values in frames:
        bank.add(as_tensor(key), as_tensor(values))
    for _ in range(2):
        bank.read(as_tensor(rng.standard_normal((5, HEIGHT, WIDTH))))
    usage = [float(frame.usage) for frame in bank._frames]
    assert sum(usage) == pytest.approx(2 * 2 * HEIGHT * WIDTH)  # a unit for each read, group and query position
    assert min(usage) > 0
    assert [frame.reads for frame in bank._frames] == [2] * 4


def test_late_objects_are_read_rightly_after_frames_have_left():
    rng = np.random.default_rng(4)
    frames = list(random_frames(rng, [1, 1, 2, 2, 2, 2], key_dim=5, value_dim=3))
    bank, expected = MemoryBank(max_frames=4), MemoryBank()
    for number, (key, values) in enumerate(frames):
        bank.add(as_tensor(key), as_tensor(values), annotated=number == 0)
        bank.read(as_tensor(rng.standard_normal((5, HEIGHT, WIDTH))))
    held = first_rows(bank)
    kept = [
        number
        for number, (_, values) in enumerate(frames)
        if any(torch.equal(row, as_tensor(values[0, :, 0, 0])) for row in held)
    ]
    assert len(kept) == bank.frames == 4
    assert {0, 2, 5} <= set(kept)
    for number in kept:
        expected.add(*map(as_tensor, frames[number]))
    query = as_tensor(rng.standard_normal((5, HEIGHT, WIDTH)))
    torch.testing.assert_close(bank.read(query), expected.read(query))


@pytest.mark.parametrize("columns", [5, 700, 1280, 1281, 1295, 3000])
def test_the_top_k_of_long_rows_is_the_top_k(columns):
    similarities = torch.from_numpy(np.random.default_rng(columns).standard_normal((7, columns))).float()
    values, places = top_k_of(similarities, 20)
    expected = similarities.topk(min(20, columns), dim=1)
    assert torch.equal(values.sort(dim=1).values, expected.values.flip(1))
    assert torch.equal(places.sort(dim=1).values, expected.indices.sort(dim=1).values)
    assert torch.equal(similarities.gather(1, places), values)


def bank_of_two_groups(**options) -> tuple[MemoryBank, torch.Tensor]:
    """A bank of several slabs, and a query."""
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank(**options)
    for number in range(2 * SLAB + 1):
        objects = 1 if number < SLAB // 2 else 3
        bank.add(torch.randn(8, 4, 5, generator=generator), torch.randn(objects, 6, 4, 5, generator=generator))
        bank.read(torch.randn(8, 4, 5, generator=generator))
    return bank, torch.randn(8, 4, 5, generator=generator)


@pytest.mark.parametrize("bound", [None, 5])
def test_reading_as_on_cuda_gives_the_same_on_the_cpu(bound, monkeypatch):
    bank, query = bank_of_two_groups(max_frames=bound)
    expected = bank.read(query)
    monkeypatch.setattr("model.memory.WITHOUT_WAITS", ("cpu",))
    for block in (2**24, 60):
        monkeypatch.setattr("model.memory.GPU_BLOCK", block)
        bank, query = bank_of_two_groups(max_frames=bound)
        for slab in bank._slabs:  # rows that no frame has are never read, be they NaN
            for values in slab.values.values():
                values[-1] = torch.nan
        torch.testing.assert_close(bank.read(query), expected)


def test_the_first_frame_of_an_object_stays_whoever_annotated_it():
    """No earlier frame shows it."""
    bank, counts = MemoryBank(max_frames=1), []
    for key, values in random_frames(np.random.default_rng(0), [1, 1, 1, 2, 2], 4, 3):
        bank.add(as_tensor(key), as_tensor(values))
        bank.read(as_tensor(key))
        counts.append(bank.frames)
    assert counts == [1, 2, 2, 2, 3]  # the frames in which an object enters, and the newest


@pytest.mark.parametrize("options", [{"top_k": 0}, {"max_frames": 0}, {"similarity": "manhattan"}])
def test_bad_options_are_named(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}: expected"):
        MemoryBank(**options)
