"""Small videos and masks for tests."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image

SIZE = (48, 64)


def picture(t: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth frame whose brightness encodes its number."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([4 * t + x, 60 + y, 200 - x - y // 2], axis=-1).clip(0, 255).astype(np.uint8)


def noisy(t: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A frame that takes some space in a file."""
    return np.where(np.indices(size).sum(axis=0)[..., None] % 2, picture(t, size), noise(t, size))


def noise(t: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(t).integers(0, 256, (*size, 3), dtype=np.uint8)


def write_film(
    path: Path,
    pictures: list[np.ndarray],
    *,
    gop: int = 12,
    space: Colorspace | None = None,
    times=None,
    codec: str = "libx264",
    sound: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A film at 25 frames a second, or with `times` in milliseconds; `sound` is a codec for an extra second of silence."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # what x264 writes depends on it
        stream.options = {"g": str(gop)}
        if codec == "libx264":
            stream.options |= {"crf": "4", "bf": "2", "sc_threshold": "0"}
        if not codec.startswith("mpeg"):  # MPEG has only times that follow from its rate
            stream.codec_context.time_base = Fraction(1, 1000)
        if space is not None:
            stream.codec_context.colorspace = space.value
        audio = add_silence(container, sound) if sound else None
        for t, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=space)
            frame.pts, frame.time_base = (40 * t if times is None else times[t]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            mux_silence(container, audio, seconds=len(pictures) / 25 + 1)
    return path


def encode_film(
    path: Path,
    frames: Iterable[np.ndarray | av.VideoFrame],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    *,
    options: dict[str, str] | None = None,
    set_up: Callable[[Any], object] = lambda stream: None,
    change: Callable[[int, av.VideoFrame], object] = lambda t, frame: None,
    retime: Callable[[int, av.Packet], object] = lambda t, packet: None,
    kind: str | None = None,
) -> Path:
    """A film of any codec at 25 frames a second, whose stream, frames before they are encoded, and packets can be changed."""
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = SIZE
        stream.pix_fmt = pixels
        set_up(stream)
        for t, image in enumerate(frames):
            made = isinstance(image, av.VideoFrame)
            frame = image if made else av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = t, Fraction(1, 25)
            change(t, frame)
            for packet in stream.encode(frame):
                retime(t, packet)
                container.mux(packet)
        container.mux(stream.encode())
    return path


def with_equal_times(path: Path, frames: Iterable[np.ndarray], kind: str | None = None) -> Path:
    """A film whose frames 3 and 5 have the times of those before them."""

    def set_up(stream) -> None:
        stream.codec_context.time_base = Fraction(1, 1000)

    def retime(t: int, packet: av.Packet) -> None:
        packet.pts = packet.dts = 40 * (t - (t in (3, 5)))

    return encode_film(path, frames, "mjpeg", "yuvj420p", set_up=set_up, retime=retime, kind=kind)


def reordered_late(path: Path, frames: Iterable[np.ndarray], kind: str | None = None) -> Path:
    """H.264 of which the first 70 frames are stored in their order."""
    types, options = av.video.frame.PictureType, {"bf": "2", "g": "200", "crf": "4", "sc_threshold": "0", "b-adapt": "0"}

    def change(t: int, frame: av.VideoFrame) -> None:
        if t < 70:
            frame.pict_type = types.P if t else types.I

    return encode_film(path, frames, options=options, change=change, kind=kind)


def add_silence(container, codec: str):
    audio = container.add_stream(codec, rate=48000)
    audio.layout = "mono"
    return audio


def mux_silence(container, audio, *, seconds: float) -> None:
    size = audio.codec_context.frame_size or 960
    for start in range(0, round(48000 * seconds), size):
        frame = av.AudioFrame(format=audio.codec_context.format.name, layout="mono", samples=size)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        container.mux(audio.encode(frame))
    container.mux(audio.encode())


def write_folder(folder: Path, frames: int, size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir()
    for t in range(frames):
        Image.fromarray(picture(t, size)).save(folder / f"{t}.png")
    return folder


def square(*boxes: tuple[int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A label map with a square of 16 pixels at each (x, y), numbered from 1."""
    labels = np.zeros(size, np.uint8)
    for number, (x, y) in enumerate(boxes, start=1):
        labels[y : y + 16, x : x + 16] = number
    return labels
