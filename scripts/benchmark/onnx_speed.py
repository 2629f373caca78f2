"""PyTorch and ONNX Runtime on the CPU, in turns: each part of the network, and a whole video."""

import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from model import load_for_inference
from model.onnx import OnnxNetwork, export_onnx
from scripts.benchmark.against import segment_video
from scripts.benchmark.made_up import Stopwatch, made_up_mask, made_up_video
from util.tensors import normalise, padding_to_stride


@torch.inference_mode()
def measure_onnx(model: str | Path, *, size: tuple[int, int], objects: int, frames: int, repeats: int) -> str:
    """Milliseconds of each part, seconds of a made-up video, and at how many of its pixels the labels agree."""
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(model, folder)
        networks = {"PyTorch": load_for_inference(model), "ONNX Runtime": OnnxNetwork(folder)}
    picture = made_up_video(size)
    padded = F.pad(normalise(torch.from_numpy(picture(0))), padding_to_stride(*size))[None]
    masks = torch.rand(1, objects, *padded.shape[2:])
    features = networks["ONNX Runtime"].encode_key(padded)
    values = networks["ONNX Runtime"].encode_value(padded, masks, features)
    pictures, mask = [picture(t) for t in range(frames)], made_up_mask(size, range(1, 1 + objects))
    labels: dict[str, np.ndarray] = {}

    def video(way: str) -> None:
        labels[way] = segment_video(networks[way], pictures, mask)

    work = {
        "key encoding": lambda way: networks[way].encode_key(padded),
        "value encoding": lambda way: networks[way].encode_value(padded, masks, features),
        "decoding": lambda way: networks[way].decode(values, features),
        f"a video of {frames} frames": video,
    }
    lines = [f"{'milliseconds':<24}{'PyTorch':>10}{'ONNX Runtime':>14}{'ratio':>7}   {size[0]}x{size[1]}, {objects} objects"]
    for name, run in work.items():
        ways = {way: lambda turn, way=way, run=run: run(way) for way in networks}
        ours, theirs = Stopwatch(cpu, warmup=1).compare(ways, repeats, name)
        lines.append(f"{name:<24}{1000 * ours:>10.1f}{1000 * theirs:>14.1f}{ours / theirs:>7.2f}")
    equal = 100 * np.mean(labels["PyTorch"] == labels["ONNX Runtime"])
    return "\n".join([*lines, f"medians of {repeats}; the video's labels are equal at {equal:.3f} % of the pixels"])
