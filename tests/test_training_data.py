"""Training data of the stages: draws, curriculum, target objects, and the handling of unusable samples."""

import argparse
import contextlib
import itertools
import os
import resource
import signal
from collections import Counter
from collections.abc import Collection
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_video
from PIL import Image

from dataset.clip import Clip, appears_first, make_clip
from dataset.davis import davis_videos
from dataset.sampling import Batch, Draws, Schedule, load
from dataset.shared_memory import refuse_if_few_files, refuse_if_short
from dataset.sources import YOUTUBE_LIST, add_sampling_flags, sampling_options, stage_sources, static_sources, stays_in_size
from dataset.stages import STAGES, max_skip
from dataset.static import StaticClips
from dataset.video_names import read_image_set
from dataset.vos import VideoClips, paper_frames, released_frames
from training.step import training_step
from util.errors import InputError

CROP = 32


def roots(demo_data) -> dict[str, str]:
    return {
        "static_root": str(demo_data / "static"),
        "bl_root": str(demo_data / "BL30K"),
        "yv_root": str(demo_data / "YouTube"),
        "davis_root": str(demo_data / "DAVIS/2017"),
    }


def draws_of(stage: int, demo_data, seed: int = 0) -> Draws:
    return Draws(stage_sources(stage, roots(demo_data), crop=CROP), seed=seed)


def assert_same_clip(found, expected) -> None:
    assert found.name == expected.name
    for field in ("frames", "labels", "valid"):
        assert np.array_equal(getattr(found, field), getattr(expected, field))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_sample_depends_on_seed_and_draw_number_alone(stage, demo_data):
    draws = draws_of(stage, demo_data)
    expected = {draw: draws[draw] for draw in (0, 1, 7, len(draws), 5 * len(draws) + 3)}
    again = draws_of(stage, demo_data)
    for draw in reversed(expected):
        assert_same_clip(again[draw], expected[draw])
    other = draws_of(stage, demo_data, seed=1)[0]
    assert other.name != expected[0].name or not np.array_equal(other.frames, expected[0].frames)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_clips_have_three_frames_and_their_targets_in_the_first(stage, demo_data):
    draws = draws_of(stage, demo_data)
    slots = 1 if stage == 0 else 2
    for draw in range(12):
        clip = draws[draw]
        assert clip.frames.shape == (3, CROP, CROP, 3)
        assert clip.labels.shape == (3, CROP, CROP)
        assert clip.valid.shape == (slots,)
        targets = np.flatnonzero(clip.valid) + 1
        assert len(targets) >= 1
        assert set(np.unique(clip.labels[0])) - {0} == set(targets)
        assert set(np.unique(clip.labels)) <= {0, *targets}


class Blank:
    """A source of four clips that show nothing, and so does a clip's first frame if its index is in `objectless`."""

    def __init__(self, name: str = "blank", *, objectless: Collection[int] = ()) -> None:
        self.title, self.objectless = name, objectless

    def __len__(self) -> int:
        return 4

    def name(self, index: int) -> str:
        return f"{self.title}/{index}"

    def draw(self, index: int, rng: np.random.Generator, *, max_skip: int) -> Clip | None:
        if index in self.objectless:
            return None
        shape = (3, CROP, CROP)
        return Clip(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), np.ones(2, bool), self.name(index))


def test_an_epoch_takes_every_entry_as_often_as_it_should_in_an_order_of_its_own():
    draws = Draws({"one": (Blank("one"), 1), "five": (Blank("five"), 5)}, seed=0)
    assert len(draws) == 4 + 5 * 4
    first, second = ([draws[draw + epoch * len(draws)].name for draw in range(len(draws))] for epoch in (0, 1))
    expected = {**{f"one/{i}": 1 for i in range(4)}, **{f"five/{i}": 5 for i in range(4)}}
    assert Counter(first) == Counter(second) == expected
    assert first != second


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_loader_gives_the_same_batches_with_any_number_of_workers(workers, demo_data):
    draws = draws_of(3, demo_data)
    schedule = Schedule(iterations=4, batch=2)
    expected = list(load(draws, schedule, rank=0, start=1, workers=0))
    found = list(load(draws, schedule, rank=0, start=1, workers=workers))
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.names == theirs.names
        assert all((a == b).all() for a, b in zip(ours[:3], theirs[:3], strict=True))


