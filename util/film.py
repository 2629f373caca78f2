"""Write videos: one that browsers can play, and one with transparency for video editors."""

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from util.errors import InputError

SQUARE = Fraction(1)
TICKS = 90_000  # per second, the time unit of the file
SLOWEST, FASTEST = Fraction(1), Fraction(1000)  # limits of the encoder's nominal frames/s; frame times are exact regardless
BT709, LIMITED = 1, 1  # FFmpeg's numbers of colours and their range, which players else guess by the size


class _Format(NamedTuple):
    container: str
    codec: str
    pixels: str
    container_options: dict[str, str]
    options: dict[str, object]


FORMATS = {
    # without cpu-independent, libx264 occasionally encodes the same pictures differently
    ".mp4": _Format(
        "mp4",
        "libx264",
        "yuv420p",
        {"movflags": "faststart"},
        {"crf": "20", "preset": "veryfast", "x264-params": "cpu-independent=1"},
    ),
    ".mov": _Format("mov", "prores_ks", "yuva444p10le", {}, {"profile": "4444", "alpha_bits": "8"}),
    ".webm": _Format("webm", "libvpx-vp9", "yuva420p", {}, {"crf": "20", "b": "0", "cpu-used": "4", "auto-alt-ref": "0"}),
}


def alpha_suffix() -> str:
    """The suffix of a video with alpha: `.mov` if PyAV has ProRes, else `.webm`."""
    return ".mov" if FORMATS[".mov"].codec in av.codecs_available else ".webm"


class Film:
    """A video file, as a context: `add` pictures, then `close` to complete the file.

    path:  ends in `.mp4` for H.264; with alpha in `.mov` for ProRes 4444 or in `.webm` for VP9
    size:  (H, W) of the pictures; an odd side is padded by one row or column
    rate:  approximate frames per second
    pixel: a pixel's width divided by its height, for players
    alpha: pictures have a fourth channel, 0 where they are transparent

    Raises `InputError` naming the file if it cannot be written.  After an error, the file left behind is not playable.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], rate: Fraction, *, pixel: Fraction = SQUARE, alpha: bool = False
    ) -> None:
        self.path = path
        self._last = -1  # tick of the last picture
        kind = FORMATS[path.suffix if alpha else ".mp4"]
        self._pixels = "rgba" if alpha else "rgb24"
        with self._one_line():
            path.unlink(missing_ok=True)  # FFmpeg would write into a file that it is another name of
            self._container = av.open(os.path.abspath(path), "w", format=kind.container, options=kind.container_options)
            rate = min(max(rate, SLOWEST), FASTEST).limit_denominator(1001)
            self._stream = cast(VideoStream, self._container.add_stream(kind.codec, rate=rate))
        self._stream.height, self._stream.width = (side + side % 2 for side in size)  # 4:2:0 has no odd sides
        self._stream.pix_fmt = self._encoded = kind.pixels
        self._stream.options = dict(kind.options)
        codec = self._stream.codec_context
        codec.time_base = Fraction(1, TICKS)
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED
        if pixel != SQUARE:
            codec.sample_aspect_ratio = pixel

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(FFmpegError, OSError):
            self._container.close()

    def add(self, picture: np.ndarray, time: Fraction) -> None:
        """Add the next picture, (H, W, 3) or with alpha (H, W, 4) uint8, shown from `time` in seconds, which must increase."""
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(picture, format=self._pixels)
        frame = frame.reformat(format=self._encoded, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        self._last = max(round(time * TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS)
        with self._one_line():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Complete the file and flush it to disk."""
        with self._one_line():
            self._container.mux(self._stream.encode())
            self._container.close()
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())

    @contextlib.contextmanager
    def _one_line(self):
        try:
            yield
        except (FFmpegError, OSError) as error:
            raise InputError(f"{self.path}: cannot write this video ({error.strerror})") from error
