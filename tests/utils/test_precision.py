import pytest
import torch

from utils.options import InputError
from utils.precision import autocast, choose_precision, set_products

CPU = torch.device("cpu")


def test_precision_on_the_cpu():
    assert choose_precision("auto", CPU) == choose_precision("pytorch", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"
    with pytest.raises(InputError, match="needs a GPU"):
        choose_precision("fp16", CPU)
    with pytest.raises(InputError, match="half: expected one of auto, fp32"):
        choose_precision("half", CPU)


@pytest.mark.parametrize("precision, expected", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(precision, expected):
    with autocast(CPU, precision):
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == expected


def test_products_are_those_of_the_precision_set_last():
    for precision, products, convolutions in (
        ("tf32", "high", True),
        ("fp32", "highest", False),
        ("bf16", "high", True),
        ("pytorch", "highest", True),
    ):
        set_products(precision)
        assert torch.get_float32_matmul_precision() == products
        assert torch.backends.cudnn.allow_tf32 == convolutions
