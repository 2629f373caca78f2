"""Pictures to look at: label maps drawn over frames, and sheets of them."""

from pathlib import Path

import cv2
import numpy as np

from util.errors import InputError
from util.files import write_atomically
from util.image import IGNORED, colour_map, object_ids


def overlay(image: np.ndarray, labels: np.ndarray, *, opacity: float = 0.45) -> np.ndarray:
    """A frame (H, W, 3) uint8 RGB with the objects of its label map (H, W) tinted and outlined; returns a new one.

    Raises `InputError` when the sizes differ.
    """
    if image.shape[:2] != labels.shape:
        raise InputError(f"expected a label map of the frame's size {image.shape[:2]}, found {labels.shape}")
    colours = np.frombuffer(colour_map(), dtype=np.uint8).reshape(256, 3)
    objects = (labels != 0) & (labels != IGNORED)
    tinted = ((1 - opacity) * image + opacity * colours[labels]).astype(np.uint8)
    result = np.where(objects[..., None], tinted, image)
    width = max(1, round(min(labels.shape) / 200))
    for number in object_ids(labels):
        contours, _ = cv2.findContours((labels == number).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(result, contours, -1, (255, 255, 255), width + 2, cv2.LINE_AA)
        cv2.drawContours(result, contours, -1, colours[number].tolist(), width, cv2.LINE_AA)
    return result


def sheet(rows: list[list[np.ndarray]], *, height: int = 160, gap: int = 4) -> np.ndarray:
    """Rows of pictures (H, W, 3) uint8, each scaled to `height`, on white, as one picture."""
    scaled = [
        [cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height), interpolation=cv2.INTER_AREA) for p in row]
        for row in rows
    ]
    width = max(sum(picture.shape[1] + gap for picture in row) for row in scaled) + gap
    result = np.full((len(rows) * (height + gap) + gap, width, 3), 255, dtype=np.uint8)
    for i, row in enumerate(scaled):
        top, left = gap + i * (height + gap), gap
        for picture in row:
            result[top : top + height, left : left + picture.shape[1]] = picture
            left += picture.shape[1] + gap
    return result


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as a PNG, atomically."""
    encoded = cv2.imencode(".png", picture[..., ::-1])[1]
    write_atomically(path, lambda file: file.write(encoded.tobytes()))
