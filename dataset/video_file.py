"""Read a video's frames forwards and backwards, from a video file or a folder of pictures."""

import contextlib
import glob
import itertools
import math
import os
import re
import struct
import tempfile
import zipfile
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.stream import Disposition
from av.video.reformatter import Colorspace

from dataset.folders import frames_below
from dataset.truncation import missing_bytes
from util.errors import InputError, names_some
from util.files import is_clutter
from util.image import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    WHOLE_RANGE,
    Header,
    common_levels,
    in_order,
    list_frames,
    masks_among,
    name_pattern,
    narrow_range,
    read_header,
    read_image,
    refuse_strangers,
    refuse_twins,
    size_text,
)
from util.progress import progress_bar

TS_PACKETS = (188, 192, 204)  # bytes: plain, with a leading timestamp (M2TS), with trailing error correction
UNSPECIFIED = 2  # FFmpeg's number for a colour space that the file does not state
CHUNK = 16  # minimum number of frames decoded at once when reading backwards
COUNTED_CHUNK = 256  # the same where frames are counted, which always begins at the first
LOOKED_AT = 64  # number of frames that show whether times are those of display; in an AVI, all do
CLEAR = "is transparent in parts, which is ignored"
FEW = 8  # frames at the start, whose times of decoding may go back a little
HDR = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of transfer functions
PICTURES = {"attached_pic", "timed_thumbnails", "still_image"}
CONTAINERS = (  # FFmpeg's names of those that hold all of a film, or sound with a cover: not of lists of other files
    "mov,matroska,avi,mpegts,mpegtsraw,mpeg,asf,flv,ogg,mxf,nut,wtv,dv,rm,gxf,swf,nsv,cine,gif,apng,"
    "ivf,obu,av1,h261,h263,h264,hevc,vvc,m4v,mpegvideo,vc1,mjpeg,yuv4mpegpipe,dirac,cavsvideo,dnxhd,mp3,flac,wav,aac"
)
FILM_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".mxf"}
)  # of the films in a folder of several; any other film may be named itself
ONE_FILE = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}


class IndexedFrame(NamedTuple):
    """A frame of a video."""

    index: int  # from 0
    image: np.ndarray  # (H, W, 3) uint8 RGB


class FrameFolder:
    """The pictures in a folder, or `paths`, as a video, in natural order (2.jpg before 10.jpg).

    `times` are seconds from the first frame at `rate` frames per second; `names` are the files' stems.  Files in `leave_out`
    are no frames.  Raises `InputError` if there are no pictures, if two have the same stem, if one cannot be read or differs
    in size from the first, or if one is no frame (`util.image.refuse_strangers`).
    """

    pixel = Fraction(1)

    def __init__(
        self,
        folder: Path,
        paths: list[Path] | None = None,
        *,
        rate: Fraction = Fraction(24),
        leave_out: Collection[Path] = (),
    ) -> None:
        self.paths = list_frames(folder, leave_out=leave_out) if paths is None else paths
        if not self.paths:
            raise InputError(f"{folder}: expected frames ({', '.join(sorted(IMAGE_SUFFIXES))}), found {_instead_of(folder)}")
        if paths is None:
            _refuse_unread(folder, self.paths)
        self.names = [path.stem for path in self.paths]
        self.times = [Fraction(i) / rate for i in range(len(self.paths))]
        headers = [read_header(path) for path in self.paths]
        self.size = _common_size(self.paths, headers)
        refuse_strangers(self.paths, [header.kind for header in headers])
        notes = _several_kinds(self.paths)
        if masks := masks_among(self.paths):
            notes.append(f"{names_some(path.name for path in masks)} among the frames: is it a mask? Then move it away")
        self.levels = WHOLE_RANGE
        if any(header.is_deep for header in headers) and (levels := common_levels(self._shown("frames looked at"))):
            self.levels = levels
            notes.append(f"16-bit frames hold values from {levels.low} to {levels.high}, which become 0 to 255")
        if any(header.is_turned for header in headers):
            notes.append("frames are turned upright, as their EXIF orientation says")
        self.note = f"{folder}: {'; '.join(notes)}" if notes else ""

    def _shown(self, what: str) -> Iterator[Path]:
        with progress_bar(len(self.paths), what) as bar:
            for path in self.paths:
                yield path
                bar.increment()

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
        image = read_image(self.paths[index], self.levels)
        if image.shape[:2] != self.size:
            raise InputError(f"{self.paths[index]}: frame is {size_text(image.shape)}, was {size_text(self.size)} before")
        return IndexedFrame(index, image)