@pytest.mark.parametrize(("batch", "passes", "world"), [(8, 1, 1), (4, 2, 1), (4, 1, 2), (2, 2, 2), (1, 1, 8)])
def test_an_iteration_takes_the_same_draws_however_they_are_shared(batch, passes, world):
    schedule = Schedule(5, batch, passes, world)
    shares = [list(schedule.batches(rank, start=2)) for rank in range(world)]
    for iteration in range(2, 5):
        first = (iteration - 2) * passes
        drawn = [draw for share in shares for part in share[first : first + passes] for draw in part]
        assert sorted(drawn) == list(range(8 * iteration, 8 * iteration + 8))
    assert {len(share) for share in shares} == {3 * passes}


def test_the_curriculum_is_the_papers():
    wanted = [(0, 5), (0.0999, 5), (0.1, 10), (0.25, 15), (0.3, 20), (0.4, 25), (0.79, 25), (0.9, 5), (1, 5)]
    for number in (2, 3):
        assert [max_skip(STAGES[number], progress) for progress, _ in wanted] == [skip for _, skip in wanted]
    assert [max_skip(STAGES[1], progress) for progress in (0.79, 0.8)] == [25, 5]


def test_the_stages_have_the_papers_numbers():
    assert [stage.iterations for stage in STAGES] == [300_000, 500_000, 300_000, 150_000]
    assert [stage.steps for stage in STAGES] == [(150_000,), (450_000,), (250_000,), (125_000,)]
    assert [stage.batch for stage in STAGES] == [16, 8, 8, 8]


@pytest.mark.parametrize("skip", [1, 5, 25])
@pytest.mark.parametrize("length", [3, 4, 5, 7, 30, 100])
def test_frames_are_distinct_and_within_the_skip(length, skip):
    rng = np.random.default_rng(0)
    drawn = [paper_frames(rng, length, skip) for _ in range(300)]
    for frames in drawn:
        assert all(0 <= frame < length for frame in frames)
        steps = np.diff(frames)
        assert 1 <= np.abs(steps).min() <= np.abs(steps).max() <= skip
        assert np.sign(steps[0]) == np.sign(steps[1])
    backwards = np.mean([frames[0] > frames[1] for frames in drawn])
    assert 0.4 < backwards < 0.6
    assert {frame for frames in drawn for frame in frames} == set(range(length)) or length > 30
    if length >= 2 * skip + 1:
        assert max(np.abs(np.diff(frames)).max() for frames in drawn) == skip


@pytest.mark.parametrize("length", [1, 2])
def test_a_short_video_gives_what_it_has(length):
    frames = paper_frames(np.random.default_rng(0), length, 5)
    assert len(frames) == 3
    assert set(frames) <= set(range(length))


