"""Films of many kinds: which stream is the video, how it is turned, in which order its frames come, and what is told."""

import itertools
import struct
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import SIZE, add_silence, encode_film, mux_silence, noise, picture, reordered_late, with_equal_times, write_film
from PIL import Image

from dataset.own_video import open_video
from dataset.video_file import VideoFile
from util.errors import InputError
from util.film import Film


def numbers(frames) -> list[int]:
    """The numbers that `picture` has written into the brightness of frames."""
    return [round((float(frame.image[4:-4, 4:20, 0].mean()) - 11.5) / 4) for frame in frames]


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix into an MP4."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and length, reserved, layer and volume
    a, b, c, d = (65536 * entry for entry in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "matrix", [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]
)
def test_a_film_is_shown_as_its_matrix_says_mirrored_too(matrix, tmp_path):
    a, b, c, d = matrix
    stored = picture(1)
    height, width = SIZE
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    shown_x, shown_y = a * x + c * y, b * x + d * y
    expected = np.zeros((np.ptp(shown_y) + 1, np.ptp(shown_x) + 1, 3), np.uint8)
    expected[shown_y - shown_y.min(), shown_x - shown_x.min()] = stored
    video = open_video(turned(write_film(tmp_path / "film.mp4", [picture(t) for t in range(3)]), matrix))
    assert video.size == expected.shape[:2]
    assert np.abs(video.frame(1)[4:-4, 4:-4].astype(int) - expected[4:-4, 4:-4]).max() <= 6


def write_tracks(path: Path, tracks: list[tuple[tuple[int, int], int, str]], sound: bool = False) -> Path:
    """A film with several video streams, each with a size, a number of frames and a disposition."""
    with av.open(str(path), "w") as container:
        streams = []
        for size, _, disposition in tracks:
            stream = container.add_stream("mjpeg" if disposition == "attached_pic" else "libx264", rate=25)
            stream.height, stream.width = size
            stream.pix_fmt = "yuvj420p" if disposition == "attached_pic" else "yuv420p"
            stream.disposition = getattr(av.stream.Disposition, disposition).value if disposition else 0
            streams.append(stream)
        audio = add_silence(container, "aac") if sound else None
        for t in range(max(count for _, count, _ in tracks)):
            for stream, (size, count, _) in zip(streams, tracks, strict=True):
                if t < count:
                    frame = av.VideoFrame.from_ndarray(picture(t, size), format="rgb24").reformat(format=stream.pix_fmt)
                    frame.pts, frame.time_base = t, Fraction(1, 25)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
        if audio is not None:
            mux_silence(container, audio, seconds=1)
    return path


COVER, POSTER, PROXY, FILM = ((96, 96), 1, "attached_pic"), ((96, 96), 1, ""), ((24, 32), 8, "default"), (SIZE, 8, "")


@pytest.mark.parametrize(
    ("first", "others", "name"),
    [
        *((False, others, "film.mp4") for others in ([POSTER], [POSTER, PROXY], [COVER])),
        *((True, others, "film.mkv") for others in ([PROXY], [COVER])),
    ],
)
def test_the_film_is_the_stream_that_people_watch(first, others, name, tmp_path):
    tracks = [FILM, *others] if first else [*others, FILM]
    video = open_video(write_tracks(tmp_path / name, tracks))
    assert video.size == SIZE
    assert numbers(video.forwards()) == list(range(8))
    assert numbers(video.backwards(7)) == list(range(7, -1, -1))
    assert ("holds 2 videos" in video.note) == (PROXY in others)


def test_sound_with_a_cover_is_no_film(tmp_path):
    with pytest.raises(InputError, match=r"song.mp4: expected a video, found only a picture that belongs to sound"):
        open_video(write_tracks(tmp_path / "song.mp4", [COVER], sound=True))


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libx264", name) for name in ("film.avi", "film.h264", "film.ts", "film.mkv")]
    + [("mpeg4", name) for name in ("film.avi", "film.m4v")]
    + [("mpeg2video", name) for name in ("film.mpg", "film.avi")],
)
def test_frames_come_in_the_order_of_display_also_from_files_that_do_not_state_it(codec, name, tmp_path, monkeypatch):
    monkeypatch.setattr("dataset.video_file.LONG_CHUNK", 7)
    options = {"bf": "2", "g": "6"} | ({"crf": "4", "sc_threshold": "0"} if codec == "libx264" else {})

    def set_up(stream) -> None:
        stream.bit_rate = 2_000_000

    path = encode_film(tmp_path / name, [picture(t) for t in range(30)], codec, options=options, set_up=set_up)
    video = open_video(path)
    assert numbers(video.forwards()) == list(range(30))
    assert numbers(video.backwards(20)) == list(range(20, -1, -1))
    assert numbers(video.forwards(17)) == list(range(17, 30))
    assert [round(25 * time) for time in video.times] == list(range(30))
    assert video.note == ""


