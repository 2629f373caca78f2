"""A session of annotate.py and the worker that follows: what is computed anew, and what a stop or a crash leaves."""

import contextlib
import copy
import csv
import functools
import io
import json
import os
import shutil
import threading
import time
import weakref
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import av
import cv2
import numpy as np
import pytest
from conftest import content, run_script
from films import SIZE, noise, square, write_film, write_folder
from PIL import Image

from annotation.export import KINDS, export, zipped
from annotation.frames import JPEGS, Frames
from annotation.imported import import_files, import_masks
from annotation.server import Api
from annotation.session import Session
from annotation.state import Result
from annotation.worker import Worker
from dataset.frame_folder import FrameFolder
from dataset.given_masks import GivenMask, read_given_masks
from dataset.mask_frames import parse_masks
from dataset.video_file import VideoFile
from dataset.vos import VideoClips
from dataset.youtube import youtube_videos
from model import VideoSegmenter
from util.errors import InputError, WriteError
from util.label_map import colour_map, object_ids, read_label_map, write_label_map
from util.lock import LOCK

LENGTH = 12
NOTHING = np.full(SIZE, 255, np.uint8)  # is drawn


@pytest.fixture
def video(tmp_path) -> FrameFolder:
    return FrameFolder(write_folder(tmp_path / "frames", LENGTH))


@pytest.fixture
def session(video, tmp_path) -> Iterator[Session]:
    """A session with one object."""
    result = Session(tmp_path / "out", video, "frames")
    result.add_object("dog")
    yield result
    result.close()


def opened_again(session: Session) -> Session:
    """The session as another process finds it."""
    session.close()
    return Session(session.root, session.video, "frames")


def find(session: Session, objects: int = 1, frames: Iterable[int] | None = None) -> None:
    """Store results, as following would."""
    for frame in range(session.length) if frames is None else frames:
        labels = square(*[(frame, 4), (40, 20)][:objects])
        assert session.put_result(frame, labels, 0.5, final=True, revision=session.revision)


def exported(session: Session, kind: str, report: Callable[..., object] = lambda *_: None) -> Path:
    steps = export(session, kind, report)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class Bench:
    """A session with its worker, and a count of the frames that the network has seen."""

    def __init__(self, session: Session, network) -> None:
        self.session = session
        self.seen = 0
        self.stop_at = -1
        bench = self

        class Counting(VideoSegmenter):
            def step(self, *arguments, **options):
                bench.seen += 1
                if bench.seen == bench.stop_at:
                    bench.worker._stop.set()
                return super().step(*arguments, **options)

        self.worker = Worker(session, functools.partial(Counting, network, memory_every=2))

    def follow(self, stop_at: int = -1, window: range | None = None) -> int:
        """Follow, perhaps only some frames, or to be stopped at a step; returns how many frames the network saw."""
        self.seen, self.stop_at = 0, stop_at
        self.worker.start("follow", functools.partial(self.worker.follow, window))
        assert self.worker._thread is not None
        self.worker._thread.join()
        assert not self.worker.job.failed, self.worker.job.message
        return self.seen


@pytest.fixture
def bench(session, light_network) -> Bench:
    return Bench(session, light_network)


def test_the_first_following_is_what_segment_video_does(bench, light_file, tmp_path):
    masks = {3: square((4, 4)), 8: square((30, 20))}
    for frame, labels in masks.items():
        bench.session.give(frame, labels)
        write_label_map(tmp_path / f"{frame}.png", labels, colour_map())
    assert bench.follow() == 9 + 9
    assert [entry["action"] for entry in bench.session.done] == ["add", "draw", "draw", "follow"]
    assert bench.follow() == 0
    flags = ("--mem_every", 2, "--size", 48, "--max_memory_frames", "all", "--amp", "off", "--model", light_file)
    given = [f"{frame}:{tmp_path / f'{frame}.png'}" for frame in masks]
    assert run_script("segment_video", tmp_path / "frames", "--mask", *given, "--output", tmp_path / "own", *flags) == 0
    for t in range(LENGTH):
        expected = read_label_map(tmp_path / f"own/masks/{t}.png").labels
        np.testing.assert_array_equal(bench.session.labels(t), masks.get(t, expected))
        np.testing.assert_array_equal(read_label_map(tmp_path / f"out/masks/{t}.png").labels, masks.get(t, expected))


def test_masks_of_files_become_given_masks_of_a_new_session(video, tmp_path):
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
    session = bench.session
    for frame in (0, 4, 9):
        session.give(frame, square((4 + frame, 4)))
    find(session)
    before = all_of(session)
    session.give(6, square((30, 20)))
    assert list(session.results) == [Result.FINAL] * 5 + [Result.OLD] * 4 + [Result.FINAL] * 3
    assert bench.follow() == 2 * 6  # frames 4 to 9, both ways
    after = all_of(session)
    assert {t for t in range(LENGTH) if after[-1][t] != before[-1][t]} <= {5, 6, 7, 8}
    np.testing.assert_array_equal(session.labels(6), square((30, 20)))
    session.give(11, square((2, 2)))
    assert session.parts() == [range(9, 12)]
    find(session)
    session.forget(6)
    assert session.parts() == [range(4, 10)]


def test_a_correction_that_is_taken_back_leaves_all_as_it_was(session):
    for frame in (0, 9):
        session.give(frame, square((4 + frame, 4)))
    find(session)
    before = all_of(session)
    session.give(5, square((30, 20)))
    session.give(9, square((8, 8)))
    assert all_of(session)[-1] != before[-1]
    session.give(9, square((13, 4)))
    session.forget(5)
    assert all_of(session) == before
    session.give(5, square((30, 20)))
    find(session)
    session.forget(5)
    assert session.parts() == [range(10)]  # something was followed since, so it is not as it was


def test_a_new_object_is_followed_past_masks_that_were_drawn_before_it(session):
    session.give(2, square((4, 4)))
    session.give(6, square((4, 4)))
    find(session)
    session.add_object("cat")
    session.give(9, square((4, 4), (40, 20)))
    assert session.parts() == [range(LENGTH)]
    find(session, objects=2)
    session.give(4, square((4, 4), (40, 20)))  # both objects are stated here and at 9
    assert session.parts() == [range(0, 10)]
    find(session, objects=2)
    session.give(8, square((4, 4)))
    assert session.parts() == [range(4, 10)]


