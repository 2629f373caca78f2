"""Truncated or damaged video files are reported; healthy ones never are."""

from pathlib import Path

import av
import numpy as np
import pytest
from conftest import PALETTE
from films import encode_film, noisy, square, write_film

from dataset.truncation import missing_bytes
from dataset.video_file import DamagedVideoError, VideoFile
from util.errors import InputError
from util.label_map import write_label_map

FRAMES = 40
FAST = {"movflags": "faststart"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
M2TS = {"mpegts_m2ts_mode": "1"}
HEALTHY = {
    "film.mp4": {},
    "fast.mp4": {"options": FAST},
    "fragments.mp4": {"options": FRAGMENTS},
    "film.mov": {},
    "film.mkv": {},
    "film.ts": {},
    "film.m2ts": {"options": M2TS},
    "film.avi": {"codec": "mpeg4"},
    "film.webm": {"codec": "libvpx"},
    "film.mpg": {"codec": "mpeg2video"},
    "film.flv": {},
    "hevc.ts": {"codec": "libx265"},
    "one keyframe.mp4": {"gop": 250},
    "sound.mp4": {"sound": "aac"},
    "sound.mkv": {"sound": "aac"},
    "sound.ts": {"sound": "aac"},
    "sound.avi": {"codec": "mpeg4", "sound": "mp2"},
    "sound.webm": {"codec": "libvpx", "sound": "libopus"},
}
VARIABLE = np.cumsum([0] + [40, 10, 160, 400] * FRAMES)[:FRAMES].tolist()


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [noisy(t) for t in range(FRAMES)]


RARE = ("fast.mp4", "film.webm", "film.mpg", "film.flv", "hevc.ts", "sound.avi", "sound.webm")  # or slow to write


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in RARE)) for name in HEALTHY])
@pytest.mark.filterwarnings("ignore")
def test_a_healthy_file_is_complete(name, pictures, tmp_path):
    path = write_film(tmp_path / name, pictures, **HEALTHY[name])
    assert missing_bytes(path) == 0
    video = VideoFile(path)
    assert len(video.names) == len(list(video.forwards())) == FRAMES
    assert video.note == ""


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_variable_frame_rate_is_no_damage(suffix, pictures, tmp_path):
    video = VideoFile(write_film(tmp_path / f"film.{suffix}", pictures, times=VARIABLE))
    assert len(video.names) == FRAMES
    assert video.note == ""


def test_a_recording_of_unknown_length_is_complete(pictures, tmp_path):
    path = write_film(tmp_path / "live.mkv", pictures, options={"live": "1"})
    content = path.read_bytes()
    assert b"\x18\x53\x80\x67\x01" + b"\xff" * 7 in content[:200]  # a segment of unknown length
    assert len(VideoFile(path).names) == FRAMES


CUT = {name: HEALTHY[name] for name in HEALTHY if name.split(".")[0] in ("film", "fast", "fragments")}
WITHOUT_INDEX = ("film.mp4", "film.mov")  # their index is at the end


