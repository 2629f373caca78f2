"""A video segmented with nothing but ONNX Runtime and NumPy: what to write again in another language.

python docs/onnx_example.py frames first.png      # JPEGs of one size, and the first one's mask with object numbers
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

FOLDER = "out/onnx"  # from: python scripts/export_onnx.py --output out/onnx
MEMORY_EVERY, TOP_K = 5, 20  # frames, positions
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

key_encoder, value_encoder, decoder = (
    onnxruntime.InferenceSession(f"{FOLDER}/{name}.onnx") for name in ("key_encoder", "value_encoder", "decoder")
)


def segment(frames: list[np.ndarray], first_mask: np.ndarray) -> np.ndarray:
    """Frames (H, W, 3) uint8 RGB and a label map (H, W) of objects 1 to n -> label maps (T, H, W)."""
    height, width = first_mask.shape
    top, left = -height % 16 // 2, -width % 16 // 2
    padding = (top, -height % 16 - top), (left, -width % 16 - left)  # to multiples of 16
    objects = np.arange(1, first_mask.max() + 1)
    keys, values, labels = [], [], []
    for t, frame in enumerate(frames):
        normalised = (frame / np.float32(255) - MEAN) / DEVIATION
        image = np.pad(normalised.transpose(2, 0, 1), ((0, 0), *padding))[None]  # (1, 3, 16 h, 16 w)
        key, f16_compressed, f16, f8, f4 = key_encoder.run(None, {"image": image})
        rows = key[0].reshape(key.shape[1], -1).T  # (h w, Ck)
        if t == 0:
            given = np.pad(first_mask, padding) == objects[:, None, None]
            probabilities = aggregate(given.astype(np.float32))
        else:
            read = read_memory(np.concatenate(keys), np.concatenate(values), rows)  # (h w, n Cv)
            readout = read.T.reshape(1, len(objects), -1, *key.shape[2:])
            inputs = {"readout": readout, "f16_compressed": f16_compressed, "f8": f8, "f4": f4}
            (logits,) = decoder.run(None, inputs)  # (1, n, 16 h, 16 w)
            probabilities = aggregate(1 / (1 + np.exp(-logits[0])))
        if t % MEMORY_EVERY == 0:
            inputs = {"image": image, "masks": probabilities[None, 1:], "f16": f16}
            (value,) = value_encoder.run(None, inputs)  # (1, n, Cv, h, w)
            keys.append(rows)
            values.append(value.reshape(-1, len(rows)).T)  # (h w, n Cv)
        labels.append(probabilities.argmax(axis=0)[top : top + height, left : left + width])
    return np.stack(labels)


def read_memory(keys: np.ndarray, values: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Keys (M, Ck), values (M, C) and query keys (Q, Ck) -> (Q, C): the most similar positions, weighted by a softmax."""
    similarity = (2 * query @ keys.T - (keys**2).sum(axis=1)) / np.float32(np.sqrt(keys.shape[1]))  # (Q, M), "l2"
    k = min(TOP_K, len(keys))
    best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    top = np.take_along_axis(similarity, best, axis=1)
    weights = np.exp(top - top.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return (weights[:, None] @ values[best])[:, 0]


def aggregate(probabilities: np.ndarray) -> np.ndarray:
    """(n, H, W) of each object on its own -> (n+1, H, W) that sum to 1, the background first."""
    background = np.prod(1 - probabilities, axis=0, keepdims=True)
    p = np.concatenate([background, probabilities]).clip(1e-7, 1 - 1e-7)
    odds = p / (1 - p)
    return odds / odds.sum(axis=0)


if __name__ == "__main__":
    from PIL import Image  # only to read the files

    paths = sorted(Path(sys.argv[1]).glob("*.jpg"))
    video, mask = [np.array(Image.open(path).convert("RGB")) for path in paths], np.array(Image.open(sys.argv[2]))
    print(f"segmenting {len(video)} frames of {mask.shape[0]}x{mask.shape[1]} with the networks in {FOLDER}")
    for path, found in zip(paths, segment(video, mask), strict=True):
        print(f"{path.name}: " + ", ".join(f"object {i} {np.sum(found == i)} pixels" for i in range(1, mask.max() + 1)))