def _instead_of(folder: Path) -> str:
    """What a folder without frames holds."""
    files = [path.name for path in folder.iterdir() if path.is_file() and not is_clutter(path.name)] if folder.is_dir() else []
    return f"none but {names_some(files)}" if files else f"none{frames_below(folder)}"


def _refuse_unread(folder: Path, frames: list[Path]) -> None:
    """Raise `InputError` if some frames are pictures of a kind that is not read, which would be left out."""
    patterns = {name_pattern(path) for path in frames}
    unread = [path for path in folder.iterdir() if path.suffix.lower() in UNREAD_SUFFIXES and name_pattern(path) in patterns]
    if unread:
        raise InputError(f"{folder}: cannot read {names_some(path.name for path in unread)}; save all frames as PNG or JPEG")


def _several_kinds(frames: list[Path]) -> list[str]:
    """A note if names tell that frames are of several videos, perhaps."""
    found = Counter(map(name_pattern, frames)).most_common(2)
    if len(found) == 2 and found[1][1] > 1:
        return [f"frames called {found[0][0]} and {found[1][0]} are one video, one after the other"]
    return []


def _common_size(paths: list[Path], headers: list[Header]) -> tuple[int, int]:
    """The frames' size; raises `InputError` naming the first that differs, or the first of all if it is the only one."""
    sizes = [header.size for header in headers]
    if len(sizes) > 2 and sizes[0] not in sizes[1:] and len({*sizes}) == 2:
        raise InputError(f"{paths[0]}: frame is {size_text(sizes[0])}, all others are {size_text(sizes[1])}")
    for path, size in zip(paths, sizes, strict=True):
        if size != sizes[0]:
            raise InputError(f"{path}: frame is {size_text(size)}, the first one is {size_text(sizes[0])}")
    return sizes[0]


class DamagedVideoError(InputError):
    """A video file is cut short or damaged."""

    status = 1


@dataclass
class _Track:
    """What the packets of a video stream tell."""

    index: int
    area: int  # pixels
    is_picture: bool  # a cover or a thumbnail
    is_default: bool
    stamps: list[int | None] = field(default_factory=list)  # in the order of the file
    keys: list[int] = field(default_factory=list)
    doubtful: list[int] = field(default_factory=list)
    first: float = math.inf  # times of decoding
    last: float = -math.inf
    goes_back: bool = False  # these do, and far, as where films were joined