@pytest.mark.parametrize("share", [0.5, pytest.param(0.95, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CUT)
def test_a_file_that_is_cut_short_is_told_and_goes_on_when_allowed(name, share, pictures, tmp_path):
    whole = write_film(tmp_path / name, pictures, **CUT[name])
    before = VideoFile(whole)
    expected = dict(zip(before.times, (frame.image for frame in before.forwards()), strict=True))
    path = tmp_path / f"cut {name}"
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    if name in WITHOUT_INDEX:
        with pytest.raises(InputError, match=r"cannot read this video \(cut short, [0-9,]+ bytes are missing\)"):
            VideoFile(path)
        return
    with pytest.raises(DamagedVideoError, match=r"(the file is cut short|cannot be decoded).*; --allow_truncated continues"):
        VideoFile(path)
    video = VideoFile(path, allow_truncated=True)
    assert "continuing with" in video.note
    found = [frame.image for frame in video.forwards()]
    assert FRAMES * (share - 0.4) <= len(found) <= FRAMES
    assert all(np.array_equal(image, expected[time]) for time, image in zip(video.times, found, strict=True))
    backwards = [frame.image for frame in video.backwards(len(found) - 1)]
    assert all(np.array_equal(one, other) for one, other in zip(found, reversed(backwards), strict=True))


def test_a_damaged_middle_is_told_where_it_is_and_left_out_when_allowed(pictures, tmp_path):
    path = write_film(tmp_path / "film.mp4", pictures)
    with av.open(str(path)) as film:
        start = [packet.pos for packet in film.demux(video=0)][FRAMES // 2]
    content = bytearray(path.read_bytes())
    content[start : start + 300] = bytes(300)  # with its header: other bytes of a frame are decoded whatever they are
    path.write_bytes(content)
    with pytest.raises(DamagedVideoError, match=rf"frame \d+ of {FRAMES} cannot be decoded"):
        list(VideoFile(path).forwards())
    video = VideoFile(path, allow_truncated=True)
    assert FRAMES // 2 < len(video.names) < FRAMES
    assert len(list(video.forwards())) == len(video.names)


def test_a_film_in_a_file_of_terabytes_is_given_up(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("dataset.film_packets.SILENCE", 0.3)
    path = write_film(tmp_path / "film.mkv", pictures)
    with open(path, "r+b") as file:
        file.truncate(1 << 40)  # which takes no space
    with pytest.raises(InputError, match=r"film.mkv: cannot read this video \(found no picture in 0 seconds\)"):
        VideoFile(path)


def test_a_frame_whose_checksum_is_wrong_is_damaged(tmp_path):
    options = {"level": "3", "slicecrc": "1", "g": "1"}
    encode_film(tmp_path / "film.mkv", [noisy(t) for t in range(4)], "ffv1", "bgr0", options=options)
    assert len(list(VideoFile(tmp_path / "film.mkv").forwards())) == 4
    content = bytearray((tmp_path / "film.mkv").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "film.mkv").write_bytes(content)
    with pytest.raises(DamagedVideoError, match=r"frame \d of 4 cannot be decoded"):
        list(VideoFile(tmp_path / "film.mkv").forwards())


def test_a_lost_packet_is_noted(pictures, tmp_path):
    path = write_film(tmp_path / "film.ts", pictures)
    content = path.read_bytes()
    lost = 188 * (len(content) // 188 // 2)
    path.write_bytes(content[:lost] + content[lost + 188 :])
    try:
        assert "data may be missing at frame" in VideoFile(path).note
    except DamagedVideoError as error:
        assert "cannot be decoded" in str(error)  # noqa: PT017 - either way it is reported


def test_frames_that_are_lost_in_a_damaged_container_are_noted(pictures, tmp_path):
    path = write_film(tmp_path / "film.mkv", pictures)
    content = path.read_bytes()
    middle = 3 * len(content) // 7
    path.write_bytes(content[:middle] + bytes(100) + content[middle:])
    video = VideoFile(path)
    assert len(video.names) < FRAMES
    assert "film.mkv: frames may be missing; FFmpeg says: " in video.note


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_a_film_of_which_there_is_no_frame_or_whose_codec_is_unknown_is_one_line(name, tmp_path):
    path = write_film(tmp_path / name, [noisy(t) for t in range(3)], options=FAST if name == "film.mp4" else None)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4] if name == "film.mp4" else content[:800])
    for allow_truncated in (False, True):
        with pytest.raises(InputError, match=r"film.m..: .*found no frame that can be decoded"):
            VideoFile(path, allow_truncated=allow_truncated)
    path.write_bytes(content.replace(b"avc1", b"xxxx").replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XXX"))
    with pytest.raises(InputError, match="found no video stream in it that FFmpeg can decode"):
        VideoFile(path)


@pytest.mark.parametrize("content", [b"", b"\x1a\x45\xdf\xa3", b"RIFF", b"RIFF\xff\xff\xff\xff", b"\x00\x00\x00\x01ftyp"])
def test_a_header_alone_lacks_nothing_that_is_known(content, tmp_path):
    (tmp_path / "film").write_bytes(content)
    assert missing_bytes(tmp_path / "film") == 0


def test_the_script_says_so_with_exit_status_1_and_leaves_nothing(light_file, script, pictures, tmp_path, capsys):
    film: Path = write_film(tmp_path / "film.mkv", pictures)
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    write_label_map(tmp_path / "a.png", square((4, 4)), PALETTE)
    out = tmp_path / "out"
    command = ("segment_video", film, "--mask", tmp_path / "a.png", "--model", light_file, "--size", 48, "--output", out)
    assert script(*command) == 1
    assert "film.mkv: the file is cut short" in capsys.readouterr().err
    assert not out.exists()
    assert script(*command, "--allow_truncated") == 0
    assert "continuing with" in capsys.readouterr().err
    assert FRAMES // 3 < len(list((out / "masks").iterdir())) < FRAMES