def test_pixels_that_are_not_square_are_told_and_kept_in_films(tmp_path):
    wide = tmp_path / "wide.mkv"
    with Film(wide, SIZE, Fraction(25), pixel=Fraction(4, 3)) as film:
        for t in range(3):
            film.add(picture(t), Fraction(t, 25))
        film.close()
    video = open_video(wide)
    assert video.pixel == Fraction(4, 3)
    assert "pixels of 4:3" in video.note
    assert open_video(turned(wide, (0, 1, -1, 0))).pixel == Fraction(3, 4)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG"), (1, "")])
def test_hdr_is_told(transfer, name, tmp_path):
    def set_up(stream) -> None:
        stream.codec_context.color_trc = transfer

    path = encode_film(tmp_path / "film.mp4", [picture(t) for t in range(3)], set_up=set_up)
    note = VideoFile(path).note
    assert (f"is HDR ({name})" in note) if name else not note


@pytest.mark.parametrize("pixels", ["gray16le", "rgb48le"])
@pytest.mark.parametrize("high", [4095, 65535])
def test_16_bits_of_which_a_film_uses_little_are_refused_with_the_way_out(high, pixels, tmp_path):
    values = np.linspace(0, high, SIZE[0] * SIZE[1]).astype(np.uint16).reshape(SIZE)
    frame = av.VideoFrame.from_ndarray(values, format="gray16le").reformat(format=pixels)
    path = encode_film(tmp_path / "film.mkv", [frame], "ffv1", pixels)
    if high == 65535:
        assert np.abs(open_video(path).frame(0)[..., 0].astype(int) - (values >> 8)).max() <= 1
    else:
        with pytest.raises(InputError, match=r"found values from 1 to 4095 only; save its frames as pictures"):
            open_video(path)


@pytest.mark.parametrize("name", ["film.mov", "film.webm", "film.gif"])
@pytest.mark.parametrize("clear", [False, True])
def test_transparency_is_told(clear, name, tmp_path):
    alpha = np.full((*SIZE, 1), 255, np.uint8)
    alpha[:9] = 0 if clear else 255
    pictures = [np.concatenate([picture(t), alpha], axis=2) for t in range(3)]
    path = tmp_path / name
    if name == "film.gif":
        first, *others = [Image.fromarray(each) for each in pictures]
        first.save(path, save_all=True, append_images=others, duration=40)
    elif clear:
        with Film(path, SIZE, Fraction(25), alpha=True) as film:
            for t, each in enumerate(pictures):
                film.add(each, Fraction(t, 25))
            film.close()
    else:
        write_film(path, [picture(t) for t in range(3)], codec="mpeg4" if name == "film.mov" else "libvpx-vp9")
    assert ("is transparent in parts" in open_video(path).note) == clear


@pytest.mark.parametrize("interlaced", [False, True])
def test_interlaced_films_are_told_what_helps(interlaced, tmp_path):
    options = {"flags": "+ildct+ilme"} if interlaced else {}
    path = encode_film(tmp_path / "film.mpg", [picture(t) for t in range(5)], "mpeg2video", options=options)
    assert ("is interlaced" in open_video(path).note) == interlaced


