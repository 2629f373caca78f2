"""The network's parts against the paper's description, its configuration, and its ImageNet initialisation."""

import copy
import runpy
import sys

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import REAL_DATA, build_light_network

from model import STCN, NetworkConfig, VideoSegmenter, save_network
from model.fast import FusedBlock, describe_arithmetic
from model.modules import ASPP, ResBlock
from model.network import soft_aggregate
from model.objects import Present
from model.resnet import ResNetStages
from model.winograd import WinogradConv
from util.device import fastest_format
from util.errors import InputError


def test_soft_aggregation_by_hand():
    # p = 0.8 and 0.4: background 0.2 * 0.6 = 0.12; odds 0.12/0.88, 4, 2/3
    odds = torch.tensor([0.12 / 0.88, 4.0, 2 / 3])
    found = torch.softmax(soft_aggregate(torch.tensor([[0.8, 0.4]])), dim=1)
    torch.testing.assert_close(found, (odds / odds.sum())[None])


def all_slots(network: STCN, frames: torch.Tensor, masks: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """The training pass as if every slot held an object."""
    shown, logits, keys, values = valid[:, :, None, None], [], [], []
    features = [network.encode_key(frame) for frame in frames.unbind(1)]
    for t in range(1, frames.shape[1]):
        key, value = network.memorise(frames[:, t - 1], masks * shown, features[t - 1])
        keys.append(key)
        values.append(value)
        readout = network.read(torch.stack(keys, dim=1), torch.stack(values, dim=1), features[t].key)
        probabilities = torch.sigmoid(network.decode(readout, features[t])) * shown
        logits.append(torch.logit(torch.cat([(1 - probabilities).prod(1, keepdim=True), probabilities], 1), eps=1e-7))
        masks = torch.softmax(logits[-1], dim=1)[:, 1:]
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("arch", ["stcn", "stm"])
def test_training_computes_only_the_objects_that_are_there(arch, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # what is float32 here would hide differences
    network = build_light_network(arch=arch, value_backbone="resnet18").double().train()
    frames, masks = torch.randn(3, 3, 3, 32, 32, dtype=torch.float64), torch.zeros(3, 2, 32, 32, dtype=torch.float64)
    masks[:, 0, :16], masks[:, 1, 20:] = 1, 1
    valid = torch.tensor([[True, False], [True, True], [False, True]])
    gradients, results, computed = [], [], []
    for way in (network, lambda *clip: all_slots(network, *clip)):
        network.zero_grad()
        hook = network.value_encoder.stages.register_forward_hook(lambda module, args, out: computed.append(len(out[2])))
        logits = way(frames, masks, valid)
        hook.remove()
        torch.where(valid[:, None, :, None, None], logits[:, :, 1:], 0).square().mean().backward()
        results.append(logits.detach())
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    assert computed == [4, 4, 6, 6]
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, rtol=1e-7, atol=1e-10, msg=name)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", pytest.param("wide_resnet50_2", marks=pytest.mark.slow)])
def test_the_stages_and_their_gradients_are_torchvisions_up_to_res4(backbone):
    stages = ResNetStages(backbone).double().eval()
    resnet = torchvision.models.get_model(backbone, weights=None).double().eval()
    for norm in filter(lambda module: isinstance(module, torch.nn.BatchNorm2d), resnet.modules()):
        for x in (norm.running_mean, norm.bias.data, norm.running_var, norm.weight.data):
            x.uniform_(0.5, 1.5)
    theirs = {f"layer{n}": f"res{n + 1}" for n in (1, 2, 3)}
    names = {name: theirs.get(name.split(".")[0], "") + name[6:] if "layer" in name else name for name in resnet.state_dict()}
    kept = {name: ours for name, ours in names.items() if not name.startswith(("layer4", "fc"))}
    stages.load_state_dict({ours: resnet.state_dict()[name] for name, ours in kept.items()})
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(image))))
    for layer, found in zip((resnet.layer1, resnet.layer2, resnet.layer3), stages(image), strict=True):
        x = layer(x)
        torch.testing.assert_close(found, x)
    x.square().mean().backward()
    stages(image)[2].square().mean().backward()
    ours = dict(stages.named_parameters())
    for name, parameter in resnet.named_parameters():
        if name in kept:
            torch.testing.assert_close(ours[kept[name]].grad, parameter.grad, msg=name)


