import copy

import pytest
import torch
from torch import nn

from model.recompute import normalised, recomputed


def test_only_the_arguments_are_kept():
    x = torch.randn(4, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = recomputed(lambda x: x.sin().cos().exp().tanh(), x)
    assert all(t.data_ptr() == x.data_ptr() for t in kept if t.numel())
    y.sum().backward()
    expected = torch.autograd.grad(x.sin().cos().exp().tanh().sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
def test_running_statistics_are_updated_once(training, momentum):
    torch.manual_seed(0)
    bn, after = nn.BatchNorm2d(3, momentum=momentum).train(training), nn.Conv2d(3, 2, 3)
    nn.init.normal_(bn.weight)
    twin = copy.deepcopy(bn)
    x = torch.randn(4, 3, 6, 6)
    gradients = []
    for norm, function in ((bn, normalised), (twin, lambda bn, f, x: f(bn(x)))):
        copied = x.clone().requires_grad_()
        for _ in range(3):
            y = function(norm, nn.Sequential(nn.ReLU(), after), copied)
            y.square().sum().backward()
        gradients.append((copied.grad, norm.weight.grad, norm.bias.grad))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    for name, value in bn.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name