@pytest.mark.parametrize("name", ["film.m2v", "film.mkv"])
def test_interlacing_that_begins_later_is_told(name, tmp_path):
    parts = []
    for count, flags in ((10, {}), (20, {"flags": "+ildct+ilme"})):
        options = {"bf": "0", "b": "4000000", **flags}
        parts.append(encode_film(tmp_path / f"{count}.m2v", [picture(t) for t in range(count)], "mpeg2video", options=options))
    joined = tmp_path / "film.m2v"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    if name == "film.mkv":
        with av.open(str(joined)) as source, av.open(str(tmp_path / name), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for t, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
                packet.stream, packet.pts = stream, t
                packet.dts, packet.time_base = t, Fraction(1, 25)
                target.mux(packet)
    assert "is interlaced" not in open_video(parts[0]).note
    assert "is interlaced" in open_video(tmp_path / name).note


def test_transparency_that_begins_later_is_told(tmp_path):
    frames = []
    for t in range(6):
        alpha = np.full((*SIZE, 1), 255 if t < 3 else 128, np.uint8)
        frames.append(av.VideoFrame.from_ndarray(np.concatenate([alpha, picture(t)], axis=2), format="argb"))
    assert "is transparent in parts" in open_video(encode_film(tmp_path / "a.mov", frames, "qtrle", "argb")).note
    assert not open_video(encode_film(tmp_path / "b.mov", frames[:3], "qtrle", "argb")).note


@pytest.mark.parametrize("rows", [48, 720])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_films_have_the_colours_of_their_pictures(suffix, rows, tmp_path):
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20], [128, 128, 128]], np.uint8)
    image = np.repeat(np.repeat(colours[None], 16, axis=1), rows, axis=0)
    alpha = suffix != ".mp4"
    with Film(tmp_path / f"film{suffix}", image.shape[:2], Fraction(25), alpha=alpha) as film:
        for t in range(3):
            film.add(np.pad(image, ((0, 0), (0, 0), (0, 1)), constant_values=255) if alpha else image, Fraction(t, 25))
        film.close()
    found = open_video(tmp_path / f"film{suffix}").frame(1)[8, 8::16].astype(int)
    assert np.abs(found - colours).max() <= 4


@pytest.mark.parametrize("name", ["film.gif", "film.mjpeg"])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_films_that_end_before_their_end_mark_are_refused(name, share, tmp_path):
    path = tmp_path / name
    if name == "film.gif":
        first, *others = [Image.fromarray(noise(t)) for t in range(8)]
        first.save(path, save_all=True, append_images=others, duration=40)
    else:
        encode_film(path, [noise(t) for t in range(8)], "mjpeg", "yuvj420p")
    assert len(open_video(path).names) == 8
    path.write_bytes(path.read_bytes() + bytes(16))
    assert len(open_video(path).names) == 8
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"the file is cut short|cannot be decoded|cannot read"):
        open_video(path)


def unshown_vp8(packet: av.Packet) -> bytes:
    """The picture as one that others refer to, but that is not shown."""
    content = bytes(packet)
    return bytes([content[0] & ~0x10]) + content[1:]


def dropped_mpeg4(packet: av.Packet) -> bytes:
    """An MPEG-4 picture that says "not coded": a start code, P, no whole second, the time of `packet`, and a 0."""
    return b"\0\0\1\xb6" + int(f"0101{packet.pts % 25:05b}1001111", 2).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("codec", "name", "extra"),
    [
        ("libvpx", "film.webm", unshown_vp8),
        ("mpeg4", "film.avi", dropped_mpeg4),
        ("mpeg4", "film.mp4", dropped_mpeg4),
    ],
)
def test_packets_of_which_no_picture_comes_are_no_frames(codec, name, extra, tmp_path):
    def set_up(stream) -> None:
        stream.bit_rate = 2_000_000

    pictures, options = [picture(t) for t in range(12)], {"g": "6", "bf": "0"}
    source = encode_film(tmp_path / f"whole_{name}", pictures, codec, options=options, set_up=set_up)
    with av.open(str(source)) as given, av.open(str(tmp_path / name), "w") as written:
        stream = given.streams.video[0]
        copied = written.add_stream_from_template(stream)
        time, step = 0, int(1 / (25 * stream.time_base))
        for number, packet in enumerate(packet for packet in given.demux(stream) if packet.size):
            if number == 6:  # a keyframe, which needs nothing from before
                more = av.Packet(extra(packet))
                more.pts = more.dts = time
                more.time_base, more.stream = packet.time_base, copied
                written.mux(more)
                time += step
            packet.pts = packet.dts = time
            packet.stream = copied
            written.mux(packet)
            time += step
    video = open_video(tmp_path / name)
    assert numbers(video.forwards()) == list(range(12))
    assert numbers(video.backwards(11)) == list(range(11, -1, -1))
    assert video.note == ""


