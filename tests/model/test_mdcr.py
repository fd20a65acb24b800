import torch

from model.mdcr import DILATIONS, MDCR


def test_each_quarter_has_its_dilation():
    mdcr = MDCR(8).eval()
    seen = {}
    for j, branch in enumerate(mdcr.dilated):
        branch.register_forward_hook(lambda m, x, y, j=j: seen.__setitem__(j, y.detach()))
        torch.nn.init.ones_(branch[0].weight)
        torch.nn.init.zeros_(branch[0].bias)
    point = torch.zeros(1, 8, 48, 48)
    point[..., 24, 24] = 1
    mdcr(point)
    for j, dilation in enumerate(DILATIONS):
        rows = seen[j][0, 0].amax(1).nonzero().flatten().tolist()
        assert rows == [24 - dilation, 24, 24 + dilation]


def test_channel_i_of_the_quarters_makes_channels_4i_to_4i_plus_3():
    mdcr = MDCR(16).eval()
    mixed = []
    mdcr.out.register_forward_hook(lambda m, x, y: mixed.append(x[0].detach()))
    x = torch.rand(1, 16, 6, 6)
    changed = x.clone()
    changed[:, [2, 6, 10, 14]] += 5  # i = 2
    mdcr(x), mdcr(changed)
    difference = (mixed[1] - mixed[0]).abs().amax((0, 2, 3)).nonzero().flatten().tolist()
    assert difference and set(difference) <= {8, 9, 10, 11}
