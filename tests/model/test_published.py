import json
from pathlib import Path

import pytest
import torch

from model import build_model, from_published

from .fill import fill

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def published():
    """State dict in the published names, K = 2."""
    shapes = json.loads((DATA / "published_checkpoint.json").read_text())
    shapes = {name: s for name, s in shapes.items() if name.startswith(("decos.0.", "decos.1."))}
    return {name: torch.from_numpy(value) for name, value in fill(shapes).items()}


def test_k_is_read_from_the_names(published):
    assert from_published(published).config == build_model(stages=2).config
    one = {name: value for name, value in published.items() if name.startswith("decos.0.")}
    assert from_published(one).config == build_model(stages=1).config


def test_dead_entries_have_no_effect_and_need_not_be_there(published):
    dead = [
        "decos.0.lowrank.convs.0.weight",
        "decos.0.sparse.conv_h.weight",
        "decos.1.sparse.conv_x2.bias",
        "decos.1.sparse.conv_h2.weight",
        "decos.0.sparse.conv_c2.weight",
        "decos.0.sparse.conv_c.weight",
        "decos.1.sparse.conv_c.bias",
    ]
    images = torch.rand(1, 1, 32, 32)
    expected = from_published(published)(images).target
    changed = published | {name: published[name] + 1 for name in dead}
    removed = {name: value for name, value in published.items() if name not in dead}
    assert torch.equal(from_published(changed)(images).target, expected)
    assert torch.equal(from_published(removed)(images).target, expected)


def test_unknown_and_missing_entries_are_listed(published):
    broken = dict(published)
    del broken["decos.1.sparse.conv_f.weight"]
    broken["decos.0.extra"] = torch.zeros(1)
    with pytest.raises(ValueError) as error:
        from_published(broken)
    assert "unknown: decos.0.extra" in str(error.value)
    assert "missing: decos.1.sparse.conv_f.weight" in str(error.value)


def test_a_wrong_shape_is_named(published):
    name = "decos.0.sparse.conv_x.weight"
    with pytest.raises(ValueError, match=f"{name} has shape"):
        from_published(published | {name: torch.zeros(32, 3, 3, 3)})
    name = "decos.1.sparse.conv_o.weight"
    with pytest.raises(ValueError, match=f"{name} has shape"):
        from_published(published | {name: torch.zeros(32, 3, 3)})


@pytest.mark.parametrize("state", [{}, {"conv1.weight": torch.zeros(1)}])
def test_another_network_is_refused(state):
    with pytest.raises(ValueError, match="no published MSCoNet checkpoint"):
        from_published(state)
