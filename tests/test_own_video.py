"""A user's own video and masks, read forwards and backwards, against known content."""

import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import segment_video
import torch
from av.video.reformatter import Colorspace
from conftest import PALETTE
from films import SIZE, picture, square, write_film, write_folder
from PIL import Image

from dataset.own_video import one_video, open_video, videos_in
from model import blend
from util.ahead import read_ahead
from util.errors import InputError
from util.image import read_image
from util.image_folder import count_series, list_frames
from util.label_map import read_label_map, write_label_map


@pytest.mark.parametrize("gop", [1, 12, 250])
def test_a_film_is_read_forwards_and_backwards(gop, tmp_path):
    pictures = [picture(t) for t in range(30)]
    video = open_video(write_film(tmp_path / "film.mp4", pictures, gop=gop))
    assert len(video.names) == 30
    assert video.size == SIZE
    assert video.times[:3] == [0, Fraction(1, 25), Fraction(2, 25)]
    forwards = list(video.forwards())
    assert [frame.index for frame in forwards] == list(range(30))
    for frame, expected in zip(forwards, pictures, strict=True):
        assert np.abs(frame.image[4:-4, 4:-4].astype(int) - expected[4:-4, 4:-4]).max() <= 6
    for start in (29, 13, 0):
        later = list(video.forwards(start))
        assert [frame.index for frame in later] == list(range(start, 30))
        assert np.array_equal(later[0].image, forwards[start].image)
        backwards = list(video.backwards(start))
        assert [frame.index for frame in backwards] == list(range(start, -1, -1))
        for frame in backwards:
            assert np.array_equal(frame.image, forwards[frame.index].image)


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 40, 200, 210, 1000]
    video = open_video(write_film(tmp_path / "film.mp4", [picture(t) for t in range(5)], times=times))
    assert [float(time) for time in video.times] == pytest.approx([time / 1000 for time in times], abs=1e-3)


@pytest.mark.parametrize("space", [Colorspace.ITU709, Colorspace.ITU601, None])
def test_colours_are_right_for_what_the_file_states(space, tmp_path):
    plain = np.full((*SIZE, 3), (200, 40, 90), np.uint8)
    video = open_video(write_film(tmp_path / "film.mp4", [plain] * 3, space=space))
    assert np.abs(next(video.forwards()).image.astype(int) - plain).max() <= 4


