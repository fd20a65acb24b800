import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from model import build_model
from utils import checkpoint
from utils.options import InputError


@pytest.fixture
def net():
    return build_model(stages=2, width=1)


def test_round_trip(tmp_path, net):
    checkpoint.save(tmp_path / "a.pkl", net, {"dataset": "x"}, {"epoch": 3})
    loaded = checkpoint.load(tmp_path / "a.pkl")
    assert loaded.info == {"dataset": "x"} and loaded.training == {"epoch": 3}
    assert not loaded.net.training and loaded.net.config == net.config
    images = torch.rand(1, 1, 32, 32)
    assert torch.equal(loaded.net(images).target, net.eval()(images).target)


def test_weights_of_an_ablation_say_so_and_those_from_before_there_were_any_need_not(tmp_path, net):
    path = tmp_path / "a.pkl"
    checkpoint.save(path, build_model(stages=1, width=1, without="soa"), {}, {})
    assert checkpoint.load(path).net.config["without"] == "soa"
    net.config.pop("without")
    checkpoint.save(path, net, {}, {})
    assert checkpoint.load(path).net.config["without"] == "nothing"


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    for name, write in (("plain.pkl", pickle.dump), ("torch.pkl", torch.save)):
        with (tmp_path / name).open("wb") as file:
            write({"weights": Code()}, file)
        with pytest.raises(InputError, match=f"{name}: not a weights file"):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 2000, -1])
def test_a_damaged_file_is_refused(tmp_path, net, keep):
    checkpoint.save(tmp_path / "a.pkl", net, {}, {})
    (tmp_path / "a.pkl").write_bytes((tmp_path / "a.pkl").read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.pkl: not a weights file"):
        checkpoint.load(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "content, message",
    [
        ({"conv1.weight": torch.zeros(1)}, r"not MSCoNet weights \(it holds conv1\.weight"),
        ({"decos.0.lowrank.unet.conv_in.weight": torch.zeros(16, 1, 7, 7)}, "missing: decos.0"),
        (build_model(stages=1, width=1).state_dict(), "without the sizes of its network; load it"),
        ([1, 2], r"not MSCoNet weights \(it holds a list"),
        ({}, "not MSCoNet weights"),
        ({"format": "msconet/1"}, "model"),
        ({"format": "msconet/1", "model": {"stages": 1, "width": 1}, "weights": {}}, "Missing key"),
        ({"decos.0.lowrank.unet.conv_in.weight": [1]}, "missing: decos.0"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pkl")
    with pytest.raises(InputError, match=message) as error:
        checkpoint.load(tmp_path / "a.pkl")
    assert "\n" not in str(error.value)


def test_a_damaged_description_is_refused(tmp_path, net):
    for info, training in (([], {}), ({}, None)):
        checkpoint.save(tmp_path / "a.pkl", net, info, training)
        with pytest.raises(InputError, match="no mapping"):
            checkpoint.load(tmp_path / "a.pkl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.pkl: cannot be read"):
        checkpoint.load(tmp_path / "a.pkl")


def test_the_newest_run_goes_before_shipped_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no weights for any data set"):
        checkpoint.newest_weights(None)
    files = ["Weight/a/best.pkl", "runs/a/2/best.pkl", "runs/a/1/best.pkl", "runs/b/1/best.pkl"]
    found = []
    for age, name in enumerate(files):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        os.utime(path, ns=(10**18 - age, 10**18 - age))
        found.append((checkpoint.newest_weights("a"), checkpoint.newest_weights(None)))
    assert [str(a.as_posix()) for a, _ in found] == [files[0], files[1], files[1], files[1]]
    with pytest.raises(InputError, match="no weights for c"):
        checkpoint.newest_weights("c")


def test_weights_for_photos_are_of_real_images_where_there_are_any(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ["runs/builtin/1/best.pkl", "Weight/SIRST/best.pkl", "runs/mine/1/best.pkl"]
    for age, name in enumerate(files):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        os.utime(path, ns=(10**18 - age, 10**18 - age))
        assert checkpoint.photo_weights() == Path(name)


def test_of_shipped_weights_those_of_sirst_are_for_all_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, first in (("IRSTD-1k", "IRSTD-1k"), ("SIRST", "SIRST"), ("A", "SIRST")):
        path = Path("Weight", name, "best.pkl")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        assert checkpoint.photo_weights() == Path("Weight", first, "best.pkl")
        assert checkpoint.photo_weights(name) == path  # but for its own
        assert checkpoint.photo_weights("another") == checkpoint.photo_weights()
        assert checkpoint.newest_weights(name) == path


def test_where_a_run_had_its_data(tmp_path):
    weights = tmp_path / "best.pkl"
    assert checkpoint.data_root_of(weights) == Path("datasets")
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "config.json").write_text(json.dumps({"data_root": str(elsewhere)}))
    assert checkpoint.data_root_of(weights) == Path("datasets")
    elsewhere.mkdir()
    assert checkpoint.data_root_of(weights) == elsewhere
