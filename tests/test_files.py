"""Untrusted names, reading text, and removing files."""

import os
from pathlib import Path

import numpy as np
import pytest
from guard import GUARD, EscapedError
from PIL import Image

from util import files
from util.errors import InputError
from util.files import read_json, read_text, within_temporary, write_atomically
from util.guards import is_clutter, path_in, plain_name, refuse_foreign, remove_folder
from util.picture import refuse_picture, write_picture

BAD_NAMES = {
    "empty": "",
    "here": ".",
    "above": "..",
    "up and down": "../x",
    "below": "a/b",
    "absolute": "/etc",
    "windows": "a\\b",
    "drive": "C:x",
    "zero byte": "a\0b",
    "line break": "a\nb",
    "too long": "x" * 5000,
    "half a character": "\ud800",
    "number": 7,
    "nothing": None,
    "list": ["a"],
}


@pytest.mark.parametrize("kind", BAD_NAMES)
def test_only_plain_names_become_paths(kind, tmp_path):
    for make in (lambda name: path_in(tmp_path, name, source="list.txt"), lambda name: plain_name(name, source="list.txt")):
        with pytest.raises(InputError, match=r"^list.txt: expected a plain name, .*, found .{,110}$"):
            make(BAD_NAMES[kind])


@pytest.mark.parametrize("name", ["ant", "0001.png", "two words", "größe", ".hidden", "a..b", "x" * 255])
def test_plain_names_become_paths(name, tmp_path):
    assert plain_name(name, source="list.txt") == name
    assert path_in(tmp_path, name, source="list.txt") == tmp_path / name
    assert path_in(tmp_path, "folder", name, source="list.txt") == tmp_path / "folder" / name


def test_names_of_links_that_lead_out_are_refused_as_places_to_write(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    (folder / "out").symlink_to(tmp_path)
    (folder / "in").symlink_to("inside")
    assert path_in(folder, "in", source="list.txt") == folder / "in"
    for names in (("out",), ("out", "x")):
        with pytest.raises(InputError, match="expected a plain name, inside"):
            path_in(folder, *names, source="list.txt")


@pytest.mark.parametrize(
    "name", [".DS_Store", "@eaDir", "lost+found", "#recycle", "$RECYCLE.BIN", "Thumbs.db", "__MACOSX", ".hidden"]
)
def test_what_systems_leave_in_folders_is_clutter(name):
    assert is_clutter(name)
    assert not is_clutter(f"a{name}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("größe".encode("latin-1"), "expected text in UTF-8, found byte 0xf6 at 2"),
        ("ant\nbee".encode("utf-16"), "expected text in UTF-8, found byte 0xff at 0"),
        ("ant\nbee".encode("utf-16-le"), "expected text in UTF-8, found zero bytes"),
        (bytes(range(256)), "expected text in UTF-8, found byte 0x80 at 128"),
    ],
)
def test_what_is_no_text_is_told(content, message, tmp_path):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"list.txt: {message}"):
        read_text(tmp_path / "list.txt")