def test_a_folder_is_in_natural_order_whatever_the_suffix(tmp_path):
    for t, name in enumerate(["f1.png", "f2.JPG", "f9.webp", "f10.tif", "f100.jpeg"]):
        Image.fromarray(np.full((*SIZE, 3), 40 * t, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".f3.png").touch()
    video = open_video(tmp_path, rate=Fraction(10))
    assert video.names == ["f1", "f2", "f9", "f10", "f100"]
    assert video.times[-1] == Fraction(4, 10)
    assert [frame.image[0, 0, 0] // 38 for frame in video.forwards()] == [0, 1, 2, 3, 4]
    assert [frame.index for frame in video.backwards(2)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("low", "high", "scaled"),
    [(3, 4095, True), (29000, 31000, True), (10, 16000, True), (100, 60000, False), (0, 65535, False)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_frames_that_use_little_of_their_range_are_scaled_alike(channels, low, high, scaled, tmp_path):
    """The camera's bits, or a thermal or depth camera's units; 0 and 65535 often mean that nothing was measured."""
    ramps = [np.linspace(low, middle, 256).round().astype(np.uint16).reshape(16, 16) for middle in ((low + high) // 2, high)]
    ramps[0][0, 5], ramps[1][0, 5] = 0, 65535
    for t, values in enumerate(ramps):
        assert cv2.imwrite(str(tmp_path / f"{t}.png"), values if channels == 1 else np.stack([values] * 3, axis=-1))
    video = open_video(tmp_path)
    assert (f"16-bit frames hold values from {low} to {high}" in video.note) == scaled
    bottom, top = (low, high) if scaled else (0, 65535)
    for t, values in enumerate(ramps):
        expected = ((values.astype(float) - bottom) / (top - bottom)).clip(0, 1) * 255
        assert np.abs(video.frame(t)[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photographs_are_turned_upright_with_a_note(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for t in range(2):
        Image.fromarray(picture(t)).save(tmp_path / f"{t}.{suffix}", exif=exif, quality=95)
    video = open_video(tmp_path)
    expected = np.rot90(picture(1), {3: 2, 6: -1, 8: 1}[orientation])
    assert video.size == expected.shape[:2]
    assert np.abs(video.frame(1).astype(int) - expected).max() <= 12
    assert video.note == f"{tmp_path}: frames are turned upright, as their EXIF orientation says"


@pytest.mark.parametrize("pattern", ["*.jpg", "%d.jpg", "%05d.jpg", "?.jpg", "[12].jpg", "every"])
def test_a_pattern_is_the_frames_that_match_it(pattern, tmp_path):
    """Also one that the shell has expanded; masks of another format may lie beside them."""
    for t in (2, 1, 10):
        Image.fromarray(picture(t)).save(tmp_path / f"{t}.jpg")
        write_label_map(tmp_path / f"{t}.png", square((4, 4)), PALETTE)
    words = [f"{tmp_path}/{pattern}"]
    if pattern == "every":
        words = [str(path) for path in sorted(tmp_path.glob("*.jpg"))]
    few = pattern in ("?.jpg", "[12].jpg")
    assert open_video(one_video(words)).names == (["1", "2"] if few else ["1", "2", "10"])


def test_several_videos_are_answered_with_the_right_command(tmp_path):
    root, tmp_path = tmp_path, tmp_path / "mine" / "frames"
    tmp_path.mkdir(parents=True)
    for t in range(3):
        Image.fromarray(picture(t)).save(tmp_path / f"{t}.jpg")
    (other := tmp_path.parent / "other").mkdir()
    Image.fromarray(picture(3)).save(other / "3.jpg")
    with pytest.raises(InputError, match=rf"\*.jpg: expected the frames of one folder, found those of {tmp_path}, {other}$"):
        open_video(tmp_path.parent / "*" / "*.jpg")
    with pytest.raises(InputError, match=r"expected one .*, found 2: a.mp4, b.mp4, ...; run the command for each of them$"):
        one_video(["a.mp4", "b.mp4"])
    with pytest.raises(InputError, match=rf"found 2: .*; quote it, '{tmp_path}/\*.jpg'$"):
        one_video([f"{tmp_path}/0.jpg", f"{tmp_path}/1.jpg"])
    with pytest.raises(InputError, match=rf"1.jpg: expected a video .*, found a picture; give its folder, {tmp_path}$"):
        open_video(tmp_path / "1.jpg")
    with pytest.raises(InputError, match=rf"expected frames .*, found none; did you mean {tmp_path}\?$"):
        open_video(root)


def test_what_is_no_video_is_told_in_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty").mkdir()
    folder = write_folder(tmp_path / "frames", 3)
    Image.fromarray(picture(0)[:20]).save(folder / "1.png")
    (write_folder(tmp_path / "twice", 2) / "1.jpg").write_bytes(b"")
    for name, message in {
        "text.mp4": "text.mp4: cannot read this video",
        "empty": "empty: expected frames",
        "none.mp4": "none.mp4: no such video or folder",
        "frames": "1.png: frame is 20x64, the first one is 48x64",
        "twice": "twice: expected one picture of each name, found 1.jpg and 1.png",
    }.items():
        with pytest.raises(InputError, match=message):
            open_video(tmp_path / name)


def save_as(kind: str, path: Path, labels: np.ndarray, frame: np.ndarray) -> None:
    """A mask, or something else that is no frame."""
    colours = np.array([[0, 0, 0], [250, 10, 10], [10, 250, 10]], np.uint8)
    if kind == "palette":
        write_label_map(path, labels, PALETTE)
    elif kind == "grey":
        write_label_map(path, 255 * labels, None)
    elif kind == "bits":
        Image.fromarray(labels > 0).save(path)
    elif kind == "colours":
        Image.fromarray(colours[labels]).save(path)
    else:
        Image.fromarray(frame[:20] if kind == "small" else frame).save(path)


@pytest.mark.parametrize("frames", ["jpg", "png"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("palette", "grey", "bits") for name in ("0.png", "9.png", "mask.png")]
    + [("colours", "mask.png"), ("colours", "0_mask.png"), ("small", "0.png"), ("small", "cover.jpg")],
)
def test_what_is_no_frame_is_refused_by_its_name(kind, name, frames, tmp_path):
    for t in range(1, 5):
        Image.fromarray(picture(t)).save(tmp_path / f"{t}.{frames}")
    save_as(kind, tmp_path / name, square((4, 4)), picture(0))
    with pytest.raises(InputError, match=rf"{tmp_path}/{name}: "):
        open_video(tmp_path)


@pytest.mark.parametrize("kind", ["palette", "grey", "colours"])
def test_a_mask_beside_each_frame_is_refused(kind, tmp_path):
    for t in range(4):
        Image.fromarray(picture(t)).save(tmp_path / f"{t}.png")
        save_as(kind, tmp_path / f"{t}_mask.png", square((4, 4)), picture(t))
    with pytest.raises(InputError, match=r"0_mask.png: looks like a mask among frames; move masks to a folder of their own"):
        open_video(tmp_path)


@pytest.mark.parametrize("suffix", [".HEIC", ".gif", ".jfif", ".exr", ".jxl"])
def test_frames_of_a_kind_that_is_not_read_are_never_left_out(suffix, tmp_path):
    for t in range(3):
        Image.fromarray(picture(t)).save(tmp_path / f"{t}.jpg")
    (tmp_path / f"preview{suffix}").touch()
    assert open_video(tmp_path).names == ["0", "1", "2"]
    (tmp_path / f"3{suffix}").touch()
    with pytest.raises(InputError, match=rf"cannot read 3{suffix}; save all frames as PNG or JPEG$"):
        open_video(tmp_path)
    for t in range(3):
        (tmp_path / f"{t}.jpg").unlink()
    with pytest.raises(InputError, match=rf"expected frames .*, found none but 3{suffix}, preview{suffix}$"):
        open_video(tmp_path)


def test_a_preview_as_gif_beside_a_film_is_no_film(tmp_path):
    for name in ("holiday.mp4", "holiday.gif"):
        (tmp_path / name).touch()
    assert videos_in(tmp_path) == {"holiday": tmp_path / "holiday.mp4"}


def test_pictures_called_like_films_are_stills_and_others_beside_films_are_refused(tmp_path):
    for name in ("a.mp4", "b.mp4", "a.png", "b.jpg"):
        (tmp_path / name).touch()
    assert list(videos_in(tmp_path)) == ["a", "b"]
    (tmp_path / "00000.jpg").touch()
    with pytest.raises(InputError, match=r"found films, as a.mp4, and other pictures, as 00000.jpg; .* name '.*/\*.jpg'$"):
        videos_in(tmp_path)
    (tmp_path / "a.mp4").unlink(), (tmp_path / "b.mp4").unlink()
    assert videos_in(tmp_path) == {}  # a folder of frames


def test_a_link_that_leads_to_itself_is_told_when_it_is_read(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "0.png")
    (tmp_path / "1.png").symlink_to(tmp_path / "1.png")
    assert [path.name for path in list_frames(tmp_path)] == ["0.png", "1.png"]
    with pytest.raises(InputError, match=r"1.png"):
        read_image(tmp_path / "1.png")


def test_frames_of_two_videos_in_a_folder_are_told(tmp_path):
    for name in ("left_0", "left_1", "right_0", "right_1"):
        Image.fromarray(picture(0)).save(tmp_path / f"{name}.jpg")
    assert "frames called left_# and right_# are one video, one after the other" in open_video(tmp_path).note


def test_a_picture_with_another_name_among_frames_is_told(tmp_path):
    for name in ("frame_0", "frame_1", "frame_2", "background"):
        Image.fromarray(picture(0)).save(tmp_path / f"{name}.jpg")
    assert "frames called frame_# and background are one video" in open_video(tmp_path).note


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["cam1_00", "cam1_01", "cam1_02", "cam2_00", "cam2_01", "cam2_02"], 2),
        ([f"cam{c}_{t:02d}" for c in (1, 2) for t in range(10 - c)], 2),
        (["t0_c0", "t0_c1", "t1_c0", "t1_c1", "t2_c0", "t2_c1"], 2),
        (["cam1_00", "cam1_01", "cam1_02", "cam2_03", "cam2_04", "cam2_05"], 1),
        (["10-00", "10-30", "11-00", "11-30"], 1),
        (["0.0", "0.3", "0.6", "1.0", "1.3", "1.6"], 1),
        (["00", "01", "02"], 1),
        (["a_1", "b"], 1),
    ],
)
def test_several_series_of_the_same_numbers_are_told(names, count, tmp_path):
    assert count_series(names) == count
    for name in names:
        Image.fromarray(picture(0)).save(tmp_path / f"{name}.jpg")
    note = open_video(tmp_path).note
    assert (f"names hold {count} series of frames with the same numbers" in note) == (count > 1)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["DSC_9998", "DSC_9999", "DSC_0001", "DSC_0002"], True),
        (["snap_235958", "snap_235959", "snap_000000", "snap_000001"], True),
        ([f"a_{t}" for t in range(10)], False),
        (["a_00", "a_50", "a_99"], False),
        (["9", "99", "1"], False),
        (["a", "b"], False),
    ],
)
def test_a_counter_that_has_begun_anew_is_told(names, told, tmp_path):
    for name in names:
        Image.fromarray(picture(0)).save(tmp_path / f"{name}.jpg")
    assert ("has the camera counted anew?" in open_video(tmp_path).note) == told


def test_frames_of_a_folder_whose_name_is_a_pattern_are_its_own(tmp_path):
    for t, place in enumerate(("shot [1]", "shot 1")):
        (tmp_path / place).mkdir()
        Image.fromarray(picture(t)).save(tmp_path / place / f"{t}.png")
    assert open_video(tmp_path / "shot [1]" / "*.png").names == ["0"]
    assert open_video(tmp_path / "shot ?" / "*.png").names == ["1"]


def test_frames_that_differ_in_harmless_ways_are_taken(tmp_path):
    """Black frames that a program saved without colours, names of several kinds, several formats."""
    for name in ("black 1.png", "black 2.png"):
        Image.new("L", SIZE[::-1]).save(tmp_path / name)
    for name in ("img.png", "img (1).png", "img (2).png", "img 3.jpg", "img 4.jpg"):
        Image.fromarray(picture(3)).save(tmp_path / name)
    assert len(open_video(tmp_path).names) == 7


def test_passes_that_know_the_same_objects_are_averaged():
    one, other = torch.rand(3, 4, 5).softmax(dim=0), torch.rand(3, 4, 5).softmax(dim=0)
    found, ids = blend(one, [2, 9], other[[0, 2, 1]], [9, 2], 0.25)
    assert ids == [2, 9]
    torch.testing.assert_close(found, 0.75 * one + 0.25 * other)


def test_a_pass_that_does_not_know_an_object_takes_the_others_word():
    one = torch.tensor([0.97, 0.03])[:, None, None]  # knows only object 1, and sees background
    other = torch.tensor([0.04, 0.95, 0.01])[:, None, None]  # sees object 2
    for share in (0.01, 0.5, 0.99):
        found, ids = blend(one, [1], other, [2, 1], share)
        assert ids == [1, 2]
        assert found[:, 0, 0].argmax() == 2
        assert found.sum().item() == pytest.approx(1, abs=1e-5)


def test_an_object_that_one_pass_has_lost_is_the_others_unless_both_have():
    one = torch.tensor([[0.99, 0.9], [0.005, 0.05], [0.005, 0.05]])[..., None]  # sees nothing
    other = torch.tensor([[0.2, 0.9], [0.7, 0.05], [0.1, 0.05]])[..., None]  # sees object 1 in one of two pixels
    for first, second, share in ((one, other, 0.1), (other, one, 0.9)):
        found, _ = blend(first, [1, 2], second, [1, 2], share)
        assert found.argmax(dim=0)[:, 0].tolist() == [1, 0]
        torch.testing.assert_close(found.sum(dim=0), torch.ones(2, 1))
    lost, _ = blend(one, [1, 2], one, [1, 2], 0.5)
    torch.testing.assert_close(lost, one)


def labels_in(folder: Path) -> list[np.ndarray]:
    return [read_label_map(path).labels for path in sorted(folder.iterdir(), key=lambda path: int(path.stem))]


def test_the_overlay_plays_in_browsers_and_the_sheet_tells_the_numbers_that_mask_wants(
    light_file, script, tmp_path, monkeypatch
):
    folder, size, shown = tmp_path / "frames", (49, 63), []
    folder.mkdir()
    for t in range(4):
        Image.fromarray(picture(t, size)).save(folder / f"{t + 8}.png")
    write_label_map(tmp_path / "a.png", square((4, 4), size=size), PALETTE)
    draw = segment_video.sheet
    monkeypatch.setattr(segment_video, "sheet", lambda rows, captions: shown.extend(captions) or draw(rows, captions=captions))
    flags = ("--mask", tmp_path / "a.png", "--model", light_file, "--fps", 25, "--size", 32, "--output", tmp_path / "out")
    assert script("segment_video", folder, *flags) == 0
    assert [label_map.shape for label_map in labels_in(tmp_path / "out/masks")] == [size] * 4
    with av.open(str(tmp_path / "out/overlay.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        frames = list(container.decode(stream))
    assert [round(25 * frame.time) for frame in frames] == list(range(4))
    assert (frames[0].height, frames[0].width) == (50, 64)
    assert shown == [["0 (8)", "1 (9)", "2 (10)", "3 (11)"]]
    assert segment_video.frame_text(12, "00012") == "12"


def test_a_film_that_starts_between_keyframes_starts_at_the_first_frame_there_is(tmp_path):
    whole = write_film(tmp_path / "film.ts", [picture(t) for t in range(30)])
    assert [frame.index for frame in open_video(whole).backwards(29)] == list(range(29, -1, -1))
    packets = whole.read_bytes()
    (tmp_path / "cut.ts").write_bytes(packets[188 * (len(packets) // 188 // 3) :])
    cut = open_video(tmp_path / "cut.ts")
    assert 10 < len(cut.names) < 30
    assert re.search(r"cut.ts: \d+ frames before the first that can be decoded are left out", cut.note)
    assert not open_video(whole).note
    assert [frame.index for frame in cut.forwards()] == list(range(len(cut.names)))
    assert cut.times[0] == 0


def test_a_film_that_changes_its_size_is_told(tmp_path):
    one = write_film(tmp_path / "one.ts", [picture(t) for t in range(10)])
    other = write_film(tmp_path / "other.ts", [picture(t, (64, 96)) for t in range(10)], times=range(400, 800, 40))
    (tmp_path / "both.ts").write_bytes(one.read_bytes() + other.read_bytes())
    with pytest.raises(InputError, match=r"both.ts: frame \d+ is 64x96, the first one is 48x64"):
        list(open_video(tmp_path / "both.ts").forwards())


def test_frames_are_read_at_most_one_ahead():
    taken: list[int] = []
    numbers = (taken.append(n) or n for n in range(20))
    with ThreadPoolExecutor(1) as pool:
        for seen, n in enumerate(read_ahead(pool, numbers)):
            assert seen == n
            assert len(taken) <= n + 2
    assert taken == list(range(20))
