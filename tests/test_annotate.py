"""A session of annotate.py and the worker that follows: what is computed anew, and what a stop or a crash leaves."""

import copy
import csv
import functools
import io
import json
import os
import shutil
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import av
import cv2
import numpy as np
import pytest
import torch
from conftest import content, run_script
from films import SIZE, noise, square, write_film, write_folder
from PIL import Image

from annotation.export import KINDS, export, zipped
from annotation.frames import Frames
from annotation.imported import import_masks, read_import
from annotation.session import Session
from annotation.state import Result
from annotation.worker import Worker
from dataset.frame_folder import FrameFolder
from dataset.given_masks import GivenMask
from dataset.video_file import VideoFile
from dataset.vos import VideoClips
from dataset.youtube import youtube_videos
from evaluation.cut import BACKGROUND, MAYBE_BACKGROUND, MAYBE_OBJECT, OBJECT, changing_locally, cut
from model import VideoSegmenter
from util.errors import InputError, WriteError
from util.label_map import colour_map, read_label_map, write_label_map
from util.lock import LOCK

LENGTH = 12
NOTHING = np.full(SIZE, 255, np.uint8)  # is drawn


@pytest.fixture
def video(tmp_path) -> FrameFolder:
    return FrameFolder(write_folder(tmp_path / "frames", LENGTH))


class Bench:
    """A session with its worker, and a count of the frames that the network has seen."""

    def __init__(self, root: Path, video, network) -> None:
        self.session = Session(root, video, "frames")
        self.seen = 0
        self.stop_at = -1
        bench = self

        class Counting(VideoSegmenter):
            def step(self, *arguments, **options):
                bench.seen += 1
                if bench.seen == bench.stop_at:
                    bench.worker._stop.set()
                return super().step(*arguments, **options)

        self.worker = Worker(self.session, functools.partial(Counting, network, memory_every=2), {})

    def follow(self, stop_at: int = -1, window: range | None = None) -> int:
        """Follow, perhaps only some frames, or to be stopped at a step; returns how many frames the network saw."""
        self.seen, self.stop_at = 0, stop_at
        self.worker.start("follow", functools.partial(self.worker.follow, window))
        assert self.worker._thread is not None
        self.worker._thread.join()
        assert not self.worker.job.failed, self.worker.job.message
        return self.seen

    def results(self) -> dict[int, bytes]:
        return {t: self.session.labels(t).tobytes() for t in range(LENGTH)}


@pytest.fixture
def bench(tmp_path, video, light_network) -> Bench:
    result = Bench(tmp_path / "out", video, light_network)
    result.session.add_object("dog")
    return result


def test_the_first_following_is_what_segment_video_does(bench, light_file, tmp_path):
    masks = {3: square((4, 4)), 8: square((30, 20))}
    for frame, labels in masks.items():
        bench.session.give(frame, labels)
        write_label_map(tmp_path / f"{frame}.png", labels, colour_map())
    assert bench.follow() == 9 + 9
    flags = ("--mem_every", 2, "--size", 48, "--max_memory_frames", "all", "--amp", "off", "--model", light_file)
    given = [f"{frame}:{tmp_path / f'{frame}.png'}" for frame in masks]
    assert run_script("segment_video", tmp_path / "frames", "--mask", *given, "--output", tmp_path / "own", *flags) == 0
    for t in range(LENGTH):
        expected = read_label_map(tmp_path / f"own/masks/{t}.png").labels
        np.testing.assert_array_equal(bench.session.labels(t), masks.get(t, expected))
        np.testing.assert_array_equal(read_label_map(tmp_path / f"out/masks/{t}.png").labels, masks.get(t, expected))


def test_masks_of_files_become_given_masks_of_a_new_session(bench, video, tmp_path):
    session = Session(tmp_path / "new", video, tmp_path / "frames")
    first, gone = square((4, 4), (30, 20)), square() * 0
    masks = {2: GivenMask(7 * first, frozenset(), ()), 5: GivenMask(gone, frozenset({7}), ())}
    assert import_masks(session, masks)
    assert [(each.id, each.name) for each in session.objects] == [(7, "object 7"), (14, "object 14")]
    np.testing.assert_array_equal(session.given_labels(2), 7 * first)
    assert {frame: (mask.stated, mask.shown) for frame, mask in session.given.items()} == {2: ([7, 14], [7, 14]), 5: ([7], [])}
    assert not import_masks(session, masks)
    session.close()


def test_a_correction_computes_the_interval_between_its_neighbours_and_nothing_else(bench):
    for frame in (0, 4, 9):
        bench.session.give(frame, square((4 + frame, 4)))
    assert bench.follow() == 10 + 12
    before = bench.results()
    assert bench.follow() == 0
    bench.session.give(6, square((30, 20)))
    assert [bench.session.results[t] for t in range(LENGTH)] == [Result.FINAL] * 5 + [Result.OLD] * 4 + [Result.FINAL] * 3
    assert bench.follow() == 2 * 6  # frames 4 to 9, both ways
    after = bench.results()
    assert {t for t in range(LENGTH) if after[t] != before[t]} <= {5, 6, 7, 8}
    assert after[6] == square((30, 20)).tobytes()
    bench.session.give(11, square((2, 2)))
    assert bench.follow() == 2 * 3  # frames 9 to 11
    bench.session.forget(6)
    assert bench.follow() == 2 * 6
    after = bench.results()
    assert all(after[t] == before[t] for t in (0, 1, 2, 3, 4, 9))