@pytest.mark.parametrize("width", [4, 5])
def test_a_residual_block_by_its_formula(width):
    block = ResBlock(5, width)
    assert isinstance(block.shortcut, torch.nn.Identity) == (width == 5)
    own, shared = torch.randn(6, 3, 6, 6), torch.randn(2, 2, 6, 6)  # two frames, three objects in each
    present = Present.of(torch.ones(2, 3, dtype=torch.bool), torch.device("cpu"))
    x = torch.cat([own, shared.repeat_interleave(3, dim=0)], dim=1)
    expected = block.shortcut(x) + block.conv2(F.relu(block.conv1(F.relu(x))))
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(block(own, shared, present), expected)
    torch.testing.assert_close(block(own, shared), expected)


def test_batch_norm_stays_frozen_in_training_and_its_affine_parameters_learn():
    network = build_light_network().train()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    network.encode_key(torch.randn(2, 3, 32, 32)).key.sum().backward()
    assert network.training
    assert not any(norm.training for norm in norms)
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert network.key_encoder.stages.bn1.weight.grad is not None


@pytest.mark.parametrize("fused", [True, False])
def test_the_copy_for_inference_computes_the_same_and_cannot_be_saved(fused, golden_network, tmp_path, monkeypatch):
    """With blocks of two convolutions and bottlenecks, and with Winograd's algorithm."""
    monkeypatch.setattr("model.fast.can_fuse", lambda *, half: fused)
    image, masks = torch.randn(1, 3, 32, 48), torch.rand(1, 2, 32, 48)
    fast = golden_network.for_inference()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    assert any(isinstance(module, FusedBlock) for module in fast.modules()) == fused
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in golden_network.modules())
    with torch.inference_mode():
        expected, found = golden_network.encode_key(image), fast.encode_key(image)
        pairs = [*zip(found, expected, strict=True)]
        pairs.append((fast.memorise(image, masks, found)[1], golden_network.memorise(image, masks, expected)[1]))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=0)
    with pytest.raises(ValueError, match="cannot be saved"):
        save_network(fast, tmp_path / "x.pth")


@pytest.mark.parametrize("pays", [False, True])
def test_wide_convolutions_use_winograd_in_float32_if_asked_for_or_where_it_pays(pays, monkeypatch):
    monkeypatch.setattr("model.fast.winograd_pays", lambda: pays)
    network = build_light_network(value_dim=256)
    wide = {"key_encoder.compression", *(f"decoder.compress.{name}" for name in ("shortcut", "conv1", "conv2"))}

    def transformed(network):
        return {name for name, module in network.named_modules() if isinstance(module, WinogradConv)}

    assert transformed(network.for_inference()) == wide
    assert not transformed(network)
    measured = network.for_inference(winograd=None)
    assert transformed(measured) == (wide if pays else set())
    assert describe_arithmetic(measured) == "float32" + " with Winograd's algorithm" * pays
    half = network.for_inference(amp=True)
    assert not transformed(half)
    assert describe_arithmetic(half) == "bfloat16"
    weights = [module.weight for module in half.modules() if isinstance(module, torch.nn.Conv2d)]
    assert all(weight.dtype == torch.bfloat16 for weight in weights)
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_gpus_convolve_float32_with_contiguous_channels():
    formats = [fastest_format(torch.device(name), half=half) for name in ("cpu", "cuda") for half in (False, True)]
    assert formats == [torch.channels_last] * 2 + [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 1, 1, 1), (3, 8, 3, 5), (1, 3, 30, 54), (2, 2, 13, 4), (1, 4, 50, 7)])
def test_winograd_convolves_as_a_direct_convolution_in_double_precision_does(shape):
    conv, x = torch.nn.Conv2d(shape[1], 5, 3, padding=1), torch.randn(shape)
    expected = copy.deepcopy(conv).double()(x.double())
    torch.testing.assert_close(WinogradConv(conv)(x).double(), expected, atol=1e-5, rtol=0)


