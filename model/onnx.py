"""The network as ONNX files, written from a checkpoint and run by ONNX Runtime (docs/onnx.md).

Each part that has weights is a file; memory (`model.memory`) and aggregation stay in PyTorch.
"""

import dataclasses
import importlib.util
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.checkpoint import digest, load_network
from model.memory import MemoryBank
from model.modules import Decoder, KeyFeatures
from model.network import NetworkConfig
from util.errors import InputError, shorten
from util.files import write_atomically
from util.guards import refuse_file_above
from util.progress import progress_bar

OPSETS = range(18, 26)  # what PyTorch 2.14 writes and ONNX Runtime 1.32 reads
OPSET = 20  # runtimes have read it since 2023, and nothing that the network uses has changed since
LARGEST = 2**31  # bytes of weights in a file, nearly: protobuf's limit
VERSION = 1  # of the record
RECORD = "stcn"  # the metadata entry that says which network a file belongs to; the same in all three
INSTALL = "pip install -e '.[onnx]'"


class Part(NamedTuple):
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


PARTS = {
    "key_encoder": Part(("image",), KeyFeatures._fields),
    "value_encoder": Part(("image", "masks", "f16"), ("values",)),
    "decoder": Part(("readout", "f16_compressed", "f8", "f4"), ("logits",)),
}
SHAPES = {  # of the inputs and outputs, all float32; n objects, h and w of the key vary from call to call
    "image": "1 3 16*h 16*w",
    "masks": "1 n 16*h 16*w",
    "key": "1 Ck h w",
    "f16_compressed": "1 Cv h w",
    "f16": "1 C16 h w",
    "f8": "1 C8 2*h 2*w",
    "f4": "1 C4 4*h 4*w",
    "values": "1 n Cv h w",
    "readout": "1 n Cv h w",
    "logits": "1 n 16*h 16*w",
}


def dynamic_axes(name: str) -> dict[int, str]:
    """The axes of an input or output that vary, with their lengths in terms of n, h and w."""
    return {axis: length for axis, length in enumerate(SHAPES[name].split()) if length[-1] in "nhw"}


def export_onnx(checkpoint: str | Path, folder: str | Path, *, opset: int = OPSET) -> list[Path]:
    """Write the network of a checkpoint as `key_encoder.onnx`, `value_encoder.onnx` and `decoder.onnx`, each atomically.

    Each file takes any height, width and number of objects (`SHAPES`) and says in its metadata which network it belongs to.
    Raises `InputError` when the checkpoint cannot be read or is too large, a file cannot be written, or the exporter is not
    installed.
    """
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"exporting needs the package {name}, which is not installed: {INSTALL}")
    folder = Path(folder)
    refuse_file_above(folder)
    network = load_network(checkpoint).requires_grad_(False)
    if network.config.arch != "stcn":
        raise InputError(f"{checkpoint}: expected an STCN network, found {network.config.arch}")
    record = {"version": VERSION, "config": dataclasses.asdict(network.config), "checkpoint": digest(checkpoint)}
    image, masks = torch.zeros(1, 3, 32, 48), torch.zeros(1, 2, 32, 48)  # no length is 1, which would stay fixed
    features = network.encode_key(image)
    _, values = network.memorise(image, masks, features)
    work = {
        "key_encoder": (network.key_encoder, (image,)),
        "value_encoder": (network.value_encoder, (image, masks, features.f16)),
        "decoder": (_FlatDecoder(network.decoder).eval(), (values, features.f16_compressed, features.f8, features.f4)),
    }
    for name, (module, _) in work.items():
        if (size := sum(4 * weight.numel() for weight in module.parameters())) > LARGEST:
            raise InputError(f"{checkpoint}: expected at most {LARGEST} bytes of weights in {name}.onnx, found {size}")
    contents: dict[Path, bytes] = {}
    with progress_bar(len(work), "files") as bar:
        for name, (module, example) in work.items():
            contents[folder / f"{name}.onnx"] = _serialised(module, example, PARTS[name], json.dumps(record), opset)
            bar.increment()
    for path, content in contents.items():
        write_atomically(path, lambda file, content=content: file.write(content))
    return list(contents)


