"""Segment Anything (SAM, MobileSAM, EfficientSAM) as the two ONNX files that `samexporter` writes; not part of the paper.

Who has them uses them in place of the scribble network (docs/interactive.md).
"""

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from model.onnx import open_onnx
from util.errors import InputError, names_some, shorten
from util.tensors import normalise

SIDE = 1024  # pixels, the longer side at which SAM and MobileSAM look
KEPT = 8  # images whose embeddings are kept, 4 MB each
OFF, ON, TOP_LEFT, BOTTOM_RIGHT, NO_POINT = 0, 1, 2, 3, -1  # labels of points
SAM_INPUTS = {"image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"}
EFFICIENT_INPUTS = {"image_embeddings", "batched_point_coords", "batched_point_labels", "orig_im_size"}


class Sam:
    """The image encoder (`*encoder*.onnx`) and the prompt decoder (`*decoder*.onnx`) in a folder.

    An image is encoded once, as long as it is among the last eight.  Any thread may call it.  Raises `InputError` if the
    folder does not hold one of each, if they are no such files, or without ONNX Runtime.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        files = (_only_file(self.folder, f"*{part}*.onnx") for part in ("encoder", "decoder"))
        self._encoder, self._decoder = map(open_onnx, files)
        inputs = {entry.name for entry in self._decoder.get_inputs()}
        self.efficient = inputs == EFFICIENT_INPUTS
        if inputs != SAM_INPUTS and not self.efficient:
            raise InputError(
                f"{folder}: expected a decoder of SAM, MobileSAM or EfficientSAM, found inputs {names_some(inputs)}"
            )
        outputs = [entry.name for entry in self._decoder.get_outputs()]
        self._answers = outputs[:2] if self.efficient else ["low_res_masks", "iou_predictions"]
        self._image = self._encoder.get_inputs()[0]
        if len(self._image.shape) not in (3, 4):
            raise InputError(f"{folder}: expected an encoder of images, found input {self._image.name} of {self._image.shape}")
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The object at points (N, 2), x and y in pixels, with labels (N,), `ON` or `OFF` or the corners of a box.

        image: (H, W, 3) uint8 RGB; returns (H, W) bool.  Of several answers, it is the one that the network thinks best.
        """
        size = image.shape[:2]
        if self.efficient:
            given = {
                "batched_point_coords": points[None, None].astype(np.float32),
                "batched_point_labels": labels[None, None].astype(np.float32),
                "orig_im_size": np.array(size, np.int64),
            }
            masks, quality = self._decode(image, given)
            return masks[0, 0, quality[0, 0].argmax()] > 0
        height, width = _inner_size(*size)
        points = (points * (width / size[1], height / size[0])).astype(np.float32)
        if TOP_LEFT not in labels:
            points, labels = np.concatenate([points, np.zeros((1, 2), np.float32)]), np.append(labels, NO_POINT)
        given = {
            "point_coords": points[None],
            "point_labels": labels[None].astype(np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(size, np.float32),
        }
        masks, quality = (found[0] for found in self._decode(image, given))
        if len(masks) > 1:  # the first answer is for several points, the others for a single one, which may mean a part
            masks, quality = (masks[:1], quality[:1]) if len(labels) > 2 else (masks[1:], quality[1:])
        # the decoder's own enlarging keeps the proportions of the image with which it was exported
        logits = cv2.resize(masks[quality.argmax()], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)[:height, :width]
        return cv2.resize(logits, size[::-1], interpolation=cv2.INTER_LINEAR) > 0

    def _decode(self, image: np.ndarray, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self._run(self._decoder, self._answers, {"image_embeddings": self._embedding(image), **given})

    def _embedding(self, image: np.ndarray) -> np.ndarray:
        key = hashlib.sha256(image.tobytes() + str(image.shape).encode()).digest()
        with self._lock:  # a second request for the same image waits for the first
            if key not in self._kept:
                (self._kept[key],) = self._run(self._encoder, None, {self._image.name: self._input(image)})
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _run(self, session: Any, answers: list[str] | None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return session.run(answers, given)
        except Exception as error:  # its exceptions have no common class of their own
            raise InputError(f"{self.folder}: cannot compute a mask ({shorten(str(error))})") from error

    def _input(self, image: np.ndarray) -> np.ndarray:
        if self.efficient:
            return image.transpose(2, 0, 1)[None].astype(np.float32) / 255
        height, width = _inner_size(*image.shape[:2])
        small = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        if len(self._image.shape) == 3:  # `--use-preprocess`: the rest is in the file
            return small.astype(np.float32)
        padding = (0, SIDE - width, 0, SIDE - height)
        return F.pad(normalise(torch.from_numpy(small)), padding)[None].numpy()


def _inner_size(height: int, width: int) -> tuple[int, int]:
    scale = SIDE / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def _only_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise InputError(f"{folder}: expected one {pattern}, found {names_some(path.name for path in found) or 'none'}")
    return found[0]