def test_a_correction_that_is_taken_back_leaves_all_as_it_was(bench):
    for frame in (0, 9):
        bench.session.give(frame, square((4 + frame, 4)))
    bench.follow()
    before, results = bench.results(), bytes(bench.session.results)
    bench.session.give(5, square((30, 20)))
    bench.session.give(9, square((8, 8)))
    assert bytes(bench.session.results) != results
    bench.session.give(9, square((13, 4)))
    bench.session.forget(5)
    assert bytes(bench.session.results) == results
    assert bench.results() == before
    assert bench.follow() == 0
    bench.session.give(5, square((30, 20)))
    bench.follow()
    bench.session.forget(5)
    assert bench.follow() == 2 * 10  # something was followed since, so it is not as it was


def test_a_new_object_is_followed_past_masks_that_were_drawn_before_it(bench):
    bench.session.give(2, square((4, 4)))
    bench.session.give(6, square((4, 4)))
    bench.follow()
    bench.session.add_object("cat")
    bench.session.give(9, square((4, 4), (40, 20)))
    assert bench.session.parts() == [range(LENGTH)]
    bench.follow()
    bench.session.give(4, square((4, 4), (40, 20)))  # both objects are stated here and at 9
    assert bench.session.parts() == [range(0, 10)]
    bench.follow()
    bench.session.give(8, square((4, 4)))
    assert bench.session.parts() == [range(4, 10)]


def test_a_mask_without_an_object_says_that_it_is_not_there(bench):
    bench.session.add_object("cat")
    bench.session.give(0, square((4, 4), (40, 20)))
    bench.session.give(5, square((4, 4)))
    bench.follow()
    assert 2 not in bench.session.labels(5)
    assert not bench.session.parts()
    bench.session.give(8, square((4, 4)))
    assert bench.session.parts() == [range(5, LENGTH)]


def test_a_correction_states_only_what_was_drawn_or_erased(bench):
    session = bench.session
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    assert session.given[0].stated == [1, 2]  # nothing was found yet
    bench.follow()
    found = square((4, 4), (40, 20))
    for frame in (4, 8):
        session.results[frame] = Result.OLD  # else it keeps what the network has found
        session.put_result(frame, found, None, final=True, revision=session.revision)
    moved = np.where(found == 2, np.uint8(0), found)
    moved[2:10, 10:30] = 2  # also over a part of the other
    session.draw(4, moved)
    assert (session.given[4].stated, session.given[4].shown) == ([2], [2])
    np.testing.assert_array_equal(session.labels(4), moved)
    np.testing.assert_array_equal(session.given_labels(4), np.where(moved == 2, moved, 0))
    session.draw(8, np.where(found == 1, found, np.uint8(0)))  # the cat is not here
    assert (session.given[8].stated, session.given[8].shown) == ([2], [])
    assert session.parts() == [range(LENGTH)]
    erased = np.where(moved == 1, np.uint8(0), moved)
    session.draw(4, erased)
    assert session.given[4].stated == [1, 2]
    session.draw(8, NOTHING)  # it is right as it is
    assert (session.given[8].stated, session.given[8].shown) == ([1, 2], [1])
    bench.follow()
    assert 2 not in session.labels(8)


def test_that_an_object_is_gone_states_nothing_of_the_others(bench):
    session = bench.session
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    for frame in (4, 5):
        session.put_result(frame, square((4, 4)), None, final=True, revision=session.revision)
    session.draw(4, NOTHING, gone=2)  # which the result lacks already
    session.draw(5, NOTHING, gone=1)
    session.draw(9, NOTHING, gone=2)  # a frame without a mask
    assert [(mask.stated, mask.shown) for mask in session.given.values()] == [
        ([1, 2], [1, 2]),
        ([2], []),
        ([1], []),
        ([2], []),
    ]
    np.testing.assert_array_equal(session.labels(4), square((4, 4)))
    with pytest.raises(InputError, match="there is no object 7"):
        session.draw(4, NOTHING, gone=7)


# steps that are taken back


def stroke(corner: tuple[int, int], value: int = 1) -> np.ndarray:
    """What a page sends that has drawn a square."""
    return np.where(square(corner) == 1, np.uint8(value), NOTHING)


def test_pages_draw_beside_each_other_and_take_back_their_own_strokes(bench):
    session = bench.session
    session.draw(3, stroke((4, 4)), by=1)
    session.draw(3, stroke((30, 20)), by=2)
    session.draw(3, stroke((4, 40)), by=1)
    np.testing.assert_array_equal(session.labels(3), square((4, 4)) | square((30, 20)) | square((4, 40)))
    session.undo(1)
    np.testing.assert_array_equal(session.labels(3), square((4, 4)) | square((30, 20)))
    session.undo(1)
    np.testing.assert_array_equal(session.labels(3), square((30, 20)))
    with pytest.raises(InputError, match="nothing to undo"):
        session.undo(1)
    session.undo(1, again=True)
    np.testing.assert_array_equal(session.labels(3), square((4, 4)) | square((30, 20)))
    session.draw(5, stroke((4, 4)), by=1)
    with pytest.raises(InputError, match="nothing to redo"):
        session.undo(1, again=True)
    session.undo(2)
    np.testing.assert_array_equal(session.labels(3), square((4, 4)))


def test_a_step_whose_mask_another_page_took_back_is_not_done_again(bench):
    bench.session.draw(3, stroke((4, 4)), by=1)
    bench.session.forget(3, by=2)
    bench.session.undo(1)
    with pytest.raises(InputError, match="nothing to redo"):
        bench.session.undo(1, again=True)


