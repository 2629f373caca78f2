"""How many bytes a video file lacks, according to the length stated in the file."""

import os
from pathlib import Path
from typing import BinaryIO

EBML_HEADER, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"styp"})
RIFF_SLACK = 8  # bytes: some cameras count the header twice


def missing_bytes(path: Path) -> int:
    """The number of bytes that a Matroska, WebM, MP4, MOV or AVI file lacks at its end; 0 for a complete file and one that
    does not state its length (other formats, recordings never finished).  Raises `OSError` if it cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        if head[:4] == EBML_HEADER:
            end = _end_of_segment(file)
        elif head[:4] == b"RIFF":
            end = _end_of_riff(file, size) - RIFF_SLACK
        elif head[4:] in FIRST_BOXES:
            end = _end_of_boxes(file, size)
        else:
            end = 0
    return max(0, end - size)


def _end_of_segment(file: BinaryIO) -> int:
    """Matroska: a header, then one segment that holds everything else."""
    file.seek(len(EBML_HEADER))
    length = _ebml_number(file)
    if length is None:
        return 0
    file.seek(length, os.SEEK_CUR)
    if file.read(len(SEGMENT)) != SEGMENT:
        return 0
    length = _ebml_number(file)
    return 0 if length is None else file.tell() + length


def _ebml_number(file: BinaryIO) -> int | None:
    """A number whose first byte gives, by its leading zeros, how many bytes follow; `None` if it means "unknown"."""
    first = int.from_bytes(file.read(1), "big")
    more = 8 - first.bit_length()
    if more == 8:
        return None
    value = int.from_bytes(bytes([first ^ (1 << (7 - more))]) + file.read(more), "big")
    return None if value == (1 << (7 * (more + 1))) - 1 else value


def _end_of_riff(file: BinaryIO, size: int) -> int:
    """AVI: one RIFF chunk, or several for files above a gigabyte."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # not RIFF, or its length was never filled in
            break
        position += 8 + length + length % 2
    return position


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """MP4 and MOV: a sequence of boxes, each with its length and a four-letter name."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8 or not name.isalnum():  # a box up to the end of the file, or not a box
            break
        position += length
    return position