class _FlatDecoder(nn.Module):
    """The decoder with those of the frame's features that it needs, one by one."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, readout: Tensor, f16_compressed: Tensor, f8: Tensor, f4: Tensor) -> Tensor:
        unused = torch.empty(0)
        return self.decoder(readout, KeyFeatures(unused, f16_compressed, unused, f8, f4))


def _serialised(module: nn.Module, example: tuple[Tensor, ...], part: Part, record: str, opset: int) -> bytes:
    """A file's content."""
    lengths = {letter: torch.export.Dim(letter, min=1) for letter in "nhw"}
    shapes = tuple({axis: _length(text, lengths) for axis, text in dynamic_axes(name).items()} for name in part.inputs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)  # that two axes have the same, as they should
        program: Any = torch.onnx.export(
            module,
            example,
            input_names=part.inputs,
            output_names=part.outputs,
            dynamic_shapes=shapes,
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    proto = program.model_proto
    proto.metadata_props.add(key=RECORD, value=record)
    for tensor in (*proto.graph.input, *proto.graph.output):
        for axis, text in dynamic_axes(tensor.name).items():
            dimension = tensor.type.tensor_type.shape.dim[axis]
            if dimension.HasField("dim_value"):  # the exporter does not complain when the code depends on a length
                raise RuntimeError(f"{tensor.name}: axis {axis} is fixed at {dimension.dim_value}, and should be {text}")
            dimension.dim_param = text  # in place of the exporter's names, which mean nothing
    return proto.SerializeToString()


def _length(text: str, lengths: dict[str, Any]) -> Any:
    """`16*h` -> 16 times the dimension h."""
    factor, _, letter = text.rpartition("*")
    return int(factor) * lengths[letter] if factor else lengths[letter]


def open_onnx(path: Path, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int | None = None) -> Any:
    """An ONNX file in ONNX Runtime; `providers` and `threads` as of `OnnxNetwork`, which raises `InputError` alike."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{path}: reading it needs the package onnxruntime ({error}): {INSTALL}") from error
    available = onnxruntime.get_available_providers()
    if missing := [name for name in providers if name not in available]:
        raise InputError(f"providers: expected some of {', '.join(available)}, found {', '.join(missing)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as PyTorch's threads (`util`)
    options.log_severity_level = 3  # errors; they are raised as well
    try:
        return onnxruntime.InferenceSession(path, options, providers=list(providers))
    except Exception as error:  # its exceptions have no common class of their own
        raise InputError(f"{path}: expected an ONNX file, cannot read it ({shorten(str(error))})") from error


class OnnxNetwork:
    """What `export_onnx` wrote, run by ONNX Runtime; `VideoSegmenter` takes it as its network.

        segmenter = VideoSegmenter(OnnxNetwork("out/onnx"), size=480)

    providers: of ONNX Runtime, the first choice first; whichever computes, tensors come from the CPU and go back there
    threads:   of the CPU; `None` for as many as PyTorch has

    Raises `InputError` when ONNX Runtime or a provider is not there, or the folder does not hold the three files of one
    network.
    """

    winograd = None  # as of a copy for inference: ONNX Runtime chooses by itself

    def __init__(
        self, folder: str | Path, *, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int | None = None
    ) -> None:
        records: dict[Path, str] = {}
        self._sessions: dict[str, Any] = {}
        for name in PARTS:
            path = Path(folder, f"{name}.onnx")
            if not path.is_file():
                raise InputError(f"{path}: no such file; python scripts/export_onnx.py writes it")
            session = open_onnx(path, providers, threads)
            found = tuple(entry.name for entry in session.get_inputs())
            if found != PARTS[name].inputs:
                raise InputError(f"{path}: expected inputs {', '.join(PARTS[name].inputs)}, found {shorten(', '.join(found))}")
            records[path] = session.get_modelmeta().custom_metadata_map.get(RECORD, "")
            self._sessions[name] = session
        self.config = _config_of(records)

    def parameters(self) -> Iterator[Tensor]:
        """An empty tensor, whose device is that of all inputs and outputs: the CPU."""
        yield torch.empty(0)

    def encode_key(self, image: Tensor) -> KeyFeatures:
        """As `STCN.encode_key`, for one image."""
        return KeyFeatures(*self._run("key_encoder", image))

    def memorise(self, image: Tensor, masks: Tensor, features: KeyFeatures) -> tuple[Tensor, Tensor]:
        """As `STCN.memorise`, for one image."""
        return features.key, self._run("value_encoder", image, masks, features.f16)[0]

    def memory_bank(self, **options: Any) -> MemoryBank:
        """As `STCN.memory_bank`."""
        return MemoryBank(similarity=self.config.similarity, **options)

    def decode(self, readout: Tensor, features: KeyFeatures) -> Tensor:
        """As `STCN.decode`, for one image."""
        return self._run("decoder", readout, features.f16_compressed, features.f8, features.f4)[0]

    def _run(self, name: str, *inputs: Tensor) -> list[Tensor]:
        arrays = (tensor.float().contiguous().numpy() for tensor in inputs)
        outputs = self._sessions[name].run(None, dict(zip(PARTS[name].inputs, arrays, strict=True)))
        return [torch.from_numpy(output) for output in outputs]


def _config_of(records: dict[Path, str]) -> NetworkConfig:
    """What the files' records agree on."""
    (first, expected), *others = records.items()
    for path, record in others:
        if record != expected:
            raise InputError(f"{path}: expected a part of the same network as {first.name}, found another's; export all again")
    try:
        content = json.loads(expected)
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, this code knows {VERSION}")
        return NetworkConfig(**content["config"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{first}: not written by scripts/export_onnx.py of this version: {shorten(str(error))}") from error
