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


class Frames:
    """JPEGs of a video's frames, for any thread.  The decoder keeps its place, so the next frame is cheap."""

    def __init__(self, video: FrameFolder | VideoFile) -> None:
        self.video = video
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0
        self._decoder: Iterator[IndexedFrame] = iter(())
        self._next = len(video.names)

    def jpeg(self, index: int) -> bytes:
        """Raises `InputError` if the frame cannot be read."""
        with self._lock:
            if index not in self._kept:
                self._decode(index)
            self._kept.move_to_end(index)
            return self._kept[index]

    def _decode(self, index: int) -> None:
        ahead = SKIPPED if isinstance(self.video, VideoFile) else 0
        if not self._next <= index <= self._next + ahead:
            self._next = max(0, index - KEPT) if isinstance(self.video, VideoFile) else index
            self._decoder = self.video.forwards(self._next)
        self._next = len(self.video.names)  # in case that it fails: then it starts anew
        for frame in self._decoder:
            if index - KEPT <= frame.index and frame.index not in self._kept:
                self._keep(frame)
            if frame.index == index:
                self._next = index + 1
                return

    def _keep(self, frame: IndexedFrame) -> None:
        self._kept[frame.index] = as_jpeg(frame.image, QUALITY)
        self._bytes += len(self._kept[frame.index])
        while self._bytes > MOST_BYTES and len(self._kept) > KEPT + 1:
            self._bytes -= len(self._kept.popitem(last=False)[1])