def test_a_digest_is_what_sha256sum_prints(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.digest(tmp_path / "a").startswith("ba7816bf8f01cfea")  # the standard's example, FIPS 180-4


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "list.txt").write_bytes("ant".encode("utf-8-sig"))
    assert read_text(tmp_path / "list.txt") == "ant"


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nothing"])
def test_what_is_no_json_is_told(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x.json: expected JSON, .{,200}$"):
        read_json(tmp_path / "x.json")


def results(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_folder_of_known_files_is_removed(tmp_path):
    folder = results(tmp_path / "ant", "0.png", ".1.png.0123abcd")  # the second is left from a crash while writing 1.png
    remove_folder(folder, {"0.png", "1.png", "2.png"})
    assert not folder.exists()
    remove_folder(folder, {"0.png"})  # there is nothing to do
    tree = results(tmp_path / "data", "a/0.png", "a/b/1.png", "2.png")
    remove_folder(tree, {"a/0.png", "a/b/1.png", "2.png"})
    assert not tree.exists()


@pytest.mark.parametrize("foreign", ["thesis.txt", "1.png", "below/0.png", ".0.png", ".0.png.0123abcg", ".2.png.0123abcd"])
def test_a_folder_that_holds_anything_else_stays_as_it_is(foreign, tmp_path):
    folder = results(tmp_path / "ant", "0.png", foreign)
    with pytest.raises(InputError, match="was not made by this project; nothing was removed"):
        remove_folder(folder, {"0.png"})
    assert (folder / "0.png").read_text() == "0.png"
    assert (folder / foreign).exists()


def test_links_are_never_followed_or_removed(tmp_path):
    outside = results(tmp_path / "outside", "0.png")
    (tmp_path / "link").symlink_to(outside)
    inside = results(tmp_path / "ant", "0.png")
    (inside / "1.png").symlink_to(outside / "0.png")
    (results(tmp_path / "bee", "0.png") / "a").symlink_to(outside)
    for folder in (tmp_path / "link", inside, tmp_path / "bee"):
        with pytest.raises(InputError, match="nothing was removed"):
            remove_folder(folder, {"0.png", "1.png", "a/0.png"})
        assert (folder / "0.png").exists()
    assert (outside / "0.png").exists()
    results(tmp_path, "file")
    with pytest.raises(InputError, match="found a file"):
        refuse_foreign(tmp_path / "file", {"file"})


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept"
    write_atomically(path, lambda file: file.write(b"old"))

    def write(file):
        file.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_file_with_the_longest_name_is_written_and_its_leftovers_are_known(tmp_path):
    name = "x" * 251 + ".png"
    write_atomically(tmp_path / name, lambda file: file.write(b"new"))
    (tmp_path / f".{within_temporary(name)}.{8 * 'a'}").touch()
    refuse_foreign(tmp_path, {name})
    with pytest.raises(InputError, match="was not made by this project"):
        refuse_foreign(tmp_path, {"y" * 251 + ".png", "\ud800"})  # which no file can be called


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.replace(path, f"{path}.moved"),
        lambda path: write_atomically(path, lambda file: file.write(b"new")),
        lambda path: open(path, "a").close(),
        lambda path: os.rmdir(path),
    ],
)
def test_the_guard_of_these_tests_sees_what_is_done_outside(change):
    outside = GUARD.allowed[0].parent / "outside-the-tests"
    with pytest.raises(EscapedError):
        change(str(outside))
    assert outside.name in GUARD.escaped[0]
    GUARD.escaped.clear()


def test_a_file_that_is_not_ours_is_kept_without_overwrite(tmp_path):
    ours, other = tmp_path / "ours.png", tmp_path / "other.png"
    write_picture(ours, np.zeros((4, 5, 3), np.uint8))
    Image.new("L", (5, 4)).save(other)
    assert Image.open(ours).text == {"Software": "STCN"}
    refuse_picture(ours, overwrite=False)
    refuse_picture(other, overwrite=True)
    refuse_picture(tmp_path / "new.png", overwrite=False)
    with pytest.raises(InputError, match="already exists; --overwrite"):
        refuse_picture(other, overwrite=False)
    with pytest.raises(InputError, match=r"ends in \.png"):
        refuse_picture(tmp_path / "a.html", overwrite=True)


def test_temporary_files_of_killed_runs_go_with_the_next_write_of_the_same_file(tmp_path):
    left, other, mine = (tmp_path / name for name in (".a.json.0123abcd", ".b.json.0123abcd", ".a.json.notes"))
    for path in (left, other, mine):
        path.write_text("half")
    write_atomically(tmp_path / "a.json", lambda file: file.write(b"whole"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.json", other.name, mine.name])
    left.write_text("of a run that goes on")
    files._LEFTOVERS.clear()  # as in another process
    with open(left, "rb") as held:
        assert files._lock(held)
        write_atomically(tmp_path / "a.json", lambda file: file.write(b"again"))
    assert left.exists()


def test_a_text_replaces_a_file_of_any_size(tmp_path):
    with open(tmp_path / "a.txt", "wb") as file:
        file.truncate(1 << 40)
    files.write_text(tmp_path / "a.txt", "hello")
    assert (tmp_path / "a.txt").read_text() == "hello"