def test_a_mask_without_an_object_says_that_it_is_not_there(session):
    session.add_object("cat")
    session.give(0, square((4, 4), (40, 20)))
    session.give(5, square((4, 4)))
    find(session, objects=2)
    assert 2 not in session.labels(5)
    assert not session.parts()
    session.give(8, square((4, 4)))
    assert session.parts() == [range(5, LENGTH)]


def test_a_correction_states_only_what_was_drawn_or_erased(session):
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    assert session.given[0].stated == [1, 2]  # nothing was found yet
    find(session, objects=2)
    found = session.labels(8)
    moved = np.where(session.labels(4) == 2, np.uint8(0), session.labels(4))
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
    find(session, objects=2)
    assert 2 not in session.labels(8)


def test_that_an_object_is_gone_states_nothing_of_the_others(session):
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    find(session, frames=(4, 5))
    session.draw(4, NOTHING, gone=2)  # which the result lacks already
    session.draw(5, NOTHING, gone=1)
    session.draw(9, NOTHING, gone=2)  # a frame without a mask
    stated_and_shown = [(mask.stated, mask.shown) for mask in session.given.values()]
    assert stated_and_shown == [([1, 2], [1, 2]), ([2], []), ([1], []), ([2], [])]
    np.testing.assert_array_equal(session.labels(4), square((4, 4)))
    with pytest.raises(InputError, match="there is no object 7"):
        session.draw(4, NOTHING, gone=7)


# steps that are taken back


def stroke(corner: tuple[int, int], value: int = 1) -> np.ndarray:
    """What a page sends that has drawn a square."""
    return np.where(square(corner) == 1, np.uint8(value), NOTHING)


def test_pages_draw_beside_each_other_and_take_back_their_own_strokes(session):
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


def test_a_step_whose_mask_another_page_took_back_is_not_done_again(session):
    session.draw(3, stroke((4, 4)), by=1)
    session.forget(3, by=2)
    session.undo(1)
    with pytest.raises(InputError, match="nothing to redo"):
        session.undo(1, again=True)


def test_undo_reaches_over_frames_to_the_beginning_and_back(session):
    session.draw(0, stroke((4, 4)), by=1)
    find(session)
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


def test_undo_brings_a_removed_object_back(session):
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


def test_a_step_whose_object_another_page_has_removed_does_not_block_the_others(session):
    session.draw(3, square((4, 4)), by=1)
    session.remove_object(1, by=1)
    session.undo(1)
    session.undo(1)
    assert not session.given
    session.remove_object(1, by=2)
    before = all_of(session)
    session.undo(1, again=True)  # the mask, of which nothing is left to be told
    session.undo(1, again=True)  # the removal
    assert all_of(session) == before
    with pytest.raises(InputError, match="nothing to redo"):
        session.undo(1, again=True)


def test_some_frames_are_followed_and_then_the_others_as_if_at_once(bench, video, light_network, tmp_path):
    session = bench.session

    def final() -> str:
        return "".join("f" if state == Result.FINAL else "." for state in session.results)

    session.give(3, square((4, 4)))
    assert bench.follow(window=range(5, 7)) == 4  # from the given frame to here
    assert final() == "...ffff....."
    assert bench.follow(window=range(4, 7)) == 0
    assert bench.follow(window=range(6, 9)) == 2  # goes on
    assert bench.follow(window=range(1, 3)) == 3 + 1  # backwards
    assert final() == ".ffffffff..."
    bench.follow()
    assert final() == "f" * LENGTH
    other = Bench(Session(tmp_path / "other", video, "frames"), light_network)
    other.session.add_object("dog")
    other.session.give(3, square((4, 4)))
    other.follow()
    assert all_of(other.session) == all_of(session)
    session.give(9, square((8, 8)))
    assert session.parts(range(5, 7)) == [range(3, 10)]  # all between two given frames, since both directions are needed


@pytest.mark.parametrize("stops", [(1, 9, 10), pytest.param((4, 11, 16), marks=pytest.mark.slow)])
def test_after_a_stop_following_goes_on_to_the_same_results(stops, bench, light_network, tmp_path):
    bench.session.give(2, square((4, 4)))
    bench.session.give(8, square((30, 20)))
    for stop in stops:
        shutil.copytree(bench.session.root, tmp_path / f"{stop}")
    assert bench.follow() == 9 + 10
    for stop in stops:
        other = Bench(Session(tmp_path / f"{stop}", bench.session.video, "frames"), light_network)
        assert other.follow(stop_at=stop) == stop
        assert other.worker.job.message == "stopped"
        kept = sum(state != Result.MISSING for state in other.session.results)
        assert kept >= min(stop - 1, 8)
        again = Bench(opened_again(other.session), light_network)
        assert sum(state != Result.MISSING for state in again.session.results) == kept
        assert again.follow() == 19 - stop
        assert all_of(again.session) == all_of(bench.session)
        assert list((again.session.root / "working").iterdir()) == []


def test_a_mask_that_is_given_after_a_stop_leaves_nothing_undone(bench):
    for frame in (0, 5, 10):
        bench.session.give(frame, square((4 + frame, 4)))
    find(bench.session)
    bench.session.give(2, square((30, 20)))
    bench.follow(stop_at=8)  # between 0 and 5, forwards
    assert any(bench.session.results[t] != Result.FINAL for t in range(5))
    bench.session.give(7, square((8, 8)))
    bench.follow()
    assert bench.session.results == bytearray([Result.FINAL]) * LENGTH


def test_a_result_that_is_lost_after_a_stop_is_followed_again(bench, light_network):
    for frame in (0, 5, 10):
        bench.session.give(frame, square((4 + frame, 4)))
    find(bench.session)
    bench.session.give(7, square((8, 8)))
    bench.follow(stop_at=3)
    (bench.session.root / "masks/3.png").unlink()
    again = Bench(opened_again(bench.session), light_network)
    again.follow()
    assert again.session.results == bytearray([Result.FINAL]) * LENGTH


def test_a_damaged_snapshot_is_told_and_all_is_followed_anew(bench, light_network, capsys):
    bench.session.give(0, square((4, 4)))
    assert bench.follow(stop_at=4) == 4
    (bench.session.root / "working/snapshot.pth").write_bytes(b"half of it")
    again = Bench(opened_again(bench.session), light_network)
    assert again.follow() == LENGTH
    assert "snapshot.pth: cannot go on from this" in capsys.readouterr().err
    assert again.session.results == bytearray([Result.FINAL]) * LENGTH


