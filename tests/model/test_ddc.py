import torch

from model.ddc import DDC


def test_reaches_seven_pixels_along_rows_and_columns_only():
    ddc = DDC(1)
    torch.nn.init.ones_(ddc.vertical.weight)
    torch.nn.init.ones_(ddc.horizontal.weight)
    torch.nn.init.zeros_(ddc.vertical.bias)
    torch.nn.init.zeros_(ddc.horizontal.bias)
    point = torch.zeros(1, 1, 15, 15)
    point[0, 0, 7, 7] = 1
    cross = torch.zeros(15, 15)
    cross[4:11, 7] = 1
    cross[7, 4:11] = 1
    cross[7, 7] = 3  # itself, and once along each direction
    assert torch.equal(ddc(point)[0, 0].detach(), cross)
    assert torch.equal(ddc.as_cross(point)[0, 0].detach(), cross)


def test_one_convolution_equals_two():
    torch.manual_seed(0)
    ddc, x = DDC(4), torch.randn(2, 4, 9, 17)
    results = [
        (y, torch.autograd.grad(y.square().sum(), ddc.parameters()))
        for y in (ddc(x), ddc.as_cross(x))
    ]
    torch.testing.assert_close(*results)


def test_the_one_convolution_compiles():
    torch.manual_seed(0)
    ddc, x = DDC(4), torch.randn(2, 4, 9, 17)
    compiled = torch.compile(ddc.as_cross, backend="aot_eager", fullgraph=True)
    results = [
        (y, torch.autograd.grad(y.square().sum(), ddc.parameters()))
        for y in (ddc.as_cross(x), compiled(x))
    ]
    torch.testing.assert_close(*results)


def test_channels_do_not_mix():
    ddc = DDC(3)
    x = torch.rand(1, 3, 9, 9)
    changed = x.clone()
    changed[:, 1] += 1
    difference = (ddc(changed) - ddc(x)).abs().amax((0, 2, 3))
    assert difference[1] > 0 and difference[0] == difference[2] == 0
