import os

import pytest

from utils.files import make_folder, new_folder, read_json, write_bytes, write_json
from utils.options import InputError


def test_a_write_makes_its_folders_and_replaces_the_old_file(tmp_path):
    path = tmp_path / "a" / "b.bin"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(InputError, match=r"a\.bin: cannot be written \(No space left on device\)"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_bytes(tmp_path / "a" / "b", b"")
    with pytest.raises(InputError, match="cannot be written"):
        make_folder(tmp_path / "a" / "b")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o555)
    root = os.geteuid() == 0
    if root:  # may write anywhere, so be somebody else for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match=r"\(Permission denied\)"):
            write_bytes(tmp_path / "a", b"")
        with pytest.raises(InputError, match=r"\(Permission denied\)"):
            make_folder(tmp_path / "b")
    finally:
        if root:
            os.seteuid(0)
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir())


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"größe": None})
    assert read_json(tmp_path / "a.json") == {"größe": None}
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert read_json(tmp_path / "a.json") == {"größe": None}


def test_unreadable_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: not readable"):
        read_json(tmp_path / "a.json")


def test_a_new_folder_is_there_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "set"
    with new_folder(folder) as temporary:
        (temporary / "a").write_text("1")
        assert not folder.exists()
    with pytest.raises(KeyError), new_folder(folder) as temporary:
        (temporary / "a").write_text("2")
        raise KeyError
    assert (folder / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [folder]