class VideoFile:
    """A video file with its frames turned upright; `times` are seconds from the first frame, `names` are frame numbers.

    Of several video streams, it is the largest; attached pictures and streams with less than a tenth of the frames do not
    count.  Frames are numbered in the order of their times, or, where the file has none or wrong ones, as they are decoded.

    Raises `InputError` naming the file if FFmpeg finds no video in it, and `DamagedVideoError` if the file is cut short or
    its last frames cannot be decoded.  With `allow_truncated`, the whole file is decoded first and the video consists of
    the intact frames.  Frames at the start that cannot be decoded are always left out, since a recording may begin between
    two keyframes.  `note` is a line for the user, or empty; `pixel` is a pixel's width divided by its height.
    """

    def __init__(self, path: Path, *, allow_truncated: bool = False) -> None:
        self.path, self.allow_truncated = path, allow_truncated
        self._size: tuple[int, int] | None = None
        self.pixel = Fraction(1)
        self.stream: int | None = None  # until it is chosen, the first
        self._notes: list[str] = []  # of the first frame
        notes: list[str] = []
        with _errors_of_ffmpeg() as errors, self._opened() as (container, _):
            tracks = {stream.index: _track(stream) for stream in container.streams.video}
            end = None
            for packet in container.demux(*container.streams.video):
                if packet.size and not packet.is_discard:
                    track, end = tracks[packet.stream.index], packet.pos
                    track.stamps.append(packet.pts)
                    if packet.dts is not None:
                        track.first = min(track.first, packet.dts)
                        track.goes_back |= len(track.stamps) > FEW and 2 * packet.dts < track.first + track.last
                        track.last = packet.dts
                    if packet.pts is not None:
                        track.doubtful += [packet.pts] if packet.is_corrupt else []
                        track.keys += [packet.pts] if packet.is_keyframe else []
            track, others = _main_track(tracks.values(), path)
            stream = container.streams[track.index]
            container_name = container.format.name
            cut = self._cut(container_name, end) if track.stamps else None
            if container_name == "gif" and len(track.stamps) < stream.frames:  # FFmpeg joins those without a delay
                cut = f"{len(track.stamps)} of {stream.frames} pictures have a time; save it with a delay for each"
            errors = [text.strip() for _, source, text in errors if source == container_name]
            time_base, rate = stream.time_base, stream.average_rate or stream.guessed_rate or Fraction(25)
            self.stream, reorders = track.index, stream.codec_context.has_b_frames
            if others:
                notes.append(f"holds {1 + others} videos; this is the largest, stream {track.index}")
            self.pixel = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
            notes += [CLEAR] if {"alpha_mode", "ALPHA_MODE"} & {*stream.metadata} else []  # VP8 and VP9 hide it from FFmpeg
            notes += _what_is_lost(stream.codec_context.color_trc, self.pixel)
        stamps = [stamp for stamp in track.stamps if stamp is not None]
        if stamps and track.doubtful[-1:] == track.stamps[-1:]:
            cut = cut or "the file is cut short"
        self.stamps = sorted(set(stamps))
        self.counted = len(self.stamps) < len(track.stamps) or track.goes_back
        if self.counted:
            if (equal := len(stamps) - len(self.stamps)) and not track.goes_back:
                notes.append(f"gives {equal} frames the time of another; all are taken, evenly spaced")
            self.stamps, time_base = list(range(len(track.stamps))), 1 / rate
        elif reorders and self.stamps == stamps:  # an AVI states the order of the file, not that of display
            self.counted = self._is_out_of_order(None if container_name == "avi" else LOOKED_AT)
        first = next(self._decode(0), None) if track.stamps else None
        if first is None:
            raise InputError(f"{path}: {cut or 'expected a video'}, found no frame that can be decoded")
        if cut and not allow_truncated:
            raise self._damaged(cut)
        self.stamps = self.stamps[first.index :]
        if allow_truncated or self.counted:
            notes += self._leave_out_what_is_damaged(cut)
        elif bad := sorted(set(track.doubtful).intersection(self.stamps)):
            notes.append(f"data may be missing at frame {self.stamps.index(bad[0])}")
        elif errors:
            notes.append(f"frames may be missing; FFmpeg says: {errors[0]}")
        notes += self._notes
        self.note = f"{path}: {'; '.join(notes)}" if notes else ""
        self.times = [(stamp - self.stamps[0]) * time_base for stamp in self.stamps]
        self.names = [f"{i:05d}" for i in range(len(self.stamps))]
        self.chunks = [0]  # frames at which decoding can start
        if self.counted:
            self.chunks = list(range(0, len(self.stamps), COUNTED_CHUNK))
            return
        for key in sorted(track.keys):
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
        for index, frame in self._numbered(start):
            if frame is None or index < start:
                continue
            image, sideways = _upright_rgb(frame)
            if self._size is None:
                self._notes = self._of_first(frame)
                self._size = image.shape[:2]
                self.pixel = 1 / self.pixel if sideways else self.pixel
            if image.shape[:2] != self._size:
                found = f"frame {index} is {size_text(image.shape)}, the first one is {size_text(self._size)}"
                raise InputError(f"{self.path}: {found}")
            yield IndexedFrame(index, image)

    def _numbered(self, start: int) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Frames with their numbers, from `start` (a keyframe) or earlier on; -1 and `None` where one is damaged."""
        places = {stamp: index for index, stamp in enumerate(self.stamps)}
        count = 0
        with self._opened() as (container, stream):
            stream.thread_type = "SLICE"  # with a thread for each frame, damaged ones are marked as such or not by chance
            if start and not self.counted:  # seek a little earlier: some containers do not seek by presentation time
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

    def _of_first(self, frame: av.VideoFrame) -> list[str]:
        """Notes on the first frame; raises `InputError` for 16 bits per channel of which it uses little."""
        if all(part.bits == 16 for part in frame.format.components) and (found := narrow_range(frame.to_ndarray())):
            raise InputError(
                f"{self.path}: expected 16 bits that are used, found values from {found.low} to {found.high} only; save its "
                "frames as pictures, which are scaled alike: ffmpeg -i VIDEO FOLDER/%05d.png"
            )
        has_alpha = any(part.is_alpha for part in frame.format.components)
        clear = has_alpha and frame.to_ndarray(format="rgba")[..., 3].min() < 255
        notes = [CLEAR] if clear else []
        comb = "is interlaced, so what moves looks like a comb; convert it first: ffmpeg -i VIDEO -vf bwdif converted.mp4"
        return [*notes, *([comb] if frame.interlaced_frame else [])]

    def _is_out_of_order(self, looked_at: int | None) -> bool:
        """Whether the first frames, or all, are decoded in another order than that of their times."""
        frames = (frame for _, frame in self._numbered(0) if frame is not None)
        times = [frame.pts for frame in itertools.islice(frames, looked_at)]
        return any(b is None or (a is not None and b < a) for a, b in itertools.pairwise(times))

    def _leave_out_what_is_damaged(self, cut: str | None) -> list[str]:
        """Leave out what cannot be decoded, which takes a pass over the file; returns notes for the user."""
        whole: set[int] = set()
        damaged = 0
        with progress_bar(len(self.stamps), "frames checked") as bar:
            for index, frame in self._numbered(0):
                if frame is not None:
                    whole.add(index)
                elif whole:
                    damaged += 1
                bar.update(min(len(whole), len(self.stamps)))
        found = len(self.stamps)
        missing = damaged if self.counted else found - len(whole)
        self.stamps = [self.stamps[index] for index in sorted(whole) if index < found]
        if not (cut or missing):
            return []
        what = cut or f"{missing} of {found} frames cannot be decoded"
        if not self.allow_truncated:
            raise self._damaged(what)
        return [f"{what}; continuing with {len(self.stamps)} frames"]

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
        return _Opened(self.path, self.stream)


class _Opened:
    """A container and one of its video streams, as a context that turns FFmpeg's errors into `InputError`."""

    def __init__(self, path: Path, stream: int | None) -> None:
        self.path, self.stream = path, stream

    def __enter__(self) -> tuple:
        try:
            place = os.path.abspath(self.path)  # else `a:b.mp4` is a protocol
            self.container = av.open(place, metadata_errors="replace", container_options=ONE_FILE)
        except (FFmpegError, OSError) as error:
            missing = missing_bytes(self.path) if isinstance(error, InvalidDataError) else 0
            what = f"cut short, {missing:,} bytes are missing" if missing else error.strerror
            if isinstance(error, ArgumentError):
                what = "of a kind that is not read, or a list of other files; convert it to MP4 first"
            what = "it is an archive; unpack it first" if zipfile.is_zipfile(self.path) else what
            raise InputError(f"{self.path}: cannot read this video ({what})") from error
        if not self.container.streams.video:
            self.container.close()
            raise InputError(f"{self.path}: expected a video, found no video stream in it")
        return self.container, self.container.streams.video[0] if self.stream is None else self.container.streams[self.stream]

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.container.close()
        if isinstance(error, FFmpegError):
            raise InputError(f"{self.path}: cannot read this video ({error.strerror})") from error


