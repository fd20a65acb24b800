import os
import shutil

import cv2
import numpy as np
import pytest

from tests.utils.data.published import LAYOUTS, TEST, TRAINVAL, image, mask, packed, write
from utils.data.dataset import PairDataset
from utils.data.images import encode_png
from utils.data.layouts import Division, recognise
from utils.data.prepare import prepare, set_folder
from utils.options import InputError

SMALL = encode_png(np.zeros((3, 3), np.uint8))


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "source", LAYOUTS["IRSTD-1k"])


@pytest.fixture
def target(tmp_path):
    return tmp_path / "datasets" / "mine"


@pytest.mark.parametrize("kind", ["folder", ".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_set_from_every_layout_and_kind_of_source(tmp_path, target, layout, kind):
    source = tmp_path / f"source{kind}"
    if kind == "folder":
        write(source / "wrapper", LAYOUTS[layout])
    else:
        source.write_bytes(packed(LAYOUTS[layout], kind))
    found, was_there = prepare(source, target)
    assert content(target) == LAYOUTS["ours"] and not was_there
    assert [sample.name for sample in PairDataset(target / "test")] == sorted(TEST)
    assert [path.name for path in target.parent.iterdir()] == ["mine"]


def test_files_are_linked_and_stay(source, target):
    before = content(source)
    prepare(source, target)
    assert content(source) == before
    assert os.path.samefile(source / "IRSTD1k_Img" / "a1.png", target / "trainval/images/a1.png")


def test_files_are_copied_where_the_disk_has_no_links(source, target, monkeypatch):
    def no_links(*paths):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    prepare(source, target)
    assert content(target) == LAYOUTS["ours"]


def test_files_are_moved(source, target):
    prepare(source, target, move=True)
    assert content(target) == LAYOUTS["ours"]
    assert sorted(content(source)) == ["test.txt", "trainval.txt"]


def test_a_set_that_links_to_its_source_leaves_it(tmp_path, target):
    source = write(tmp_path / "source", LAYOUTS["ours"])
    target.mkdir(parents=True)
    for split in ("trainval", "test"):
        try:
            (target / split).symlink_to(source / split, target_is_directory=True)
        except OSError:
            pytest.skip("links need rights here")
    assert prepare(source, target, move=True)[1]
    assert content(source) == LAYOUTS["ours"]


def test_a_dry_run_writes_nothing(source, target):
    before = content(source)
    found, _ = prepare(source, target, move=True, dry_run=True)
    assert len(found.splits["trainval"]) == len(TRAINVAL)
    assert content(source) == before and not target.parent.exists()


def test_a_second_run_finds_it_there(source, target):
    prepare(source, target)
    (target / "manifest.json").write_text("{}")
    (target / "test" / "images" / ".DS_Store").write_bytes(b"")
    assert prepare(source, target)[1]
    assert (target / "manifest.json").exists()


def test_something_else_is_replaced_only_if_asked_for(source, target):
    prepare(source, target, Division(share=0.5))
    before = content(target)
    for dry_run in (False, True):
        with pytest.raises(InputError, match="holds something else.*--replace"):
            prepare(source, target, dry_run=dry_run)
    assert content(target) == before
    prepare(source, target, replace=True)
    assert content(target) == LAYOUTS["ours"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_set_that_a_killed_process_had_set_aside_is_there(source, target, linked):
    prepare(source, target, Division(share=0.5))
    before, place = content(target), target
    if linked:
        if os.name == "nt":
            pytest.skip("links need rights there")
        place = target.with_name("elsewhere")
        target.rename(place)
        target.symlink_to(place, target_is_directory=True)
    place.rename(place.with_name(f".{place.name}.old.tmp"))
    with pytest.raises(InputError, match="holds something else"):
        prepare(source, target)
    assert content(target) == before


@pytest.mark.parametrize("step", ["link", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_run_leaves_the_old_set(source, target, monkeypatch, step, error):
    prepare(source, target, Division(share=0.5))
    before = content(target)
    real, calls = getattr(os, step), 0

    def fails(*paths, **options):
        nonlocal calls
        calls += 1
        if calls == 2 or (calls > 2 and step == "link"):
            raise error
        return real(*paths, **options)

    monkeypatch.setattr(os, step, fails)
    if step == "link":
        monkeypatch.setattr(shutil, "copyfile", fails)
    with pytest.raises((InputError, KeyboardInterrupt)):
        prepare(source, target, replace=True)
    assert content(target) == before
    assert [path.name for path in target.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "name, levels, message",
    [
        ("images/a1.png", b"text", r"images[/\\]a1\.png: not an image"),
        ("images/a1.png", image("a1")[:60], r"images[/\\]a1\.png: "),
        ("masks/a1.png", SMALL, r"masks[/\\]a1\.png: 3x3 px, but its image has 16x12"),
    ],
)
def test_a_bad_pair_is_named_in_the_archive(tmp_path, target, name, levels, message):
    source = tmp_path / "set.zip"
    source.write_bytes(packed(LAYOUTS["lists"] | {name: levels}, ".zip"))
    with pytest.raises(InputError, match=r"set\.zip[/\\]" + message):
        prepare(source, target)
    assert not list(target.parent.iterdir())


def test_places_that_are_refused(source, target, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        prepare(tmp_path / "missing", target)
    for place in (source, source / "datasets" / "x", source.parent):
        with pytest.raises(InputError, match="the set is to be written there"):
            prepare(source, place)
    archive = tmp_path / "set.zip"
    archive.write_bytes(packed(LAYOUTS["lists"], ".zip"))
    with pytest.raises(InputError, match="--move is for folders"):
        prepare(archive, target, move=True)
    assert content(source) == LAYOUTS["IRSTD-1k"]


def test_names_of_sets(tmp_path):
    assert set_folder("数据-1", tmp_path) == tmp_path / "数据-1"
    for name in ("", ".", "..", "a/b", "a\\b", ".hidden", "con", "a:b", "builtin", "a" * 256):
        with pytest.raises(InputError, match="--name"):
            set_folder(name, tmp_path)


def test_a_source_that_cannot_be_looked_at(tmp_path, target, without_rights):
    with pytest.raises(InputError, match="(no such|cannot be read)"):
        prepare(tmp_path / ("a" * 300), target)
    write(tmp_path / "source", LAYOUTS["SIRST"])
    (tmp_path / "source" / "lost+found").mkdir(mode=0o700)
    with without_rights():
        with pytest.raises(InputError, match="lost.found.x: (no such|cannot be read)"):
            prepare(tmp_path / "source" / "lost+found" / "x", target)
        recognise(tmp_path / "source")


def test_masks_may_be_of_another_type(tmp_path, target):
    files = {k: v for k, v in LAYOUTS["lists"].items() if k != "masks/a1.png"}
    bmp = cv2.imencode(".bmp", cv2.imdecode(np.frombuffer(mask("a1"), "u1"), 0))[1].tobytes()
    prepare(write(tmp_path / "source", files | {"masks/a1.BMP": bmp}), target)
    assert (target / "trainval" / "masks" / "a1.BMP").read_bytes() == bmp
