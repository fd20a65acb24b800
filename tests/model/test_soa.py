import torch

from model.soa import SOA


def test_constant_tokens_give_no_nan():
    soa = SOA(8)
    torch.nn.init.zeros_(soa.qkv.weight)
    torch.nn.init.zeros_(soa.qkv.bias)
    x = torch.zeros(1, 8, 4, 4, requires_grad=True)
    soa(x).sum().backward()
    assert x.grad.isfinite().all()
