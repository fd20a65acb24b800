import pytest

from utils.data import catalogue
from utils.data.catalogue import BUILTIN, choose_dataset, find_dataset, list_datasets
from utils.options import InputError


@pytest.fixture
def root(tmp_path):
    for name in ("zebra", BUILTIN, "sirst_aug", "IRSTD-1k", "NUDT-SIRST"):
        (tmp_path / name / "trainval" / "images").mkdir(parents=True)
        (tmp_path / name / "trainval" / "images" / "a.png").write_bytes(b"")
    (tmp_path / "only_test" / "test").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / ".hidden" / "test").mkdir(parents=True)
    (tmp_path / "README.md").write_text("")
    return tmp_path


def test_the_sets_of_the_paper_come_first_and_built_in_data_last(root):
    order = ["NUDT-SIRST", "IRSTD-1k", "sirst_aug", "only_test", "zebra", BUILTIN]
    assert list_datasets(root) == order
    assert choose_dataset(None, root) == root / "NUDT-SIRST"
    assert choose_dataset(None, root, to_train=True) == root / "NUDT-SIRST"


def test_a_set_without_images_to_train_on_is_chosen_by_its_name_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "write_builtin", lambda folder: folder)
    (tmp_path / "view" / "trainval" / "images").mkdir(parents=True)
    (tmp_path / "view" / "test" / "images").mkdir(parents=True)
    assert choose_dataset(None, tmp_path, to_train=True) == tmp_path / BUILTIN
    assert choose_dataset(None, tmp_path) == choose_dataset("view", tmp_path) == tmp_path / "view"


@pytest.mark.parametrize(
    "name, folder",
    [
        ("NUDT-SIRST", "NUDT-SIRST"),
        ("nudt", "NUDT-SIRST"),
        ("irstd1k", "IRSTD-1k"),
        ("IRSTD-1K", "IRSTD-1k"),
        ("sirstaug", "sirst_aug"),
        ("zebra", "zebra"),
    ],
)
def test_names_as_the_paper_and_its_script_write_them(root, name, folder):
    assert find_dataset(name, root) == root / folder


@pytest.mark.parametrize("a, b", [("nudt", "NUDT-SIRST"), ("NUAA-SIRST", "SIRST")])
def test_either_of_two_names_finds_the_folder_of_the_other(tmp_path, a, b):
    for name, folder in ((a, b), (b, a)):
        (tmp_path / folder / folder / "test").mkdir(parents=True)
        assert find_dataset(name, tmp_path / folder) == tmp_path / folder / folder


def test_names_of_other_scripts_are_told_apart(tmp_path):
    (tmp_path / "红外" / "test").mkdir(parents=True)
    assert find_dataset("红外", tmp_path) == tmp_path / "红外"
    for name in ("数据", ""):
        with pytest.raises(InputError, match="no data set"):
            choose_dataset(name, tmp_path)


def test_a_mistyped_root_is_not_filled_with_built_in_data(tmp_path):
    with pytest.raises(InputError, match="no such folder of data sets"):
        choose_dataset(None, tmp_path / "tpyo")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_entered_is_passed_over(root, without_rights):
    (root / "lost+found").mkdir(mode=0o700)
    with without_rights():
        assert "zebra" in list_datasets(root)
        with pytest.raises(InputError, match=r"lost\+found: cannot be read \(Permission denied\)"):
            list_datasets(root / "lost+found")


def test_an_unknown_name_lists_those_found(root, tmp_path):
    with pytest.raises(InputError, match="no data set lion .*found there: NUDT-SIRST, IRSTD-1k"):
        find_dataset("lion", root)
    with pytest.raises(InputError, match="there is none at all"):
        find_dataset("lion", tmp_path / "missing")
