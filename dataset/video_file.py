"""A video file's frames, forwards and backwards, upright and as they are to be shown."""

import contextlib
import itertools
import math
import struct
import tempfile
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import InvalidDataError
from av.video.reformatter import Colorspace

from dataset.film_packets import CLEAR, FilmPackets, errors_of_ffmpeg, opened
from dataset.frame_folder import IndexedFrame
from util.errors import InputError
from util.image import size_text
from util.progress import progress_bar
from util.sixteen_bit import narrow_range

UNSPECIFIED = 2  # FFmpeg's number for a colour space that the file does not state
CHUNK = 16  # minimum number of frames decoded at once when reading backwards
LONG_CHUNK = 256  # the same in films that are always decoded from the first frame on
LOOKED_AT = 64  # number of frames that show whether times are those of display; in an AVI, all do


class DamagedVideoError(InputError):
    """A video file is cut short or damaged."""

    status = 1


class VideoFile:
    """A video file with its frames turned upright; `times` are seconds from the first frame, `names` are frame numbers.

    Of several video streams, it is the largest; attached pictures and streams with less than a tenth of the frames do not
    count.  Frames are numbered in the order of their times, or, where the file has none or wrong ones, as they are decoded.

    Raises `InputError` naming the file if FFmpeg finds no video in it, and `DamagedVideoError` if it is cut short or its last
    frames cannot be decoded; with `allow_truncated`, or if some packets may show nothing, it is decoded first, and consists of
    the intact frames.  Frames before the first that can be decoded are left out, since a recording may begin between two
    keyframes.  `note` is a line for the user, or empty; `pixel` is a pixel's width divided by its height.
    """

    def __init__(self, path: Path, *, allow_truncated: bool = False) -> None:
        self.path, self.allow_truncated = path, allow_truncated
        packets = FilmPackets(path)
        track, time_base, notes = packets.track, packets.time_base, packets.notes
        self.stream = track.index
        stamps = [stamp for stamp in track.stamps if stamp is not None]
        self.stamps = sorted(set(stamps))
        self.counted = len(self.stamps) < len(track.stamps) or track.goes_back
        if self.counted:
            if (equal := len(stamps) - len(self.stamps)) and not track.goes_back:
                notes.append(f"gives {equal} frames the time of another; all are taken, evenly spaced")
            self.stamps, time_base = list(range(len(track.stamps))), 1 / packets.rate
        elif packets.reorders and self.stamps == stamps:  # an AVI states the order of the file, not that of display
            self.counted = self._is_out_of_order(None if packets.container == "avi" else LOOKED_AT)
        self.seeks = not (self.counted or packets.paletted)
        first, frame = next(self._intact(), (0, None)) if track.stamps else (0, None)
        if frame is None:
            raise InputError(f"{path}: {packets.cut or 'expected a video'}, found no frame that can be decoded")
        image, sideways = _upright_rgb(frame)
        self.size = image.shape[:2]
        self.pixel = 1 / packets.pixel if sideways else packets.pixel
        self._refuse_narrow(frame)
        notes_on_it = self._notes_on(frame)
        if packets.cut and not allow_truncated:
            raise self._damaged(packets.cut)
        if first:
            notes.append(f"{first} frames before the first that can be decoded are left out")
        self.stamps = self.stamps[first:]
        if allow_truncated or self.counted or track.maybe_unshown:
            notes += self._leave_out_what_is_damaged(packets.cut, track.maybe_unshown)
        elif bad := sorted(set(track.doubtful).intersection(self.stamps)):
            notes.append(f"data may be missing at frame {self.stamps.index(bad[0])}")
        elif packets.errors:
            notes.append(f"frames may be missing; FFmpeg says: {packets.errors[0]}")
        self.times = [(stamp - self.stamps[0]) * time_base for stamp in self.stamps]
        self.names = [f"{i:05d}" for i in range(len(self.stamps))]
        self.chunks = self._chunks(track.keys)
        if not self.counted:
            for index, last in self._whole(self.chunks[-1], len(self.stamps)):  # which a truncated file lacks
                frame = last
                self._shown(index, frame)
        notes += [*notes_on_it, *self._notes_on(frame)]  # what they say may begin later
        self.note = f"{path}: {'; '.join(dict.fromkeys(notes))}" if notes else ""

    def _chunks(self, keys: list[int]) -> list[int]:
        """The frames at which decoding starts when the film is read backwards; `keys` are the times of keyframes."""
        if not self.seeks:
            return list(range(0, len(self.stamps), LONG_CHUNK))
        chunks = [0]
        for key in sorted(keys):
            index = max(0, bisect_right(self.stamps, key) - 1)
            if index - chunks[-1] >= CHUNK:
                chunks.append(index)
        return chunks

    def forwards(self, start: int = 0) -> Iterator[IndexedFrame]:
        """The frames from `start` on, in order; raises `DamagedVideoError` if one is missing or damaged."""
        frames = self._part(self._chunk_of(start), len(self.stamps))
        return (frame for frame in frames if frame.index >= start)

    def backwards(self, start: int, folder: Path | None = None) -> Iterator[IndexedFrame]:
        """The frames from `start` down to the first; a temporary file in `folder` buffers one group between keyframes."""
        end = start + 1
        for chunk in reversed(self.chunks[: bisect_right(self.chunks, start)]):
            with tempfile.TemporaryFile(dir=folder) as waiting:
                for frame in self._part(chunk, end):
                    waiting.write(frame.image.tobytes())
                shape = (*self.size, 3)
                for index in range(end - 1, chunk - 1, -1):
                    waiting.seek((index - chunk) * math.prod(shape))
                    pixels = np.frombuffer(waiting.read(math.prod(shape)), np.uint8)
                    yield IndexedFrame(index, pixels.reshape(shape))
            end = chunk

    def frame(self, index: int) -> np.ndarray:
        """One frame (H, W, 3) uint8 RGB."""
        return deque(self._part(self._chunk_of(index), index + 1), maxlen=1).pop().image

    def _chunk_of(self, index: int) -> int:
        """The frame at which decoding must start to get to frame `index`."""
        return self.chunks[bisect_right(self.chunks, index) - 1]

    def _part(self, start: int, end: int) -> Iterator[IndexedFrame]:
        """The frames from `start` (a keyframe) up to, not including, `end`; raises `DamagedVideoError` if one is missing."""
        return (IndexedFrame(index, self._shown(index, frame)) for index, frame in self._whole(start, end))

    def _whole(self, start: int, end: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """`_part`, as FFmpeg's frames with their numbers."""
        expected = start
        for index, frame in self._intact(start):
            if expected == end or index > expected:
                break
            if index == expected:  # else one before the keyframe, or a second frame with the same timestamp
                yield index, frame
                expected += 1
        if expected != end:
            raise self._damaged(f"frame {expected} of {len(self.stamps)} cannot be decoded")

    def _shown(self, index: int, frame: av.VideoFrame) -> np.ndarray:
        """A frame as it is to be shown, (H, W, 3) uint8 RGB; raises `InputError` if it has another size than the first."""
        image, _ = _upright_rgb(frame)
        if image.shape[:2] != self.size:
            found = f"frame {index} is {size_text(image.shape)}, the first one is {size_text(self.size)}"
            raise InputError(f"{self.path}: {found}")
        return image

    def _intact(self, start: int = 0) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames of `_numbered` that are not damaged."""
        return ((index, frame) for index, frame in self._numbered(start) if frame is not None)

    def _numbered(self, start: int) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Frames with their numbers, from `start` (a keyframe) or earlier on; -1 and `None` where one is damaged."""
        places = {stamp: index for index, stamp in enumerate(self.stamps)}
        count = 0
        with opened(self.path, self.stream) as (container, stream):
            stream.thread_type = "SLICE"  # with a thread for each frame, damaged ones are marked as such or not by chance
            if start and self.seeks:  # a little earlier: some containers do not seek by presentation time
                container.seek(self.stamps[max(0, start - CHUNK)], stream=stream)
            for packet in container.demux(stream):
                for frame in _decoded(packet):
                    if frame is None:
                        yield -1, None
                    elif self.counted:
                        yield count, frame
                        count += 1
                    elif frame.pts in places:
                        yield places[frame.pts], frame

    def _refuse_narrow(self, frame: av.VideoFrame) -> None:
        """Raise `InputError` for 16 bits per channel of which the first frame uses little."""
        if all(part.bits == 16 for part in frame.format.components) and (found := narrow_range(frame.to_ndarray())):
            raise InputError(
                f"{self.path}: expected 16 bits that are used, found values from {found.low} to {found.high} only; save its "
                "frames as pictures, which are scaled alike: ffmpeg -i VIDEO FOLDER/%05d.png"
            )

    def _notes_on(self, frame: av.VideoFrame) -> list[str]:
        has_alpha = any(part.is_alpha for part in frame.format.components)
        notes = [CLEAR] if has_alpha and frame.to_ndarray(format="rgba")[..., 3].min() < 255 else []
        if frame.interlaced_frame:
            notes.append(
                "is interlaced, so what moves looks like a comb; convert it first: ffmpeg -i VIDEO -vf bwdif converted.mp4"
            )
        return notes

    def _is_out_of_order(self, looked_at: int | None) -> bool:
        """Whether the first frames, or all, are decoded in another order than that of their times."""
        times = [frame.pts for _, frame in itertools.islice(self._intact(), looked_at)]
        return any(b is None or (a is not None and b < a) for a, b in itertools.pairwise(times))

    def _leave_out_what_is_damaged(self, cut: str | None, maybe_unshown: set[int]) -> list[str]:
        """Leave out what cannot be decoded, which takes a pass over the file; returns notes for the user.

        Times at which there may be no picture are left out without a word.
        """
        whole: set[int] = set()
        damaged, last = 0, []
        with progress_bar(len(self.stamps), "frames checked") as bar:
            for index, frame in self._numbered(0):
                if frame is not None:
                    whole.add(index)
                    last = [frame]
                elif whole:
                    damaged += 1
                bar.update(min(len(whole), len(self.stamps)))
        found, lost = len(self.stamps), [stamp for index, stamp in enumerate(self.stamps) if index not in whole]
        missing = damaged if self.counted else len(set(lost) - maybe_unshown)
        self.stamps = [self.stamps[index] for index in sorted(whole) if index < found]
        notes = [note for frame in last for note in self._notes_on(frame)]
        if not (cut or missing):
            return notes
        what = cut or f"{missing} of {found} frames cannot be decoded"
        if not self.allow_truncated:
            raise self._damaged(what)
        return [f"{what}; continuing with {len(self.stamps)} frames", *notes]

    def _damaged(self, what: str) -> DamagedVideoError:
        advice = "--allow_truncated continues with the frames that can be decoded"
        if self.allow_truncated:
            advice = "convert the video first: ffmpeg -i VIDEO converted.mp4"
        return DamagedVideoError(f"{self.path}: {what}; {advice}")


def _decoded(packet: av.Packet) -> list[av.VideoFrame | None]:
    """The frames decoded from a packet; `None` for those that FFmpeg marks as damaged, or whose checksum is wrong (FFV1)."""
    has_checksum = packet.stream.codec_context.name == "ffv1"
    try:
        with errors_of_ffmpeg() if has_checksum else contextlib.nullcontext() as errors:
            frames = packet.decode()
    except InvalidDataError:
        return [None]
    return [None if frame.is_corrupt or errors else frame for frame in frames]


def _upright_rgb(frame: av.VideoFrame) -> tuple[np.ndarray, bool]:
    """A frame as it is to be shown, (H, W, 3) uint8, and whether that has turned it on its side."""
    space = None
    if frame.colorspace == UNSPECIFIED:  # as players assume
        space = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    image = frame.to_ndarray(format="rgb24", src_colorspace=space)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image, False
    a, b, _, c, d = struct.unpack("<5i", bytes(matrix)[:20])  # (x, y) is shown at (a x + c y, b x + d y)
    sideways = abs(b) + abs(c) > abs(a) + abs(d)
    if sideways:
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]), sideways
