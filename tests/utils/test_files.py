import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from utils import files
from utils.files import (
    is_storable,
    list_folder,
    make_folder,
    new_folder,
    new_text,
    place,
    read_json,
    remove,
    scratch_folder,
    sole_writer,
    temporary_path,
    write_bytes,
    write_json,
)
from utils.options import InputError

ROOT = Path(__file__).parents[2]


def test_a_write_makes_its_folders_and_replaces_the_old_file(tmp_path):
    path = tmp_path / "a" / "b.bin"
    write_bytes(path, b"old")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="paths of 260 characters")
@pytest.mark.parametrize("name", ["a" * 251, "雲" * 83 + "ab"])
def test_the_longest_names_that_a_disk_takes(tmp_path, name):
    path = tmp_path / f"{name}.png"
    write_bytes(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    path.unlink()
    for _ in range(2):  # new, and in the place of an old one
        with new_folder(path) as temporary:
            (temporary / "a").write_text("1")
        assert list(tmp_path.iterdir()) == [path]


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


def test_no_permission(tmp_path, without_rights):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o755)
    with without_rights():
        with pytest.raises(InputError, match=r"\(Permission denied\)"):
            write_bytes(closed / "a", b"")
        with pytest.raises(InputError, match=r"\(Permission denied\)"):
            make_folder(closed / "b")
    assert not list(closed.iterdir())


def test_folders_are_listed_or_say_why_not(tmp_path, without_rights):
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir(mode=0o700)
    assert [path.name for path in list_folder(tmp_path)] == ["a", "b"]
    with pytest.raises(InputError, match="missing: no such folder"):
        list_folder(tmp_path / "missing")
    with without_rights(), pytest.raises(InputError, match=r"b: cannot be read \(Permission"):
        list_folder(tmp_path / "b")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode on Windows")
def test_names_in_another_encoding_are_refused(tmp_path):
    (tmp_path / os.fsdecode(b"\xb0\xa1.png")).write_bytes(b"")
    with pytest.raises(InputError, match=r"'\\udcb0\\udca1.png' is not UTF-8; rename it"):
        list_folder(tmp_path)


def test_json_of_a_path_that_is_not_text(tmp_path):
    name = os.fsdecode(b"caf\xe9") if os.name != "nt" else "caf\udce9"
    write_json(tmp_path / "a.json", {"root": name})
    assert read_json(tmp_path / "a.json") == {"root": name}


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
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(InputError, match=r"a\.json: expected a JSON object"):
        read_json(tmp_path / "a.json")


def test_a_new_text_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.csv"
    with new_text(path) as file:
        file.write("größe\n")
        assert not path.exists()
    with pytest.raises(KeyError), new_text(path) as file:
        file.write("2")
        raise KeyError
    assert path.read_text(encoding="utf-8") == "größe\n"
    assert list(path.parent.iterdir()) == [path]


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


def test_of_a_link_to_a_folder_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk" / "set").mkdir(parents=True)
    link = tmp_path / "link"
    try:
        link.symlink_to(tmp_path / "disk" / "set", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    for text in "12":
        with new_folder(link) as temporary:
            (temporary / "a").write_text(text)
        assert link.is_symlink() and (tmp_path / "disk" / "set" / "a").read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "link"]
    assert [p.name for p in (tmp_path / "disk").iterdir()] == ["set"]


def test_what_a_crash_left_is_in_no_one_s_way(tmp_path):
    names = {temporary_path(tmp_path / "set") for _ in range(50)}  # by one process
    assert len(names) == 50


def test_a_crash_between_two_renames_loses_no_folder(tmp_path):
    folder, aside = tmp_path / "set", tmp_path / ".set.old.tmp"
    aside.mkdir()  # what a process that was killed then leaves
    (aside / "a").write_text("old")
    with pytest.raises(KeyError), new_folder(folder):
        raise KeyError
    assert (folder / "a").read_text() == "old"
    aside.mkdir()  # and what one leaves that was killed while it removed the old folder
    with new_folder(folder) as temporary:
        (temporary / "a").write_text("new")
    assert (folder / "a").read_text() == "new"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_that_windows_calls_open_is_tried_again(tmp_path, monkeypatch):
    refusals = [5, 32]

    def in_use(change):
        def changed(*arguments, **options):
            if refusals:
                error = PermissionError(13, "Access is denied")
                error.winerror = refusals.pop()
                raise error
            change(*arguments, **options)

        return changed

    monkeypatch.setattr(os, "replace", in_use(os.replace))
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and not refusals
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", in_use(Path.unlink))
        (tmp_path / "b").write_text("b")
        refusals += [5, 32]
        remove(tmp_path / "b")
    assert not (tmp_path / "b").exists() and not refusals
    monkeypatch.setattr(files, "_PATIENCE", 0.0)
    refusals += [5] * 9
    with pytest.raises(InputError, match=r"a: cannot be written .Access is denied"):
        write_bytes(tmp_path / "a", b"newer")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_one_process_at_a_time_writes_to_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FileLock", lambda path, timeout: FileLock(path, timeout=0))
    with sole_writer(tmp_path):
        with pytest.raises(InputError, match="another process writes to it"), sole_writer(tmp_path):
            pass
    assert not list(tmp_path.iterdir())

    def no_locks(path, timeout):
        raise NotImplementedError

    with sole_writer(tmp_path):
        monkeypatch.setattr(files, "FileLock", no_locks)
        with sole_writer(tmp_path):
            pass


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import time\n"
        "from pathlib import Path\n"
        "from utils.files import sole_writer\n"
        f"with sole_writer(Path({str(tmp_path)!r})):\n"
        "    print(flush=True)\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert holder.stdout.readline()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with sole_writer(tmp_path):
        pass


def test_a_folder_is_no_file_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (Path("."), Path("/")):
        with pytest.raises(InputError, match="expected the name of a file"):
            write_bytes(path, b"")


def test_names_that_every_system_stores():
    for name in ("a", "雲 1", "console", "com10", "a.con"):
        assert is_storable(name), name
    for name in ("", "a:b", "a ", "a.", "CON", "nul.txt", "con .txt", "COM¹", "conin$", "lpt9.png"):
        assert not is_storable(name), name


def test_a_scratch_folder_is_hidden_and_goes(tmp_path):
    with pytest.raises(KeyError), scratch_folder(tmp_path / "deep") as folder:
        assert folder.parent == tmp_path / "deep" and not list_folder(tmp_path / "deep")
        (folder / "a").write_text("")
        raise KeyError
    assert not list((tmp_path / "deep").iterdir())


def test_a_file_is_placed_as_a_link_or_a_copy(tmp_path, monkeypatch):
    source = tmp_path / "a"
    source.write_text("a")
    place(source, tmp_path / "b")
    assert os.path.samefile(source, tmp_path / "b")
    source.chmod(0o444)
    place(source, tmp_path / "own")  # Windows would not remove a link to it
    assert (tmp_path / "own").read_text() == "a"
    assert not os.path.samefile(source, tmp_path / "own")
    source.chmod(0o644)

    def no_links(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    place(source, tmp_path / "c")
    assert (tmp_path / "c").read_text() == "a" and not os.path.samefile(source, tmp_path / "c")
    with pytest.raises(InputError, match="d: cannot be written"):
        place(source, tmp_path / "missing" / "d")
