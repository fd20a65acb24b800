import pytest
import torch
from torch.nn.functional import conv2d

from model import backend
from model.gates import activated

from .test_msconet import random_net

kernels = pytest.importorskip("model.kernels", reason="Triton is not there")


def cross(x, vertical, horizontal, bias):
    channels = x.shape[1]
    y = x + conv2d(x, vertical, bias, padding=(3, 0), groups=channels)
    return y + conv2d(x, horizontal, padding=(0, 3), groups=channels)


def same_padding(x, weight, bias):
    return conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def from_map(x, weight, bias):
    return kernels.from_map(x, weight, bias, x.dtype)


def last(update):
    """Of the cell state, which no stage follows, there is no gradient."""
    return lambda *arguments: update(*arguments)[1]


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MAP, MAPS = (2, 1, 9, 13), (2, 3, 9, 13)


@pytest.mark.parametrize(
    "case",
    [
        (from_map, same_padding, MAP, (3, 1, 7, 7), (3,)),
        (from_map, same_padding, (1, 1, 40, 3), (20, 1, 3, 3), (20,)),
        (kernels.to_map, same_padding, MAPS, (1, 3, 3, 3), (1,)),
        (kernels.to_map, same_padding, MAPS, (1, 3, 1, 1), (1,)),
        (kernels.cross, cross, MAPS, (3, 1, 7, 1), (3, 1, 1, 7), (3,)),
        (kernels.cross, cross, (1, 40, 5, 3), (40, 1, 7, 1), (40, 1, 1, 7), (40,)),
        (kernels.cell_update, activated, (2, 12, 9, 13), MAPS),
        (kernels.cell_update, activated, (2, 12, 9, 13), (1, 3, 1, 1)),
        (last(kernels.cell_update), last(activated), (2, 12, 9, 13), MAPS),
        (last(kernels.cell_update), last(activated), (2, 12, 9, 13), (1, 3, 1, 1)),
    ],
)
def test_each_equals_what_it_stands_for_with_its_gradients(case, monkeypatch):
    kernel, plain, *shapes = case
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    arguments = [torch.randn(shape, device=DEVICE).requires_grad_() for shape in shapes]
    found = kernels.with_gradients(kernel, arguments)
    expected = kernels.with_gradients(plain, [x.double() for x in arguments])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.float(), rtol=1e-4, atol=1e-4 * b.abs().max().item())


@pytest.mark.parametrize(
    "case",
    [
        (from_map, MAP, (3, 1, 7, 7), (3,)),
        (kernels.to_map, MAPS, (1, 3, 3, 3), (1,)),
        (kernels.to_map, MAPS, (1, 3, 1, 1), (1,)),
        (kernels.cross, MAPS, (3, 1, 7, 1), (3, 1, 1, 7), (3,)),
    ],
)
def test_a_gradient_lies_in_memory_as_its_weights_do(case):
    kernel, shape, *kinds, bias = case
    weights = [
        torch.empty(kind, device=DEVICE, memory_format=torch.channels_last).normal_()
        for kind in kinds
    ]
    weights = [weight.requires_grad_() for weight in (*weights, torch.zeros(bias, device=DEVICE))]
    kernel(torch.randn(shape, device=DEVICE), *weights).sum().backward()
    assert all(weight.grad.stride() == weight.stride() for weight in weights)


def test_a_kernel_that_is_wrong_is_not_used(monkeypatch):
    backend.use_kernels(DEVICE)
    assert backend._kernels is kernels
    monkeypatch.setattr(kernels, "to_map", lambda x, w, b: 1.1 * same_padding(x, w, b))
    with pytest.raises(RuntimeError, match="to_map is wrong on this GPU"):
        backend.use_kernels(DEVICE)
    assert backend._kernels is None


@pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU")
def test_the_network_computes_the_same_by_them(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net = random_net(0, stages=2, width=8).to(DEVICE, memory_format=torch.channels_last)
    images = torch.rand(2, 1, 64, 96, device=DEVICE)
    results = []
    try:
        for use in (None, DEVICE):
            backend.use_kernels(use)
            loss = sum(m.square().mean() for stage in net.stages(images) for m in stage)
            results.append((loss, *torch.autograd.grad(loss, net.parameters())))
    finally:
        backend.use_kernels(None)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())
