"""segment_video.py: what it may write and remove, how it resumes after a stop, and its messages for bad flags."""

import errno
import functools
import json
import os
import resource
import shutil
import signal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import segment_video
import torch
from conftest import PALETTE, content
from films import SIZE, noise, picture, square, write_film, write_folder
from PIL import Image

from dataset.own_video import open_video
from evaluation.video_results import VideoResults
from model import VideoSegmenter, load_for_inference
from util.errors import InputError
from util.film import Film
from util.image import read_image
from util.label_map import read_label_map, write_label_map
from util.picture import cut_out

RESULTS = ["masks", "overlay.mp4", "segment_video.json", "sheet.png"]


LOADED_ONCE = functools.cache(load_for_inference)


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr("evaluation.run.load_for_inference", LOADED_ONCE)


@pytest.fixture
def mask(tmp_path) -> Path:
    path = tmp_path / "a.png"
    write_label_map(path, square((4, 4)), PALETTE)
    return path


@pytest.fixture
def command(light_file, tmp_path, mask) -> tuple:
    """Four frames, one mask at frame 2."""
    frames = write_folder(tmp_path / "frames", 4)
    flags = ("--size", "48", "--model", light_file, "--output", tmp_path / "out")
    return ("segment_video", frames, "--mask", f"2:{mask}", *flags)


@pytest.fixture
def both_ways(light_file, tmp_path) -> tuple:
    """A film of eight frames with masks at 2, 4 and 5, without --output: six steps backwards, then six forwards.

    The mask at 4 leaves out object 1, so a pass takes it into its memory only when it comes to it.
    """
    film = write_film(tmp_path / "film.mp4", [picture(t) for t in range(8)])
    write_label_map(tmp_path / "one.png", square((4, 4)), PALETTE)
    write_label_map(tmp_path / "three.png", 3 * square((8, 4)), PALETTE)
    write_label_map(tmp_path / "two.png", square((30, 10), (8, 20)), PALETTE)
    masks = [f"{frame}:{tmp_path / f'{name}.png'}" for frame, name in ((2, "one"), (4, "three"), (5, "two"))]
    flags = ("--mem_every", 2, "--max_memory_frames", 2, "--size", "48", "--model", light_file)
    return ("segment_video", film, "--mask", *masks, *flags)


STEPS = 12


