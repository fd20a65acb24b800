import json

import pytest

from utils.data import builtin
from utils.data.builtin import write_builtin
from utils.data.dataset import PairDataset
from utils.options import InputError


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(builtin, "_SEEDS", {"trainval": range(0, 3), "test": range(7, 9)})


def test_it_is_a_data_set_like_any_other(tmp_path, small):
    folder = write_builtin(tmp_path / "builtin")
    assert len(PairDataset(folder / "trainval")) == 3
    assert [sample.name for sample in PairDataset(folder / "test")] == [
        "scene_00007",
        "scene_00008",
    ]


def test_it_is_written_once_and_again_when_it_is_of_another_version(tmp_path, small):
    folder = write_builtin(tmp_path / "builtin")
    image = folder / "test" / "images" / "scene_00007.png"
    original = image.read_bytes()
    image.write_bytes(b"changed")
    assert write_builtin(folder) == folder and image.read_bytes() == b"changed"
    record = json.loads((folder / "scenes.json").read_text())
    (folder / "scenes.json").write_text(json.dumps(record | {"version": 0}))
    write_builtin(folder)
    assert image.read_bytes() == original
    image.unlink()
    write_builtin(folder)
    assert image.read_bytes() == original


def test_a_folder_of_the_same_name_is_left_alone(tmp_path, small):
    (tmp_path / "builtin" / "test").mkdir(parents=True)
    with pytest.raises(InputError, match="this name is kept for built-in scenes"):
        write_builtin(tmp_path / "builtin")
    assert [path.name for path in tmp_path.rglob("*")] == ["builtin", "test"]