def _track(stream: av.VideoStream) -> _Track:
    has = {kind.name for kind in Disposition if stream.disposition & kind}
    area = stream.codec_context.width * stream.codec_context.height
    return _Track(stream.index, area, bool(has & PICTURES), "default" in has)


def _main_track(tracks: Iterable[_Track], path: Path) -> tuple[_Track, int]:
    """The track that a viewer would call the video, and the number of others that are as long."""
    films = [track for track in tracks if not track.is_picture]
    if not films:
        raise InputError(f"{path}: expected a video, found only a picture that belongs to sound")
    most = max(len(track.stamps) for track in films)
    films = [track for track in films if 10 * len(track.stamps) >= most and (len(track.stamps) > 1 or most == 1)]
    return max(films, key=lambda track: (track.area, track.is_default, -track.index)), len(films) - 1


def _what_is_lost(transfer: int, pixel: Fraction) -> list[str]:
    """Notes on what frames in 8-bit RGB do not say."""
    hdr = [f"is HDR ({HDR[transfer]}) and read without tone mapping, so its colours are pale"] if transfer in HDR else []
    shape = f"has pixels of {pixel.numerator}:{pixel.denominator}: frames and masks have their own shape, films look right"
    return [*hdr, *([shape] if pixel != 1 else [])]


