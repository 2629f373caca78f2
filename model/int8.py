"""The ONNX files with convolutions in int8: smaller, and faster where there is no bfloat16 (docs/onnx.md)."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from model.inference import VideoSegmenter
from model.onnx import INSTALL, PARTS, RECORD, OnnxNetwork
from util.errors import InputError
from util.files import write_atomically

SIZE = 240  # pixels, the shorter side at which videos are followed
FEW = 8  # channels: what sees the image or makes the logits has fewer on one side
Clip = Iterable[tuple[np.ndarray, np.ndarray | None]]  # frames (H, W, 3) uint8 RGB, some with a mask (H, W) uint8


def quantise(source: str | Path, clips: Iterable[Clip], folder: str | Path, on_step: Callable[[], Any]) -> list[Path]:
    """Write the files of `export_onnx` in `source` to `folder` with convolutions in int8, each atomically.

    The network follows a few frames of each clip, at 240 pixels, and the largest and smallest values that its convolutions see
    there set their scales; weights have 7 bits, one scale for each channel, so that no sum overflows without VNNI.  What sees
    the image, makes the logits or has few channels otherwise stays float32.  `on_step` hears of each clip and of each file.
    Raises `InputError` as `OnnxNetwork`, or if there is nothing to follow.
    """
    network = _Listening(source)
    for clip in clips:
        segmenter = VideoSegmenter(network, size=SIZE, memory_every=2)
        for image, mask in clip:
            segmenter.step(image, mask)
        on_step()
    if not all(network.heard.values()):
        raise InputError("expected videos with an object in at least two frames, by which int8 is calibrated, found none")
    written = []
    for name in PARTS:
        content = _quantised(Path(source, f"{name}.onnx"), network.heard.pop(name))
        written.append(Path(folder, f"{name}.onnx"))
        write_atomically(written[-1], lambda file, content=content: file.write(content))
        on_step()
    return written


class _Listening(OnnxNetwork):
    """Keeps all that its parts are given."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self.heard: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in PARTS}

    def _run(self, name: str, *inputs: Tensor) -> list[Tensor]:
        arrays = [tensor.float().numpy().copy() for tensor in inputs]
        self.heard[name].append(dict(zip(PARTS[name].inputs, arrays, strict=True)))
        return super()._run(name, *inputs)


def _quantised(path: Path, inputs: list[dict[str, np.ndarray]]) -> bytes:
    """The content of a file's int8 copy."""
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise InputError(f"int8 needs the packages onnx and onnxruntime ({error}): {INSTALL}") from error

    class Reader(CalibrationDataReader):
        """Gives what ONNX Runtime asks for, one after the other."""

        left: Iterator[dict[str, np.ndarray]] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        channels = {weight.name: min(weight.dims[:2]) for weight in graph.initializer if len(weight.dims) == 4}
        stay = [node.name for node in graph.node if node.op_type == "Conv" and channels[node.input[1]] < FEW]
        quantize_static(
            prepared,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=stay,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        model = onnx.load(result)
    record = next(entry.value for entry in onnx.load(path, load_external_data=False).metadata_props if entry.key == RECORD)
    kept = [entry for entry in model.metadata_props if entry.key != RECORD]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=RECORD, value=record)
    return model.SerializeToString()
