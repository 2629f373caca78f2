"""STM: each object with keys, an affinity and a memory of its own, against loops over objects."""

import pytest
import torch
from conftest import build_light_network, run_script

from model import STCN, STM, VideoSegmenter, load_network, save_network
from model.network import NetworkConfig, soft_aggregate
from model.plain import aggregate_plainly, decode_plainly, read_plainly

SIZE = (64, 80)


def build_stm(**config) -> STM:
    network = build_light_network(arch="stm", **config)
    assert isinstance(network, STM)
    return network


@pytest.fixture
def video() -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Nine normalised frames; objects 1 and 2 enter at the first, object 5 at the sixth."""
    first, later = torch.zeros(2, *SIZE, dtype=torch.uint8)
    first[8:40, 8:30], first[30:60, 40:70] = 1, 2
    later[0:20, 50:80] = 5
    return torch.randn(9, 3, *SIZE, generator=torch.Generator().manual_seed(1)), {0: first, 5: later}


@torch.inference_mode()
def segment_each_object_alone(network: STM, frames, masks, *, every: int, last: bool) -> list[torch.Tensor]:
    """Probabilities (N+1, H, W) of each frame: section 3.3's STM, written down for one object after the other."""
    encoder, ids, banks, results, newest = network.value_encoder, [], {}, [], 0
    temporary: dict = {}
    for t, image in enumerate(frames.split(1)):
        features = network.encode_key(image)
        probabilities = torch.ones(1, *image.shape[2:])
        if ids:
            logits = []
            for number in ids:
                keys, values = zip(*banks[number], *temporary.get(number, []), strict=True)
                keys, values = torch.cat(keys, dim=1), torch.cat(values, dim=1)[None]
                read = read_plainly(keys, values, features.key[0].flatten(1), 20).unflatten(2, features.key.shape[2:])
                logits.append(decode_plainly(network, read, features))
            probabilities = aggregate_plainly(torch.cat(logits).sigmoid())
        if t in masks:
            objects = {number: torch.where(masks[t] == 0, p, 0) for number, p in zip(ids, probabilities[1:], strict=True)}
            objects |= {number: (masks[t] == number).float() for number in masks[t].unique().tolist() if number}
            ids = list(objects)
            probabilities = aggregate_plainly(torch.stack([objects[number] for number in ids]))
        remembered = t in masks or t - newest >= every
        newest = t if remembered else newest
        if remembered or last:
            temporary = {}
            for row, number in enumerate(ids, start=1):
                mask, others = probabilities[row], probabilities[1:].sum(dim=0) - probabilities[row]
                f16 = encoder.stages(torch.cat([image[0], mask[None], others[None]])[None])[2]
                entry = (encoder.key_projection(f16)[0].flatten(1), encoder.value_projection(f16)[0].flatten(1))
                (banks.setdefault(number, []) if remembered else temporary.setdefault(number, [])).append(entry)
        results.append(probabilities)
    return results


@pytest.mark.parametrize(("last", "ready", "blocks"), [(False, False, True), (True, True, False)])
def test_the_segmenter_equals_loops_over_objects(last, ready, blocks, video):
    frames, masks = video
    network = build_stm(skip_blocks=blocks)
    expected = segment_each_object_alone(network, frames, masks, every=3, last=last)
    segmenter = VideoSegmenter(network.for_inference() if ready else network, memory_every=3, include_last=last)
    for t, (frame, probabilities) in enumerate(zip(frames, expected, strict=True)):
        found = segmenter.step(frame, masks.get(t))
        torch.testing.assert_close(found, probabilities, atol=2e-4, rtol=0)
    assert segmenter.object_ids == [1, 2, 5]


def test_an_unroll_equals_reading_frame_by_frame_and_gradients_reach_every_part(video):
    frames, masks = video[0][:3], torch.stack([video[1][0] == 1, video[1][0] == 2]).float()
    network = build_stm(skip_blocks=True)
    logits = network(frames[None], masks[None], torch.ones(1, 2, dtype=torch.bool))
    assert logits.shape == (1, 2, 3, *SIZE)
    bank = network.memory_bank(top_k=None)
    for t in (0, 1):
        features, following = (network.encode_key(frames[i : i + 1]) for i in (t, t + 1))
        key, value = network.memorise(frames[t : t + 1], masks[None], features)
        bank.add(key[0], value[0])
        found = soft_aggregate(torch.sigmoid(network.decode(bank.read(following.key[0])[None], following)))
        torch.testing.assert_close(found[0], logits[0, t], atol=1e-3, rtol=0)
        masks = torch.softmax(found, dim=1)[0, 1:]
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for name, p in network.named_parameters() if "res2.0.conv1" in name)
    assert network.value_encoder.key_projection.weight.grad.any()
    assert all(up.skip_conv[1].conv1.weight.grad.any() for up in (network.decoder.up_16_8, network.decoder.up_8_4))