def test_winograd_takes_a_part_of_the_input_channels_and_stays_in_float32_under_autocast():
    conv = torch.nn.Conv2d(8, 4, 3, padding=1)
    x = torch.randn(2, 3, 9, 10)
    expected = F.conv2d(x, conv.weight[:, 5:], None, padding=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = WinogradConv(conv).part(x, slice(5, None), None)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_key_projection_is_orthogonal_and_linear():
    weight = build_light_network(key_dim=8).key_encoder.projection.weight.detach().flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"key_backbone": "vgg16"}, "key_backbone: expected one of resnet18"),
        ({"value_backbone": "vgg16"}, "value_backbone: expected one of"),
        ({"similarity": "l1"}, "similarity: expected one of l2"),
        ({"key_dim": 0}, "key_dim: expected at least 1, found 0"),
        ({"value_dim": 100}, "value_dim: expected a multiple of 16, found 100"),
    ],
)
def test_a_configuration_out_of_range_is_named(option, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**option)


@pytest.mark.parametrize("damaged", [False, True])
def test_imagenet_weights_that_cannot_be_had_are_named_with_the_flag(damaged, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    if damaged:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half a download")
    with pytest.raises(InputError, match=rf"{path}: cannot .*--no_pretrained"):
        ResNetStages("resnet18", pretrained=True)


@pytest.fixture(scope="session")
def torch_home(tmp_path_factory):
    script = REAL_DATA.parent / "weights" / "make_torch_home.py"
    if not script.is_file():
        pytest.skip(f"no ImageNet weights at {script.parent}")
    home = tmp_path_factory.mktemp("torch_home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), str(home)])
        runpy.run_path(str(script), run_name="__main__")
    return home


def test_imagenet_weights_come_through_torch_home(torch_home, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(torch_home))
    network = STCN(NetworkConfig(), pretrained=True)
    for stages, name in ((network.key_encoder.stages, "resnet50"), (network.value_encoder.stages, "resnet18")):
        (path,) = (torch_home / "hub" / "checkpoints").glob(f"{name}-*.pth")
        weights = torch.load(path, weights_only=True)
        assert torch.equal(stages.conv1.weight[:, :3], weights["conv1.weight"])
        assert torch.equal(stages.res4[1].conv1.weight, weights["layer3.1.conv1.weight"])
    masks = network.value_encoder.stages.conv1.weight[:, 3:].detach().flatten(1)  # (64, 98)
    torch.testing.assert_close(masks @ masks.T, torch.eye(64), atol=1e-5, rtol=0)


def test_aspp_is_a_sum_over_dilated_neighbours():
    module = ASPP(8)
    torch.nn.init.normal_(module.out.weight)
    x = torch.randn(1, 8, 6, 7, generator=torch.Generator().manual_seed(0))
    branches = [module.point(x)]
    for conv, d in zip(module.dilated, (2, 4, 8), strict=True):
        padded = F.pad(x, (d, d, d, d))
        neighbours = torch.stack([padded[..., y : y + 6, x : x + 7] for y in (0, d, 2 * d) for x in (0, d, 2 * d)])
        branches.append(torch.einsum("kbchw,ock->bohw", neighbours, conv.weight.flatten(2)) + conv.bias[:, None, None])
    branches.append(module.mean(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, 6, 7))
    torch.testing.assert_close(module(x), x + module.out(torch.cat(branches, dim=1).relu()))


def test_a_network_with_aspp_starts_from_the_backbone_and_trains():
    plain, network = build_light_network(), build_light_network(aspp=True)
    network.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(network.encode_key(image).key, plain.encode_key(image).key)
    frames, masks = torch.randn(1, 2, 3, 32, 48), torch.ones(1, 1, 32, 48)
    network(frames, masks, torch.ones(1, 1, dtype=torch.bool)).square().mean().backward()
    assert network.key_encoder.aspp.out.weight.grad.any()


@pytest.mark.slow
@pytest.mark.parametrize("aspp", [False, True])
def test_the_wide_networks_of_the_ensemble_segment_frames_of_full_size(aspp):
    config = NetworkConfig(key_backbone="wide_resnet50_2", aspp=aspp)
    segmenter = VideoSegmenter(STCN(config).eval().for_inference())
    mask = torch.zeros(480, 854, dtype=torch.uint8)
    mask[100:300, 200:500] = 1
    frames = torch.randn(2, 3, 480, 854)
    segmenter.step(frames[0], mask)
    found = segmenter.step(frames[1])
    assert found.shape == (2, 480, 854)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(480, 854))
