import sys

import pytest
import torch

from utils.options import InputError
from utils.training.runtime import largest_batch, memory_mib

CPU = torch.device("cpu")


@pytest.mark.parametrize("room, expected", [(1, 1), (7, 4), (8, 8), (5000, 1024)])
def test_the_largest_batch_that_fits(room, expected):
    tried = []

    def step(size):
        tried.append(size)
        if size > room:
            raise torch.cuda.OutOfMemoryError

    assert largest_batch(step) == expected
    assert tried == [2**i for i in range(len(tried))]


def test_where_nothing_fits():
    def step(size):
        raise torch.cuda.OutOfMemoryError

    with pytest.raises(InputError, match="does not hold a batch of 2"):
        largest_batch(step, least=2)


def test_memory(monkeypatch):
    assert 10 < memory_mib(CPU) < 10**6
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert memory_mib(CPU) is None