def test_a_network_that_fails_ends_the_job_with_a_message_and_the_next_one_runs(bench, monkeypatch, capsys):
    bench.session.give(0, square((4, 4)))
    with monkeypatch.context() as patch:
        patch.setattr(VideoSegmenter, "step", lambda *_, **__: 1 // 0)
        with pytest.raises(AssertionError, match="ZeroDivisionError: integer division or modulo by zero"):
            bench.follow()
    assert not bench.worker.job.running
    assert "Traceback" in capsys.readouterr().err
    assert bench.follow() == LENGTH


def test_parts_of_one_job_hold_one_memory_at_a_time(bench):
    """The check of the memory counts one."""
    for frame in range(0, LENGTH, 2):
        bench.session.give(frame, square((4 + frame, 4)))
    find(bench.session)
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
    find(session, objects=2, frames=range(LENGTH - 1))
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


def test_a_lock_holds_what_there_was_before_a_pass_that_had_begun(session):
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    find(session, objects=2)
    session.draw(LENGTH - 1, stroke((20, 30), 2))
    before = session.labels(3)
    session.put_result(3, square((10, 4), (44, 20)), 0.5, final=False, revision=session.revision)
    session.change_object(1, locked=True)
    session.put_result(3, square((16, 4), (44, 20)), 0.5, final=True, revision=session.revision)
    np.testing.assert_array_equal(session.labels(3) == 1, before == 1)
    assert ((session.labels(3) == 2) != (before == 2)).any()


def test_an_undone_statement_that_an_object_is_gone_reaches_over_masks_of_others(session):
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    find(session, objects=2)
    for frame in (8, 4):
        session.draw(frame, stroke((20, 30), 1))
    session.draw(4, NOTHING, gone=2)
    find(session, objects=2, frames=range(4))
    find(session, objects=1, frames=range(4, LENGTH))
    session.undo(0)
    assert session.given[4].stated == [1]
    assert session.results[1:] == bytearray([Result.OLD]) * (LENGTH - 1)


@pytest.mark.parametrize("how", ["forget", "undo"])
def test_an_object_of_which_is_taken_back_that_it_is_gone_is_followed_again_to_the_end(how, session):
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    find(session, objects=2)
    session.draw(8, stroke((20, 30), 1))
    session.draw(4, NOTHING, gone=2)
    find(session, objects=2, frames=range(4))
    find(session, objects=1, frames=range(4, LENGTH))
    session.forget(4) if how == "forget" else session.undo(0)
    assert session.results[1:] == bytearray([Result.OLD]) * (LENGTH - 1)


def test_the_old_mask_says_nothing_of_objects_that_came_later(session):
    session.draw(0, square((4, 4)))
    find(session, frames=range(3))
    session.add_object("cat")  # while it is followed
    find(session, frames=range(3, LENGTH))
    session.draw(0, stroke((20, 30), 2))
    for frame in range(1, LENGTH):
        session.put_result(frame, square((frame, 4), (20, 30)), 0.1, final=True, revision=session.revision)
    session.restore(3)
    assert session.given[3].stated == [1]
    assert object_ids(session.labels(3)) == [1, 2]


def test_a_result_that_is_less_sure_than_the_one_before_can_be_taken_back(session):
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
    follow({1: (0.9, (24, 24)), 2: (0.71, (24, 24)), 3: (0.3, (24, 24)), 4: (0.1, (24, 24))})
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


def test_a_result_of_one_direction_does_not_take_the_place_of_the_one_before_for_good(session):
    session.draw(0, square((4, 4)))
    find(session)
    session.put_result(5, square((4, 4)), 0.9, final=True, revision=session.revision)
    session.save()
    session.sureness[5] = 0.9
    session.draw(11, stroke((20, 30), 1))
    session.put_result(5, square((20, 4)), 0.3, final=False, revision=session.revision)
    session.draw(8, stroke((20, 30), 1))  # before the pass forwards
    for final in (False, True):
        session.put_result(5, square((30, 4)), 0.5, final=final, revision=session.revision)
    assert session.was_sure(5) == 0.9


def test_what_only_the_first_stroke_of_a_frame_said_is_not_said_once_it_is_taken_back(session):
    session.add_object("cat")
    session.draw(3, stroke((4, 4), 1), by=1)  # states all objects
    session.draw(3, stroke((30, 30), 2), by=2)
    session.undo(1)
    assert session.given[3].stated == session.given[3].shown == [2]


def test_removing_and_following_end_cleaning_and_jobs_have_numbers(bench, monkeypatch):
    session, worker = bench.session, bench.worker
    for name in ("cat", "cow"):
        session.add_object(name)
    session.give(0, square((4, 4)))
    api = Api(session, worker, lambda *_: NOTHING, lambda: False, False)
    began, done = threading.Event(), session.clean

    def clean(frame: int) -> None:
        done(frame)
        began.set()
        time.sleep(0.01)

    monkeypatch.setattr(session, "clean", clean)
    for number in (2, 3):
        began.clear()
        api.remove(number, 0)
        assert began.wait(60)
    assert worker.job.number == 2
    assert bench.follow()
    assert worker.job.number == 3
    assert session.unclean  # until it is opened again
    assert [each.name for each in session.objects] == ["dog"]


def test_a_step_that_comes_again_is_done_once(session):
    api = Api(session, Worker(session, None), lambda *_: NOTHING, lambda: False, False)
    api.give(0, stroke((4, 4), 1), 7, 1, 0)
    api.forget(0, 7, 2)
    api.give(0, stroke((4, 4), 1), 7, 1, 0)  # which was done
    assert not session.given
    api.give(0, stroke((4, 4), 1), 8, 1, 0)  # another page's
    assert [*session.given] == [0]
    with pytest.raises(InputError, match="is no worse"):
        api.restore(0, 7, 3)
    api.give(0, stroke((4, 20), 1), 7, 3, 0)  # what was refused was not done


def test_a_surer_old_result_stays_where_the_new_one_differs_by_much_less_than_was_corrected(session):
    every = list(range(1, LENGTH))

    def correct(row: int, side: int, value: int = 1) -> None:
        """Draw a square; a disc of half its side fits into it."""
        drawn = NOTHING.copy()
        drawn[row : row + side, 40 : 40 + side] = value
        session.draw(0, drawn)

    def follow(side: int, sureness: float) -> list[int]:
        """Find squares; returns the frames that show these."""
        new = np.zeros(SIZE, np.uint8)
        new[10 : 10 + side, 10 : 10 + side] = 1
        for final in (False, True):  # the pass backwards, and then forwards
            for frame in every:
                assert session.put_result(frame, new, sureness, final=final, revision=session.revision)
        return [frame for frame in every if (session.labels(frame) == new).all()]

    session.draw(0, square((4, 4)))
    assert follow(10, 0.8) == every
    correct(0, 9)
    assert not follow(12, 0.79)  # they are two pixels larger
    assert session.sureness[1:] == [0.8] * (LENGTH - 1)
    assert all(entry[1] == "f" and entry[6] is None for entry in session.changes(0)["frames"][1:])
    correct(10, 9)
    assert follow(12, 0.81) == every  # they are surer
    correct(20, 9)
    assert follow(20, 0.79) == every  # they are eight pixels larger
    correct(30, 3)
    assert follow(24, 0.78) == every  # which is no less than was corrected
    correct(34, 9)
    session.undo(0)
    correct(34, 3)
    assert follow(28, 0.77) == every  # what was taken back does not count
    session.add_object("cat")
    correct(38, 9, value=2)
    assert follow(30, 0.76) == every  # the old results knew nothing of the cat


def test_pages_hear_which_objects_each_frame_shows_and_which_are_said_to_be_gone(session):
    session.add_object("cat")
    session.draw(0, square((4, 4), (40, 20)))
    find(session, frames=(1, 2, 3))
    session.draw(2, NOTHING, gone=2)
    session.draw(3, stroke((40, 20), 2))
    seen_and_gone = [entry[4:6] for entry in session.changes(0)["frames"][:5]]
    assert seen_and_gone == [[[1, 2], []], [[1], []], [[1], [2]], [[1, 2], []], [None, []]]
    session.remove_object(1)
    assert session.changes(0)["frames"][1][4] == []


def test_a_session_is_there_again_as_it_was(session):
    session.change_object(1, name="a\nlong dog", hidden=True, locked=True, colour="#0080ff")
    session.add_object("")
    session.give(3, square((4, 4), (40, 20)))
    find(session, objects=2)
    session.give(5, square((4, 4)))
    before = all_of(session)
    again = opened_again(session)
    assert all_of(again) == before
    assert [(each.name, each.hidden, each.locked) for each in again.objects] == [
        ("along dog", True, True),
        ("object 2", False, False),
    ]
    assert [each["colour"] for each in again.changes(0)["objects"]] == [(0, 128, 255), again.objects[1].rgb]
    assert again.changes(0)["frames"][4][1:3] == session.changes(0)["frames"][4][1:3]
    assert (again.given, again.sureness) == (session.given, session.sureness)
    assert [entry["action"] for entry in again.done] == ["add", "add", "draw", "draw"]


def test_a_removed_object_is_gone_everywhere_also_after_a_crash_and_its_number_is_not_used_again(session):
    session.add_object("cat")
    session.give(3, square((4, 4), (40, 20)))
    find(session, objects=2)
    session.remove_object(2)
    again = opened_again(session)
    assert again.unclean
    for t in range(LENGTH):
        assert 2 not in again.labels(t)
        again.clean(t)
        assert 2 not in read_label_map(again.root / f"masks/{t}.png").labels
    assert 2 not in read_label_map(again.root / "given/3.png").labels
    assert not again.unclean
    assert not opened_again(again).unclean
    np.testing.assert_array_equal(again.given_labels(3), square((4, 4)))
    assert again.add_object("bird").id == 3
    again.remove_object(1)
    again.remove_object(3)
    assert not again.given
    assert not again.parts()


def test_what_a_session_refuses(session, video, tmp_path):
    with pytest.raises(InputError, match="expected labels of objects, found 2"):
        session.give(0, square((4, 4), (40, 20)))
    with pytest.raises(InputError, match=r"another run of annotate.py works in this folder"):
        Session(tmp_path / "out", video, "frames")
    with pytest.raises(InputError, match="there is no object 7"):
        session.remove_object(7)
    session.close()
    with pytest.raises(InputError, match=r"session of another video, .*frames was 12, is 5"):
        Session(tmp_path / "out", FrameFolder(write_folder(tmp_path / "few", 5)), "few")
    again = opened_again(session)
    again.next_object = 254
    assert again.add_object("the last").id == 254
    with pytest.raises(InputError, match="expected at most 254 objects"):
        again.add_object("one more")
    again.give(0, square((4, 4)))
    write_label_map(again.root / "given/0.png", np.ones((4, 6), np.uint8), colour_map())
    with pytest.raises(InputError, match=r"0.png: mask is 4x6, the video is 48x64"):
        again.labels(0)
    again.close()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"expected a new folder or a session, found letter.txt"):
        Session(tmp_path / "full", video, "frames")
    (tmp_path / "out/session.json").write_text('{"format": "another"}')
    with pytest.raises(InputError, match=r"session.json: expected a session of annotate.py"):
        Session(tmp_path / "out", video, "frames")


