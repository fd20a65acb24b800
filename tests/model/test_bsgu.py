import pytest
import torch

from model.bsgu import BSGU


def test_without_clutter_the_residual_is_the_target():
    bsgu = BSGU(4, first=True)
    torch.nn.init.zeros_(bsgu.epsilon)
    torch.nn.init.zeros_(bsgu.out.bias)
    d, b, t = torch.rand(3, 1, 1, 8, 8)
    target, cell = bsgu(d, b, t, None)
    torch.testing.assert_close(target, d - b + t)
    assert cell.shape == (1, 4, 8, 8)


@pytest.mark.parametrize("gate", range(3), ids="fio")
def test_what_each_gate_holds_back(gate):
    """f, shut, forgets the old cell; i takes in nothing new; o lets nothing out."""
    torch.manual_seed(0)
    bsgu = BSGU(4, first=False)
    torch.nn.init.zeros_(bsgu.out.bias)
    with torch.no_grad():
        bsgu.gates.bias[gate * 4 : gate * 4 + 4] = -1e4
    d, b, t = torch.rand(3, 1, 1, 8, 8)
    old = torch.randn(1, 4, 8, 8)
    target, cell = bsgu(d, b, t, old)
    if gate == 0:
        torch.testing.assert_close(cell, bsgu(d, b, t, 0 * old + 7)[1])
    elif gate == 1:
        f = bsgu.gates(bsgu.lift(d - b + t))[:, :4].sigmoid()
        torch.testing.assert_close(cell, f * bsgu.cell(old))
    else:
        torch.testing.assert_close(target, d - b + t)