def test_the_papers_stm_has_a_resnet_50_in_the_memory_encoder_and_a_residual_block_on_each_skip_connection(video):
    assert NetworkConfig.of(arch="stm") == NetworkConfig(arch="stm", value_backbone="resnet50", skip_blocks=True)
    assert NetworkConfig.of(arch="stm", value_backbone="resnet18").value_backbone == "resnet18"
    assert NetworkConfig.of() == NetworkConfig()
    network = build_stm(skip_blocks=True)
    up, skip = network.decoder.up_8_4, network.encode_key(video[0][:1]).f4
    x = torch.nn.functional.conv2d(skip, up.skip_conv[0].weight, up.skip_conv[0].bias, padding=1)
    block = up.skip_conv[1]
    torch.testing.assert_close(up.skip_conv(skip), x + block.conv2(block.conv1(x.relu()).relu()))


def test_a_checkpoint_says_which_network_it_holds_and_one_from_before_the_skip_blocks_has_none(tmp_path, light_file):
    network = build_stm()
    save_network(network, tmp_path / "new.pth")
    content = torch.load(tmp_path / "new.pth", weights_only=True)
    del content["config"]["skip_blocks"]
    torch.save(content, tmp_path / "old.pth")
    for name in ("new.pth", "old.pth"):
        loaded = load_network(tmp_path / name)
        assert isinstance(loaded, STM)
        assert loaded.config == network.config
    assert not isinstance(load_network(light_file), STM)
    with pytest.raises(ValueError, match="arch: expected stcn, found stm"):
        STCN(network.config)


def test_objects_neither_vanish_nor_enter_at_a_temporary_frame():
    bank = build_stm().memory_bank()
    with pytest.raises(ValueError, match="memory is empty"):
        bank.read(torch.zeros(8, 2, 2))
    bank.add(torch.randn(2, 8, 2, 2), torch.randn(2, 32, 2, 2))
    with pytest.raises(ValueError, match="expected 2 objects or more, found 1"):
        bank.add(torch.randn(1, 8, 2, 2), torch.randn(1, 32, 2, 2))
    with pytest.raises(ValueError, match="expected 2 objects, found 3"):
        bank.add(torch.randn(3, 8, 2, 2), torch.randn(3, 32, 2, 2), temporary=True)
    assert [of_object.frames for of_object in bank._banks] == [1, 1]


def test_it_is_trained_and_evaluated_by_the_same_scripts(demo_data, tiny_davis, tmp_path, capsys):
    small = ["--key_backbone", "resnet18", "--value_backbone", "resnet18", "--key_dim", 8, "--value_dim", 32, "--crop", 48]
    data = ["--static_root", demo_data / "static", "--yv_root", "none", "--davis_root", demo_data / "DAVIS/2017"]
    run = ["--no_pretrained", "-b", 1, "-i", 1, "--num_workers", 0, "--save_dir", tmp_path, "--id", "stm", "--device", "cpu"]
    assert run_script("train", "--arch", "stm", "--stage", 0, *small, *data, *run) == 0
    second = ["--stage", 3, "--load_network", tmp_path / "stm_s0.pth", "--crop", 48]
    assert run_script("train", *second, *data, *run) == 0
    flags = ["--davis_path", tiny_davis, "--size", 48, "--output", tmp_path / "out", "--device", "cpu"]
    assert run_script("eval_davis", "--model", tmp_path / "stm_s3.pth", *flags) == 0
    out = capsys.readouterr().out
    assert out.count("STM of resnet18") == 3  # each of the three says which network it runs
    assert "J&F-Mean" in out
    assert run_script("train", "--arch", "stcn", *second, *data, *run[:-4], "--id", "other", "--device", "cpu") == 2
    assert "--arch stcn: the network to start from has stm" in capsys.readouterr().err
