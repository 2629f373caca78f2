"""Read a video's frames forwards and backwards, from a video file or a folder of pictures."""

import contextlib
import os
import tempfile
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.error import FFmpegError, InvalidDataError
from av.video.reformatter import Colorspace

from dataset.truncation import missing_bytes
from util.errors import InputError
from util.image import IMAGE_SUFFIXES, image_size, list_frames, read_image, size_text
from util.progress import progress_bar

TS_PACKETS = (188, 192, 204)  # bytes: plain, with a leading timestamp (M2TS), with trailing error correction
UNSPECIFIED = 2  # FFmpeg's number for a colour space that the file does not state
CHUNK = 16  # minimum number of frames decoded at once when reading backwards


class IndexedFrame(NamedTuple):
    """A frame of a video."""

    index: int  # from 0
    image: np.ndarray  # (H, W, 3) uint8 RGB


class FrameFolder:
    """The pictures in a folder as a video, in natural order (2.jpg before 10.jpg).

    `times` are seconds from the first frame at `rate` frames per second; `names` are the files' stems.  Files in `leave_out`
    are no frames.  Raises
    `InputError` if there are no pictures, if two have the same stem, or if one cannot be read or differs in size from the
    first.
    """

    note = ""

    def __init__(self, folder: Path, *, rate: Fraction = Fraction(24), leave_out: Collection[Path] = ()) -> None:
        self.paths = list_frames(folder, leave_out=leave_out)
        if not self.paths:
            raise InputError(f"{folder}: expected frames ({', '.join(sorted(IMAGE_SUFFIXES))}), found none")
        self.names = [path.stem for path in self.paths]
        self.times = [Fraction(i) / rate for i in range(len(self.paths))]
        self.size = image_size(self.paths[0])
        for path in self.paths:
            self._check_size(path, image_size(path))

    def forwards(self, start: int = 0) -> Iterator[IndexedFrame]:
        """The frames from `start` on, in order; raises `InputError` naming the file if one cannot be read."""
        for index in range(start, len(self.paths)):
            yield self._read(index)

    def backwards(self, start: int, folder: Path | None = None) -> Iterator[IndexedFrame]:
        """The frames from `start` down to the first.  `folder` is not used; see `VideoFile.backwards`."""
        for index in range(start, -1, -1):
            yield self._read(index)

    def frame(self, index: int) -> np.ndarray:
        """One frame (H, W, 3) uint8 RGB."""
        return self._read(index).image

    def _read(self, index: int) -> IndexedFrame:
        image = read_image(self.paths[index])
        self._check_size(self.paths[index], image.shape)
        return IndexedFrame(index, image)

    def _check_size(self, path: Path, shape: tuple[int, ...]) -> None:
        if shape[:2] != self.size:
            raise InputError(f"{path}: frame is {size_text(shape)}, the first one is {size_text(self.size)}")


class DamagedVideoError(InputError):
    """A video file is cut short or damaged."""

    status = 1


