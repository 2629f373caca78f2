"""A user's own video and masks: a video file or a folder of frames, forwards and backwards, and masks as people draw them."""

import re
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace

from util.errors import InputError
from util.image import (
    IMAGE_SUFFIXES,
    WHITE,
    Numbering,
    list_frames,
    object_ids,
    open_image,
    read_image,
    refuse_lossy,
    shorter_side_size,
    size_text,
)

PURE_WHITE = 0xFFFFFF
UNSPECIFIED = 2  # FFmpeg's number for a colour space that a file does not state
CHUNK = 16  # frames at least that are decoded at once when going backwards


class TimedFrame(NamedTuple):
    """A frame of a video."""

    index: int  # from 0
    image: np.ndarray  # (H, W, 3) uint8 RGB


class FrameFolder:
    """Pictures in a folder as a video, in natural order (2.jpg before 10.jpg); raises `InputError` where there is none.

    `times` are seconds from the first frame, as `rate` (frames a second) makes them; `names` are the files' stems.
    """

    def __init__(self, folder: Path, *, rate: Fraction = Fraction(24)) -> None:
        self.paths = list_frames(folder)
        if not self.paths:
            raise InputError(f"{folder}: expected frames ({', '.join(sorted(IMAGE_SUFFIXES))}), found none")
        self.names = [path.stem for path in self.paths]
        self.times = [Fraction(i) / rate for i in range(len(self.paths))]
        self.size = read_image(self.paths[0]).shape[:2]

    def forwards(self) -> Iterator[TimedFrame]:
        """All frames in order; raises `InputError` naming the file when one cannot be read or has another size."""
        for index in range(len(self.paths)):
            yield self._read(index)

    def backwards(
        self, start: int, change: Callable[[np.ndarray], np.ndarray], folder: Path | None = None
    ) -> Iterator[TimedFrame]:
        """The frames from `start` down to the first, each after `change`; `folder` is for what must wait, here nothing."""
        for index in range(start, -1, -1):
            frame = self._read(index)
            yield frame._replace(image=change(frame.image))

    def _read(self, index: int) -> TimedFrame:
        image = read_image(self.paths[index])
        if image.shape[:2] != self.size:
            raise InputError(
                f"{self.paths[index]}: frame is {size_text(image.shape)}, the first one is {size_text(self.size)}"
            )
        return TimedFrame(index, image)