def last_line(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def stop_at(monkeypatch, number: int) -> list[int]:
    """Interrupt the segmenters at step `number` (from 0, over both passes); returns a list that counts steps."""
    step, counted = VideoSegmenter.step, []

    def counting(self, *arguments, **options):
        if len(counted) == number:
            raise KeyboardInterrupt
        counted.append(1)
        return step(self, *arguments, **options)

    monkeypatch.setattr(VideoSegmenter, "step", counting)
    return counted


# resuming after a stop


@pytest.mark.parametrize("stops", [(1, 7), pytest.param((0, 4, 5, 6, 9, 11), marks=pytest.mark.slow)])
def test_after_a_stop_at_any_step_the_same_command_goes_on_to_the_same_results(
    stops, both_ways, script, tmp_path, monkeypatch, capsys
):
    assert script(*both_ways, "--output", tmp_path / "undisturbed") == 0
    expected = content(tmp_path / "undisturbed")
    monkeypatch.setattr(segment_video.Snapshots, "due", True)
    for stop in stops:  # of six steps backwards, two of which give masks, then six forwards
        out = tmp_path / f"stopped at {stop}"
        with monkeypatch.context() as patch:
            stop_at(patch, stop)
            assert script(*both_ways, "--output", out) == 128 + signal.SIGINT
        assert not {"masks", "overlay.mp4", "sheet.png"} & {path.name for path in out.iterdir()}
        capsys.readouterr()
        with monkeypatch.context() as patch:
            counted = stop_at(patch, -1)
            assert script(*both_ways, "--output", out) == 0
        assert len(counted) == STEPS - stop
        assert ("resuming after" in capsys.readouterr().out) == (stop > 0)
        assert content(out) == expected, stop


def test_a_finished_run_is_not_done_again_and_without_one_of_its_results_not_called_finished(
    command, script, tmp_path, capsys, monkeypatch
):
    assert script(*command) == 0
    before = content(command[-1])
    counted = stop_at(monkeypatch, -1)
    capsys.readouterr()
    assert script(*command) == 0
    assert "already finished" in capsys.readouterr().out
    assert content(command[-1]) == before
    for name in ("masks/2.png", "overlay.mp4", "sheet.png"):
        (tmp_path / "out" / name).rename(tmp_path / "removed")
        assert script(*command) == 2
        assert f"out: holds results without {name}; --overwrite replaces them" in last_line(capsys)
        (tmp_path / "removed").rename(tmp_path / "out" / name)
    assert not counted
    (tmp_path / "out/sheet.png").unlink()
    assert script(*command, "--overwrite") == 0
    assert counted
    assert content(command[-1]) == before


@pytest.mark.parametrize("finished", [False, True])
def test_another_command_into_the_same_folder_is_told_what_differs(finished, command, script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(segment_video.Snapshots, "due", True)
    with monkeypatch.context() as patch:
        stop_at(patch, -1 if finished else 3)
        script(*command)
    before, frames = content(tmp_path / "out"), tmp_path / "frames"

    def told(*flags: object) -> str:
        assert script(*command, *flags) == 2
        assert content(tmp_path / "out") == before
        line = last_line(capsys)
        assert ("holds results of another run" if finished else "holds an unfinished run") in line
        return line

    assert "size was 48, is 64" in told("--size", 64)
    assert "top_k was 20, is none" in told("--top", "all")
    assert "mask 0 was none, is " in told("--mask", tmp_path / "a.png")
    write_label_map(tmp_path / "a.png", square((5, 4)), PALETTE)
    assert "mask 2 was " in told()
    Image.fromarray(picture(9)).save(frames / "3.png")
    assert "video was " in told()
    Image.fromarray(picture(9)).save(frames / "4.png")
    assert "frames was 4, is 5" in told()
    assert script(*command, "--overwrite") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == RESULTS


DAMAGE = {
    "unfinished/snapshot.pth": lambda path: torch.save({"done": 3, "segmenter": {}}, path),
    "unfinished/4.npz": lambda path: np.savez(path, ids=np.zeros(1)),
    "unfinished/masks/00001.png": lambda path: write_label_map(path, np.zeros((4, 4), np.uint8), PALETTE),
}


def test_what_was_left_for_going_on_is_damaged(both_ways, script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(segment_video.Snapshots, "due", True)
    command, out = (*both_ways, "--output", tmp_path / "out"), tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        script(*command)
    for name, make_another in DAMAGE.items():
        whole = (out / name).read_bytes()
        for damage in (Path.unlink, lambda path: path.write_bytes(b"rubbish"), make_another):
            damage(out / name)
            if (out / name).exists() or not name.endswith(".pth"):  # which may be missing
                assert script(*command) == 2, name
                line = last_line(capsys)
                assert f"{out / name}: cannot continue from this (" in line
                assert f"remove {out / 'unfinished'} to start anew" in line
            (out / name).write_bytes(whole)
    (out / "unfinished/snapshot.pth").unlink()
    counted = stop_at(monkeypatch, -1)
    assert script(*command) == 0
    assert len(counted) == STEPS  # without a snapshot, from the start
    assert sorted(path.name for path in out.iterdir()) == RESULTS


def test_what_is_put_among_old_masks_meanwhile_stays(command, script, tmp_path, monkeypatch, capsys):
    assert script(*command) == 0
    mine = tmp_path / "out/masks/mine.txt"
    step = VideoSegmenter.step
    monkeypatch.setattr(VideoSegmenter, "step", lambda *a, **k: (mine.write_text("mine"), step(*a, **k))[1])
    assert script(*command, "--overwrite") == 2
    assert "mine.txt: was not made by this project; nothing was removed" in last_line(capsys)
    assert sorted(path.name for path in mine.parent.iterdir()) == ["0.png", "1.png", "2.png", "3.png", "mine.txt"]
    mine.unlink()
    monkeypatch.undo()
    assert script(*command, "--overwrite") == 0


def test_old_results_stay_until_the_new_ones_are_finished(command, script, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert script(*command) == 0
    before = content(out)
    again = (*command, "--size", 32, "--overwrite")
    monkeypatch.setattr(segment_video.Snapshots, "due", True)
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        assert script(*again) == 128 + signal.SIGINT
    assert before.items() <= content(out).items()
    assert script(*again[:-1]) == 2  # it would replace the old ones
    assert "holds results of another run (size was 48, is 32)" in last_line(capsys)
    counted = stop_at(monkeypatch, -1)
    assert script(*again) == 0
    assert len(counted) == 1
    assert sorted(path.name for path in out.iterdir()) == RESULTS


def test_a_broken_frame_stops_it_and_it_goes_on_when_that_is_mended(command, script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(segment_video.Snapshots, "due", True)
    frame = tmp_path / "frames/3.png"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:-30])
    assert script(*command) == 2
    assert "3.png: cannot read this image" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["unfinished"]
    frame.write_bytes(whole)
    assert script(*command) == 2
    assert "holds an unfinished run (video was" in last_line(capsys)  # it read another file
    assert script(*command, "--overwrite") == 0


# a full disk


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_is_one_line_and_nothing_looks_finished(step, both_ways, script, tmp_path, monkeypatch, capsys):
    """A full disk at any point: every file is synchronised when written, and here that fails some calls later each time."""
    assert script(*both_ways, "--output", tmp_path / "undisturbed") == 0
    monkeypatch.setattr(segment_video.Snapshots, "due", True)
    out, fsync = tmp_path / "out", os.fsync
    for writes in range(0, 60, step):
        left = [writes]

        def failing(file: int, left=left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(file)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            status = script(*both_ways, "--output", out)
        lines = [line for line in capsys.readouterr().err.splitlines() if "frames" not in line]
        if status == 0:
            break
        assert status == 2
        assert len(lines) == 1
        assert "No space left on device" in lines[0]
        assert not (out / "masks").exists()
    assert status == 0
    assert writes > 5
    assert content(out) == content(tmp_path / "undisturbed")


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stop_at_any_moment_of_finishing_is_mended(step, light_file, mask, script, tmp_path, monkeypatch):
    """The process is stopped after each rename, removal and new folder in turn, or some of them."""
    command = ("segment_video", write_folder(tmp_path / "frames", 2), "--mask", mask, "--size", "48", "--model", light_file)
    assert script(*command, "--output", tmp_path / "out") == 0
    assert script(*command, "--output", tmp_path / "undisturbed", "--size", 32) == 0
    again = (*command, "--output", tmp_path / "out", "--size", 32, "--overwrite")
    expected = content(tmp_path / "undisturbed")
    shutil.copytree(tmp_path / "out", tmp_path / "old")
    for number in range(0, 200, step):
        left = [number]
        with monkeypatch.context() as patch:
            for place, name in ((os, "replace"), (Path, "unlink"), (Path, "rmdir"), (Path, "mkdir")):
                patch.setattr(place, name, until_none_is_left(getattr(place, name), left))
            status = script(*again)
        assert script(*again) == 0
        assert content(tmp_path / "out") == expected, number
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == RESULTS
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "old", tmp_path / "out")
        if status == 0:
            break
    assert status == 0
    assert number > 14


def until_none_is_left(function, left: list[int]):
    def limited(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return limited


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_run_is_not_finished_without_one_of_its_masks(damage, tmp_path):
    results = VideoResults(tmp_path, ["a", "b"], {})
    results.claim([], overwrite=False)
    for index in range(2):
        results.write_mask(index, square((4, 4)))
    damage(tmp_path / "unfinished/masks/b.png")
    with pytest.raises(InputError, match=r"b.png: (No such file|expected a whole PNG)"):
        results.finish()
    assert not (tmp_path / "masks").exists()


def test_a_film_is_not_written_into_a_file_that_has_its_name_as_well(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "film.mp4").hardlink_to(tmp_path / "mine")
    with Film(tmp_path / "film.mp4", SIZE, Fraction(25)) as film:
        film.add(picture(0), Fraction(0))
        film.close()
    assert (tmp_path / "mine").read_text() == "mine"
    assert len(open_video(tmp_path / "film.mp4").names) == 1


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_a_film_that_does_not_fit_on_the_disk_is_told(share, tmp_path):
    def write(path: Path) -> None:
        with Film(path, SIZE, Fraction(25)) as film:
            for t in range(30):
                film.add(noise(t), Fraction(t, 25))
            film.close()

    write(tmp_path / "whole.mp4")
    limit = int(share * (tmp_path / "whole.mp4").stat().st_size)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(InputError, match=r"film.mp4: cannot write this video \(File too large\)"):
            write(tmp_path / "film.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_same_pictures_give_the_same_film(tmp_path):
    found, size = set(), (240, 320)
    for _ in range(5):
        with Film(tmp_path / "film.mp4", size, Fraction(25)) as film:
            for t in range(10):
                film.add(picture(t, size), Fraction(t, 25))
            film.close()
        found.add((tmp_path / "film.mp4").read_bytes())
        with av.open(str(tmp_path / "film.mp4")) as container:  # to leave different garbage in memory
            assert len([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]) == 10
    assert len(found) == 1


# it touches only its own files


@pytest.mark.parametrize("place", ["overlay.mp4", "complete/masks/film.mp4"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_video_is_never_replaced(place, linked, light_file, mask, script, tmp_path, capsys):
    out = tmp_path / "out"
    film = out / place
    film.parent.mkdir(parents=True, exist_ok=True)
    write_film(film, [picture(t) for t in range(3)])
    before = content(out)
    given = film
    if linked:
        given = tmp_path / "link.mp4"
        given.symlink_to(film)
    flags = ("--mask", mask, "--size", "48", "--model", light_file, "--output", out, "--overwrite")
    assert script("segment_video", given, *flags) == 2
    assert f"{given}: lies where the results go; give another --output" in last_line(capsys)
    assert content(out) == before


def test_frames_and_masks_are_never_replaced(light_file, mask, script, tmp_path, capsys):
    out, frames = tmp_path / "out", write_folder(tmp_path / "frames", 2)
    flags = ("--size", "48", "--model", light_file, "--output", out, "--overwrite")
    for place in ("sheet.png", "masks/a.png", "unfinished/masks/a.png", "unfinished/a.png"):
        write_label_map(out / place, square((4, 4)), PALETTE)
        assert script("segment_video", frames, "--mask", out / place, *flags) == 2
        assert f"{place}: lies where the results go" in last_line(capsys)
        (out / place).unlink()
    for place in ("masks", "unfinished"):
        shutil.rmtree(out / place, ignore_errors=True)
        write_folder(out / place, 2)
    Image.fromarray(picture(0)).save(out / "0.png")
    before = content(out)
    for place in (".", "masks", "unfinished"):
        assert script("segment_video", out / place, "--mask", mask, *flags) == 2
        assert "lies where the results go" in last_line(capsys)
    assert content(out) == before


def test_frames_that_are_links_into_the_results_are_never_replaced(command, script, tmp_path, capsys):
    assert script(*command) == 0
    frames = tmp_path / "links"
    frames.mkdir()
    for path in (tmp_path / "out/masks").iterdir():
        (frames / path.name).symlink_to(path)
    before = content(tmp_path / "out")
    assert script("segment_video", frames, *command[2:], "--overwrite") == 2
    assert "lies where the results go" in last_line(capsys)
    assert content(tmp_path / "out") == before


def test_inputs_beside_the_results_are_fine(light_file, script, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_folder(out / "frames", 2)
    write_label_map(out / "first.png", square((4, 4)), PALETTE)
    flags = ("--mask", out / "first.png", "--size", "48", "--model", light_file, "--output", out)
    assert script("segment_video", out / "frames", *flags) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([*RESULTS, "first.png", "frames"])


def folder_of_masks(out: Path) -> None:
    (out / "masks/notes.txt").write_text("mine")


def a_link_instead(out: Path) -> None:
    (out / "masks").rename(out.parent / "mine")
    (out / "masks").symlink_to(out.parent / "mine")


def an_unfinished_folder(out: Path) -> None:
    (out / "unfinished").mkdir()
    (out / "unfinished/thesis.tex").write_text("mine")


def a_link_to_a_complete_folder(out: Path) -> None:
    (out.parent / "mine").mkdir()
    (out.parent / "mine/0.png").write_text("mine")
    (out / "complete").symlink_to(out.parent / "mine")


MEDDLING = (folder_of_masks, a_link_instead, an_unfinished_folder, a_link_to_a_complete_folder)


def test_a_folder_that_holds_anything_else_is_not_touched(command, script, tmp_path, capsys):
    assert script(*command) == 0
    (tmp_path / "out").rename(tmp_path / "good")
    for meddle in MEDDLING:
        shutil.copytree(tmp_path / "good", tmp_path / "out")
        meddle(tmp_path / "out")
        before = content(tmp_path)
        for flags in ((), ("--overwrite", "--size", 32)):
            assert script(*command, *flags) == 2, meddle
            assert "nothing was removed" in last_line(capsys)
            assert content(tmp_path) == before
        shutil.rmtree(tmp_path / "out")
        if (tmp_path / "mine").exists():
            (tmp_path / "mine").rename(tmp_path / f"mine of {meddle.__name__}")


RECORDS = (
    *("[]", "[" * 100_000, '{"frames": "../../x", "settings": {}}', '{"frames": ["../../x"], "settings": {}}'),
    *('{"frames": [7], "settings": {}}', '{"frames": ["0"], "settings": []}', '{"frames": {"0": 1}, "settings": {}}'),
)


def test_a_damaged_record_is_one_line(command, script, tmp_path, capsys):
    places = [("segment_video.json", record) for record in RECORDS]
    for place, record in (*places, ("unfinished/segment_video.json", "[]"), ("complete/segment_video.json", "[]")):
        path = tmp_path / "out" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record.encode("latin-1"))
        before = content(tmp_path)
        assert script(*command, "--overwrite") == 2
        assert "segment_video.json: expected" in last_line(capsys)
        assert content(tmp_path) == before
        path.unlink()


def test_the_masks_of_an_earlier_record_are_replaced_and_no_others(command, script, tmp_path):
    assert script(*command) == 0
    for path in (tmp_path / "frames").iterdir():
        path.rename(path.with_name(f"frame{path.name}"))
    assert script(*command, "--overwrite") == 0
    assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == [f"frame{t}.png" for t in range(4)]
    assert json.loads((tmp_path / "out/segment_video.json").read_text())["frames"] == [f"frame{t}" for t in range(4)]


def test_results_without_a_record_are_replaced_only_when_asked(command, script, tmp_path, capsys):
    assert script(*command) == 0
    (tmp_path / "out/segment_video.json").unlink()
    assert script(*command) == 2
    assert "out: already holds results; --overwrite replaces them" in last_line(capsys)
    assert script(*command, "--overwrite") == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other/overlay.mp4").write_text("mine")
    assert script(*command[:-1], tmp_path / "other") == 2
    assert (tmp_path / "other/overlay.mp4").read_text() == "mine"


# a frame to draw on


def test_a_frame_is_written_to_draw_on(script, tmp_path):
    film, folder = write_film(tmp_path / "film.mp4", [picture(t) for t in range(20)]), write_folder(tmp_path / "frames", 20)
    for number in (0, 19):
        assert script("segment_video", film, "--frame", number, tmp_path / "frame.png", "--overwrite") == 0
        found = read_image(tmp_path / "frame.png")
        assert np.abs(found[4:-4, 4:-4].astype(int) - picture(number)[4:-4, 4:-4]).max() <= 6
        assert script("segment_video", folder, "--frame", number, tmp_path / "folder.png", "--overwrite") == 0
        assert np.array_equal(read_image(tmp_path / "folder.png"), picture(number))


def test_a_frame_replaces_nothing_unless_asked_and_never_the_video(script, tmp_path, capsys):
    frames = write_folder(tmp_path / "frames", 3)
    (tmp_path / "there.png").write_text("mine")
    before = content(tmp_path)
    for arguments, told in (
        (("--frame", 0, tmp_path / "there.png"), "there.png: already exists; --overwrite replaces it"),
        (("--frame", 0, frames / "3.png", "--overwrite"), "3.png: is in the folder of the frames"),
        (("--frame", 3, tmp_path / "new.png"), "--frame 3: the video has frames 0 to "),
        (("--frame", -1, tmp_path / "new.png"), "--frame -1: the video has frames 0 to "),
        (("--frame", "x", tmp_path / "new.png"), "--frame x: the video has frames 0 to "),
        (("--frame", "9" * 5000, tmp_path / "new.png"), " has frames 0 to "),
        (("--frame", 0, tmp_path / "new.jpg"), "expected a file name that ends in .png"),
        (("--frame", 0, tmp_path / "new.png", "--mask", "a.png"), "without --mask or --output"),
        (("--frame", 0), "expected 2 arguments"),
        (("--frame", 0, tmp_path / f"{'x' * 300}.png"), "xxx.png: File name too long"),
        ((), "expected --mask and --output, or --frame"),
    ):
        assert script("segment_video", frames, *arguments) == 2
        assert told in last_line(capsys)
        assert content(tmp_path) == before
    assert script("segment_video", frames, "--frame", 0, tmp_path / "there.png", "--overwrite") == 0


# flags and sizes


@pytest.mark.parametrize("fps", [0.01, 1000])
def test_the_slowest_and_the_fastest_rate_are_kept(fps, command, script, tmp_path):
    assert script(*command, "--fps", fps) == 0
    with av.open(str(tmp_path / "out/overlay.mp4")) as film:
        times = [frame.time for frame in film.decode(video=0)]
    assert times == pytest.approx([t / fps for t in range(4)], rel=1e-3)


@pytest.mark.parametrize(
    ("size", "working"),
    [((1, 4000), 16), ((17, 16), 48), *(pytest.param(size, 48, marks=pytest.mark.slow) for size in ((3000, 2), (1, 1)))],
)
def test_odd_sizes_have_right_results(size, working, light_file, script, tmp_path):
    frames, out = write_folder(tmp_path / "frames", 3, size), tmp_path / "out"
    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 2 + 1, : size[1] // 2 + 1] = 1
    write_label_map(tmp_path / "a.png", labels, PALETTE)
    flags = ("--mask", tmp_path / "a.png", "--size", working, "--model", light_file, "--output", out)
    assert script("segment_video", frames, *flags) == 0
    assert [read_label_map(out / f"masks/{t}.png").labels.shape for t in range(3)] == [size] * 3
    with av.open(str(out / "overlay.mp4")) as film:
        assert len(list(film.decode(video=0))) == 3
    height, width = read_image(out / "sheet.png").shape[:2]
    assert height < 1000
    assert width < 3000


# leaving objects out, and cutting them out


def test_objects_that_are_left_out_are_as_if_they_had_not_been_drawn(command, script, tmp_path, mask, capsys):
    write_label_map(tmp_path / "two.png", square((4, 4), (40, 20)), PALETTE)
    write_label_map(tmp_path / "one.png", 2 * (square((40, 20))), PALETTE)
    both, alone = ((*command[:3], f"2:{tmp_path / name}", *command[4:-1]) for name in ("two.png", "one.png"))
    assert script(*both, tmp_path / "left", "--objects", 2) == 0
    assert script(*alone, tmp_path / "alone") == 0
    masks = content(tmp_path / "left/masks")
    assert masks == content(tmp_path / "alone/masks")
    assert set(np.unique(read_label_map(tmp_path / "left/masks/2.png").labels)) == {0, 2}
    assert script(*both, tmp_path / "none", "--objects", 2, 3) == 2
    assert last_line(capsys) == "error: --objects 3: expected an object of the masks, 1, 2"


def test_a_film_of_cut_outs_shows_the_objects_and_nothing_else(command, script, tmp_path, monkeypatch):
    assert script(*command, "--cutout") == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted([*RESULTS, "cutout.mov"])
    with av.open(str(out / "cutout.mov")) as film:
        frames = [frame.to_ndarray(format="rgba") for frame in film.decode(video=0)]
    assert len(frames) == 4
    for t, frame in enumerate(frames):
        labels = read_label_map(out / f"masks/{t}.png").labels
        np.testing.assert_array_equal(frame[..., 3] > 127, labels != 0)
        difference = np.abs(frame[labels != 0][:, :3].astype(int) - picture(t)[labels != 0])
        assert difference.mean() < 6
    before = content(out)
    monkeypatch.setattr(segment_video.Snapshots, "due", True)
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        script(*command, "--cutout", "--overwrite")
    assert script(*command, "--cutout", "--overwrite") == 0
    assert content(out) == before
    assert script(*command, "--overwrite") == 0
    assert sorted(path.name for path in out.iterdir()) == RESULTS


def test_a_film_of_cut_outs_is_added_to_a_finished_run_without_segmenting_again(
    command, script, tmp_path, monkeypatch, capsys
):
    assert script(*command) == 0
    before = content(tmp_path / "out")
    counted = stop_at(monkeypatch, -1)
    with monkeypatch.context() as patch:
        patch.setattr(segment_video, "cut_out", functools.partial(interrupt_after, [], 2))
        assert script(*command, "--cutout") == 128 + signal.SIGINT
    assert content(tmp_path / "out").items() > before.items()
    assert script(*command, "--cutout") == 0
    assert not counted
    after = content(tmp_path / "out")
    record = json.loads(after.pop("segment_video.json"))
    assert record["settings"].pop("cutout") == "cutout.mov"
    assert record == json.loads(before.pop("segment_video.json"))
    assert after.pop("cutout.mov")
    assert after == before
    assert script(*command[:-1], tmp_path / "at once", "--cutout") == 0
    assert content(tmp_path / "at once")["cutout.mov"] == content(tmp_path / "out")["cutout.mov"]
    (tmp_path / "out/cutout.mov").unlink()
    (tmp_path / "out/masks/1.png").unlink()
    capsys.readouterr()
    assert script(*command, "--cutout") == 2
    assert "holds results without cutout.mov" in last_line(capsys)


def test_the_videos_of_a_folder_are_done_one_after_the_other(light_file, script, tmp_path, capsys):
    films, masks = tmp_path / "films", tmp_path / "films/masks"
    (masks / "dog").mkdir(parents=True)
    write_film(films / "cat.v2.mp4", [picture(t) for t in range(4)])
    write_folder(films / "dog", 3)
    write_film(films / "bird.mp4", [picture(t) for t in range(2)])
    Image.fromarray(picture(0)).save(films / "bird.png")  # a still of it
    (films / "fish.mp4").write_text("no film")
    (films / "notes.txt").write_text("of mine")
    for name in ("cat.v2", "fish", "dog/1"):
        write_label_map(masks / f"{name}.png", square((4, 4)), PALETTE)
    flags = ("--size", 48, "--model", light_file, "--output", tmp_path / "out")
    assert script("segment_video", films, "--mask", masks, *flags) == 1
    told = capsys.readouterr()
    assert "masks: expected a mask called bird.png, or a folder of masks, found none; left out" in told.err
    assert "fish.mp4: cannot read this video" in told.err
    assert "cat.v2 (2 of 4)" in told.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cat.v2", "dog"]
    for name, video, mask in (("cat.v2", films / "cat.v2.mp4", masks / "cat.v2.png"), ("dog", films / "dog", masks / "dog")):
        assert script("segment_video", video, "--mask", mask, *flags[:-1], tmp_path / name) == 0
        assert content(tmp_path / name) == content(tmp_path / "out" / name)
    for gone in (films / "fish.mp4", masks / "fish.png", films / "bird.mp4", films / "bird.png"):
        gone.unlink()
    assert script("segment_video", films, "--mask", masks, *flags) == 0
    assert capsys.readouterr().out.count("already finished") == 2
    (masks / "classes.txt").write_text("dog")
    (masks / "bird.png").touch()
    assert script("segment_video", films, "--mask", masks, *flags) == 1
    assert f"masks: found bird.png, but no video of that name in {films}" in capsys.readouterr().err
    (masks / "dog.png").touch()
    assert script("segment_video", films, "--mask", masks, *flags) == 2
    assert "masks: expected one mask or folder called dog, found dog, dog.png" in last_line(capsys)


def test_a_small_video_is_enlarged_with_a_note(command, script, monkeypatch, capsys):
    monkeypatch.setattr(segment_video, "SIZE", 96)
    video, *rest = (word for word in command[1:] if word not in ("--size", "48"))
    assert script("segment_video", video, *rest) == 0
    assert "note: frames are enlarged from 48 to 96 pixels on the shorter side; --size 48 is faster" in capsys.readouterr().err
    assert script(*command, "--overwrite") == 0
    assert "enlarged" not in capsys.readouterr().err


def interrupt_after(done: list, number: int, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if len(done) == number:
        raise KeyboardInterrupt
    done.append(1)
    return cut_out(image, labels)
