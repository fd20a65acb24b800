"""A training step."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from utils.options import InputError
from utils.training.distributed import TrainingGroup
from utils.training.recipes import RECIPES
from utils.training.runtime import Runtime
from utils.training.step import Replayed, Trainee, gradient, train_step


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_graph_takes_the_same_steps():
    recipe = replace(RECIPES["default"], stages=2, width=4)
    images = torch.rand(8, 2, 1, 64, 64)
    losses = []
    for graph in (False, True):
        runtime = Runtime(torch.device("cuda"), precision="fp32", graph=graph)
        runtime.prepare()
        trainee = Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=8)
        steps = [
            train_step(trainee, recipe, runtime, batch, (batch > 0.99).float()) for batch in images
        ]
        losses.append([values["loss"] for values in steps])
    assert trainee.graph.graph is not None
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_steps_that_are_queued_are_the_same():
    """As on a GPU, before the processor knows whether they are to be taken."""
    recipe = replace(RECIPES["default"], stages=1, width=4, crop_size=32)
    runtime = Runtime(torch.device("cpu"))
    images = torch.rand(4, 2, 1, 32, 32)
    images[2, 0, 0, 3, 3] = torch.nan
    results = []
    for queues in (False, True):
        trainee = Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=8)
        trainee.optimizer.param_groups[0]["fused"], trainee.queues = True, queues
        for batch in images:
            for module in trainee.net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()  # of the image that is no number
            train_step(trainee, recipe, runtime, batch, (batch > 0.99).float())
            results.append([p.clone() for p in trainee.parameters])
    assert all(torch.equal(*pair) for pair in zip(results[2], results[1], strict=True))
    assert not all(torch.equal(*pair) for pair in zip(results[1], results[0], strict=True))
    for before, queued in zip(results[:4], results[4:], strict=True):
        assert all(torch.equal(*pair) for pair in zip(before, queued, strict=True))
    steps = {int(state["step"]) for state in trainee.optimizer.state.values()}
    assert steps == {3}


def test_the_gradient_is_clipped_and_its_norm_is_that_before():
    runtime = Runtime(torch.device("cpu"))
    images = torch.rand(2, 1, 32, 32)
    for most, shrinks in ((1e-3, True), (1e6, False), (0.0, False)):
        recipe = replace(RECIPES["default"], stages=1, width=2, clip_norm=most)
        trainee = Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=8)
        norm = gradient(trainee, recipe, runtime, images, (images > 0.99).float())[1]
        left = torch.stack([p.grad.norm() for p in trainee.parameters]).norm()
        assert norm > 1e-2
        torch.testing.assert_close(left, torch.tensor(most) if shrinks else norm, rtol=1e-3, atol=0)


def test_a_compiler_is_asked_to_split_nothing_and_may_refuse(monkeypatch):
    from torch._dynamo import config

    recipe = replace(RECIPES["default"], stages=1, width=1)
    runtime = Runtime(torch.device("cpu"), compiled=True)
    with config.patch(optimize_ddp=True):  # monkeypatch would take the option away afterwards
        Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=8)
        assert not config.optimize_ddp

    def refuse(part):
        raise RuntimeError("Dynamo is not supported on Python 3.13+")

    monkeypatch.setattr(nn.Module, "compile", refuse)
    with pytest.raises(InputError, match="--compile: Dynamo is not supported .*; leave it out"):
        Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=8)


def test_a_state_holds_the_random_numbers_that_follow():
    trainee = Trainee(
        replace(RECIPES["default"], stages=1, width=2),
        Runtime(torch.device("cpu")),
        TrainingGroup.alone(),
        per_epoch=8,
    )
    state = trainee.state()
    following = torch.rand(3)
    trainee.load(trainee.net, state)
    assert torch.equal(torch.rand(3), following)


def test_the_processor_works_while_the_gpu_computes(monkeypatch):
    recipe = replace(RECIPES["default"], stages=1, width=4, crop_size=32)
    runtime = Runtime(torch.device("cpu"))
    trainee = Trainee(recipe, runtime, TrainingGroup.alone(), per_epoch=8)
    order = []

    class Values(list):
        def tolist(self):
            order.append("waits")
            return list(self)

    def queued(*arguments):
        order.append("queues")
        return Values([1.0, torch.nan, 1.0, 1.0, 1.0])

    monkeypatch.setattr("utils.training.step.gradient", queued)
    images = torch.rand(2, 1, 32, 32)
    train_step(trainee, recipe, runtime, images, images, lambda: order.append("works"))
    assert order == ["queues", "works", "waits"]


class Calls:
    """Stands for `Replayed`'s work on a GPU: which way each step went."""

    def __init__(self, monkeypatch, error=None):
        self.ways = []
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
        self.replayed = Replayed(lambda images, masks: images, [], torch.device("cpu"))
        monkeypatch.setattr(self.replayed, "_aside", lambda i, m: self.ways.append("eager"))

        def capture(images, masks):
            self.ways.append("capture")
            if error:
                raise error
            self.replayed.graph = self
            self.replayed.images, self.replayed.masks = images.clone(), masks.clone()
            self.replayed.values = self.replayed.images

        monkeypatch.setattr(self.replayed, "_capture", capture)

    def replay(self):
        self.ways.append("replay")


def test_it_is_captured_once_and_replayed_on_the_images_of_each_step(monkeypatch):
    calls = Calls(monkeypatch)
    for k in range(6):
        values = calls.replayed(torch.full((2,), float(k)), torch.zeros(2))
    assert calls.ways == ["eager"] * 3 + ["capture"] + ["replay"] * 3
    assert values.tolist() == [5, 5]


def test_what_cannot_be_captured_is_trained_without_a_graph(monkeypatch):
    calls = Calls(monkeypatch, RuntimeError("not permitted\nwhen capturing"))
    with pytest.warns(UserWarning, match="no CUDA graph of a step, .*: not permitted$"):
        for _ in range(6):
            calls.replayed(torch.zeros(2), torch.zeros(2))
    assert calls.ways == ["eager"] * 3 + ["capture"] + ["eager"] * 3


def test_too_little_memory_for_it_is_said(monkeypatch):
    calls = Calls(monkeypatch, torch.cuda.OutOfMemoryError())
    with pytest.raises(torch.cuda.OutOfMemoryError):
        for _ in range(6):
            calls.replayed(torch.zeros(2), torch.zeros(2))