class VideoFile:
    """A video file, its frames turned upright; `times` are seconds from the first frame, `names` their numbers.

    Raises `InputError` naming the file when FFmpeg finds no video in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size: tuple[int, int] | None = None
        keys, stamps = [], []
        with self._opened() as (container, stream):
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    if packet.pts is None:
                        raise InputError(f"{path}: expected a time for each frame, found none; convert it to mp4 first")
                    stamps.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
            self.stamps = sorted(set(stamps))
            time_base = stream.time_base
        first = next(self._decode(0), None) if keys else None
        if first is None:
            raise InputError(f"{path}: expected a video, found no frame")
        self.stamps = self.stamps[first.index :]  # what is cut within a group of pictures starts with frames that cannot be
        self.times = [(stamp - self.stamps[0]) * time_base for stamp in self.stamps]
        self.names = [f"{i:05d}" for i in range(len(self.stamps))]
        self.chunks = [0]  # at which frames decoding can start
        for key in sorted(keys):
            index = max(0, bisect_right(self.stamps, key) - 1)
            if index - self.chunks[-1] >= CHUNK:
                self.chunks.append(index)

    def forwards(self) -> Iterator[TimedFrame]:
        """All frames in order; raises `InputError` when the file is broken."""
        return self._part(0, len(self.stamps))

    def backwards(
        self, start: int, change: Callable[[np.ndarray], np.ndarray], folder: Path | None = None
    ) -> Iterator[TimedFrame]:
        """The frames from `start` down to the first, each after `change`; what waits lies in a file in `folder`."""
        end = start + 1
        for chunk in reversed(self.chunks[: bisect_right(self.chunks, start)]):
            with tempfile.TemporaryFile(dir=folder) as waiting:
                indices = []
                for frame in self._part(chunk, end):
                    image = change(frame.image)
                    waiting.write(image.tobytes())
                    indices.append(frame.index)
                for place in range(len(indices) - 1, -1, -1):
                    waiting.seek(place * image.nbytes)
                    yield TimedFrame(indices[place], np.frombuffer(waiting.read(image.nbytes), np.uint8).reshape(image.shape))
            end = chunk

    def _part(self, start: int, end: int) -> Iterator[TimedFrame]:
        """The frames from `start`, which is a keyframe's, to before `end`; raises `InputError` when one does not come."""
        expected = start
        for frame in self._decode(start):
            if expected == end or frame.index > expected:
                break
            if frame.index == expected:  # else another one of the same time
                yield frame
                expected += 1
        if expected != end:
            raise InputError(f"{self.path}: cannot decode frame {expected}; convert the video: ffmpeg -i IT converted.mp4")

    def _decode(self, start: int) -> Iterator[TimedFrame]:
        """The frames from `start` on, which is a keyframe's, that can be decoded."""
        places = {stamp: index for index, stamp in enumerate(self.stamps)}
        with self._opened() as (container, stream):
            stream.thread_type = "AUTO"
            if start:  # a little earlier, since some containers seek by another time than that of the picture
                container.seek(self.stamps[max(0, start - CHUNK)], stream=stream)
            for frame in container.decode(stream):
                index = places.get(frame.pts)
                if index is not None and index >= start:
                    image = _upright_rgb(frame)
                    self.size = self.size or image.shape[:2]
                    if image.shape[:2] != self.size:
                        raise InputError(
                            f"{self.path}: frame {index} is {size_text(image.shape)}, the first one is {size_text(self.size)}"
                        )
                    yield TimedFrame(index, image)

    def _opened(self) -> "_Opened":
        return _Opened(self.path)