def test_undo_reaches_over_frames_to_the_beginning_and_back(bench):
    session = bench.session
    session.draw(0, stroke((4, 4)), by=1)
    for frame in range(LENGTH):
        session.put_result(frame, square((4, 4)), 0.5, final=True, revision=session.revision)
    stages = [all_of(session)]
    for step in (
        lambda: session.draw(4, stroke((30, 20)), by=1),
        lambda: session.draw(4, stroke((31, 22), 0), by=1),
        lambda: session.draw(8, NOTHING, gone=1, by=1),
        lambda: session.forget(4, by=1),
    ):
        step()
        stages.append(all_of(session))
    for stage in stages[-2::-1]:
        session.undo(1)
        assert all_of(session) == stage
    assert not session.parts()  # the old results count again
    for stage in stages[1:]:
        session.undo(1, again=True)
        assert all_of(session) == stage
    for _ in stages:
        session.undo(1)
    assert not session.given


def test_undo_brings_a_removed_object_back(bench):
    session = bench.session
    session.add_object("cat")
    session.draw(3, square((4, 4), (40, 20)), by=1)
    session.draw(6, stroke((4, 4), 2), by=1)
    session.draw(9, stroke((4, 4)), gone=2, by=1)
    before = all_of(session)
    session.remove_object(2, by=1)
    for frame in range(LENGTH):
        session.clean(frame)
    removed = all_of(session)
    assert {frame: mask.stated for frame, mask in session.given.items()} == {3: [1], 6: [1], 9: [1]}
    session.undo(1)
    assert all_of(session) == before
    session.undo(1, again=True)
    assert all_of(session) == removed
    session.draw(3, stroke((4, 30)), by=2)
    session.undo(1)
    np.testing.assert_array_equal(session.labels(3), square((4, 4), (40, 20)) | square((4, 30)))
    assert session.given[3].stated == [1, 2]
    session.undo(2)
    assert all_of(session) == before


def test_some_frames_are_followed_and_then_the_others_as_if_at_once(bench, video, light_network, tmp_path):
    def final() -> str:
        return "".join("f" if state == Result.FINAL else "." for state in bench.session.results)

    bench.session.give(3, square((4, 4)))
    assert bench.follow(window=range(5, 7)) == 4  # from the given frame to here
    assert final() == "...ffff....."
    assert bench.follow(window=range(4, 7)) == 0
    assert bench.follow(window=range(6, 9)) == 2  # goes on
    assert bench.follow(window=range(1, 3)) == 3 + 1  # backwards
    assert final() == ".ffffffff..."
    bench.follow()
    assert final() == "f" * LENGTH
    other = Bench(tmp_path / "other", video, light_network)
    other.session.add_object("dog")
    other.session.give(3, square((4, 4)))
    other.follow()
    assert other.results() == bench.results()
    bench.session.give(9, square((8, 8)))
    assert bench.follow(window=range(5, 7)) == 2 * 7  # all between two given frames, since both directions are needed
    assert final() == "f" * 10 + ".."


@pytest.mark.parametrize("stop", [1, 9, 10, *[pytest.param(stop, marks=pytest.mark.slow) for stop in (4, 11, 16)]])
def test_after_a_stop_following_goes_on_to_the_same_results(stop, bench, video, light_network, tmp_path):
    def give(bench: Bench) -> None:
        bench.session.give(2, square((4, 4)))
        bench.session.give(8, square((30, 20)))

    give(bench)
    assert bench.follow() == 9 + 10
    other = Bench(tmp_path / "other", video, light_network)
    other.session.add_object("dog")
    give(other)
    assert other.follow(stop_at=stop) == stop
    assert other.worker.job.message == "stopped"
    kept = sum(state != Result.MISSING for state in other.session.results)
    assert kept >= min(stop - 1, 8)
    other.session.close()
    again = Bench(tmp_path / "other", video, light_network)  # a new process
    assert sum(state != Result.MISSING for state in again.session.results) == kept
    assert again.follow() == 19 - stop
    assert again.results() == bench.results()
    assert list((tmp_path / "other/working").iterdir()) == []


def test_a_mask_that_is_given_after_a_stop_leaves_nothing_undone(bench):
    for frame in (0, 5, 10):
        bench.session.give(frame, square((4 + frame, 4)))
    bench.follow()
    bench.session.give(2, square((30, 20)))
    bench.follow(stop_at=8)  # between 0 and 5, forwards
    assert any(bench.session.results[t] != Result.FINAL for t in range(5))
    bench.session.give(7, square((8, 8)))
    bench.follow()
    assert bench.session.results == bytearray([Result.FINAL]) * LENGTH


def test_a_result_that_is_lost_after_a_stop_is_followed_again(bench, video, light_network, tmp_path):
    for frame in (0, 5, 10):
        bench.session.give(frame, square((4 + frame, 4)))
    bench.follow()
    bench.session.give(7, square((8, 8)))
    bench.follow(stop_at=3)
    bench.session.close()
    (tmp_path / "out/masks/3.png").unlink()
    again = Bench(tmp_path / "out", video, light_network)
    again.follow()
    assert again.session.results == bytearray([Result.FINAL]) * LENGTH


def test_parts_of_one_job_hold_one_memory_at_a_time(bench):
    """The check of the memory counts one."""
    for frame in range(0, LENGTH, 2):
        bench.session.give(frame, square((4 + frame, 4)))
    bench.follow()
    for frame in (1, 5, 9):
        bench.session.give(frame, square((30, 20)))
    assert len(bench.session.parts()) == 3
    made: list[weakref.ref[VideoSegmenter]] = []
    make = bench.worker.make_segmenter
    held = set()

    def making() -> VideoSegmenter:
        alive = [each for each in (ref() for ref in made) if each is not None]
        held.add(sum(each.bank.frames > 0 for each in alive))
        segmenter = make()
        made.append(weakref.ref(segmenter))
        return segmenter

    bench.worker.make_segmenter = making
    assert bench.follow() == 3 * 2 * 3
    assert len(made) >= 6
    assert held == {0, 1}  # the last pass's, when the next one begins


