import torch

from model.layout import FromMapConv2d, MapConv2d, channels_last

from .test_msconet import random_net


def test_convolutions_go_on_in_channels_last():
    maps = torch.rand(2, 1, 8, 12)
    assert torch.equal(channels_last(maps), maps)
    conv = torch.nn.Conv2d(1, 4, 3, padding=1)
    assert conv(channels_last(maps)).stride() == (4 * 8 * 12, 1, 4 * 12, 4)


def test_maps_are_float32_under_autocast():
    conv = MapConv2d(4, 1, 3)
    x = 1 + torch.rand(1, 4, 8, 8) / 1000  # bf16 knows none of these differences
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    torch.testing.assert_close(found, conv(x))
    torch.testing.assert_close(conv(x, torch.ones(4)), conv(x))
    torch.testing.assert_close(
        conv(x, torch.arange(4.0)), conv(x * torch.arange(4.0).view(1, 4, 1, 1))
    )


def test_convolutions_from_maps_see_small_differences_under_autocast():
    conv = FromMapConv2d(1, 4, 3, padding=1)
    torch.nn.init.zeros_(conv.bias)
    conv.weight.data -= conv.weight.mean((2, 3), keepdim=True)  # differences of neighbours
    x = 1 + torch.rand(1, 1, 8, 8) / 1000  # bf16 knows none of these
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(
        found[..., 1:-1, 1:-1].float(), conv(x)[..., 1:-1, 1:-1], rtol=0.01, atol=1e-6
    )


def test_the_network_under_autocast():
    net = random_net(3, stages=2, width=4)
    images = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        exact = net(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = net(images)
    assert all(m.dtype == torch.float32 for m in found)
    for a, b in zip(found, exact, strict=True):
        assert (a - b).abs().max() < 0.02 * b.abs().max()
