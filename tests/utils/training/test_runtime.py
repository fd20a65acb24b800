import sys

import pytest
import torch

from utils.options import InputError
from utils.training import runtime
from utils.training.runtime import choose_runtime, largest_batch, memory_mib

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


@pytest.fixture
def gpu(monkeypatch):
    """A device that says it is a GPU of a compute capability, with Triton installed or not."""

    def pretend(capability, triton=True):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(runtime, "find_spec", lambda name: name if triton else None)
        return torch.device("cuda")

    return pretend


def chosen(device, **asked):
    found = choose_runtime(device, **asked)
    return found.precision, found.workers, found.graph, found.kernels


def test_what_a_device_is_fastest_with(gpu):
    assert chosen(CPU) == ("fp32", 0, False, False)
    assert chosen(gpu((9, 0))) == ("bf16", 4, True, True)
    assert chosen(gpu((9, 0)), world=2) == ("bf16", 4, False, True)
    assert chosen(gpu((9, 0), triton=False)) == ("bf16", 4, True, False)
    assert chosen(gpu((7, 5))) == ("fp16", 4, False, False)
    assert chosen(gpu((7, 5)), precision="fp32") == ("fp32", 4, True, False)
    off = {"workers": 0, "precision": "fp32", "graph": False, "kernels": False}
    assert chosen(gpu((9, 0)), **off) == ("fp32", 0, False, False)


@pytest.mark.parametrize(
    ("capability", "triton", "asked", "message"),
    [
        (None, False, {"kernels": True}, "--kernels: for a GPU"),
        (None, False, {"graph": True}, "--graph: for one GPU"),
        (None, False, {"precision": "fp16"}, "--precision fp16 needs a GPU"),
        ((9, 0), False, {"kernels": True}, "--kernels: needs the package triton"),
        ((9, 0), False, {"compiled": True}, "--compile: needs the package triton"),
        ((7, 5), True, {"kernels": True}, "needs a GPU of compute capability 8.0"),
        ((9, 0), True, {"precision": "fp16", "graph": True}, "not in fp16"),
        ((9, 0), True, {"world": 2, "graph": True}, "for one GPU"),
    ],
)
def test_what_a_device_cannot_do(gpu, capability, triton, asked, message):
    device = gpu(capability, triton) if capability else CPU
    with pytest.raises(InputError, match=message):
        choose_runtime(device, **asked)


def test_memory(monkeypatch):
    if sys.platform != "win32":
        assert 10 < memory_mib(CPU) < 10**6
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert memory_mib(CPU) is None