@pytest.mark.parametrize("name", ["working", "masks", "export", "export/cutout", LOCK, "given/0.png"])
def test_a_session_never_follows_links_out_of_its_folder(name, session, tmp_path):
    session.give(0, square((4, 4)))
    session.close()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.npz").write_bytes(b"precious")
    place = tmp_path / "out" / name
    if place.exists():
        place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "elsewhere")
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"{name}: expected a file or folder of this session, found a link"):
        opened_again(session)
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
        ("sureness", ["x" * 5000] * LENGTH),
        ("given", {"9" * 5000: {"stated": [1], "shown": []}}),
        ("done", "undone"),
        ("unclean", 1),
        ("version", "9" * 5000),
    ],
)
def test_a_damaged_record_is_one_line(entry, value, session):
    path = session.root / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}))
    with pytest.raises(InputError, match=r"session.json: expected a session of annotate.py") as caught:
        opened_again(session)
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
    frames = [(session.labels(t).tobytes(), session.results[t]) for t in range(session.length)]
    given = {t: (mask.stated, mask.shown, session.given_labels(t).tobytes()) for t, mask in session.given.items()}
    return [session.objects, session.next_object, given, frames]


CALLS: dict[str, Callable[[Session], object]] = {
    "the first mask of a frame": lambda session: session.give(2, square((8, 8))),
    "another mask of a frame": lambda session: session.give(1, square((8, 8), (40, 20))),
    "an object": lambda session: session.add_object("bird"),
    "objects with masks": lambda session: session.bring([4, 8], {t: (4 * square((8, t), (40, 20)), {4, 8}) for t in (1, 2)}),
    "without an object": lambda session: session.remove_object(2),
    "without a mask": lambda session: session.forget(1),
    "an object that is back": lambda session: session.undo(7),
    "an export": lambda session: exported(session, "masks"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_crash_while_something_is_saved_leaves_what_was_or_what_is_to_be(call, tmp_path):
    video = FrameFolder(write_folder(tmp_path / "frames", 4))
    start = Session(tmp_path / "start", video, "frames")
    for name in ("dog", "cat", "bird"):
        start.add_object(name)
    for frame in (1, 3):
        start.give(frame, square((4, 4), (40, 20)))
    find(start, objects=2)
    exported(start, "masks")
    start.give(3, square((20, 4), (40, 20)))
    start.remove_object(3, by=7)
    before = all_of(start)
    start.close()

    def copied(name: str) -> Session:
        shutil.copytree(start.root, tmp_path / name)
        session = Session(tmp_path / name, video, "frames")
        session.history = copy.deepcopy(start.history)
        return session

    end = copied("end")
    call(end)
    end.close()
    outcomes, exports = [before, all_of(end)], [content(root / "export/masks") for root in (start.root, end.root)]
    found = []
    for number in range(99):
        session, crashed = copied(f"{number}"), False
        with pytest.MonkeyPatch.context() as patch:
            die_before_change(number, patch)
            try:
                call(session)
            except Crash:
                crashed = True
        again = opened_again(session)
        found.append(outcomes.index(all_of(again)))
        assert content(session.root / "export/masks") in exports
        again.close()
        if not crashed:
            break
    assert len(found) > 2
    assert found == sorted(found)
    assert (outcomes[found[0]], outcomes[found[-1]]) == (outcomes[0], outcomes[1])


def test_what_cannot_be_saved_has_not_happened(session, monkeypatch):
    session.give(1, square((4, 4)))
    find(session)
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
    content = (session.root / "given/1.png").read_bytes()
    (session.root / "given/1.png").write_bytes(content[:20])  # nor has what fails in between
    with pytest.raises(InputError, match=r"1.png"):
        session.remove_object(1)
    (session.root / "given/1.png").write_bytes(content)
    assert all_of(session) == before
    session.give(1, square((8, 8)))
    np.testing.assert_array_equal(session.labels(1), square((8, 8)))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(WriteError, match=r"^x.png: cannot write \(No space left"):
            import_files(session, 2, [("x.png", b"-")], 1)
    assert not list((session.root / "working").iterdir())


def test_a_mask_that_was_changed_by_hand_makes_results_old(session):
    session.give(3, square((4, 4)))
    find(session)
    session.save()
    write_label_map(session.root / "given/3.png", square((8, 8)), colour_map())
    again = opened_again(session)
    assert set(again.results) == {Result.OLD}
    np.testing.assert_array_equal(again.labels(3), square((8, 8)))


def test_frames_of_a_film_come_in_any_order(tmp_path, monkeypatch):
    write_film(tmp_path / "film.mp4", [noise(t) // 4 + 3 * t for t in range(60)], gop=20)
    video = VideoFile(tmp_path / "film.mp4")
    monkeypatch.setattr("annotation.frames.MOST_BYTES", 20_000)
    frames = Frames(video)
    for index in (0, 1, 2, 50, 49, 48, 3, 59, 20, 19, 0):
        assert frames.jpeg(index) == Frames(video).jpeg(index)
        found = cv2.imdecode(np.frombuffer(frames.jpeg(index), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.abs(found.astype(float) - video.frame(index)).mean() < 6
    assert JPEGS._bytes < 40_000 + 20_000


def test_only_going_backwards_keeps_frames_before(tmp_path, monkeypatch):
    write_film(tmp_path / "film.mp4", [noise(t) // 4 for t in range(60)], gop=20)
    monkeypatch.setattr("annotation.frames.JPEGS", kept := type(JPEGS)())
    frames = Frames(VideoFile(tmp_path / "film.mp4"))
    for index in (5, 58, 30):
        frames.jpeg(index)
    assert [index for _, index in kept._kept] == [5, 58, 30]
    frames.jpeg(29)
    assert {index for _, index in kept._kept} == {58, 30, *range(5, 30)}


def test_frames_of_several_videos_share_one_limit(tmp_path, monkeypatch):
    folders = [FrameFolder(write_folder(tmp_path / name, 40)) for name in ("one", "two")]
    cv2.imwrite(str(tmp_path / "two/0.png"), noise(99))
    one, two = map(Frames, folders)
    for index in range(40):
        one.jpeg(index)
    monkeypatch.setattr("annotation.frames.JPEGS", kept := type(JPEGS)())
    first = [one.jpeg(index) for index in range(40)]
    monkeypatch.setattr("annotation.frames.MOST_BYTES", kept._bytes)
    assert two.jpeg(0) != first[0]
    assert kept.get(one, 0) is None  # the oldest
    assert kept.get(one, 39) == first[39]
    assert one.jpeg(0) == first[0]


def test_exports_are_what_they_say(session, video, tmp_path):
    session.add_object("cat")
    session.give(3, square((4, 4), (40, 20)))
    find(session, objects=2)
    session.give(4, square((4, 4), (40, 20)))
    session.change_object(2, hidden=True)
    reports: list[tuple[int, int, int]] = []
    paths = {}
    for kind in KINDS:
        for again in range(2):  # the second takes the place of the first
            paths[kind] = exported(session, kind, lambda *figures: reports.append(figures))
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


def test_an_export_keeps_what_people_put_into_its_folder_and_says_what_its_masks_lack(session):
    session.give(3, square((4, 4)))
    assert session.what_lacks() == f"{LENGTH - 1} have no mask"
    find(session, frames=range(6))
    assert session.what_lacks() == f"{LENGTH - 6} have no mask"
    session.give(3, square((8, 8)))
    assert session.what_lacks() == f"{LENGTH - 6} have no mask, 5 are old or followed in one direction only"
    folder = exported(session, "masks")
    (folder / "notes.txt").write_text("mine")
    before = content(folder)
    with pytest.raises(InputError, match=r"notes.txt"):
        exported(session, "masks")
    assert content(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["masks"]


def test_other_tools_formats_hold_the_masks(session):
    session.change_object(1, name='a "cat" & <dog>')
    session.add_object("none")
    first, ring = square((4, 4)), square((6, 10))
    ring[14:18, 10:16] = 0  # a hole
    session.give(1, first)
    session.give(2, ring)
    coco, yolo, cvat, areas = (exported(session, kind) for kind in ("coco", "yolo", "cvat", "areas"))
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
        assert (entry["area"], entry["bbox"], entry["category_id"], entry["iscrowd"]) == (len(xs), box, 1, 0)
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
    for folder in ("images", "labels"):  # a picture without labels would be one without objects
        assert {path.stem for path in (yolo / folder).iterdir()} == {"1", "2"}
    number, *corners = (yolo / "labels/1.txt").read_text().split()
    outline = np.array(corners, float).reshape(-1, 2) * SIZE[::-1] - 0.5
    drawn = cv2.fillPoly(np.zeros(SIZE, np.uint8), [outline.round().astype(np.int32)], 1)
    assert number == "0"
    np.testing.assert_array_equal(drawn, first)


def test_objects_of_one_name_are_of_one_class_and_thin_ones_are_exported(session):
    session.change_object(1, name="car")
    session.add_object("dog")
    session.add_object("car")
    labels = square((4, 4), (40, 20))
    labels[30, 10:20] = 3  # a line
    session.give(0, labels)
    told = json.loads(exported(session, "coco").read_text())
    assert told["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}]
    assert [(entry["category_id"], entry["track_id"]) for entry in told["annotations"]] == [(1, 1), (2, 2), (1, 3)]
    yolo = exported(session, "yolo")
    assert (yolo / "data.yaml").read_text().endswith('names:\n  0: "car"\n  1: "dog"\n')
    lines = [line.split() for line in (yolo / "labels/0.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == ["0", "1", "0"]
    corners = np.array(lines[2][1:], float).reshape(-1, 2) * SIZE[::-1]
    assert (corners.min(axis=0).round(2).tolist(), corners.max(axis=0).round(2).tolist()) == ([10.01, 30.01], [19.99, 30.99])
    labels = [label.findtext("name") for label in ElementTree.parse(exported(session, "cvat")).getroot().iter("label")]
    assert labels == ["car", "dog"]


def test_yolo_has_a_line_for_each_object_also_of_parts_and_of_a_diagonal(session):
    session.add_object("stick")
    session.add_object("speck")
    session.add_object("line")
    labels = square((4, 4))
    labels[4:14, 30:44] = 1  # the same behind something
    labels[30:38, 4] = 1
    for step in range(12):
        labels[20 + step, 20 + step] = 2
    labels[0, 0] = 3
    labels[40, 10:20] = 4
    session.give(0, labels)
    lines = (exported(session, "yolo") / "labels/0.txt").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == [0, 1, 2, 3]
    drawn = np.zeros(SIZE, np.uint8)
    for number, line in enumerate(lines, start=1):
        corners = np.array(line.split()[1:], float).reshape(-1, 2) * SIZE[::-1]
        assert corners.min() >= 0
        assert cv2.contourArea(corners.astype(np.float32)) > 0
        cv2.fillPoly(drawn, [np.floor(corners).astype(np.int32)], number)
    assert (drawn == 1)[labels == 1].mean() > 0.98
    for number in (2, 3, 4):
        assert np.array_equal(drawn == number, labels == number)


def test_frames_of_any_name_are_exported(tmp_path):
    frames = write_folder(tmp_path / "frames", 3)
    names = [b"a\xff.png", b'b"<&.png', b"c\x01\n.png"]
    for index, name in enumerate(names):
        os.rename(frames / f"{index}.png", os.path.join(os.fsencode(frames), name))
    session = Session(tmp_path / "out", FrameFolder(frames), "frames")
    session.add_object("cat")
    session.give(0, square((4, 4)))
    session.give(2, square((4, 4)))
    paths = {kind: exported(session, kind) for kind in ("coco", "cvat", "areas", "masks")}
    told = [entry["file_name"] for entry in json.loads(paths["coco"].read_text())["images"]]
    assert told == ["a\\udcff.png", 'b"<&.png', "c\\x01\\n.png"]
    assert [image.get("name") for image in ElementTree.parse(paths["cvat"]).getroot().iter("image")] == told[::2]
    assert [row["file"] for row in csv.DictReader(paths["areas"].open())] == told[::2]
    with zipfile.ZipFile(zipped(paths["masks"])) as archive:
        assert archive.namelist() == [f"masks/{name}" for name in [*told, "objects.csv"]]
        assert archive.read("masks/objects.csv") == b"object,name\n1,cat\n"


def test_an_exported_data_set_can_be_evaluated_and_trained_on(session):
    session.give(3, square((4, 4)))
    session.give(4, square((8, 4)))
    root = exported(session, "dataset")
    (evaluated,) = youtube_videos(root)
    assert evaluated.name == "frames"
    assert len(evaluated.images) == LENGTH
    clips = VideoClips(root / "JPEGImages", root / "Annotations", crop=32)
    assert [image.stem for image, _ in clips.annotated(0)] == ["3", "4"]
    assert clips.draw(0, np.random.default_rng(0), max_skip=1) is not None
    session.forget(4)
    stopped = export(session, "dataset", lambda *_: None)
    next(stopped)
    stopped.close()
    masks = root / "Annotations/frames"
    assert {path.stem for path in masks.iterdir()} == {"3", "4"}  # those of the earlier one, whole
    exported(session, "dataset")
    assert {path.stem for path in masks.iterdir()} == {"3"}


def labelled(boxes: dict[str, tuple[int, int]]) -> dict:
    """labelme's JSON of squares by label, at (row, column)."""
    shapes = [
        {"label": label, "shape_type": "rectangle", "points": [[x, y], [x + 8, y + 8]]} for label, (y, x) in boxes.items()
    ]
    return {"imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": shapes}


def coco_of_two() -> dict:
    """COCO's JSON of two people in one image, whom nothing tells apart."""
    boxes = [[4, 4, 12, 4, 12, 12, 4, 12], [24, 30, 32, 30, 32, 38, 24, 38]]
    return {
        "images": [{"id": 1, "file_name": "x.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [box]} for box in boxes],
    }


@pytest.mark.parametrize(("first", "names"), [(None, ["dog", "cat"]), ("", ["dog", "cat"]), ("wolf", ["wolf", "dog", "cat"])])
def test_objects_that_are_imported_into_an_empty_session_have_the_names_in_the_file(first, names, tmp_path):
    session = Session(tmp_path / "out", FrameFolder(write_folder(tmp_path / "frames", 2)), "frames")
    if first is not None:
        session.add_object(first)
    import_files(session, 0, [("x.json", json.dumps(labelled({"dog": (4, 4), " cat": (30, 20)})).encode())], 1)
    labels = session.labels(0)
    assert [each.name for each in session.objects] == names
    by_name = {each.name: each.id for each in session.objects}
    assert (labels[8, 8], labels[34, 24]) == (by_name["dog"], by_name["cat"])


def test_of_objects_of_which_one_has_no_name_the_others_have_theirs(tmp_path):
    session = Session(tmp_path / "out", FrameFolder(write_folder(tmp_path / "frames", 2)), "frames")
    session.add_object("")
    import_files(session, 0, [("x.json", json.dumps(labelled({"7": (4, 4), "cat": (30, 20)})).encode())], 1)
    assert [each.name for each in session.objects] == ["object 1", "cat"]


def test_objects_of_a_new_session_have_the_names_in_the_file(tmp_path):
    video = FrameFolder(write_folder(tmp_path / "frames", 2))
    (tmp_path / "a.json").write_text(json.dumps(labelled({"dog": (4, 4), "cat": (30, 20)})))
    session = Session(tmp_path / "out", video, "frames")
    assert import_masks(session, read_given_masks(parse_masks([f"0:{tmp_path / 'a.json'}"]), video.names, video.size))
    assert [(each.id, each.name) for each in session.objects] == [(1, "dog"), (2, "cat")]


def test_files_that_name_their_frames_become_masks_of_these_in_one_step(session, tmp_path, monkeypatch):
    session.add_object("")
    session.give(2, square((4, 4), (30, 40)))
    session.change_object(2, locked=True)
    content = {
        "images": [{"id": i, "file_name": f"{i:05}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in (2, 5)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "Dog"}],
        "annotations": [
            {"image_id": 2, "category_id": 1, "segmentation": [[30, 20, 50, 20, 50, 40, 30, 40]]},
            {"image_id": 5, "category_id": 1, "segmentation": [[24, 30, 32, 30, 32, 38, 24, 38]]},
            {"image_id": 5, "category_id": 2, "segmentation": [[4, 4, 12, 4, 12, 12, 4, 12]]},
        ],
    }
    before = session.labels(2)
    assert import_files(session, 0, [("coco.json", json.dumps(content).encode())], 1, by=1) == [2, 5]
    assert [each.name for each in session.objects] == ["dog", "object 2", "cat"]
    expected = np.where(before == 0, 0, before)
    expected[20:40, 30:50][expected[20:40, 30:50] != 2] = 3  # object 2 is locked, and object 1 elsewhere
    np.testing.assert_array_equal(session.labels(2), expected)
    np.testing.assert_array_equal(session.labels(5)[[6, 33], [6, 28]], [1, 3])
    assert session.given[2].stated == [1, 2, 3]
    assert session.given[5].stated == [1, 3]  # of object 2, it says nothing
    assert [*session.undo(1).changes] == [2, 5]
    np.testing.assert_array_equal(session.labels(2), before)
    assert [*session.given] == [2]
    files = []
    for frame in (3, 4):
        write_label_map(tmp_path / "mask.png", np.uint8(2) * square((4 + frame, 4)), colour_map())
        files.append((f"{frame}.png", (tmp_path / "mask.png").read_bytes()))
    assert import_files(session, 0, files, 1, by=1) == [3, 4]
    np.testing.assert_array_equal(session.labels(4), 2 * square((8, 4)))
    with pytest.raises(InputError, match=r"^last.png: expected a file named like a frame, as 3.png is, or none that is"):
        import_files(session, 0, [*files[:1], ("last.png", files[1][1])], 1)
    with pytest.raises(InputError, match=r"^coco.json: has masks of 2 frames; import it alone"):
        import_files(session, 0, [*files, ("coco.json", json.dumps(content).encode())], 1)
    monkeypatch.setattr("annotation.imported.LARGEST", 2 * SIZE[0] * SIZE[1])
    with pytest.raises(InputError, match=r"^coco.json: expected at most 2 masks of this size at once, found 3"):
        import_files(session, 0, [("coco.json", json.dumps(content).encode())], 1)


def test_our_own_coco_comes_back_as_the_same_objects(session):
    session.add_object("dog")
    session.add_object("cat")
    labels = {frame: square((4 + frame, 4), (30, 20), (4, 40)) for frame in (0, 5)}
    for frame, each in labels.items():
        session.give(frame, each)
    content = exported(session, "coco").read_bytes()
    for frame in labels:
        session.forget(frame)
    assert import_files(session, 0, [("coco.json", content)], 1) == [0, 5]
    assert [each.name for each in session.objects] == ["dog", "dog", "cat"]
    for frame, each in labels.items():
        np.testing.assert_array_equal(session.labels(frame), each)


@pytest.mark.parametrize("names", [("", ""), ("car 2", "car"), ("car", "car 1")])
def test_our_own_coco_keeps_its_objects_apart_in_a_new_session(names, session, tmp_path):
    session.remove_object(1)
    for name in names:
        session.add_object(name)
    labels = square((4, 4)) * np.uint8(2) + square((30, 20)) * np.uint8(3)
    session.give(0, labels)
    content = exported(session, "coco").read_bytes()
    with contextlib.closing(Session(tmp_path / "new", session.video, "frames")) as new:
        new.add_object("")  # as the page does
        import_files(new, 0, [("coco.json", content)], 1)
        found = new.labels(0)
        assert len({*zip(labels.ravel().tolist(), found.ravel().tolist(), strict=True)}) == 3
    session.forget(0)
    import_files(session, 0, [("coco.json", content)], 2)
    np.testing.assert_array_equal(session.labels(0), labels)


def test_a_name_that_is_another_objects_with_its_number_is_not_guessed(session):
    session.remove_object(1)
    for name in ("car 3", "car"):
        session.add_object(name)
    session.give(0, square((30, 20)) * np.uint8(3))
    content = exported(session, "coco").read_bytes()
    session.forget(0)
    with pytest.raises(InputError, match=r"^coco.json: car 3 is one object's name here, and another one's with its number"):
        import_files(session, 0, [("coco.json", content)], 2)
    session.change_object(2, name="lorry")
    import_files(session, 0, [("coco.json", content)], 2)
    np.testing.assert_array_equal(session.labels(0), square((30, 20)) * np.uint8(3))


def test_a_mask_of_number_1_is_not_taken_for_another_object_that_is_chosen(session, tmp_path):
    session.add_object("cat")
    session.give(0, square((4, 4)))
    write_label_map(tmp_path / "mask.png", square((30, 20)), None)
    content = (tmp_path / "mask.png").read_bytes()
    with pytest.raises(InputError, match=r"^x.png: expected white on black for object 2, found number 1; if it is object 1"):
        import_files(session, 0, [("x.png", content)], 2)
    import_files(session, 0, [("x.png", content)], 1)
    np.testing.assert_array_equal(session.labels(0), square((30, 20)))


def test_more_objects_than_there_can_be_are_refused_before_they_are_imported(session):
    session.next_object = 254
    content = json.dumps(labelled({"a": (4, 4), "b": (30, 20), "c": (4, 40)})).encode()
    with pytest.raises(InputError, match="expected at most 254 objects"):
        import_files(session, 0, [("x.json", content)], 1)
    assert [each.name for each in session.objects] == ["dog"]


@pytest.mark.parametrize("change", ["locked", "hidden"])
def test_what_is_imported_covers_no_locked_or_hidden_object_but_takes_the_place_of_its_own_mask(change, session, tmp_path):
    session.add_object("")
    session.give(2, square((4, 4), (30, 20)))
    session.change_object(1, **{change: True})
    own, there = square((12, 8)), square((4, 4)) > 0
    for number, expected in ((2, np.where(there, 1, 2 * own)), (1, np.where(own > 0, 1, square((64, 0), (30, 20))))):
        write_label_map(tmp_path / "mask.png", np.uint8(number) * own, colour_map())
        import_files(session, 2, [("x.png", (tmp_path / "mask.png").read_bytes())], number, by=1)
        found = session.labels(2)
        session.undo(1)
        np.testing.assert_array_equal(found, expected)


def test_a_failure_leaves_names_and_objects_as_they_were(session, monkeypatch):
    def fail(*_: object) -> None:
        raise WriteError("full")

    content = json.dumps(labelled({"wolf": (4, 4), "cat": (30, 20)})).encode()
    session.change_object(1, name="object 1")  # as the page has added it
    monkeypatch.setattr("annotation.session.write_label_map", fail)
    with pytest.raises(WriteError):
        import_files(session, 0, [("x.json", content)], 1)
    monkeypatch.undo()
    assert [each.name for each in session.objects] == ["object 1"]
    again = opened_again(session)
    assert [each.name for each in again.objects] == ["object 1"]
    assert not again.given
    again.close()


def test_the_first_mask_of_the_frame_that_is_shown_states_all_objects(session, tmp_path):
    session.add_object("")
    write_label_map(tmp_path / "mask.png", square((4, 4)), colour_map())
    content = (tmp_path / "mask.png").read_bytes()
    import_files(session, 2, [("x.png", content)], 1)
    assert session.given[2].stated == [1, 2]
    find(session, 2)
    import_files(session, 3, [("x.png", content)], 1)
    assert session.given[3].stated == [1]


def test_files_become_the_mask_of_the_frame_that_is_shown(session, tmp_path):
    def png(labels: np.ndarray, palette: bytes | None = None) -> bytes:
        write_label_map(tmp_path / "mask.png", labels, palette)
        return (tmp_path / "mask.png").read_bytes()

    def read(*files: tuple[str, bytes], frame: int = 2, chosen: int = 1) -> np.ndarray:
        assert import_files(session, frame, files, chosen, by=1) == [frame]
        labels = session.labels(frame)
        session.undo(1)
        return labels

    one, two = square((4, 4)), square((4, 4), (30, 20))
    np.testing.assert_array_equal(read(("a.png", png(255 * one)), ("b.png", png(255 * (two == 2).astype(np.uint8)))), two)
    assert [each.id for each in session.objects] == [1, 2]
    session.give(2, two)
    # the chosen object is there, and 1 below it
    np.testing.assert_array_equal(read(("x.png", png(255 * one)), chosen=2), 2 * one)
    np.testing.assert_array_equal(read(("x.png", png(5 * square((30, 40)), colour_map()))), two + 5 * square((30, 40)))
    assert [each.id for each in session.objects] == [1, 2, 5]
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
    session.change_object(2, name="wolf")
    (tmp_path / "mask.json").write_text(json.dumps(labelled({"Wolf": (4, 4), "cat": (30, 20)})))
    named = read(("x.json", (tmp_path / "mask.json").read_bytes()), frame=4)
    assert (named[8, 8], named[34, 24]) == (2, 6)  # by their names, not their order
    assert [each.name for each in session.objects] == ["dog", "wolf", "object 5", "cat"]
    (tmp_path / "several.json").write_text(json.dumps(coco_of_two()))
    with pytest.raises(InputError, match="which of the objects are they"):  # their place in the file is no name
        read(("x.json", (tmp_path / "several.json").read_bytes()), frame=4)
    session.change_object(1, name="wolf")
    with pytest.raises(InputError, match=r"x.json: expected objects of different names, found several called Wolf"):
        read(("x.json", (tmp_path / "mask.json").read_bytes()), frame=4)
    session.forget(2)
    with pytest.raises(InputError, match="which of the objects are they"):  # though none has a mask
        read(("a.png", png(255 * one)), ("b.png", png(255 * square((30, 20)))))
    session.remove_object(2)
    with pytest.raises(InputError, match="object 2 was removed; new ones are numbered from 7 on"):
        read(("x.png", png(2 * one, colour_map())))
    assert not list((tmp_path / "out/working").iterdir())
