"""Result folders: their records, resuming, and that nothing else is ever touched."""

import builtins
import errno
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import PALETTE, content, write_davis, write_video
from films import square
from PIL import Image

from dataset.davis import davis_videos
from dataset.video import Video
from dataset.youtube import youtube_videos
from evaluation.results import RECORD_FORMAT, RECORD_VERSION, ResultFolder, read_record
from util.errors import InputError
from util.label_map import write_label_map

LENGTHS = {"ant": 3, "bee": 4}
MASK = square((4, 8), size=(32, 48))


@pytest.fixture
def davis(tmp_path) -> Path:
    return write_davis(tmp_path / "DAVIS", {name: [MASK] * length for name, length in LENGTHS.items()})


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def segment(davis, out, light_file, script):
    def run(*flags: object) -> int:
        return script("eval_davis", "--model", light_file, "--davis_path", davis, "--output", out, *flags)

    return run


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def edit_record(out: Path, **changes: object) -> None:
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, **changes}))


RECORDS = {
    "letters of a path": {"videos": "../../x"},
    "a way out": {"videos": {"../../x": {"inputs": None, "frames": []}}},
    "a list": {"videos": ["ant", "bee"]},
    "frames that are no list": {"videos": {"ant": {"inputs": None, "frames": "00000"}}},
    "a frame above": {"videos": {"ant": {"inputs": None, "frames": ["../../00000"]}}},
    "a frame that is a number": {"videos": {"ant": {"inputs": None, "frames": [0]}}},
    "a digest that is a list": {"videos": {"ant": {"inputs": ["x"], "frames": []}}},
    "an entry too many": {"videos": {"ant": {"inputs": None, "frames": [], "more": 1}}},
    "settings that are text": {"settings": "top_k"},
    "another version": {"version": 99},
    "another format": {"format": "something else"},
}


def test_a_damaged_record_is_one_line(tmp_path):
    path = tmp_path / "run.json"
    good = {"format": RECORD_FORMAT, "version": RECORD_VERSION, "settings": {}, "videos": {}}
    for text in [b"{", b"[1]", b"null", *(json.dumps({**good, **changes}).encode() for changes in RECORDS.values())]:
        path.write_bytes(text)
        assert_one_line(path, lambda: read_record(path))
    path.write_text(json.dumps(good))
    assert read_record(path) == ({}, {})


def assert_one_line(path: Path, read: Callable[[], object]) -> None:
    with pytest.raises(InputError) as caught:
        read()
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_with_a_damaged_record_nothing_happens(segment, out, tmp_path, capsys):
    assert segment() == 0
    (tmp_path / "x").mkdir()
    (tmp_path / "x/0.png").write_text("precious")
    edit_record(out, **RECORDS["a way out"])
    before = tree(tmp_path)
    capsys.readouterr()
    for flags in ((), ("--overwrite",)):
        assert segment(*flags) == 2
        assert capsys.readouterr().err.startswith(f"error: {out}/run.json: expected ")
        assert tree(tmp_path) == before


def test_overwriting_refuses_a_folder_with_anything_of_the_users(segment, out, capsys):
    assert segment() == 0
    (out / "ant/below").mkdir()
    (out / "ant/below/00000.png").write_text("precious")
    before = tree(out)
    assert segment("--overwrite", "--top", 5) == 2
    assert "ant/below: was not made by this project; nothing was removed" in capsys.readouterr().err
    assert tree(out) == before


def test_overwriting_refuses_a_folder_that_the_record_does_not_name(segment, out, capsys):
    (out / "ant").mkdir(parents=True)
    (out / "ant/00000.png").write_text("somebody's mask")
    for flags in ((), ("--overwrite",)):
        assert segment(*flags) == 2
        assert f"{out}/ant: is in the way" in capsys.readouterr().err
    assert tree(out) == {"ant": b"", "ant/00000.png": b"somebody's mask"}


def test_links_in_the_output_are_not_followed(segment, out, tmp_path, capsys):
    assert segment() == 0
    elsewhere = tmp_path / "elsewhere"
    (out / "ant").rename(elsewhere)
    (elsewhere / "00001.png").unlink()  # so the video must be segmented again
    (out / "ant").symlink_to(elsewhere)
    before = tree(elsewhere)
    for flags in ((), ("--overwrite",)):
        assert segment(*flags) == 2
        assert "error: " in capsys.readouterr().err
        assert tree(elsewhere) == before
    (out / "ant").unlink()
    (out / "ant").symlink_to("bee")  # a link that stays inside
    assert segment("--overwrite") == 2
    assert "found a link; nothing was removed" in capsys.readouterr().err
    assert len(list((out / "bee").iterdir())) == LENGTHS["bee"]


