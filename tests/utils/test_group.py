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


@pytest.mark.parametrize("variables", [{"RANK": "1"}, {"RANK": "x", "WORLD_SIZE": "1"}])
def test_a_rank_without_others_is_of_something_else(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert group.Group("cpu").leads


@pytest.mark.parametrize("world", ["2", "0", "many", ""])
def test_several_processes_need_their_launcher(monkeypatch, world):
    monkeypatch.setenv("WORLD_SIZE", world)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=f"WORLD_SIZE={world} in the environment"):
        group.Group("cpu")


def test_one_gpu_is_not_for_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="--device cuda:1: several processes take a GPU each"):
        group.Group("cuda:1")