class VideoFile:
    """A video file with its frames turned upright; `times` are seconds from the first frame, `names` are frame numbers.

    Raises `InputError` naming the file if FFmpeg finds no video in it, and `DamagedVideoError` if the file is cut short or
    its last frames cannot be decoded.  With `allow_truncated`, the whole file is decoded first and the video consists of
    the intact frames.  Frames at the start that cannot be decoded are always left out, since a recording may begin between
    two keyframes.  `note` is a line for the user, or empty.
    """

    def __init__(self, path: Path, *, allow_truncated: bool = False) -> None:
        self.path, self.allow_truncated = path, allow_truncated
        self._size: tuple[int, int] | None = None
        self.note = ""
        keys, stamps, doubtful = [], [], []
        self.stamps: list[int] = []
        with _errors_of_ffmpeg() as errors, self._opened() as (container, stream):
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    if packet.pts is None:
                        raise InputError(f"{path}: expected a timestamp for each frame, found none; convert it to mp4 first")
                    stamps.append(packet.pts)
                    doubtful += [packet.pts] if packet.is_corrupt else []
                    if packet.is_keyframe:
                        keys.append(packet.pts)
                    end = packet.pos
            cut = self._cut(container.format.name, end) if stamps else None
            errors = [text.strip() for _, source, text in errors if source == container.format.name]
            time_base = stream.time_base
        if doubtful and doubtful[-1] == stamps[-1]:
            cut = cut or "the file is cut short"
        self.stamps = sorted(set(stamps))
        first = next(self._decode(0), None) if keys else None
        if first is None:
            raise InputError(f"{path}: {cut or 'expected a video'}, found no frame that can be decoded")
        if cut and not allow_truncated:
            raise self._damaged(cut)
        self.stamps = self.stamps[first.index :]
        if allow_truncated:
            self._leave_out_what_is_damaged(cut)
        elif bad := sorted(set(doubtful).intersection(self.stamps)):
            self.note = f"{path}: data may be missing at frame {self.stamps.index(bad[0])}"
        elif errors:
            self.note = f"{path}: frames may be missing; FFmpeg says: {errors[0]}"
        self.times = [(stamp - self.stamps[0]) * time_base for stamp in self.stamps]
        self.names = [f"{i:05d}" for i in range(len(self.stamps))]
        self.chunks = [0]  # frames at which decoding can start
        for key in sorted(keys):
            index = max(0, bisect_right(self.stamps, key) - 1)
            if index - self.chunks[-1] >= CHUNK:
                self.chunks.append(index)
        for _ in self._part(self.chunks[-1], len(self.stamps)):
            pass  # check the last frames, which a truncated file lacks

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        assert self._size is not None  # the first frame has been decoded
        return self._size

    def forwards(self, start: int = 0) -> Iterator[IndexedFrame]:
        """The frames from `start` on, in order; raises `DamagedVideoError` if one is missing or damaged."""
        frames = self._part(self._chunk_of(start), len(self.stamps))
        return (frame for frame in frames if frame.index >= start)

    def backwards(self, start: int, folder: Path | None = None) -> Iterator[IndexedFrame]:
        """The frames from `start` down to the first; a temporary file in `folder` buffers one group between keyframes."""
        end = start + 1
        for chunk in reversed(self.chunks[: bisect_right(self.chunks, start)]):
            with tempfile.TemporaryFile(dir=folder) as waiting:
                indices = []
                for frame in self._part(chunk, end):
                    image = frame.image
                    waiting.write(image.tobytes())
                    indices.append(frame.index)
                for place in range(len(indices) - 1, -1, -1):
                    waiting.seek(place * image.nbytes)
                    yield IndexedFrame(
                        indices[place], np.frombuffer(waiting.read(image.nbytes), np.uint8).reshape(image.shape)
                    )
            end = chunk

    def frame(self, index: int) -> np.ndarray:
        """One frame (H, W, 3) uint8 RGB."""
        return deque(self._part(self._chunk_of(index), index + 1), maxlen=1).pop().image

    def _chunk_of(self, index: int) -> int:
        """The frame at which decoding must start to get to frame `index`."""
        return self.chunks[bisect_right(self.chunks, index) - 1]

    def _part(self, start: int, end: int) -> Iterator[IndexedFrame]:
        """The frames from `start` (a keyframe) up to, not including, `end`; raises `DamagedVideoError` if one is missing."""
        expected = start
        for frame in self._decode(start):
            if expected == end or frame.index > expected:
                break
            if frame.index == expected:  # else a second frame with the same timestamp
                yield frame
                expected += 1
        if expected != end:
            raise self._damaged(f"frame {expected} of {len(self.stamps)} cannot be decoded")

    def _decode(self, start: int) -> Iterator[IndexedFrame]:
        """The frames from `start` (a keyframe) on that can be decoded without errors."""
        places = {stamp: index for index, stamp in enumerate(self.stamps)}
        with self._opened() as (container, stream):
            stream.thread_type = "SLICE"  # with a thread for each frame, damaged ones are marked as such or not by chance
            if start:  # seek a little earlier: some containers do not seek by presentation time
                container.seek(self.stamps[max(0, start - CHUNK)], stream=stream)
            for packet in container.demux(stream):
                for frame in _decoded(packet):
                    index = None if frame.pts is None else places.get(frame.pts)
                    if index is not None and index >= start:
                        image = _upright_rgb(frame)
                        self._size = self._size or image.shape[:2]
                        if image.shape[:2] != self._size:
                            found = f"frame {index} is {size_text(image.shape)}, the first one is {size_text(self._size)}"
                            raise InputError(f"{self.path}: {found}")
                        yield IndexedFrame(index, image)

    def _leave_out_what_is_damaged(self, cut: str | None) -> None:
        whole = set()
        with progress_bar(len(self.stamps), "frames checked") as bar:
            for frame in self._decode(0):
                whole.add(self.stamps[frame.index])
                bar.update(len(whole))
        if cut or len(whole) < len(self.stamps):
            what = cut or f"{len(self.stamps) - len(whole)} of {len(self.stamps)} frames cannot be decoded"
            self.note = f"{self.path}: {what}; continuing with {len(whole)} frames"
        self.stamps = sorted(whole)

    def _cut(self, container: str, last_packet: int | None) -> str | None:
        """A message that the file ends too early, or `None` if nothing shows that it does."""
        if missing := missing_bytes(self.path):
            return f"the file is cut short ({missing:,} bytes are missing)"
        if container == "mpegts" and last_packet is not None:
            rest = self.path.stat().st_size - last_packet
            if all(rest % size for size in TS_PACKETS):
                return "the file is cut short (it ends within a packet)"
        return None

    def _damaged(self, what: str) -> DamagedVideoError:
        advice = "--allow_truncated continues with the frames that can be decoded"
        if self.allow_truncated:
            advice = "convert the video first: ffmpeg -i VIDEO converted.mp4"
        return DamagedVideoError(f"{self.path}: {what}; {advice}")

    def _opened(self) -> "_Opened":
        return _Opened(self.path)