def spacing_told(length: int, max_jump: int) -> dict[tuple[int, int, int], float]:
    """The distribution of the three frames in the released training code, by enumerating all its draws."""
    jump = min(length, max_jump)
    told: dict[tuple[int, int, int], float] = {}
    steps = range(jump + 1)  # 0 to J, equally likely
    for first in range(length - jump + 1):
        for one, other in itertools.product(steps, steps):
            second = min(first + 1 + one, length - jump, length - 1)
            third = min(second + 1 + other, length - jump // 2, length - 1)
            share = 0.5 / ((length - jump + 1) * len(steps) ** 2)
            for frames in ((first, second, third), (third, second, first)):
                told[frames] = told.get(frames, 0) + share
    return told


@pytest.mark.parametrize("draws", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("max_jump", [1, 2, 5, 25])
@pytest.mark.parametrize("length", [1, 2, 3, 27, 70])
def test_frames_are_spaced_as_in_the_released_code(length, max_jump, draws):
    rng = np.random.default_rng(0)
    told = spacing_told(length, max_jump)
    assert sum(told.values()) == pytest.approx(1)
    assert all(0 <= min(frames) <= max(frames) < length for frames in told)
    found: dict[tuple[int, ...], int] = {}
    for _ in range(draws):
        frames = tuple(released_frames(rng, length, max_jump))
        found[frames] = found.get(frames, 0) + 1
    assert found.keys() <= told.keys()
    # Pearson's statistic, with all cells of low expectation merged, within 5 standard deviations of its mean
    common = {frames for frames, share in told.items() if share * draws >= 5}
    rest = 1 - sum(told[frames] for frames in common)
    cells = [(found.get(frames, 0), told[frames] * draws) for frames in common]
    if rest * draws >= 5:
        cells.append((draws - sum(count for count, _ in cells), rest * draws))
    statistic = sum((count - expected) ** 2 / expected for count, expected in cells)
    freedom = max(1, len(cells) - 1)
    assert statistic <= freedom + 5 * (2 * freedom) ** 0.5


def test_youtube_counts_its_skip_in_fifths(demo_data):
    rng = np.random.default_rng(0)
    largest = {}
    for name, (source, _) in stage_sources(2, roots(demo_data), spacing="paper", crop=CROP).items():
        clips = [source.draw(0, rng, max_skip=10) for _ in range(16)]
        frames = [[int(frame) for frame in clip.name.split()[1].split(",")] for clip in clips if clip]
        largest[name] = np.abs(np.diff(frames)).max()
    assert largest["YouTube-VOS"] == 10
    assert 8 < largest["DAVIS"] <= 10


def label_map(*squares: tuple[int, int]) -> np.ndarray:
    """A label map (24, 24) with an object of `pixels` pixels for each (id, pixels)."""
    labels = np.zeros(24 * 24, dtype=np.uint8)
    for i, (number, pixels) in enumerate(squares):
        labels[150 * i : 150 * i + pixels] = number
    return labels.reshape(24, 24)


def clip_of(*label_maps: np.ndarray, seed: int = 0, **options) -> Clip | None:
    frames = [np.zeros((24, 24, 3), np.uint8)] * len(label_maps)
    return make_clip(frames, label_maps, np.random.default_rng(seed), name="x", slots=2, **options)


def test_at_most_two_objects_of_the_first_frame_become_targets():
    chosen = set()
    labels = label_map((3, 20), (7, 30), (200, 40))
    for seed in range(50):
        clip = clip_of(*[labels] * 3, seed=seed)
        assert clip.valid.tolist() == [True, True]
        chosen.add(tuple(np.bincount(clip.labels[0].ravel())[1:]))
    assert chosen == {(a, b) for a in (20, 30, 40) for b in (20, 30, 40) if a != b}


def test_objects_that_come_later_and_ignored_pixels_are_background():
    clip = clip_of(label_map((3, 20), (255, 50)), label_map((3, 10), (4, 30)), label_map((255, 5)))
    assert clip.valid.tolist() == [True, False]
    assert [int(np.count_nonzero(labels)) for labels in clip.labels] == [20, 10, 0]


def test_tiny_objects_are_left_out_after_augmentation():
    clip = clip_of(label_map((3, 100), (4, 101)), label_map((3, 150)), label_map((4, 3)), followed=stays_in_size)
    assert clip.valid.tolist() == [True, False]
    assert [int(np.count_nonzero(labels)) for labels in clip.labels] == [101, 0, 3]
    assert clip_of(*[label_map((3, 100))] * 3, followed=stays_in_size) is None


@pytest.mark.parametrize(
    ("pixels", "followed"),
    [
        ((100, 50, 50), False),
        ((101, 399, 399), True),
        ((101, 400, 10), False),
        ((101, 10, 400), False),
        ((900, 10, 400), False),
        ((901, 5000, 5000), True),
        ((901, 0, 0), True),
    ],
)
def test_small_objects_of_bl30k_that_grow_large_are_left_out(pixels, followed):
    assert stays_in_size(np.array(pixels)) is followed


def test_only_bl30k_leaves_tiny_objects_out(demo_data):
    (bl30k, _), (davis, _) = stage_sources(1, roots(demo_data))["BL30K"], stage_sources(3, roots(demo_data))["DAVIS"]
    assert (bl30k.followed, bl30k.scale) == (stays_in_size, (0.25, 1.0))
    assert (davis.followed, davis.scale) == (appears_first, (0.36, 1.0))


@pytest.fixture
def videos(tmp_path):
    """Four videos of noise with an object, as `VideoClips` reads them."""
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[5:35, 5:35] = 1
    for name in "abcd":
        write_video(tmp_path / "images" / name, tmp_path / "masks" / name, [labels] * 4)
    return tmp_path


def video_draws(folder) -> Draws:
    return Draws({"videos": (VideoClips(folder / "images", folder / "masks", crop=CROP), 1)}, seed=0)


def test_a_corrupt_image_is_named_and_replaced(videos):
    for t in range(4):
        (videos / f"images/b/{t:05d}.jpg").write_bytes(b"no picture")
    clips = [video_draws(videos)[draw] for draw in range(8)]
    problems = [problem for clip in clips for problem in clip.problems]
    assert not any("/b " in clip.name for clip in clips)
    assert problems
    assert all("images/b/0000" in problem and "cannot read" in problem for problem in problems)
    assert_same_clip(video_draws(videos)[3], clips[3])


def test_an_entry_without_an_object_is_counted_and_replaced_and_no_problem():
    draws = Draws({"some": (Blank(objectless=[2]), 1)}, seed=0)
    clips = [draws[draw] for draw in range(8)]
    assert not any(clip.problems for clip in clips)
    assert "blank/2" not in {clip.name for clip in clips}
    assert sum(clip.objectless for clip in clips) >= 2  # two of eight draws begin with it
    batch = next(load(draws, Schedule(1, 8), rank=0, start=0, workers=0))
    assert batch.objectless == sum(clip.objectless for clip in clips)
    assert batch.problems == ()
    with pytest.raises(InputError, match=r"20 samples in a row cannot be used, the last: blank/.: no object to follow"):
        Draws({"none": (Blank(objectless=range(4)), 1)}, seed=0)[0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_a_photographs_mask_may_have_any_mode(mode, tmp_path):
    labels = np.zeros((40, 40), np.uint8)
    labels[5:35, 5:35] = 255
    mask = Image.fromarray(labels)
    if mode == "I;16":
        mask = Image.fromarray(labels.astype(np.uint16) * 257)
    elif mode == "P":
        mask = Image.fromarray(labels // 255)
        mask.putpalette([0, 0, 0, 255, 255, 255])
    else:
        mask = mask.convert(mode)
    mask.save(tmp_path / "a.png")
    Image.new("RGB", (40, 40), (90, 120, 30)).save(tmp_path / "a.jpg")
    clip = StaticClips(tmp_path, crop=32).draw(0, np.random.default_rng(0), max_skip=0)
    assert clip is not None
    assert 0.2 < clip.labels.mean() < 1


def test_youtube_is_trained_on_by_a_list_where_it_lists_anything(demo_data, tmp_path, capsys):
    def names(*listed: str) -> list[str] | None:
        (tmp_path / "list.txt").write_text("\n".join(listed))
        sources = stage_sources(3, roots(demo_data), youtube_list=tmp_path / "list.txt")
        return sources["YouTube-VOS"][0].names

    every = stage_sources(3, roots(demo_data))["YouTube-VOS"][0].names
    assert names(*every[1:]) == every[1:]
    assert capsys.readouterr().err == ""
    assert names(every[0], "gone", "lost") == every[:1]
    assert "2 of the 3 videos in" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"list.txt: expected videos of .*, found none of these, but another, data"):
        names("another", "data", "set")
    usual = stage_sources(3, roots(demo_data), youtube_list=YOUTUBE_LIST)["YouTube-VOS"][0]
    assert usual.names == every  # of a data set of one's own
    with pytest.raises(InputError, match="expected a plain name"):
        names(every[0], "../../etc")


def test_davis_may_be_named_as_in_the_release_or_by_its_year(demo_data):
    for root in ("DAVIS", "DAVIS/2017", "DAVIS/2017/trainval"):
        sources = stage_sources(3, {**roots(demo_data), "davis_root": str(demo_data / root)})
        assert len(sources["DAVIS"][0]) > 0
        assert len(davis_videos(demo_data / root)) == 4
    for root in ("DAVIS", "DAVIS/2016", "DAVIS/2017"):
        assert davis_videos(demo_data / root, year=2016)
    with pytest.raises(InputError, match=r"2016: expected DAVIS 2017, found the folder of 2016; give that of 2017"):
        davis_videos(demo_data / "DAVIS/2016")


def test_videos_that_are_white_on_black_are_trained_on_as_those_of_object_1(videos):
    clips = []
    for value in (1, 255):
        for path in (videos / "masks").rglob("*.png"):
            labels = np.zeros((40, 40), np.uint8)
            labels[10:30, 10:30] = value
            Image.fromarray(labels).save(path)
        clips.append([video_draws(videos)[draw] for draw in range(8)])
    for one, white in zip(*clips, strict=True):
        assert_same_clip(one, white)
        assert white.labels.any()


def test_255_that_is_left_alone_is_no_object_in_training(videos):
    """The first mask numbers its object, the others mark it as ignored: only frame 0 shows an object to follow."""
    for folder in (videos / "masks").iterdir():
        for t, path in enumerate(sorted(folder.iterdir())):
            Image.fromarray(np.full((40, 40), 255 if t else 3, np.uint8)).save(path)
    draws = [video_draws(videos)[draw] for draw in range(8)]
    for clip in draws:
        frames = clip.name.rsplit(" ", 1)[1].split(",")
        assert frames[0] == "00000"
        for frame, labels in zip(frames, clip.labels, strict=True):
            assert frame == "00000" or not labels.any()


def test_two_frames_of_one_name_are_named_in_training(videos, tmp_path):
    path = next((videos / "images/b").iterdir())
    Image.new("RGB", (40, 40)).save(path.with_suffix(".png"))
    problems = {problem for draw in range(8) for problem in video_draws(videos)[draw].problems}
    assert problems == {f"{videos}/images/b: expected one picture of each name, found {path.name} and {path.stem}.png"}
    (tmp_path / "static").mkdir()
    for name in ("a.jpg", "a.webp", "a.png"):
        Image.new("L", (40, 40)).save(tmp_path / "static" / name)
    with pytest.raises(InputError, match=r"static: expected one picture of each name, found a.jpg and a.webp$"):
        StaticClips(tmp_path / "static")


@pytest.mark.parametrize("workers", [0, 1])
def test_data_of_which_nothing_can_be_used_ends_the_run_with_one_line(workers, videos):
    for path in (videos / "images").rglob("*.jpg"):
        path.write_bytes(b"")
    message = failing_to_load(video_draws(videos), workers=workers)
    assert message.startswith("20 samples in a row cannot be used, the last: ")
    assert "jpg: cannot read this image" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("free", "ranks", "told"),
    [(500, 1, "--num_workers 2 fits; pass"), (600, 2, "--num_workers 1 fits; pass"), (299, 1, " pass")],
)
def test_workers_that_find_too_little_shared_memory_are_refused(free, ranks, told, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    monkeypatch.setattr("os.statvfs", lambda place: SimpleNamespace(f_bavail=free, f_frsize=1))
    message = f"/dev/shm: 8 worker processes need .* are free;.*{told} --num_workers 0, .* --shm-size 1g\\)$"
    with pytest.raises(InputError, match=message):
        refuse_if_short(100, workers=8, held=1)
    with pytest.raises(InputError, match=r"/dev/shm: 1 worker processes need .* --num_workers 0, "):
        next(load(Draws({"a": (Blank(), 1)}, seed=0), Schedule(iterations=1, batch=2), rank=0, start=0, workers=1))
    refuse_if_short(100, workers=0, held=1)
    monkeypatch.setattr("os.statvfs", lambda place: SimpleNamespace(f_bavail=1700 * ranks, f_frsize=1))
    refuse_if_short(100, workers=8, held=1)


class Killed(Blank):
    """A source whose worker is killed, or which finds no room for its samples."""

    def draw(self, index: int, rng: np.random.Generator, *, max_skip: int) -> Clip | None:
        if torch.utils.data.get_worker_info() is not None:
            if self.title == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            torch.Tensor.share_memory_ = {"full": no_room, "limited": no_large_file}[self.title]
        return super().draw(index, rng, max_skip=max_skip)


def no_room(tensor: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)")


def no_large_file(tensor: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("unable to resize file </torch_1_2> to the right size: File too large (27)")


def failing_to_load(draws: Draws, *, workers: int) -> str:
    """The message with which loading ends, without the error, whose traceback would keep the workers alive."""
    try:
        next(load(draws, Schedule(iterations=4, batch=1), rank=0, start=0, workers=workers))
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", ["killed", "full", "limited"])
def test_a_lost_worker_ends_the_run_with_one_line(how):
    message = failing_to_load(Draws({"a": (Killed(how), 1)}, seed=0), workers=1)
    assert message.startswith(
        "a worker process was lost, for lack of memory, of room in /dev/shm or of open files; pass --num_workers 0"
    )
    assert "--shm-size" in message
    assert "\n" not in message


def test_a_mask_of_another_size_is_named(videos):
    for path in (videos / "masks/a").iterdir():
        Image.fromarray(np.ones((30, 40), np.uint8)).save(path)
    source = VideoClips(videos / "images", videos / "masks", ["a"])
    with pytest.raises(InputError, match=r"masks/a/0000.\.png: mask is 30x40, its frame is 40x40"):
        source.draw(0, np.random.default_rng(0), max_skip=5)


def grey_photograph(folder) -> StaticClips:
    """A photograph whose mask falls from 255 in its middle to 0."""
    y, x = np.mgrid[:64, :64] - 31.5
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "a.jpg")
    Image.fromarray((255 - 8 * np.hypot(x, y)).clip(0, 255).astype(np.uint8)).save(folder / "a.png")
    return StaticClips(folder, crop=CROP)


def test_a_photographs_mask_goes_soft_into_the_memory_and_its_targets_are_cut_at_half(tmp_path):
    source = grey_photograph(tmp_path)
    clips = [source.draw(0, np.random.default_rng(seed), max_skip=0) for seed in range(4)]
    for clip in clips:
        assert (clip.masks.shape, clip.masks.dtype) == ((1, CROP, CROP), np.uint8)
        assert np.array_equal(clip.labels[0], clip.masks[0] > 127)
        assert len(np.unique(clip.masks)) > 50  # a mask that was cut before the warps would have few values


def test_the_training_step_gets_soft_masks_where_there_are_some_and_else_those_of_the_labels(tmp_path, demo_data):
    class Stop(Exception):
        pass

    def masks_of(sources) -> tuple[Batch, torch.Tensor]:
        batch = next(load(Draws(sources, seed=0), Schedule(1, 2), rank=0, start=0, workers=0))
        given = []

        def network(frames, masks, valid):
            given.append((batch, masks))
            raise Stop

        with contextlib.suppress(Stop):
            training_step(network, batch, 0.15, None, torch.device("cpu"))
        return given[0]

    batch, masks = masks_of({"photographs": (grey_photograph(tmp_path), 1)})
    assert batch.masks is not None
    assert torch.equal(masks, batch.masks.float() / 255)
    assert masks.dtype == torch.float32
    batch, masks = masks_of(stage_sources(3, roots(demo_data), crop=CROP))
    assert batch.masks is None
    assert torch.equal(masks, torch.stack([batch.labels[:, 0] == 1, batch.labels[:, 0] == 2], dim=1).float())


def test_the_releases_list_of_youtube_is_the_default_and_has_3464_videos(demo_data, tmp_path):
    names = read_image_set(YOUTUBE_LIST)
    assert len(names) == len(set(YOUTUBE_LIST.read_text().split())) == 3464
    parser = argparse.ArgumentParser()
    add_sampling_flags(parser)
    assert sampling_options(parser.parse_args([]))["youtube_list"] == YOUTUBE_LIST
    assert sampling_options(parser.parse_args(["--yv_all"]))["youtube_list"] is None
    every = stage_sources(3, roots(demo_data))["YouTube-VOS"][0].names
    for part in ("JPEGImages", "Annotations"):  # one of them is in the list
        (tmp_path / "train_480p" / part).mkdir(parents=True)
        for name, source in zip((names[7], "fffffffff0"), every, strict=False):
            (tmp_path / "train_480p" / part / name).symlink_to(demo_data / "YouTube/train_480p" / part / source)
    there = stage_sources(3, {**roots(demo_data), "yv_root": str(tmp_path)}, youtube_list=YOUTUBE_LIST)
    assert there["YouTube-VOS"][0].names == [names[7]]


def test_static_data_sets_that_are_there_are_used_and_those_of_the_paper_missed_where_they_are_not(
    demo_data, tmp_path, capsys
):
    often = {name: often for name, (_, often) in static_sources(demo_data / "static").items()}
    assert often == {"fss": 1, "DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": 5, "HRSOD_small": 5}
    assert not capsys.readouterr().err  # of people, who are not the paper's
    for name in ("ecssd", "ccp"):
        (tmp_path / name).symlink_to(demo_data / "static/ecssd")
    assert list(static_sources(tmp_path)) == ["ecssd", "ccp"]
    assert "training without BIG_small, DUTS-TE, DUTS-TR, HRSOD_small, fss" in capsys.readouterr().err
    with pytest.raises(InputError, match="expected at least one of fss, DUTS-TR"):
        static_sources(tmp_path / "none")


def test_either_video_data_set_may_be_left_out(demo_data):
    assert list(stage_sources(3, {**roots(demo_data), "yv_root": None})) == ["DAVIS"]
    assert list(stage_sources(3, {**roots(demo_data), "davis_root": None})) == ["YouTube-VOS"]
    with pytest.raises(InputError, match="found none"):
        stage_sources(3, {**roots(demo_data), "davis_root": None, "yv_root": None})


def test_own_videos_are_trained_on_alone_or_beside_others_as_often_as_asked(demo_data):
    nothing, own = {**roots(demo_data), "davis_root": None, "yv_root": None}, demo_data / "BL30K"
    ((source, often),) = stage_sources(3, nothing, own=[own]).values()
    assert source.names == sorted(path.name for path in (own / "Annotations").iterdir())
    assert often == 5
    found = stage_sources(3, roots(demo_data), own=[own], mix={"BL30K": 7, "YouTube-VOS": 0})
    assert {name: often for name, (_, often) in found.items()} == {"DAVIS": 5, "BL30K": 7}
    with pytest.raises(InputError, match="--mix: expected some of YouTube-VOS, DAVIS, found FSS"):
        stage_sources(3, roots(demo_data), mix={"FSS": 1})
    with pytest.raises(InputError, match="--mix: expected at least one data set above 0"):
        stage_sources(3, nothing, own=[own], mix={"BL30K": 0})
    with pytest.raises(InputError, match="same name"):
        stage_sources(3, nothing, own=[own, own])
    with pytest.raises(InputError, match="--own_root: expected stage 2 or 3, found 0"):
        stage_sources(0, roots(demo_data), own=[own])


@pytest.mark.parametrize(
    ("stage", "root", "message"),
    [
        (1, "bl_root", "JPEGImages: no such folder"),
        (2, "yv_root", "train_480p/JPEGImages: no such folder"),
        (3, "davis_root", "ImageSets/2017/train.txt: no such image set"),
    ],
)
def test_an_absent_data_set_is_named(stage, root, message, demo_data, tmp_path):
    with pytest.raises(InputError, match=message):
        stage_sources(stage, {**roots(demo_data), root: str(tmp_path)})


def test_workers_that_may_open_too_few_files_are_refused(monkeypatch):
    limits = {"value": (64, 64)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits["value"])
    monkeypatch.setattr(resource, "setrlimit", lambda which, value: limits.update(value=value))
    with pytest.raises(InputError, match=r"^ulimit -n: 8 worker processes need \d+ open files, 64 are allowed; pass fewer"):
        refuse_if_few_files(4, workers=8, held=1)
    refuse_if_few_files(4, workers=0, held=1)
    assert limits["value"] == (64, 64)
    limits["value"] = (64, 4096)
    refuse_if_few_files(4, workers=8, held=1)
    assert 64 < limits["value"][0] < 4096 == limits["value"][1]
