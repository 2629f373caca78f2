"""Write videos that browsers can play."""

import contextlib
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from util.errors import InputError

TICKS = 90_000  # per second, the time unit of the file
SLOWEST, FASTEST = Fraction(1), Fraction(1000)  # limits of the encoder's nominal frames/s; frame times are exact regardless


class Film:
    """An H.264 video in an mp4 file, as a context: `add` pictures, then `close` to complete the file.

    size: (H, W) of the pictures; an odd side is padded by one row or column
    rate: approximate frames per second

    Raises `InputError` naming the file if it cannot be written.  After an error, the file left behind is not playable.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction) -> None:
        self.path = path
        self._last = -1  # tick of the last picture
        with self._one_line():
            self._container = av.open(os.path.abspath(path), "w", format="mp4", options={"movflags": "faststart"})
            rate = min(max(rate, SLOWEST), FASTEST).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.height, self._stream.width = (side + side % 2 for side in size)  # 4:2:0 has no odd sides
        self._stream.pix_fmt = "yuv420p"
        # without cpu-independent, libx264 occasionally encodes the same pictures differently
        self._stream.options = {"crf": "20", "preset": "veryfast", "x264-params": "cpu-independent=1"}
        self._stream.codec_context.time_base = Fraction(1, TICKS)

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(FFmpegError, OSError):
            self._container.close()

    def add(self, picture: np.ndarray, time: Fraction) -> None:
        """Add the next picture (H, W, 3) uint8 RGB, shown from `time` in seconds, which must increase."""
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
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