def test_a_mask_that_is_drawn_while_it_follows_ends_that(bench, monkeypatch):
    bench.session.give(2, square((4, 4)))
    put = bench.session.put_result

    def draw_first(frame, *arguments, **options):
        if frame == 5:
            bench.session.give(4, square((30, 20)))
        return put(frame, *arguments, **options)

    monkeypatch.setattr(bench.session, "put_result", draw_first)
    bench.follow()
    assert "a mask has changed" in bench.worker.job.message
    assert bench.session.results[5] == Result.MISSING
    monkeypatch.undo()
    bench.follow()
    assert bench.session.results == bytearray([Result.FINAL]) * LENGTH
    np.testing.assert_array_equal(bench.session.labels(4), square((30, 20)))


def test_following_again_leaves_locked_objects_as_they_were_found(bench):
    session = bench.session
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    for frame in range(LENGTH - 1):
        session.put_result(frame, square((frame, 4), (40, 20)), 0.5, final=True, revision=session.revision)
    before = [session.labels(frame) for frame in range(LENGTH)]
    session.change_object(1, locked=True)
    session.draw(5, stroke((20, 30), 2))  # from here, both passes go to the first frame
    bench.follow()
    assert session.results == bytearray([Result.FINAL]) * LENGTH
    for frame in range(1, LENGTH - 1):
        np.testing.assert_array_equal(session.labels(frame) == 1, before[frame] == 1)
    assert any((session.labels(frame) != before[frame]).any() for frame in range(1, 5))
    session.change_object(1, locked=False)
    session.draw(5, stroke((30, 20), 2))
    bench.follow()
    assert any(((session.labels(frame) == 1) != (before[frame] == 1)).any() for frame in range(1, LENGTH - 1))


def test_a_result_that_is_less_sure_than_the_one_before_can_be_taken_back(bench):
    session = bench.session

    def follow(found: dict[int, tuple[float, tuple[int, int]]]) -> None:
        for final in (False, True):  # the pass backwards, and then forwards
            for frame, (sureness, corner) in found.items():
                assert session.put_result(frame, square(corner), sureness, final=final, revision=session.revision)

    def worse() -> dict[int, float]:
        return {entry[0]: entry[6] for entry in session.changes(0)["frames"] if entry[6] is not None}

    session.draw(0, square((4, 4)))
    follow({frame: (0.8, (frame, 4)) for frame in range(1, LENGTH)})
    assert not worse()
    session.draw(5, stroke((20, 30), 1))
    session.draw(7, stroke((20, 30), 1))
    assert not worse()  # what is old has not been followed again
    follow({1: (0.9, (4, 8)), 2: (0.71, (4, 8)), 3: (0.3, (4, 8)), 4: (0.1, (4, 8))})
    assert worse() == {3: 0.8, 4: 0.8}
    np.testing.assert_array_equal(session.replaced(3), square((3, 4)))
    with pytest.raises(InputError, match="frame 2 is no worse than before"):
        session.restore(2)
    version = session.version
    session.restore(3)
    np.testing.assert_array_equal(session.given_labels(3), square((3, 4)))
    assert session.given[3].stated == [1]
    assert {entry[0] for entry in session.changes(version)["frames"]} >= {1, 2, 3, 4}
    assert not worse()  # frame 4 follows from it
    follow(dict.fromkeys((1, 2, 4), (0.1, (4, 4))))
    assert worse() == {1: 0.9, 2: 0.71}  # frame 4 was no surer
    session.undo(0)
    assert 3 not in session.given


def test_pages_hear_which_objects_each_frame_shows_and_which_are_said_to_be_gone(bench):
    session = bench.session
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    for frame in (1, 2, 3):
        session.put_result(frame, square((4, 4)), 0.5, final=True, revision=session.revision)
    session.draw(2, NOTHING, gone=2)
    session.draw(3, stroke((40, 20), 2))
    assert [entry[4:6] for entry in session.changes(0)["frames"][:5]] == [
        [[1, 2], []],
        [[1], []],
        [[1], [2]],
        [[1, 2], []],
        [None, []],
    ]
    session.remove_object(1)
    assert session.changes(0)["frames"][1][4] == []


def test_a_session_is_there_again_as_it_was(bench, video, tmp_path):
    session = bench.session
    session.change_object(1, name="a\nlong dog", hidden=True, locked=True, colour="#0080ff")
    session.add_object("")
    session.give(3, square((4, 4), (40, 20)))
    bench.follow()
    session.give(5, square((4, 4)))
    session.close()
    again = Session(tmp_path / "out", video, "frames")
    assert [(each.id, each.name, each.hidden, each.locked) for each in again.objects] == [
        (1, "along dog", True, True),
        (2, "object 2", False, False),
    ]
    assert [each["colour"] for each in again.changes(0)["objects"]] == [(0, 128, 255), again.objects[1].rgb]
    assert again.changes(0)["frames"][4][1:3] == session.changes(0)["frames"][4][1:3]
    assert (again.given, again.results, again.sureness) == (session.given, session.results, session.sureness)
    for t in range(LENGTH):
        np.testing.assert_array_equal(again.labels(t), session.labels(t))
    assert [entry["action"] for entry in again.done] == ["add", "add", "draw", "follow", "draw"]


