"""Frames of a video for the page: decoded on demand, as JPEG, with a limited number in memory."""

import threading
from collections import OrderedDict
from collections.abc import Iterator

from dataset.frame_folder import FrameFolder, IndexedFrame
from dataset.video_file import VideoFile
from util.picture import as_jpeg

MOST_BYTES = 128 << 20  # of JPEGs
SKIPPED = 48  # frames that are decoded on the way to a later one, rather than to start at a keyframe again
KEPT = 24  # frames before the one asked for whose JPEGs are kept, for those who go backwards
QUALITY = 92


class _Jpegs:
    """Those of all videos in one server; what was not asked for the longest goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[object, int], bytes] = OrderedDict()
        self._bytes = 0

    def get(self, video: object, index: int) -> bytes | None:
        with self._lock:
            if (video, index) in self._kept:
                self._kept.move_to_end((video, index))
            return self._kept.get((video, index))

    def keep(self, video: object, index: int, jpeg: bytes) -> None:
        with self._lock:
            self._bytes += len(jpeg) - len(self._kept.pop((video, index), b""))
            self._kept[video, index] = jpeg
            while self._bytes > MOST_BYTES and len(self._kept) > KEPT + 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])


JPEGS = _Jpegs()


class Frames:
    """JPEGs of a video's frames, for any thread.  The decoder keeps its place, so the next frame is cheap."""

    def __init__(self, video: FrameFolder | VideoFile) -> None:
        self.video = video
        self._lock = threading.Lock()
        self._decoder: Iterator[IndexedFrame] = iter(())
        self._next = len(video.names)
        self._asked = 0  # the frame that was asked for last

    def jpeg(self, index: int) -> bytes:
        """Raises `InputError` if the frame cannot be read."""
        with self._lock:
            first = index - KEPT if self._asked - KEPT <= index < self._asked else index  # of those that are kept
            self._asked = index
            return JPEGS.get(self, index) or self._decode(index, max(0, first))

    def _decode(self, index: int, first: int) -> bytes:
        ahead = SKIPPED if isinstance(self.video, VideoFile) else 0
        if not self._next <= index <= self._next + ahead:
            self._next = first if isinstance(self.video, VideoFile) else index
            self._decoder = self.video.forwards(self._next)
        self._next = len(self.video.names)  # in case that it fails: then it starts anew
        for frame in self._decoder:
            if frame.index < first:
                continue
            jpeg = JPEGS.get(self, frame.index) or as_jpeg(frame.image, QUALITY)
            JPEGS.keep(self, frame.index, jpeg)
            if frame.index == index:
                self._next = index + 1
                return jpeg
        raise AssertionError("a video that ends early raises InputError")
