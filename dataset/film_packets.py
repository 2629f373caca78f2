"""A film before a frame of it is decoded: what its packets tell of its streams and times, and whether it is cut short."""

import contextlib
import errno
import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import ExitError, FFmpegError, InvalidDataError
from av.stream import Disposition

from dataset.truncation import missing_bytes
from util.errors import InputError

VP8_SHOWN = 0x10  # a bit of a frame's first byte (RFC 6386, 9.1)
LONGEST_NOT_CODED = 19  # bytes of an MPEG-4 picture that was dropped, as DivX and Xvid do
ENDS = {"gif": b";", "mjpeg": b"\xff\xd9"}  # of whole files, by kind
LONGEST_PADDING = 4096  # bytes that may follow it
TS_PACKETS = (188, 192, 204)  # bytes: plain, with a leading timestamp (M2TS), with trailing error correction
FEW = 8  # frames at the start, whose times of decoding may go back a little
CLEAR = "is transparent in parts, which is ignored"
HDR = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of transfer functions
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
PICTURES = {"attached_pic", "timed_thumbnails", "still_image"}
CONTAINERS = (  # FFmpeg's names of those that hold all of a film, or sound with a cover: not of lists of other files
    "mov,matroska,avi,mpegts,mpegtsraw,mpeg,asf,flv,ogg,mxf,nut,wtv,dv,rm,gxf,swf,nsv,cine,gif,apng,"
    "ivf,obu,av1,h261,h263,h264,hevc,vvc,m4v,mpegvideo,vc1,mjpeg,yuv4mpegpipe,dirac,cavsvideo,dnxhd,mp3,flac,wav,aac"
)
ONE_FILE = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
SILENCE = 60.0  # seconds of reading without a picture, as behind a film that a crash has left in a file of terabytes


class Track:
    """What the packets of one of a film's video streams tell."""

    def __init__(self, stream: av.VideoStream) -> None:
        has = {kind.name for kind in Disposition if stream.disposition & kind}
        self.index, self.area = stream.index, stream.codec_context.width * stream.codec_context.height  # pixels
        self.is_picture, self.is_default = bool(has & PICTURES), "default" in has  # of pictures, a cover or a thumbnail
        self.stamps: list[int | None] = []  # times in units of `time_base`, in the order of the file
        self.keys: list[int] = []  # times of keyframes
        self.doubtful: list[int] = []  # times of packets that FFmpeg marks as damaged
        self.maybe_unshown: set[int] = set()  # times of packets that may say only that nothing has changed
        self.first, self.last = math.inf, -math.inf  # times of decoding
        self.goes_back = False  # times of decoding do, and far, as where films were joined

    def add(self, packet: av.Packet) -> None:
        self.stamps.append(packet.pts)
        if packet.dts is not None:
            self.first = min(self.first, packet.dts)
            self.goes_back |= len(self.stamps) > FEW and 2 * packet.dts < self.first + self.last
            self.last = packet.dts
        if packet.pts is not None:
            self.doubtful += [packet.pts] if packet.is_corrupt else []
            self.keys += [packet.pts] if packet.is_keyframe else []
            if packet.stream.codec_context.name == "mpeg4" and packet.size <= LONGEST_NOT_CODED:
                self.maybe_unshown.add(packet.pts)


class FilmPackets:
    """What all packets of a film tell.  Raises `InputError` naming the file if FFmpeg finds no video in it."""

    def __init__(self, path: Path) -> None:
        with errors_of_ffmpeg() as errors, opened(path) as (container, _):
            streams = _decodable(container)
            tracks = {index: Track(stream) for index, stream in streams.items()}
            end = None
            for packet in container.demux(*streams.values()):
                if packet.size and not packet.is_discard and _is_shown(packet):
                    tracks[packet.stream.index].add(packet)
                    end = packet.pos
            self.track, others = _main_track(tracks.values(), path)
            track, stream, kind = self.track, streams[self.track.index], container.format.name
            codec = stream.codec_context
            self.container = kind  # FFmpeg's name of the kind of file
            self.cut = _cut(path, kind, end)  # why the file seems to end too early
            if kind == "gif" and len(track.stamps) < stream.frames:  # FFmpeg joins those without a delay
                self.cut = f"{len(track.stamps)} of {stream.frames} pictures have a time; save it with a delay for each"
            if any(stamp is not None for stamp in track.stamps) and track.doubtful[-1:] == track.stamps[-1:]:
                self.cut = self.cut or "the file is cut short"
            self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)  # nominal frames per second
            self.time_base = stream.time_base or 1 / self.rate
            self.reorders = codec.has_b_frames  # frames may be shown in another order than they are decoded
            self.paletted = codec.pix_fmt == "pal8"  # FFmpeg forgets the palette when it seeks
            self.pixel = stream.sample_aspect_ratio or codec.sample_aspect_ratio or Fraction(1)  # width divided by height
            self.errors = [text.strip() for _, source, text in errors if source == kind]  # what FFmpeg says
            self.notes = [f"holds {1 + others} videos; this is the largest, stream {track.index}"] if others else []
            self.notes += [CLEAR] if {"alpha_mode", "ALPHA_MODE"} & {*stream.metadata} else []  # VP8 and VP9 hide it
            if codec.color_trc in HDR:
                self.notes.append(f"is HDR ({HDR[codec.color_trc]}) and read without tone mapping, so its colours are pale")
            if self.pixel != 1:
                shape = f"{self.pixel.numerator}:{self.pixel.denominator}"
                self.notes.append(f"has pixels of {shape}: frames and masks have their own shape, films look right")


