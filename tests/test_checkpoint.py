"""Checkpoint files: ours, the paper's release, conversions between them, and invalid ones."""

import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import GOLDEN, build_light_network

from model import NetworkConfig, checkpoint, load_network, save_network
from model.released import from_released, to_released
from training.state import RunningMeans, _check_moments
from util.distributed import Processes
from util.errors import InputError

STEM = "value_encoder.conv1.weight"


def assert_same_tensors(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def conv_and_batch_norm_names(state: dict) -> list[tuple[str, str]]:
    """The convolutions with a bias in the value ResNet of a released file, and the batch norms after them."""
    convs = [
        name.removesuffix(".bias")
        for name, tensor in state.items()
        if name.startswith(("value_encoder.conv1", "value_encoder.layer"))
        and name.endswith(".bias")
        and state[name.replace(".bias", ".weight")].dim() == 4
    ]
    return [(c, c.replace("downsample.0", "downsample.1").replace("conv", "bn")) for c in convs]


def test_a_bias_before_batch_norm_is_folded_exactly(released_state):
    pairs = conv_and_batch_norm_names(released_state)
    assert len(pairs) == 15  # a stem, twelve 3x3, two shortcuts
    ours = from_released(released_state)
    folded = to_released(ours)
    for conv, norm in pairs:
        weight = released_state[f"{conv}.weight"].double()
        x = torch.randn(1, weight.shape[1], 9, 9, dtype=torch.double)

        def run(state, x=x, weight=weight, conv=conv, norm=norm):
            x = F.conv2d(x, weight, state[f"{conv}.bias"].double())
            return F.batch_norm(x, *(state[f"{norm}.{n}"].double() for n in ("running_mean", "running_var", "weight", "bias")))

        assert released_state[f"{conv}.bias"].abs().max() > 0
        assert not folded[f"{conv}.bias"].any()
        torch.testing.assert_close(run(folded), run(released_state), atol=1e-5, rtol=0)


def test_conversion_there_and_back_keeps_the_network(released_file, golden_network, script, tmp_path):
    ours, released = tmp_path / "ours.pth", tmp_path / "released.pth"
    assert script("convert_weights", released_file, ours) == 0
    assert_same_tensors(load_network(ours).state_dict(), golden_network.state_dict())
    assert script("convert_weights", ours, released, "--to", "released", "--half") == 0
    plain = torch.load(released, weights_only=True)
    assert {name: list(t.shape) for name, t in plain.items()} == json.loads((GOLDEN / "checkpoint_keys.json").read_text())
    assert {t.dtype for t in plain.values() if t.is_floating_point()} == {torch.float16}
    again = load_network(released)
    half = {name: x.half().float() if x.is_floating_point() else x for name, x in golden_network.state_dict().items()}
    assert_same_tensors(again.state_dict(), half)
    assert all(p.requires_grad for p in again.parameters())


def test_another_architecture_cannot_become_a_released_file(light_file, script, tmp_path, capsys):
    assert script("convert_weights", light_file, tmp_path / "released.pth", "--to", "released") == 2
    assert not list(tmp_path.iterdir())
    error = capsys.readouterr().err
    assert str(light_file) in error
    assert "resnet18" in error


def test_a_stage_0_stem_gets_a_filter_of_zeros_for_the_other_objects(released_state):
    content = {**released_state, STEM: released_state[STEM][:, :4]}
    weight = checkpoint.network_from(content, "stage0.pth").value_encoder.stages.conv1.weight
    assert torch.equal(weight[:, :4], released_state[STEM][:, :4])
    assert weight.shape[1] == 5
    assert not weight[:, 4].any()


def test_a_released_training_checkpoint_is_read(released_state, golden_network):
    content = {"it": 3, "network": released_state, "optimizer": {"state": {}, "param_groups": []}, "scheduler": {}}
    assert_same_tensors(checkpoint.network_from(content, "x.pth").state_dict(), golden_network.state_dict())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", ""])
@pytest.mark.parametrize("place", [None, "network", "state_dict", "model"])
def test_a_network_is_read_from_inside_what_others_wrap_around_it(place, prefix, tmp_path):
    """Here with small tensors; whose network they are is asked later."""
    state = {f"{prefix}{name}": torch.ones(2) for name in ("key_encoder.a", "decoder.b")}
    torch.save(state if place is None else {"epoch": 3, place: state}, tmp_path / "wrapped.pth")
    found = checkpoint.read(tmp_path / "wrapped.pth")
    assert found.get("network", found).keys() == {"key_encoder.a", "decoder.b"}
    assert found.get("epoch", 3) == 3


def test_our_checkpoints_carry_their_configuration(tmp_path):
    network = build_light_network(similarity="cosine", key_dim=5, value_dim=48, attention=False)
    save_network(network, tmp_path / "net.pth")
    loaded = load_network(tmp_path / "net.pth")
    assert loaded.config == network.config
    assert not loaded.training
    assert_same_tensors(loaded.state_dict(), network.state_dict())


def test_loading_downloads_nothing(light_file, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download was asked for")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    load_network(light_file)


class Stranger:
    """What no checkpoint should hold."""


def assert_told_in_one_line(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_network(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello\n", "expected a checkpoint written by torch.save"),
        (b"", "expected a checkpoint written by torch.save"),
        (pickle.dumps(Stranger()), "expected a checkpoint written by torch.save"),
        ([1, 2], "expected a dictionary of tensors, found list"),
        ({"epoch": 3}, "found entries epoch"),
        ({"conv1.weight": torch.zeros(3)}, "missing .* and .* more; unexpected conv1.weight"),  # a ResNet
    ],
)
def test_a_file_of_something_else_is_told_in_one_line(content, message, tmp_path):
    path = tmp_path / "wrong.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    assert_told_in_one_line(path, message)


BIAS = "decoder.prediction.bias"


@pytest.mark.parametrize(
    ("where", "name", "value", "message"),
    [
        ("", "version", 9, "expected format stcn version 1, found stcn version 9"),
        ("", "version", torch.ones(3), "expected version as int"),
        ("", "version", True, "expected version as int"),
        ("", "format", torch.ones(3), "expected format as str"),
        ("", "config", torch.ones(3), "expected config as dict"),
        ("", "arguments", {"lr": torch.ones(2)}, "expected arguments as numbers and texts"),
        ("", "averaged", 3, "expected averaged as dict"),
        ("", "best", "good", "expected a number"),
        ("config", "colour", 1, "not a configuration that this code knows: .*colour"),
        ("config", "key_backbone", "vgg", "key_backbone: expected one of"),
        ("config", "key_dim", True, "key_dim: expected int"),
        ("config", "aspp", torch.zeros(3), "aspp: expected bool"),
        ("config", "similarity", ["l2"], "similarity: expected str"),
        ("network", BIAS, None, f"missing {BIAS}"),
        ("network", "head.weight", torch.zeros(1), "unexpected head.weight"),
        ("network", BIAS, torch.zeros(2), rf"shapes {BIAS} \(2,\) for \(1,\)"),
        ("network", "k" * 100_000, torch.ones(1), "unexpected kkk"),
    ],
)
def test_a_wrong_entry_is_told_in_one_short_line(where, name, value, message, light_file, tmp_path):
    """`None` is an entry that is not there."""
    content = torch.load(light_file, weights_only=True)
    part = content[where] if where else content
    part[name] = value
    if value is None:
        del part[name]
    torch.save(content, tmp_path / "a.pth")
    assert_told_in_one_line(tmp_path / "a.pth", message)


def test_the_released_variant_without_attention_loads_and_goes_straight_through(released_state, script, tmp_path):
    state = {name: tensor for name, tensor in released_state.items() if ".attention." not in name}
    torch.save(state, tmp_path / "plain.pth")
    network = load_network(tmp_path / "plain.pth")
    assert network.config == NetworkConfig(attention=False)
    fusion = network.value_encoder.fusion
    value, key = torch.rand(1, 256, 2, 3), torch.rand(1, 1024, 2, 3)
    torch.testing.assert_close(fusion(value, key), fusion.block2(fusion.block1(value, key)))
    assert script("convert_weights", tmp_path / "plain.pth", tmp_path / "back.pth", "--to", "released") == 0
    assert torch.load(tmp_path / "back.pth", weights_only=True).keys() == state.keys()


def test_a_conversion_replaces_nothing_unless_asked_and_never_what_it_reads(light_file, script, tmp_path, capsys):
    target = tmp_path / "ours.pth"
    target.write_bytes(b"mine")
    assert script("convert_weights", light_file, target) == 2
    assert f"{target}: already exists; --overwrite replaces it" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    assert script("convert_weights", light_file, target, "--overwrite") == 0
    before = target.read_bytes()
    link = tmp_path / "link.pth"
    link.symlink_to(target)
    assert script("convert_weights", target, link, "--half", "--overwrite") == 2
    assert "would replace" in capsys.readouterr().err
    assert target.read_bytes() == before


def _stride_0(content: dict) -> None:
    name, weight = next((name, x) for name, x in content["network"].items() if x.ndim == 4)
    content["network"][name] = weight[:1, :1, :1, :1].expand(weight.shape)


def _tied(content: dict) -> None:
    by_shape: dict = {}
    content["network"] = {name: by_shape.setdefault(x.shape, x) for name, x in content["network"].items()}


@pytest.mark.parametrize("change", [_stride_0, _tied])
def test_every_weight_has_its_own_memory(change, tmp_path):
    save_network(build_light_network(), tmp_path / "a.pth")
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "a.pth")
    state = load_network(tmp_path / "a.pth").state_dict()
    assert len({x.untyped_storage().data_ptr() for x in state.values()}) == len(state)
    assert all(torch.equal(x, content["network"][name]) for name, x in state.items())
    for x in state.values():
        x.add_(1)  # fails where one number has several places


def test_a_file_of_absurd_size_is_no_checkpoint(tmp_path):
    with open(tmp_path / "a.pth", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"a.pth: expected a checkpoint of at most 16 GiB, found 1024 GiB$"):
        checkpoint.digest(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("conv1.weight", lambda: torch.zeros(1).expand(10**12), "of about the file's size, found 3725.3 GiB that repeat"),
        ("conv1.weight", lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "found a nested one"),
        ("num_batches_tracked", lambda: torch.quantize_per_tensor(torch.tensor(1.0), 0.1, 0, torch.qint8), "torch.qint8"),
    ],
)
def test_tensors_that_cannot_be_used_are_one_line(name, tensor, message, light_file, tmp_path):
    content = torch.load(light_file, weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such tensors are new or old to PyTorch
        content["network"][next(each for each in content["network"] if each.endswith(name))] = tensor()
        torch.save(content, tmp_path / "a.pth")
    assert_told_in_one_line(tmp_path / "a.pth", message)


@pytest.mark.parametrize(
    "change",
    [
        {"exp_avg": torch.tensor([torch.nan, 0])},
        {"exp_avg": torch.zeros(3)},
        {"exp_avg_sq": torch.tensor([-1.0, 0])},
        {"step": torch.tensor(-1.0)},
        {"step": 3},
        {"exp_avg": torch.zeros(2, dtype=torch.int64)},
    ],
)
def test_moments_that_are_not_adams_are_refused(change):
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    good = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    _check_moments({0: good}, parameters)
    _check_moments({}, parameters)
    for moments in ({0: good | change}, {1: good}, {"0": good}):
        with pytest.raises((ValueError, AttributeError)):
            _check_moments(moments, parameters)


@pytest.mark.parametrize(
    "state", [{"rows": torch.zeros(2, 1, 2)}, {"rows": torch.zeros(2, 2)}, {"nonfinite": "3"}, {"nonfinite": -1}]
)
def test_means_of_another_form_are_refused(state):
    means = RunningMeans(("loss/total", "iou"), Processes())
    good = {"rows": torch.zeros(4, 2, 2), "nonfinite": 0}
    means.load_state_dict(good)
    with pytest.raises(ValueError, match="expected"):
        means.load_state_dict(good | state)
