import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model import build_model
from model.ablation import LEAVE_OUT
from model.ddc import DDC
from model.inference import _FoldedDDC, accelerate

from .test_msconet import random_net


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    stages=st.integers(1, 3),
    width=st.integers(1, 4),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 80), st.integers(1, 80)),
)
def test_it_is_the_same_function(seed, stages, width, shape):
    net = random_net(seed, stages=stages, width=width).double()
    n, h, w = shape
    images = torch.rand(n, 1, h, w, dtype=torch.float64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.inference_mode():
        fast = accelerate(net)
        for a, b in zip(fast.stages(images), net.stages(images), strict=True):
            for mine, theirs in zip(a, b, strict=True):
                torch.testing.assert_close(mine, theirs)
        torch.testing.assert_close(fast.target(images), net(images).target)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_kernel_for_gpus_is_the_same_function():
    folded = [m for m in accelerate(random_net(0, stages=1)).modules() if isinstance(m, _FoldedDDC)]
    assert len(folded) == 10
    for ddc in folded:
        x = torch.randn(1, len(ddc.kernel), 9, 12)
        one = torch.conv2d(x, ddc.kernel, ddc.vertical.bias, padding=3, groups=x.shape[1])
        torch.testing.assert_close(one, ddc(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("without", LEAVE_OUT)
def test_it_is_the_same_function_without_a_part_and_when_done_twice(without):
    net = random_net(0, stages=2, width=2, without=without).double()
    images = torch.rand(1, 1, 45, 64, dtype=torch.float64)
    with torch.inference_mode():
        for fast in (accelerate(net), accelerate(accelerate(net))):
            torch.testing.assert_close(fast.target(images), net(images).target)


@pytest.mark.parametrize("activation", [nn.LeakyReLU(), nn.GELU(), nn.Identity()])
def test_it_is_the_same_function_with_layers_of_others(activation):
    net = random_net(0, stages=2, width=2).double()
    for parent in list(net.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.ReLU):
                setattr(parent, name, activation)
            if isinstance(layer, DDC):
                channels = layer.vertical.in_channels
                own = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
                setattr(parent, name, own.double())
    images = torch.rand(1, 1, 45, 64, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(accelerate(net).target(images), net(images).target)


def test_other_weights_reach_the_kernel_for_gpus():
    fast, other = (accelerate(random_net(seed, stages=1, width=2)) for seed in (0, 1))
    fast.load_state_dict(other.state_dict())
    for mine, theirs in zip(fast.modules(), other.modules(), strict=True):
        if isinstance(mine, _FoldedDDC):
            assert torch.equal(mine.kernel, theirs.kernel)


def test_in_float32_logits_stay_within_1e_4():
    net = random_net(0, stages=5)
    images = torch.rand(1, 1, 96, 64)
    with torch.inference_mode():
        difference = accelerate(net).target(images) - net(images).target
    assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("without", LEAVE_OUT)
def test_nothing_of_batch_normalisation_is_left_and_training_goes_on(without):
    net = build_model(stages=2, width=2, without=without).train()
    fast = accelerate(net)
    assert not any("BatchNorm" in type(module).__name__ for module in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert net.training and all(parameter.requires_grad for parameter in net.parameters())


def test_the_target_alone_is_that_of_the_last_stage():
    net = random_net(1, stages=3, width=2)
    images = torch.rand(2, 1, 40, 33)
    assert torch.equal(net.target(images), net(images).target)