class _Opened:
    """A container and its first video stream, as a context in which FFmpeg's errors become `InputError`s."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tuple:
        try:
            self.container = av.open(str(self.path), metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{self.path}: cannot read this video ({error.strerror})") from error
        if not self.container.streams.video:
            self.container.close()
            raise InputError(f"{self.path}: expected a video, found no picture in it")
        return self.container, self.container.streams.video[0]

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.container.close()
        if isinstance(error, av.FFmpegError):
            raise InputError(f"{self.path}: cannot read this video ({error.strerror})") from error


def open_video(path: str | Path, *, rate: Fraction = Fraction(24)) -> FrameFolder | VideoFile:
    """A folder of frames, at `rate` frames a second, or a video file; raises `InputError` when it is neither."""
    path = Path(path)
    if path.is_dir():
        return FrameFolder(path, rate=rate)
    if not path.is_file():
        raise InputError(f"{path}: no such video or folder of frames")
    return VideoFile(path)


def _upright_rgb(frame: av.VideoFrame) -> np.ndarray:
    space = None
    if frame.colorspace == UNSPECIFIED:  # what players assume then
        space = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    image = frame.to_ndarray(format="rgb24", src_colorspace=space)
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


class GivenMasks:
    """Masks as people draw them become label maps; a colour means the same object in each of them.

    - paletted: the palette's indices are the objects' ids
    - greyscale: the values are the ids; white on black is object 1 (`util.image.Numbering`)
    - colour: each colour but black is an object, numbered as they come; what is transparent is background
    """

    def __init__(self) -> None:
        self.colours: dict[int, int] = {0: 0}  # from 0xRRGGBB to the id
        self.numbering = Numbering(strict=True)
        self.ids: set[int] = set()  # of all masks so far

    def read_all(self, paths: Mapping[int, Path], size: tuple[int, int]) -> dict[int, np.ndarray]:
        """Label maps (H, W) uint8 by frame, ascending, without the empty ones before the first object: those state nothing.

        Raises `InputError` naming the file when a mask cannot be one, or none shows an object.
        """
        masks: dict[int, np.ndarray] = {}
        for frame, path in sorted(paths.items()):
            labels = self.read(path, size)
            if labels.any():
                masks[frame] = labels
            elif masks:
                raise InputError(f"{path}: expected an object, as in the masks before it, found none; leave it out")
        if not masks:
            names = ", ".join(str(path) for path in paths.values())
            raise InputError(f"{names}: expected an object, found none")
        return masks

    def read(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        """A label map (H, W) uint8 of a frame's size, of ids alone and perhaps empty.

        Masks are to be read in the order of their frames.  Raises `InputError` naming the file when it cannot be one.
        """
        with open_image(path) as image:
            refuse_lossy(image)
            paletted = image.mode == "P"
            if image.mode in ("P", "L", "1"):
                values = np.array(image if paletted else image.convert("L"))
            elif image.mode in ("RGB", "RGBA", "LA"):
                picture = np.array(image.convert("RGBA"))
                values = (picture[..., :3].astype(np.int64) @ [1 << 16, 1 << 8, 1]) * (picture[..., 3] >= 128)
            else:
                raise InputError(f"expected a paletted, greyscale or colour mask, found mode {image.mode}")
        if not paletted:
            _refuse_soft_edges(path, values)
        if values.dtype != np.uint8:
            values = self._numbered(path, values)
        labels = self.numbering.read(values, path)
        self.ids |= set(object_ids(labels))
        if self.numbering.white:
            self.colours.setdefault(PURE_WHITE, 1)
        if labels.shape != size:
            raise InputError(f"{path}: mask is {size_text(labels.shape)}, its frame is {size_text(size)}")
        return labels

    def _numbered(self, path: Path, codes: np.ndarray) -> np.ndarray:
        """Colours (H, W) as 0xRRGGBB become ids (H, W) uint8, or 255 where they are white on black and no ids yet."""
        found = np.unique(codes)
        if self.numbering.white is not False and set(found.tolist()) <= {0, PURE_WHITE}:
            return np.where(codes == PURE_WHITE, np.uint8(WHITE), np.uint8(0))
        for code in found.tolist():
            if code not in self.colours:
                self.colours[code] = 1 + max(self.ids | set(self.colours.values()))
        if (count := max(self.colours.values())) >= WHITE:
            raise InputError(f"{path}: expected at most 254 objects in all masks, found {count}")
        known = np.array(sorted(self.colours))
        return np.array([self.colours[code] for code in known.tolist()], dtype=np.uint8)[np.searchsorted(known, codes)]


def _refuse_soft_edges(path: Path, values: np.ndarray) -> None:
    """Antialiased or compressed edges have many values that cover no 3x3 pixels anywhere."""
    padded = np.pad(values, 1, mode="edge")
    height, width = values.shape
    solid = np.ones(values.shape, dtype=bool)
    for dy in range(3):
        for dx in range(3):
            solid &= padded[dy : dy + height, dx : dx + width] == values
    thin = np.setdiff1d(np.unique(values), np.unique(values[solid]))
    if len(thin) > max(2, len(np.unique(values[solid]))):
        raise InputError(
            f"{path}: expected one plain colour for each object, found {len(thin)} that lie along edges only; draw the mask "
            "without antialiasing, and save it as PNG, not JPEG"
        )


def parse_masks(texts: Sequence[str]) -> dict[int, Path]:
    """`first.png 120:second.png` -> from frames to files; raises `InputError` when a frame is named twice."""
    masks: dict[int, Path] = {}
    for text in texts:
        found = re.fullmatch(r"(\d+):(.+)", text)
        frame, path = (int(found[1]), found[2]) if found else (0, text)
        if frame in masks:
            raise InputError(f"--mask: expected one mask for each frame, found {masks[frame]} and {path} for frame {frame}")
        masks[frame] = Path(path)
    return dict(sorted(masks.items()))


def shrink(size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Makes the shorter side of a frame `size`, averaging; smaller frames stay as they are."""

    def change(image: np.ndarray) -> np.ndarray:
        if min(image.shape[:2]) <= size:
            return image
        height, width = shorter_side_size(*image.shape[:2], size)
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    return change