def test_a_removed_object_is_gone_everywhere_and_its_number_is_not_used_again(bench, tmp_path):
    bench.session.add_object("cat")
    bench.session.give(3, square((4, 4), (40, 20)))
    bench.follow()
    bench.session.remove_object(2)
    for t in range(LENGTH):
        assert 2 not in bench.session.labels(t)
        bench.session.clean(t)
        assert 2 not in read_label_map(tmp_path / f"out/masks/{t}.png").labels
    np.testing.assert_array_equal(bench.session.given_labels(3), square((4, 4)))
    assert bench.session.add_object("bird").id == 3
    bench.session.remove_object(1)
    bench.session.remove_object(3)
    assert not bench.session.given
    assert not bench.session.parts()


def test_what_a_session_refuses(bench, video, tmp_path):
    with pytest.raises(InputError, match="expected labels of objects, found 2"):
        bench.session.give(0, square((4, 4), (40, 20)))
    with pytest.raises(InputError, match=r"another run of annotate.py works in this folder"):
        Session(tmp_path / "out", video, "frames")
    with pytest.raises(InputError, match="there is no object 7"):
        bench.session.remove_object(7)
    bench.session.close()
    with pytest.raises(InputError, match=r"session of another video, .*frames was 12, is 5"):
        Session(tmp_path / "out", FrameFolder(write_folder(tmp_path / "few", 5)), "few")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"expected a new folder or a session, found letter.txt"):
        Session(tmp_path / "full", video, "frames")
    (tmp_path / "out/session.json").write_text('{"format": "another"}')
    with pytest.raises(InputError, match=r"session.json: expected a session of annotate.py"):
        Session(tmp_path / "out", video, "frames")


@pytest.mark.parametrize("name", ["working", "masks", "export", "export/cutout", LOCK, "given/0.png"])
def test_a_session_never_follows_links_out_of_its_folder(name, bench, video, tmp_path):
    bench.session.give(0, square((4, 4)))
    bench.session.close()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.npz").write_bytes(b"precious")
    place = tmp_path / "out" / name
    if place.exists():
        place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "elsewhere")
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"{name}: expected a file or folder of this session, found a link"):
        Session(tmp_path / "out", video, "frames")
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert (tmp_path / "elsewhere/1.npz").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("objects", [{"id": 300, "name": "x", "hidden": False}]),
        ("objects", [{"id": 1, "name": "x", "hidden": False}] * 2),
        ("given", {"0": {"stated": "x", "shown": []}}),
        ("given", {"0": {"stated": [1, -1], "shown": []}}),
        ("given", {"99": {"stated": [1], "shown": []}}),
        ("results", "rrr"),
        ("results", "?" * LENGTH),
        ("sureness", 3),
        ("shows", [[1]]),
        ("shows", [["x"]] * LENGTH),
        ("objects", [{"id": 1, "name": "x", "locked": 1}]),
        ("objects", [{"id": 1, "name": "x", "colour": "#12"}]),
        ("next_object", []),
        ("next_object", 10**30),
        ("objects", [{"id": 1e999, "name": "x", "hidden": False}]),
        ("objects", [{"id": 1, "name": "x", "hidden": False, "more": 1}]),
        ("sureness", [float("nan")] * LENGTH),
        ("sureness", [10**400] * LENGTH),
        ("sureness", ["x" * 5000] * LENGTH),
        ("given", {"9" * 5000: {"stated": [1], "shown": []}}),
        ("done", "undone"),
        ("unclean", 1),
        ("version", "9" * 5000),
    ],
)
def test_a_damaged_record_is_one_line(entry, value, bench, video, tmp_path):
    bench.session.close()
    path = tmp_path / "out/session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}))
    with pytest.raises(InputError, match=r"session.json: expected a session of annotate.py") as caught:
        Session(tmp_path / "out", video, "frames")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# a crash while something is saved


class Crash(BaseException):
    """The process has died."""


def die_before_change(number: int, monkeypatch) -> None:
    """From the change of a file with this number on, nothing is changed any more."""
    left = [number]

    def fragile(change):
        def changed(*arguments, **options):
            if left[0] == 0:
                raise Crash
            left[0] -= 1
            return change(*arguments, **options)

        return changed

    for where, name in ((os, "replace"), (Path, "unlink"), (Path, "rmdir"), (Path, "mkdir"), (os, "fsync")):
        monkeypatch.setattr(where, name, fragile(getattr(where, name)))


def all_of(session: Session) -> list:
    """All that a session says."""
    frames = [(session.labels(t).tobytes(), session.results[t]) for t in range(LENGTH)]
    given = {t: (mask.stated, mask.shown, session.given_labels(t).tobytes()) for t, mask in session.given.items()}
    return [session.objects, session.next_object, given, frames]


