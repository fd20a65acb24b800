import torch

from model.soa import SOA

from . import plain


def test_equals_attention_by_the_map_of_all_pairs_of_tokens():
    torch.manual_seed(0)
    soa = SOA(12).double()
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(soa(x), plain.soa(soa.state_dict(), x))


def test_constant_tokens_give_no_nan():
    soa = SOA(8)
    torch.nn.init.zeros_(soa.qkv.weight)
    torch.nn.init.zeros_(soa.qkv.bias)
    x = torch.zeros(1, 8, 4, 4, requires_grad=True)
    soa(x).sum().backward()
    assert x.grad.isfinite().all()