def test_overwriting_replaces_what_the_record_names_and_nothing_that_is_only_called_alike(segment, out):
    assert segment("--zip") == 0
    own = ["my_results-val.csv", "global_results-mine.csv", "notes.txt", "cow/00000.png"]
    for name in own:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("precious")
    before = tree(out)
    assert segment("--top", 1, "--overwrite") == 0
    after = tree(out)
    assert before.keys() - after.keys() == {"results.zip"}
    assert before["run.json"] != after["run.json"]
    assert [(out / name).read_text() for name in own] == ["precious"] * len(own)


def test_a_video_whose_input_has_changed_runs_again(segment, davis, out, capsys):
    assert segment() == 0
    masks, frames = davis / "Annotations/480p/ant", davis / "JPEGImages/480p/ant"
    (masks / "00001.png").write_bytes((masks / "00002.png").read_bytes())  # truth, which is no input
    capsys.readouterr()
    assert segment() == 0
    assert "2 videos were already finished" in capsys.readouterr().out
    for change in (
        lambda: write_label_map(masks / "00000.png", np.roll(MASK, 8, axis=1), PALETTE),
        lambda: (frames / "00001.jpg").write_bytes((frames / "00002.jpg").read_bytes()),
    ):
        before = tree(out)
        change()
        assert segment() == 0
        said = capsys.readouterr().out
        assert "ant: its frames or masks have changed since it was segmented" in said
        assert "1 videos were already finished" in said
        changed = {name for name, data in tree(out).items() if data != before[name]}
        assert any(name.startswith("ant/") for name in changed)
        assert not any(name.startswith("bee/") for name in changed)
        assert "scores.json" in changed
        assert segment() == 0
        assert "2 videos were already finished" in capsys.readouterr().out


def test_results_never_go_where_something_is_read_also_through_links(segment, davis, out, capsys):
    def refused(place: Path) -> None:
        before = tree(davis), tree(place)
        assert segment("--output", place, "--overwrite") == 2
        assert "holds input, and results would go there" in capsys.readouterr().err
        assert (tree(davis), tree(place)) == before

    for part in ("Annotations/480p", "JPEGImages/480p"):
        refused(davis / part)
    out.mkdir()
    (davis / "JPEGImages/480p/ant").rename(out / "ant")
    (davis / "JPEGImages/480p/ant").symlink_to(out / "ant")
    refused(out)


IMAGE_SETS = {
    "above": b"ant\n../../ant\n",
    "latin-1": "größe\n".encode("latin-1"),
    "utf-16": "ant\nbee\n".encode("utf-16"),
    "zero bytes": b"ant\0\n",
    "nothing": b" \n\n",
    "old form, above": b"/JPEGImages/480p/../00000.jpg /Annotations/480p/ant/00000.png\n",
}


def test_a_bad_image_set_is_one_line(davis):
    path = davis / "ImageSets/2017/val.txt"
    for text in IMAGE_SETS.values():
        path.write_bytes(text)
        assert_one_line(path, lambda: davis_videos(davis))


def test_data_on_another_disk_is_read_through_links(segment, davis, out, tmp_path):
    assert segment() == 0
    before = content(out, "*.png")
    out.rename(tmp_path / "before")
    for number, part in enumerate(("JPEGImages/480p/ant", "Annotations", ".")):
        (davis / part).rename(tmp_path / f"elsewhere{number}")
        (davis / part).symlink_to(tmp_path / f"elsewhere{number}")
    assert segment() == 0
    assert content(out, "*.png") == before
    assert len(before) == sum(LENGTHS.values())


METAS = {
    "a name above": {"videos": {"../x": {"objects": {}}}},
    "frames as text": {"videos": {"late": {"objects": {"1": {"frames": "00000"}}}}},
    "a frame above": {"videos": {"late": {"objects": {"1": {"frames": ["../00000"]}}}}},
    "a frame that is a number": {"videos": {"late": {"objects": {"1": {"frames": [0]}}}}},
    "an id too large": {"videos": {"late": {"objects": {"300": {"frames": ["00000"]}}}}},
    "an id of a thousand digits": {"videos": {"late": {"objects": {"9" * 5000: {"frames": ["00000"]}}}}},
    "an id that is none": {"videos": {"late": {"objects": {"-1": {"frames": ["00000"]}}}}},
    "objects as a list": {"videos": {"late": {"objects": []}}},
    "videos as a list": {"videos": ["late"]},
    "no videos": {},
    "a list": [],
}


def test_a_bad_meta_json_is_one_line(tmp_path):
    root = tmp_path / "YouTube"
    write_video(root / "all_frames/valid_all_frames/JPEGImages/late", root / "valid/Annotations/late", [MASK] * 2)
    for meta in METAS.values():
        (root / "valid/meta.json").write_text(json.dumps(meta))
        assert_one_line(root / "valid/meta.json", lambda: youtube_videos(root))