CALLS: dict[str, Callable[[Session], object]] = {
    "the first mask of a frame": lambda session: session.give(7, square((8, 8))),
    "another mask of a frame": lambda session: session.give(3, square((8, 8), (40, 20))),
    "an object": lambda session: session.add_object("bird"),
    "objects with masks": lambda session: session.bring([4, 8], {t: (4 * square((8, t), (40, 20)), {4, 8}) for t in (3, 7)}),
    "without an object": lambda session: session.remove_object(2),
    "without a mask": lambda session: session.forget(3),
    "an object that is back": lambda session: session.undo(7),
    "an export": lambda session: _returned(export(session, "masks", lambda *_: None)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_crash_while_something_is_saved_leaves_what_was_or_what_is_to_be(call, video, tmp_path):
    start = Session(tmp_path / "start", video, "frames")
    for name in ("dog", "cat", "bird"):
        start.add_object(name)
    for frame in (3, 9):
        start.give(frame, square((4, 4), (40, 20)))
    for frame in range(LENGTH):
        assert start.put_result(frame, square((frame, 4), (40, frame)), 0.5, final=True, revision=start.revision)
    _returned(export(start, "masks", lambda *_: None))
    start.give(9, square((20, 4), (40, 20)))
    start.remove_object(3, by=7)
    before = all_of(start)
    start.close()
    shutil.copytree(start.root, tmp_path / "end")
    end = Session(tmp_path / "end", video, "frames")
    end.history = copy.deepcopy(start.history)
    call(end)
    end.close()
    outcomes, exports = [before, all_of(end)], [content(root / "export/masks") for root in (start.root, end.root)]
    found = []
    for number in range(99):
        shutil.copytree(start.root, tmp_path / f"{number}")
        session, crashed = Session(tmp_path / f"{number}", video, "frames"), False
        session.history = copy.deepcopy(start.history)
        with pytest.MonkeyPatch.context() as patch:
            die_before_change(number, patch)
            try:
                call(session)
            except Crash:
                crashed = True
        session.close()
        again = Session(session.root, video, "frames")
        found.append(outcomes.index(all_of(again)))
        assert content(session.root / "export/masks") in (*exports, {})
        again.close()
        if not crashed:
            break
    assert len(found) > 2
    assert found == sorted(found)
    assert (outcomes[found[0]], outcomes[found[-1]]) == (outcomes[0], outcomes[1])


def test_what_cannot_be_saved_has_not_happened(bench, monkeypatch):
    session = bench.session
    session.give(3, square((4, 4)))
    for frame in range(LENGTH):
        session.put_result(frame, square((frame, 4)), 0.5, final=True, revision=session.revision)
    session.save()
    before, write = all_of(session), os.replace

    def replace(source, target):
        if Path(target).name == "session.json":
            raise OSError(28, "No space left on device")
        write(source, target)

    for call in (CALLS["the first mask of a frame"], CALLS["an object"], CALLS["without a mask"]):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace)
            with pytest.raises(WriteError, match=r"session.json: cannot write \(No space left"):
                call(session)
        assert all_of(session) == before
    content = (session.root / "given/3.png").read_bytes()
    (session.root / "given/3.png").write_bytes(content[:20])  # nor has what fails in between
    with pytest.raises(InputError, match=r"3.png"):
        session.remove_object(1)
    (session.root / "given/3.png").write_bytes(content)
    assert all_of(session) == before
    session.give(3, square((8, 8)))
    np.testing.assert_array_equal(session.labels(3), square((8, 8)))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(WriteError, match=r"^x.png: cannot write \(No space left"):
            read_import(session, 2, [("x.png", b"-")], 1)
    assert not list((session.root / "working").iterdir())


def test_a_mask_that_was_changed_by_hand_makes_results_old(bench, video, tmp_path):
    bench.session.give(3, square((4, 4)))
    for frame in range(LENGTH):
        bench.session.put_result(frame, square((frame, 4)), 0.5, final=True, revision=bench.session.revision)
    bench.session.save()
    bench.session.close()
    write_label_map(tmp_path / "out/given/3.png", square((8, 8)), colour_map())
    again = Session(tmp_path / "out", video, "frames")
    assert set(again.results) == {Result.OLD}
    np.testing.assert_array_equal(again.labels(3), square((8, 8)))


def test_what_a_crash_left_unclean_is_said(bench, video, tmp_path):
    bench.session.add_object("cat")
    bench.session.give(3, square((4, 4), (40, 20)))
    bench.session.put_result(4, square((4, 4), (40, 20)), 0.5, final=True, revision=bench.session.revision)
    bench.session.remove_object(2)
    bench.session.close()
    again = Session(tmp_path / "out", video, "frames")
    assert again.unclean
    assert 2 not in again.given_labels(3)
    for frame in range(LENGTH):
        again.clean(frame)
    assert not again.unclean
    for path in (tmp_path / "out/given/3.png", tmp_path / "out/masks/4.png"):
        assert 2 not in read_label_map(path).labels
    again.close()
    assert not Session(tmp_path / "out", video, "frames").unclean


def test_frames_of_a_film_come_in_any_order(tmp_path, monkeypatch):
    write_film(tmp_path / "film.mp4", [noise(t) // 4 + 3 * t for t in range(60)], gop=20)
    video = VideoFile(tmp_path / "film.mp4")
    monkeypatch.setattr("annotation.frames.MOST_BYTES", 20_000)
    frames = Frames(video)
    for index in (0, 1, 2, 50, 49, 48, 3, 59, 20, 19, 0):
        assert frames.jpeg(index) == Frames(video).jpeg(index)
        found = torch.from_numpy(_decoded(frames.jpeg(index))).float()
        assert (found - torch.from_numpy(video.frame(index)).float()).abs().mean() < 6
    assert frames._bytes < 40_000 + 20_000


def _decoded(jpeg: bytes) -> np.ndarray:
    import cv2

    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()


def test_a_correction_changes_only_what_scribbles_touch():
    mask, found, on, off = (np.zeros((20, 40), bool) for _ in range(4))
    mask[5:15, 5:15] = mask[5:15, 20:25] = True
    found[5:15, 5:15] = found[8:13, 15:19] = found[2:4, 30:35] = True  # two regions are new, one is gone

    def cut(image: np.ndarray, *hints: np.ndarray) -> np.ndarray:
        return (found | on) & ~off

    def cut_locally(mask: np.ndarray) -> np.ndarray:
        return changing_locally(cut)(np.zeros((20, 40, 3), np.uint8), mask, np.zeros_like(mask), on, off)

    np.testing.assert_array_equal(cut_locally(mask), mask)  # without scribbles
    on[10, 8:12] = True  # in the mask already
    np.testing.assert_array_equal(cut_locally(mask), mask)
    on[10, 10:19] = True
    expected = mask.copy()
    expected[8:13, 15:19] = True
    np.testing.assert_array_equal(cut_locally(mask), expected)
    off[7:13, 22:28] = True
    expected[5:15, 20:25] = False
    np.testing.assert_array_equal(cut_locally(mask), expected)
    np.testing.assert_array_equal(cut_locally(np.zeros_like(mask)), (found | on) & ~off)  # no correction, a first mask


def test_grabcut_finds_a_disc_in_a_box_and_from_a_scribble():
    y, x = np.mgrid[:240, :320]
    disc = (y - 110) ** 2 + (x - 150) ** 2 < 50**2
    image = np.where(disc[..., None], (200, 60, 40), (40, 90, 150)) + np.random.default_rng(0).integers(-20, 20, (240, 320, 3))
    image = image.clip(0, 255).astype(np.uint8)
    box = np.full(disc.shape, BACKGROUND, np.uint8)
    box[50:170, 90:210] = MAYBE_OBJECT
    scribble = np.full(disc.shape, MAYBE_BACKGROUND, np.uint8)
    scribble[108:112, 120:180] = OBJECT
    scribble[10:14, :] = BACKGROUND
    for hints in (box, scribble):
        found = cut(image, hints)
        assert (found & disc).sum() / (found | disc).sum() > 0.97
        assert found[hints == OBJECT].all()
        assert not found[hints == BACKGROUND].any()
    nothing = np.zeros(SIZE, np.uint8)
    assert not cut(noise(0), nothing).any()
    assert cut(noise(0), nothing + MAYBE_OBJECT).all()


def test_exports_are_what_they_say(bench, video, tmp_path):
    session = bench.session
    session.add_object("cat")
    session.give(3, square((4, 4), (40, 20)))
    bench.follow()
    session.give(4, square((4, 4), (40, 20)))
    session.change_object(2, hidden=True)
    reports: list[tuple[int, int, int]] = []
    paths = {}
    for kind in KINDS:
        for again in range(2):  # the second takes the place of the first
            steps = export(session, kind, lambda *figures: reports.append(figures))
            paths[kind] = _returned(steps)
            assert reports[-1] == (LENGTH, LENGTH, LENGTH - 1), again
    assert sorted(path.name for path in (tmp_path / "out/export").iterdir()) == sorted(path.name for path in paths.values())
    with av.open(str(paths["overlay"])) as film, av.open(str(paths["cutout_film"])) as cut_film:
        assert sum(1 for _ in film.decode(video=0)) == LENGTH
        films = [frame.to_ndarray(format="rgba") for frame in cut_film.decode(video=0)]
    for t in range(LENGTH):
        labels = session.labels(t)
        np.testing.assert_array_equal(read_label_map(paths["masks"] / f"{t}.png").labels, labels)
        cutout = np.array(Image.open(paths["cutout"] / f"{t}.png"))
        np.testing.assert_array_equal(cutout[..., 3], np.where(labels == 1, 255, 0))
        np.testing.assert_array_equal(cutout[labels == 1][:, :3], video.frame(t)[labels == 1])
        np.testing.assert_array_equal(films[t][..., 3] > 127, labels == 1)


def test_other_tools_formats_hold_the_masks(bench, tmp_path):
    session = bench.session
    session.change_object(1, name='a "cat" & <dog>')
    session.add_object("none")
    first, ring = square((4, 4)), square((6, 10))
    ring[14:18, 10:16] = 0  # a hole
    session.give(1, first)
    session.give(2, ring)
    coco, yolo, cvat, areas = (_returned(export(session, kind, lambda *_: None)) for kind in ("coco", "yolo", "cvat", "areas"))
    told = json.loads(coco.read_text())
    assert [entry["file_name"] for entry in told["images"]] == [f"{t}.png" for t in range(LENGTH)]
    assert told["categories"] == [{"id": 1, "name": 'a "cat" & <dog>'}, {"id": 2, "name": "none"}]
    images = list(ElementTree.parse(cvat).getroot().iter("image"))
    rows = list(csv.DictReader(areas.open()))
    assert [image.get("name") for image in images] == ["1.png", "2.png"]
    assert [(row["frame"], row["object"]) for row in rows] == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]
    for mask, entry, image, row in zip((first, ring), told["annotations"], images, rows[::2], strict=True):
        ys, xs = np.nonzero(mask)
        box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]
        assert (entry["area"], entry["bbox"], entry["category_id"]) == (len(xs), box, 1)
        assert entry["image_id"] == int(row["frame"]) + 1
        down = np.repeat(np.arange(len(entry["segmentation"]["counts"])) % 2, entry["segmentation"]["counts"])
        np.testing.assert_array_equal(down.reshape(SIZE[::-1]).T, mask)
        (shape,) = image
        counts = [int(count) for count in str(shape.get("rle")).split(", ")]
        left, top, width, height = (int(str(shape.get(name))) for name in ("left", "top", "width", "height"))
        assert ([left, top, width, height], shape.get("label")) == (box, 'a "cat" & <dog>')
        across = np.repeat(np.arange(len(counts)) % 2, counts).reshape(height, width)
        np.testing.assert_array_equal(across, mask[top : top + height, left : left + width])
        assert (int(row["area"]), row["left"]) == (len(xs), str(left))
        assert abs(float(row["centroid_x"]) - xs.mean()) < 0.01
    assert (rows[1]["area"], rows[1]["centroid_x"]) == ("0", "")
    assert (yolo / "data.yaml").read_text().endswith('names:\n  0: "a \\"cat\\" & <dog>"\n  1: "none"\n')
    assert {path.name for path in (yolo / "labels").iterdir()} == {"1.txt", "2.txt"}
    number, *corners = (yolo / "labels/1.txt").read_text().split()
    outline = np.array(corners, float).reshape(-1, 2) * SIZE[::-1] - 0.5
    drawn = cv2.fillPoly(np.zeros(SIZE, np.uint8), [outline.round().astype(np.int32)], 1)
    assert number == "0"
    np.testing.assert_array_equal(drawn, first)


def test_frames_of_any_name_are_exported(tmp_path):
    frames = write_folder(tmp_path / "frames", 3)
    names = [b"a\xff.png", b'b"<&.png', b"c\x01\n.png"]
    for index, name in enumerate(names):
        os.rename(frames / f"{index}.png", os.path.join(os.fsencode(frames), name))
    session = Session(tmp_path / "out", FrameFolder(frames), "frames")
    session.add_object("cat")
    session.give(0, square((4, 4)))
    session.give(2, square((4, 4)))
    paths = {kind: _returned(export(session, kind, lambda *_: None)) for kind in ("coco", "cvat", "areas", "masks")}
    told = [entry["file_name"] for entry in json.loads(paths["coco"].read_text())["images"]]
    assert told == ["a\\udcff.png", 'b"<&.png', "c\\x01\\n.png"]
    assert [image.get("name") for image in ElementTree.parse(paths["cvat"]).getroot().iter("image")] == told[::2]
    assert [row["file"] for row in csv.DictReader(paths["areas"].open())] == told[::2]
    with zipfile.ZipFile(zipped(paths["masks"])) as archive:
        assert archive.namelist() == [f"masks/{name}" for name in told]


def test_an_exported_data_set_can_be_evaluated_and_trained_on(bench, tmp_path):
    bench.session.give(3, square((4, 4)))
    bench.session.give(4, square((8, 4)))
    bench.session.results[5] = Result.MISSING
    root = _returned(export(bench.session, "dataset", lambda *_: None))
    (evaluated,) = youtube_videos(root)
    assert evaluated.name == "frames"
    assert len(evaluated.images) == LENGTH
    clips = VideoClips(root / "JPEGImages", root / "Annotations", crop=32)
    assert [image.stem for image, _ in clips.annotated(0)] == ["3", "4"]
    assert clips.draw(0, np.random.default_rng(0), max_skip=1) is not None
    bench.session.forget(4)
    stopped = export(bench.session, "dataset", lambda *_: None)
    next(stopped)
    stopped.close()
    masks = root / "Annotations/frames"
    assert {path.stem for path in masks.iterdir()} == {"3", "4"}  # those of the earlier one, whole
    _returned(export(bench.session, "dataset", lambda *_: None))
    assert {path.stem for path in masks.iterdir()} == {"3"}


def _returned(steps):
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_files_become_the_mask_of_the_frame_that_is_shown(bench, tmp_path):
    def png(labels: np.ndarray, palette: bytes | None = None) -> bytes:
        write_label_map(tmp_path / "mask.png", labels, palette)
        return (tmp_path / "mask.png").read_bytes()

    def read(*files: tuple[str, bytes], frame: int = 2, chosen: int = 1) -> np.ndarray:
        return read_import(bench.session, frame, files, chosen)

    one, two = square((4, 4)), square((4, 4), (30, 20))
    np.testing.assert_array_equal(read(("a.png", png(255 * one)), ("b.png", png(255 * (two == 2).astype(np.uint8)))), two)
    assert [each.id for each in bench.session.objects] == [1, 2]
    bench.session.give(2, two)
    np.testing.assert_array_equal(
        read(("x.png", png(255 * one)), chosen=2), 2 * one
    )  # the chosen object is there, and 1 below it
    np.testing.assert_array_equal(read(("x.png", png(5 * square((30, 40)), colour_map()))), two + 5 * square((30, 40)))
    assert [each.id for each in bench.session.objects] == [1, 2, 5]
    array = io.BytesIO()
    np.save(array, one)
    np.testing.assert_array_equal(read(("x.npy", array.getvalue()), frame=3), one)
    for files, told in (
        ([("x.png", b"nothing")], r"^x.png: cannot read this image"),
        ([("../x.png", png(one))], "expected a plain name"),
        ([("x.png", png(one)), ("x.png", png(one))], "different names"),
        ([("x.txt", b"0 0.5 0.5")], r"^x.txt: expected a mask as PNG, found a YOLO text file"),
        ([("7.png", png(one))], "7.png is named like frame 7"),
        ([("x.png", png(one[:9]))], r"^x.png: mask is 9x64, its frame is 48x64"),
        ([("a.png", png(255 * one)), ("b.png", png(255 * square((30, 20))))], "which of the objects"),
    ):
        with pytest.raises(InputError, match=told):
            read(*files)
    bench.session.remove_object(2)
    with pytest.raises(InputError, match="object 2 was removed; new ones are numbered from 6 on"):
        read(("x.png", png(2 * one, colour_map())))
    assert not list((tmp_path / "out/working").iterdir())