def test_films_that_were_joined_are_read_to_the_end(tmp_path):
    """As by `cat a.ts b.ts`: the times of the second begin anew."""
    one = write_film(tmp_path / "one.ts", [picture(t) for t in range(10)])
    (tmp_path / "both.ts").write_bytes(2 * one.read_bytes())
    video = open_video(tmp_path / "both.ts")
    assert numbers(video.forwards()) == [*range(10), *range(10)]
    assert numbers(video.backwards(19)) == [*range(10), *range(10)][::-1]
    assert video.times == sorted(video.times)


def test_an_archive_is_no_film(tmp_path):
    with zipfile.ZipFile(tmp_path / "frames", "w") as archive:
        archive.writestr("frames/0.jpg", b"")
    (tmp_path / "frames.tar.gz").write_bytes(b"\x1f\x8b\x08" + bytes(40))
    for name in ("frames", "frames.tar.gz"):
        with pytest.raises(InputError, match=rf"{name}: cannot read this video \(it is an archive; unpack it first\)"):
            open_video(tmp_path / name)


def test_a_paletted_film_keeps_its_palette_also_backwards(tmp_path):
    colours = np.zeros((256, 4), np.uint8)
    colours[:, 0], colours[:, 2], colours[:, 3] = np.arange(256), 255 - np.arange(256), 255  # blue, green, red, opacity
    frames = []
    for t in range(36):
        frame = av.VideoFrame(SIZE[1], SIZE[0], "pal8")
        frame.planes[0].update(bytes([7 * t]) * frame.planes[0].buffer_size)
        frame.planes[1].update(colours.tobytes())
        frames.append(frame)
    encode_film(tmp_path / "film.avi", frames, "rawvideo", "pal8")
    video = open_video(tmp_path / "film.avi")
    assert [tuple(frame.image[5, 5].tolist()) for frame in video.backwards(35)][::-1] == [
        (255 - 7 * t, 0, 7 * t) for t in range(36)
    ]
    assert video.frame(30)[5, 5].tolist() == [45, 0, 210]


def test_frames_with_equal_times_are_all_taken(tmp_path):
    video = open_video(with_equal_times(tmp_path / "equal.mkv", [picture(t) for t in range(8)]))
    assert numbers(video.forwards()) == list(range(8))
    assert numbers(video.backwards(7)) == list(range(8))[::-1]
    assert all(one < next for one, next in itertools.pairwise(video.times))
    assert "gives 2 frames the time of another" in video.note


def test_frames_of_an_avi_may_change_their_order_late(tmp_path):
    path = reordered_late(tmp_path / "late.avi", [picture(t % 50) for t in range(90)])
    assert numbers(open_video(path).forwards()) == [t % 50 for t in range(90)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("film.ffconcat", "ffconcat version 1.0\nfile one.mp4\n"),
        ("film.mp4", "ffconcat version 1.0\nfile one.mp4\n"),
        ("film.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\none.mp4\n#EXT-X-ENDLIST\n"),
        ("film.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n"),
        ("film%05d.dpx", None),
        ("film.txt", "no film\n"),
    ],
)
def test_a_film_is_one_file(name, text, tmp_path):
    """Others would be followed, perhaps into the network, and what a run records would not tell when they change."""
    write_film(tmp_path / "one.mp4", [picture(t) for t in range(3)])
    if text is None:
        Image.fromarray(picture(0)).save(tmp_path / name, format="PNG")
        Image.fromarray(picture(0)).save(tmp_path / "film00000.dpx", format="PNG")
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="cannot read this video"):
        open_video(tmp_path / name)


def test_pictures_of_a_gif_without_a_delay_are_not_lost_in_silence(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)
    pictures = [Image.fromarray(each) for each in noise]
    pictures[0].save(tmp_path / "film.gif", save_all=True, append_images=pictures[1:], duration=100)
    assert len(open_video(tmp_path / "film.gif").names) == 4
    pictures[0].save(tmp_path / "film.gif", save_all=True, append_images=pictures[1:])
    with pytest.raises(InputError, match="1 of 4 pictures have a time"):
        open_video(tmp_path / "film.gif")