def _is_shown(packet: av.Packet) -> bool:
    """Whether a picture comes of it: VP8's alternative reference frames, which only others refer to, are not shown."""
    return packet.stream.codec_context.name != "vp8" or bool(bytes(packet)[0] & VP8_SHOWN)


def _main_track(tracks: Iterable[Track], path: Path) -> tuple[Track, int]:
    """The track that a viewer would call the video, and the number of others that are as long."""
    films = [track for track in tracks if not track.is_picture]
    if not films:
        raise InputError(f"{path}: expected a video, found only a picture that belongs to sound")
    most = max(len(track.stamps) for track in films)
    films = [track for track in films if 10 * len(track.stamps) >= most and (len(track.stamps) > 1 or most <= 1)]
    return max(films, key=lambda track: (track.area, track.is_default, -track.index)), len(films) - 1


def _cut(path: Path, container: str, last_packet: int | None) -> str | None:
    """A message that the file ends too early, or `None` if nothing shows that it does."""
    if missing := missing_bytes(path):
        return f"the file is cut short ({missing:,} bytes are missing)"
    if (end := ENDS.get(container)) and not _last_bytes(path).rstrip(b"\0\r\n").endswith(end):
        return "the file is cut short (its end mark is missing)"
    if container == "mpegts" and last_packet is not None:
        rest = path.stat().st_size - last_packet
        if all(rest % size for size in TS_PACKETS):
            return "the file is cut short (it ends within a packet)"
    return None


def _last_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_PADDING))
        return file.read()


@contextlib.contextmanager
def opened(path: Path, stream: int | None = None) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """A film and one of its video streams (`None`: the first), as a context that turns FFmpeg's errors into `InputError`."""
    try:
        place = os.path.abspath(path)  # else `a:b.mp4` is a protocol
        container = av.open(place, metadata_errors="replace", container_options=ONE_FILE, timeout=SILENCE)
    except (FFmpegError, OSError) as error:
        missing = missing_bytes(path) if isinstance(error, InvalidDataError) else 0
        what = f"cut short, {missing:,} bytes are missing" if missing else _reason(error)
        if error.errno == errno.EINVAL:
            what = "of a kind that is not read, or a list of other files; convert it to MP4 first"
        is_archive = path.suffix.lower() in ARCHIVES or zipfile.is_zipfile(path)
        what = "it is an archive; unpack it first" if is_archive else what
        raise InputError(f"{path}: cannot read this video ({what})") from error
    with container:
        if not (streams := _decodable(container)):
            raise InputError(f"{path}: expected a video, found no video stream in it that FFmpeg can decode")
        try:
            yield container, streams[min(streams) if stream is None else stream]
        except FFmpegError as error:
            raise InputError(f"{path}: cannot read this video ({_reason(error)})") from error


def _reason(error: FFmpegError | OSError) -> str | None:
    return f"found no picture in {SILENCE:.0f} seconds" if isinstance(error, ExitError) else error.strerror


def _decodable(container: InputContainer) -> dict[int, av.VideoStream]:
    """The video streams by index, without those of an unknown codec."""
    return {stream.index: stream for stream in container.streams.video if stream.codec_context is not None}


@contextlib.contextmanager
def errors_of_ffmpeg() -> Iterator[list[tuple[int, str, str]]]:
    """A list that collects the errors that FFmpeg logs in this context, as (level, component, text)."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as found:
            yield found
    finally:
        av.logging.set_level(before)