def mean_rate(video: FrameFolder | VideoFile) -> Fraction:
    """Frames a second, on average; 24 for a single frame."""
    seconds = video.times[-1] - video.times[0]
    return Fraction(len(video.times) - 1) / seconds if seconds else Fraction(24)


def open_video(
    path: str | Path, *, rate: Fraction = Fraction(24), allow_truncated: bool = False, leave_out: Collection[Path] = ()
) -> FrameFolder | VideoFile:
    """Open a folder of frames (at `rate` frames per second, without the files in `leave_out`) or a video file; raises
    `InputError` if it is neither.

    A pattern such as `frames/*.jpg` or `frames/%05d.jpg` is a folder of the frames that match it.
    """
    path = Path(path)
    if path.is_dir():
        return FrameFolder(path, rate=rate, leave_out=leave_out)
    if not path.exists() and re.search("[*?%[]", str(path)):
        return FrameFolder(path, [found for found in _matching(path) if found not in leave_out], rate=rate)
    if not path.is_file():
        raise InputError(f"{path}: no such video or folder of frames")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(f"{path}: expected a video or a folder of frames, found a picture; give its folder, {path.parent}")
    return VideoFile(path, allow_truncated=allow_truncated)


def one_video(words: Sequence[str]) -> str:
    """The video that the words of a command name: one word, or all files that match a pattern, as shells expand it.

    Raises `InputError` for any other words.
    """
    if len(words) == 1:
        return words[0]
    folder, suffixes = Path(words[0]).parent, {Path(word).suffix for word in words}
    pattern = folder / f"*{min(suffixes)}"
    if suffixes <= IMAGE_SUFFIXES and {*map(Path, words)} == {*_matching(pattern)}:
        return str(pattern)
    advice = f"quote it, '{pattern}'" if suffixes & IMAGE_SUFFIXES else "run the command for each of them"
    raise InputError(f"expected one video or folder of frames, found {len(words)}: {words[0]}, {words[1]}, ...; {advice}")


def videos_in(folder: Path, *, leave_out: Path | None = None) -> dict[str, Path]:
    """The films and folders of frames in a folder that holds no frames itself, by name; empty if it is no such folder.

    `leave_out` is a folder of masks, which may be in it.
    Raises `InputError` if two have the same name.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir() or list_frames(folder):
        return found
    for path in in_order(folder.iterdir()):
        film = path.is_file() and path.suffix.lower() in FILM_SUFFIXES
        frames = path.is_dir() and not (leave_out and path.samefile(leave_out)) and list_frames(path)
        if not is_clutter(path.name) and (film or frames):
            name = path.stem if film else path.name
            if name in found:
                raise InputError(f"{folder}: expected one video of each name, found {found[name].name} and {path.name}")
            found[name] = path
    return found


def _matching(pattern: Path) -> list[Path]:
    """The pictures that match a pattern with `*`, `?` or `%05d`, in natural order."""
    found = glob.glob(re.sub(r"%\d*d", "*", str(pattern)))
    if "%" in pattern.name:
        exact = re.compile(re.sub(r"%\d*d", r"-?\\d+", re.escape(pattern.name)))
        found = [name for name in found if exact.fullmatch(Path(name).name)]
    return refuse_twins(in_order(path for path in map(Path, found) if path.suffix.lower() in IMAGE_SUFFIXES))


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


def _decoded(packet: av.Packet) -> list[av.VideoFrame | None]:
    """The frames decoded from a packet; `None` for those that FFmpeg marks as damaged."""
    try:
        return [None if frame.is_corrupt else frame for frame in packet.decode()]
    except InvalidDataError:
        return [None]


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
