import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model import gates
from model.layout import MapConv2d


def worded(r, carried, lift, gate, out, epsilon):
    """The equations, one convolution after the other."""
    f, i, o, g = gate(lift(r)).chunk(4, dim=1)
    cell = f.sigmoid() * carried + i.sigmoid() * g.tanh()
    return cell, out(epsilon.view(1, -1, 1, 1) * o.sigmoid() * cell.tanh())


def by(update):
    def way(r, carried, lift, gate, out, epsilon):
        cell, passed = update(r, carried, lift.weight, lift.bias, gate.weight, gate.bias)
        return cell, out(passed, epsilon)

    return way


WAYS = (gates.gate_update, by(gates._composed_update), by(gates._worded_update))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 3),
    channels=st.integers(1, 5),
    height=st.integers(3, 40),
    width=st.integers(3, 40),
    first=st.booleans(),
    block=st.integers(1, 900),
)
def test_all_ways_equal_the_equations_with_their_gradients(
    seed, n, channels, height, width, first, block
):
    torch.manual_seed(seed)
    modules = (
        nn.Conv2d(1, channels, 3, padding=1),
        nn.Conv2d(channels, 4 * channels, 3, padding=1),
        MapConv2d(channels, 1, 3, padding=1),
    )
    for module in modules:
        module.double()
    shape = (1, channels, 1, 1) if first else (n, channels, height, width)
    tensors = [torch.randn(s).double() for s in ((n, 1, height, width), shape, (channels,))]
    r, carried, epsilon = (tensor.requires_grad_() for tensor in tensors)
    arguments = (r, carried, *modules, epsilon)
    inputs = (r, carried, epsilon, *(p for module in modules for p in module.parameters()))
    weights = [torch.randn(n, c, height, width).double() for c in (channels, 1)]

    def values_and_gradients(update):
        maps = update(*arguments)
        loss = sum((weight * m).sum() for weight, m in zip(weights, maps, strict=True))
        return *maps, *torch.autograd.grad(loss, inputs)

    expected = values_and_gradients(worded)
    before, gates._BLOCK = gates._BLOCK, block
    try:
        for way in WAYS:
            for a, b in zip(values_and_gradients(way), expected, strict=True):
                torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)
    finally:
        gates._BLOCK = before