class _Opened:
    """A container and its first video stream, as a context that turns FFmpeg's errors into `InputError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tuple:
        try:
            self.container = av.open(os.path.abspath(self.path), metadata_errors="replace")  # else `a:b.mp4` is a protocol
        except (FFmpegError, OSError) as error:
            missing = missing_bytes(self.path) if isinstance(error, InvalidDataError) else 0
            what = f"cut short, {missing:,} bytes are missing" if missing else error.strerror
            raise InputError(f"{self.path}: cannot read this video ({what})") from error
        if not self.container.streams.video:
            self.container.close()
            raise InputError(f"{self.path}: expected a video, found no video stream in it")
        return self.container, self.container.streams.video[0]

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.container.close()
        if isinstance(error, FFmpegError):
            raise InputError(f"{self.path}: cannot read this video ({error.strerror})") from error


def mean_rate(video: FrameFolder | VideoFile) -> Fraction:
    """Frames a second, on average; 24 for a single frame."""
    seconds = video.times[-1] - video.times[0]
    return Fraction(len(video.times) - 1) / seconds if seconds else Fraction(24)


def open_video(
    path: str | Path, *, rate: Fraction = Fraction(24), allow_truncated: bool = False, leave_out: Collection[Path] = ()
) -> FrameFolder | VideoFile:
    """Open a folder of frames (at `rate` frames per second, without the files in `leave_out`) or a video file.

    Raises `InputError` if it is neither.
    """
    path = Path(path)
    if path.is_dir():
        return FrameFolder(path, rate=rate, leave_out=leave_out)
    if not path.is_file():
        raise InputError(f"{path}: no such video or folder of frames")
    return VideoFile(path, allow_truncated=allow_truncated)


@contextlib.contextmanager
def _errors_of_ffmpeg() -> Iterator[list[tuple[int, str, str]]]:
    """A list that collects the errors that FFmpeg logs in this context, as (level, component, text)."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as found:
            yield found
    finally:
        av.logging.set_level(before)


def _decoded(packet: av.Packet) -> list[av.VideoFrame]:
    """The frames decoded from a packet, without those that FFmpeg marks as damaged."""
    try:
        return [frame for frame in packet.decode() if not frame.is_corrupt]
    except InvalidDataError:
        return []


def _upright_rgb(frame: av.VideoFrame) -> np.ndarray:
    space = None
    if frame.colorspace == UNSPECIFIED:  # as players assume
        space = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    image = frame.to_ndarray(format="rgb24", src_colorspace=space)
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
