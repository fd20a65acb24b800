import torch

from model.dbem import DBEM


def test_channels_double_five_times_and_come_back():
    dbem = DBEM(2).eval()
    inside = []
    dbem.bottleneck.register_forward_hook(lambda m, x, y: inside.append(x[0].shape))
    assert dbem(torch.rand(1, 1, 64, 96)).shape == (1, 1, 64, 96)
    assert inside == [(1, 64, 2, 3)]
