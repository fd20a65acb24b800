import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import build_model, from_published

from . import plain
from .fill import fill

DATA = Path(__file__).parents[1] / "data"
REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "golden.npz"


def random_net(seed, **sizes):
    """A network whose every entry is random, batch statistics and epsilon included."""
    torch.manual_seed(seed)
    net = build_model(**sizes).eval()
    state = net.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias", "initial_cell")):
            value.normal_(0, 0.1)
        elif name.endswith("epsilon") or (name.endswith("weight") and value.ndim == 1):
            value.uniform_(0.5, 1.5)
    net.load_state_dict(state)
    return net


@pytest.mark.parametrize("file", [DATA / "golden.npz", REFERENCE], ids=["copy", "all"])
def test_golden_maps_of_the_published_implementation(file):
    if not file.exists():
        pytest.skip(f"{file} is not here")
    shapes = json.loads((DATA / "published_checkpoint.json").read_text())
    net = from_published({k: torch.from_numpy(v) for k, v in fill(shapes).items()})
    cells = []
    net.decoupling[-1].register_forward_hook(lambda module, inputs, output: cells.append(output[3]))
    golden = np.load(file)
    compared = 0
    for case in {name.split("/")[0] for name in golden}:
        with torch.inference_mode():
            stages = list(net.stages(torch.from_numpy(golden[f"{case}/input"])))
        ours = {"target_logits": stages[-1].target, "reconstruction": stages[-1].reconstruction}
        ours["cell"] = cells.pop()
        for k, maps in enumerate(stages, start=1):
            ours[f"stage{k}/background"] = maps.background
            ours[f"stage{k}/target_logits"] = maps.target
            ours[f"stage{k}/reconstruction"] = maps.reconstruction
        for name in golden:
            if name.startswith(f"{case}/") and not name.endswith("/input"):
                torch.testing.assert_close(
                    ours[name.removeprefix(f"{case}/")],
                    torch.from_numpy(golden[name]),
                    atol=1e-5,
                    rtol=0,
                )
                compared += 1
    assert compared >= 2 * (3 * 5 + 3)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    stages=st.integers(1, 4),
    width=st.integers(1, 5),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 70)),
)
def test_equals_the_plain_equations(seed, stages, width, shape):
    net = random_net(seed, stages=stages, width=width).double()
    n, h, w = shape
    images = torch.rand(n, 1, h, w, dtype=torch.float64)
    with torch.inference_mode():
        ours = list(net.stages(images))
        theirs = list(plain.stages(net.state_dict(), images))
    assert len(ours) == len(theirs) == stages
    for mine, (background, target, reconstruction, _) in zip(ours, theirs, strict=True):
        assert mine.target.shape == images.shape
        torch.testing.assert_close(mine.background, background)
        torch.testing.assert_close(mine.target, target)
        torch.testing.assert_close(mine.reconstruction, reconstruction)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("seed", range(3))
def test_gradients_equal_those_of_the_plain_equations(seed, training):
    net = random_net(seed, stages=1 + seed, width=3).double().train(training)
    images = torch.rand(2, 1, 64, 50, dtype=torch.float64)
    weight = torch.randn(2, 2, 1, 64, 50, dtype=torch.float64)  # of an arbitrary linear loss

    weights = {k: v.detach().clone() for k, v in net.state_dict().items()}
    names = [name for name, _ in net.named_parameters()]
    for name in names:
        weights[name].requires_grad_()
    *_, (_, target, reconstruction, _) = plain.stages(weights, images, training)
    loss = (weight[0] * target).sum() + (weight[1] * reconstruction).sum()
    expected = torch.autograd.grad(loss, [weights[name] for name in names])

    maps = net(images)
    loss = (weight[0] * maps.target).sum() + (weight[1] * maps.reconstruction).sum()
    loss.backward()
    for (name, parameter), gradient in zip(net.named_parameters(), expected, strict=True):
        scale = max(1.0, float(gradient.abs().max()))
        assert (parameter.grad - gradient).abs().max() < 1e-8 * scale, name


@pytest.mark.parametrize("stages", [1, 2, 5])
def test_every_parameter_gets_a_gradient(stages):
    # In evaluation mode: a bias in front of a batch normalisation has none in training.
    net = random_net(0, stages=stages, width=2)
    maps = net(torch.rand(1, 1, 64, 64))
    (maps.target.square().mean() + maps.reconstruction.square().mean()).backward()
    dead = [
        name
        for name, p in net.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert not dead


def test_the_call_gives_the_last_stage():
    net = random_net(1, stages=3, width=2)
    images = torch.rand(1, 1, 33, 40)
    *_, last = net.stages(images)
    assert all(torch.equal(a, b) for a, b in zip(net(images), last, strict=True))


def test_an_image_is_not_changed_by_its_neighbours_in_the_batch():
    net = random_net(2, stages=2, width=2)
    images = torch.rand(3, 1, 64, 64)
    torch.testing.assert_close(net(images).target[1:2], net(images[1:2]).target)


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 64, 64), (64, 64)])
def test_other_shapes_are_refused_by_name(shape):
    with pytest.raises(ValueError, match=r"expected images of shape \(N, 1, H, W\)"):
        build_model(stages=1, width=1)(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 1, 64, 64), (1, 1, 0, 64), (1, 1, 64, 0)])
def test_no_image_is_refused_by_name(shape):
    with pytest.raises(ValueError, match="expected at least one image of one pixel"):
        build_model(stages=1, width=1)(torch.zeros(shape))


def test_start_values():
    torch.manual_seed(0)
    net = build_model(stages=2)
    first, second = (stage.bsgu for stage in net.decoupling)
    fan = 9 * 32  # of each gate's own convolution, in and out
    for gate in first.gates.weight.chunk(4):
        assert gate.std().item() == pytest.approx(math.sqrt(2 / (2 * fan)), rel=0.05)
    for bias in (first.lift.bias, first.gates.bias, second.cell.bias, second.out.bias):
        assert not bias.any()
    assert not first.initial_cell.any()
    assert (second.epsilon == 0.01).all()
    assert net.decoupling[0].dbem.stem.bias.any()
