"""Checkpoint files: reading, checking and writing them.

Ours is a dictionary with `format`, `version`, `config` (the fields of `NetworkConfig`) and `network` (the tensors by our
names); training adds its state (`training.state`).  Those of the paper's release are read as well (`model.released`).
"""

import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from model.modules import Network
from model.network import FORMAT, STCN, VERSION, NetworkConfig
from model.released import RELEASED, from_released, is_released
from model.stm import make_network
from util import files
from util.errors import InputError, names_some, shorten
from util.files import write_atomically

PLACES = ("network", "state_dict", "model_state_dict", "model")  # of a network in a checkpoint
LARGEST = 2**34  # bytes of a file
MOST_SHARED = 16  # times the file's size that its tensors may take, which share memory there
WRAPPERS = ("module.", "_orig_mod.")
KINDS: dict[str, type | tuple[type, ...]] = {
    "format": str,
    "version": int,
    "config": dict,
    "iteration": int,
    "arguments": dict,
    "amp_dtype": str,
    "optimizer": dict,
    "scaler": dict,
    "means": dict,
    "best": (int, float),
    "best_on": str,
    "random_state": Tensor,
    "averaged": dict,
}  # of the entries of a checkpoint of ours; a plain value is of exactly that type


def read(path: str | Path) -> dict[str, Any]:
    """The dictionary in a file written by `torch.save`, tensors on the CPU; no code in the file is run.

    A network that others put under `state_dict` or `model`, or saved from inside DataParallel or torch.compile, is under
    `network`, by its own names.  No two tensors share memory, nor do the numbers of one.

    Raises `InputError` naming the file when it is absent, damaged, or holds anything but a dictionary; or if it is ours, with
    entries of another kind than ours (`KINDS`).
    """
    path = Path(path)
    if not path.is_file():
        raise _missing(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of tensors that are refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage happens to trip over
        why = shorten((str(error).splitlines() or [type(error).__name__])[0], 160)
        if isinstance(error, pickle.UnpicklingError):  # of which PyTorch's explanation is a page long
            why = "it is something else, or holds code, which is never run"
        raise InputError(f"{path}: expected a checkpoint written by torch.save, cannot read it ({why})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a dictionary of tensors, found {type(content).__name__}")
    try:
        _refuse_odd_tensors(path, content)
        content = _without_sharing({str(key): value for key, value in content.items()}, set())
    except RecursionError as error:
        raise InputError(f"{path}: expected a dictionary of tensors, found one that is nested too deeply") from error
    if "format" in content:
        _check_kinds(path, content)
    place = next((name for name in PLACES if _is_state(content.get(name))), None)
    if place is None:
        return _without_wrappers(content)
    return {"network": _without_wrappers(content.pop(place)), **content}


def _missing(path: Path) -> InputError:
    how = f"; python scripts/data/download_model.py {path.stem} fetches it" if path.stem in RELEASED else ""
    return InputError(f"{path}: no such checkpoint{how}")


def _check_kinds(path: Path, content: dict[str, Any]) -> None:
    for name, kind in KINDS.items():
        if name in content and type(content[name]) not in (kind if isinstance(kind, tuple) else (kind,)):
            expected = "a number" if name == "best" else f"{name} as {kind.__name__}"  # type: ignore[union-attr]
            raise InputError(f"{path}: expected {expected}, found {shorten(content[name])}")
    try:
        json.dumps(content.get("arguments"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected arguments as numbers and texts, found others ({shorten(str(error))})") from error


def _refuse_odd_tensors(path: Path, content: dict[Any, Any]) -> None:
    """Raise `InputError` for nested tensors, and for tensors that take far more memory than the file has."""
    size = 0
    for tensor in _tensors(content):
        if tensor.is_nested:
            raise InputError(f"{path}: expected plain tensors, found a nested one")
        size += 0 if tensor.is_meta or tensor.layout is not torch.strided else tensor.numel() * tensor.element_size()
    if size > MOST_SHARED * max(path.stat().st_size, 1 << 20):
        raise InputError(f"{path}: expected tensors of about the file's size, found {size / 2**30:.1f} GiB that repeat")


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _tensors(entry)


def _without_sharing(value: Any, seen: set[int]) -> Any:
    """The same, but each tensor has its own memory, of which it uses each place once; else training would tie the weights."""
    if isinstance(value, dict):
        return {key: _without_sharing(entry, seen) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_sharing(entry, seen) for entry in value]
    if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta and not value.is_quantized:
        memory = value.untyped_storage()
        is_dense = value.is_contiguous() or (value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last))
        if memory.data_ptr() in seen or memory.nbytes() != value.numel() * value.element_size() or not is_dense:
            return value.clone(memory_format=torch.contiguous_format)
        seen.add(memory.data_ptr())
    return value


def _is_state(value: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _without_wrappers(state: dict[str, Any]) -> dict[str, Any]:
    """Tensors by the names that they have without DataParallel and torch.compile around the network."""
    for wrapper in WRAPPERS * 2:
        if state and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    return state


def digest(path: str | Path) -> str:
    """The SHA-256 of a checkpoint file, in hexadecimal; raises `InputError` when there is none, or one of absurd size."""
    if not Path(path).is_file():
        raise _missing(Path(path))
    if (size := Path(path).stat().st_size) > LARGEST:  # which would take minutes to read, or days
        raise InputError(f"{path}: expected a checkpoint of at most {LARGEST >> 30} GiB, found {size >> 30} GiB")
    return files.digest(path)


def load_network(path: str | Path, device: str | torch.device = "cpu") -> STCN:
    """The network in a checkpoint of ours or of the paper's release, float32, in evaluation mode; nothing is downloaded.
    A training checkpoint that averages its weights gives these.

    Raises `InputError`, one line, when the file is absent or damaged, or when its tensors are not those of the network
    that it says it holds.
    """
    return network_from(read(path), path, averaged=True).to(device)


def load_for_inference(path: str | Path, device: str | torch.device = "cpu", **options: Any) -> STCN:
    """`load_network(path, device).for_inference(**options)`: the same results up to rounding, faster.

    Raises `InputError` as `load_network` does.
    """
    return load_network(path, device).for_inference(**options)


def network_from(content: dict, path: str | Path, *, averaged: bool = False) -> STCN:
    """`load_network` for what is read already; `path` is for messages.  Without `averaged`, the weights as trained."""
    config, state = NetworkConfig(), content.get("network", content)
    if averaged and isinstance(content.get("averaged"), dict):
        names = (str(name) for name in content["averaged"])
        state = {name.removeprefix("module."): content["averaged"][name] for name in names if name.startswith("module.")}
    if not _is_state(state):
        raise InputError(f"{path}: expected an STCN network, found entries {names_some({str(key) for key in content})}")
    if "config" in content:
        config = _config(path, content)
    elif is_released(state):
        config = NetworkConfig(attention=any(".attention." in name for name in state))
        try:
            state = from_released(state)
        except RuntimeError as error:  # biases and means of different sizes
            raise InputError(f"{path}: not this STCN network: {str(error).splitlines()[0]}") from error
    return filled(partial(make_network, config), state, path)


def filled(make: Callable[[], Network], state: dict[str, Tensor], path: str | Path) -> Network:
    """The network that `make` returns with these tensors, float32, in evaluation mode.

    Raises `InputError` naming `path` when the tensors are not the network's, or not finite.
    """
    with torch.device("meta"):  # neither memory nor time for weights that are replaced at once
        network = make()
    _check_tensors(path, expected=network.state_dict(), found=state)
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if broken := infinite_tensors(state):
        raise InputError(f"{path}: expected finite weights, found others in {names_some(broken)}; its training went wrong")
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(True).eval()


def infinite_tensors(state: dict[str, Tensor]) -> list[str]:
    """The names of the tensors that hold infinities or what is no number."""
    return [name for name, tensor in state.items() if not tensor.isfinite().all()]


def save_network(network: Any, path: str | Path, *, half: bool = False) -> None:
    """Write the checkpoint of a network that has a `content`, atomically; with `half` its weights are float16.

    Raises `ValueError` for a network that `for_inference` made, `InputError` when the path cannot be written, or float16
    cannot hold the weights.
    """
    content = network.content()
    if half:
        content["network"] = halved(content["network"], path)
    write_atomically(path, lambda file: torch.save(content, file))


def halved(state: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """The tensors with float16 in place of float32.  Raises `InputError` naming `path` for those that it cannot hold."""
    state = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    if broken := infinite_tensors(state):
        told = f"these are not finite or too large: {names_some(broken)} (float16 ends at 65504)"
        raise InputError(f"{path}: not written, since {told}")
    return state


def _config(path: str | Path, content: dict) -> NetworkConfig:
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise InputError(
            f"{path}: expected format {FORMAT} version {VERSION}, "
            f"found {shorten(content.get('format'))} version {shorten(content.get('version'))}"
        )
    try:
        return NetworkConfig(**content["config"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: not a configuration that this code knows: {shorten(str(error), 200)}") from error


def _check_tensors(path: str | Path, *, expected: dict[str, Tensor], found: dict) -> None:
    both = [(name, found[name], like) for name, like in expected.items() if name in found]
    differences = {
        "missing": expected.keys() - found.keys(),
        "unexpected": found.keys() - expected.keys(),
        "shapes": {f"{name} {tuple(x.shape)} for {tuple(like.shape)}" for name, x, like in both if x.shape != like.shape},
        "tensors of another kind": {
            f"{name} {x.dtype} {x.layout} on {x.device}" for name, x, like in both if not _is_plain(x, like=like)
        },
    }
    if told := [f"{what} {names_some(names)}" for what, names in differences.items() if names]:
        raise InputError(f"{path}: not this STCN network: {'; '.join(told)}")


def _is_plain(tensor: Tensor, *, like: Tensor) -> bool:
    """Whether it holds numbers one by one, real ones where the network computes with them."""
    kind = (tensor.is_floating_point(), tensor.is_complex(), tensor.layout)
    return kind == (like.is_floating_point(), False, torch.strided) and not tensor.is_meta and not tensor.is_quantized
