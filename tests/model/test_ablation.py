import pytest
import torch

from model import build_model
from model.inference import accelerate
from model.soa import SOA

PARTS = ["nothing", "soa", "ddc", "gates"]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_left_trains_in_all_its_parts_and_is_accelerated(part):
    torch.manual_seed(0)
    net = build_model(stages=2, width=2, without=part)
    images = torch.rand(2, 1, 64, 64)
    sum(s.target.square().mean() + s.reconstruction.mean() for s in net.stages(images)).backward()
    assert all(p.grad is not None for p in net.parameters())
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
    net.eval()
    with torch.inference_mode():
        torch.testing.assert_close(
            accelerate(net).target(images), net.target(images), atol=1e-4, rtol=1e-4
        )


def test_what_each_part_holds():
    sizes = {}
    for part in PARTS:
        net = build_model(stages=1, width=2, without=part)
        assert any(isinstance(m, SOA) for m in net.modules()) == (part != "soa")
        sizes[part] = sum(p.numel() for p in net.parameters())
    channels = 2 * (2 + 4 + 8 + 16 + 32)  # of the DDC in encoder and decoder
    assert sizes["nothing"] - sizes["ddc"] == channels * (2 * (7 + 1) - (9 + 1))
    assert sizes["nothing"] - sizes["soa"] == 4 * 64 * (64 + 1)  # qkv and out at 64 channels
    gates = (4 * 9 + 4) + (16 * 4 * 9 + 16) + 4 + 4 + (4 * 9 + 1)  # lift, gates, cell, epsilon, out
    assert sizes["nothing"] - sizes["gates"] == gates


def test_without_gates_the_target_is_what_the_background_leaves():
    net = build_model(stages=2, width=1, without="gates").eval()
    image = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        first, second = net.stages(image)
    torch.testing.assert_close(first.target, image - first.background)
    torch.testing.assert_close(
        second.target, first.reconstruction - second.background + first.target
    )