def test_a_video_of_which_other_frames_are_wanted_is_made_again(light_file, script, tmp_path):
    root, out = tmp_path / "YouTube", tmp_path / "out/Annotations/late"
    write_video(root / "all_frames/valid_all_frames/JPEGImages/late", root / "valid/Annotations/late", [MASK, None, None])
    for wanted in (["00000", "00002"], ["00000", "00001"]):
        meta = {"videos": {"late": {"objects": {"1": {"frames": wanted}}}}}
        (root / "valid/meta.json").write_text(json.dumps(meta))
        flags = ("--model", light_file, "--yv_path", root, "--output", tmp_path / "out", "--size", 32)
        assert script("eval_youtube", *flags) == 0
        assert sorted(path.stem for path in out.iterdir()) == wanted


def test_a_finished_folder_that_cannot_be_written_is_read(segment, davis, out, script, tmp_path, monkeypatch, capsys):
    assert segment() == 0
    before = tree(out)
    really_open, really_os_open = builtins.open, os.open

    def refuse(path: object, writes: bool) -> None:
        if writes and not isinstance(path, int) and Path(os.path.abspath(path)).is_relative_to(out):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def own_open(path, mode="r", *rest, **named):
        refuse(path, bool({*mode} & {*"wxa+"}))
        return really_open(path, mode, *rest, **named)

    def own_os_open(path, flags, *rest, **named):
        refuse(path, flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) != 0)
        return really_os_open(path, flags, *rest, **named)

    monkeypatch.setattr("builtins.open", own_open)
    monkeypatch.setattr(os, "open", own_os_open)
    tree_flags = ("--davis_path", davis)
    assert segment() == 0
    assert script("score", "--results", out, *tree_flags, "--processes", 1) == 0
    assert script("report", out, *tree_flags, "--output", tmp_path / "report.html") == 0
    assert script("show_results", "--results", out, *tree_flags, "--output", tmp_path / "results.png") == 0
    assert "cannot write" not in capsys.readouterr().err
    assert tree(out) == before
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        (out / "new").touch()


def test_a_zip_takes_masks_of_any_date_but_none_that_was_emptied(tmp_path):
    video = Video("ant", (tmp_path / "frames/0.png",), {}, frozenset({"0"}))
    mask = tmp_path / "ant/0.png"
    ResultFolder(tmp_path).claim([video], {}, overwrite=False)
    write_label_map(mask, MASK, None)
    for date in (0, 7_258_118_400):  # 1970 and 2200, which zips do not know
        os.utime(mask, (date, date))
        path, count = ResultFolder(tmp_path).zip()
        assert count == 1
        with zipfile.ZipFile(path) as archive:
            assert archive.read("ant/0.png") == mask.read_bytes()
    for damage in (mask.read_bytes()[:-1], b""):
        mask.write_bytes(damage)
        with pytest.raises(InputError, match=f"0.png: expected a whole PNG, found {len(damage)} bytes"):
            ResultFolder(tmp_path).zip()
    assert not ResultFolder(tmp_path).is_finished(video)


def test_a_zip_has_the_videos_of_earlier_runs_too(segment, out, capsys):
    assert segment("--videos", "ant") == 0
    assert segment("--videos", "bee", "--zip") == 0
    with zipfile.ZipFile(out / "results.zip") as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == set(LENGTHS)
        assert len(archive.namelist()) == sum(LENGTHS.values())
    (out / "ant/00001.png").unlink()
    assert segment("--videos", "bee", "--zip") == 2
    assert "ant: lacks 00001.png; make it again with --videos ant" in capsys.readouterr().err
    assert segment("--zip") == 0


def test_a_zip_tells_that_colours_do_not_say_which_numbers_a_server_expects(segment, davis, capsys):
    for path in davis.glob("Annotations/480p/ant/*.png"):
        Image.fromarray(np.array([[0, 0, 0], [250, 120, 10]], np.uint8)[np.minimum(MASK, 1)]).save(path)
    assert segment("--zip") == 0
    assert "warning: --zip: masks of ant have colours of their own" in capsys.readouterr().err


def test_results_in_another_subfolder_are_not_left_to_be_scored_instead(segment, out, davis, light_file, script, capsys):
    assert segment() == 0
    before = tree(out)
    own = davis.parent / "own"
    for part in ("JPEGImages", "Annotations"):
        (own / part).mkdir(parents=True)
        (own / part / "ant").symlink_to(next(davis.rglob(f"{part}/480p/ant")))
    flags = ("--yv_path", own, "--model", light_file, "--output")
    assert script("eval_youtube", *flags, out, "--overwrite") == 2
    assert f"{out}/ant: holds other masks than those of this run; give another --output" in capsys.readouterr().err
    assert tree(out) == before
    assert script("eval_youtube", *flags, out.parent / "other") == 0


def test_a_name_as_long_as_can_be_gets_no_longer_temporary_ones(tmp_path):
    for name in ("x" * 246, "ü" * 125):
        folder = ResultFolder(tmp_path)
        video = Video(name, (), {}, frozenset({"0"}))
        partial = folder.start(video)
        write_label_map(partial / "0.png", MASK, None)
        folder.finish(video, partial)
        assert folder.is_finished(video)
