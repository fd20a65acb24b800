import os

import pytest
import torch

from utils import group
from utils.options import InputError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="several processes need Linux")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_process_has_the_gpu_of_its_local_rank(monkeypatch, device):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(group.dist, "init_process_group", lambda backend, timeout: None)
    monkeypatch.setattr(
        group, "choose_device", lambda name: torch.device("cuda" if name == "auto" else name)
    )
    assert group.Group(device).device == torch.device("cuda:1")


def test_one_gpu_is_not_for_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="--device cuda:1: several processes take a GPU each"):
        group.Group("cuda:1")
