import os
from pathlib import Path

import pytest

from utils.options import InputError
from utils.prediction.sources import find_sources, title


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def touch(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return touch


def names(*inputs, **options):
    return [source.name for source in find_sources(inputs, **options)]


def test_a_folder_with_all_below_it(here):
    here("f/b.png", "f/x/a.TIFF", "f/x/y/c.npy", "f/notes.txt", "f/.hidden.png", "f/.git/d.png")
    here("f/film.mp4", "g/other.png")
    assert names("f") == ["b", "film", "x/a", "x/y/c"]
    assert [source.is_video for source in find_sources(["f"])] == [False, True, False, False]


def test_patterns_and_files(here):
    here("f/b.png", "f/b2.bmp", "f/x/a.png", "h/b3.png")
    assert names("f/b*") == ["b", "b2"]
    assert names("f/**/*.png") == ["b", "x/a"]
    assert names("*/b*.png") == ["f/b", "h/b3"]
    assert names("f/x/a.png", "h") == ["a", "b3"]
    here("f/odd[1].png", "f/raw")
    assert names("f/odd[1].png") == ["odd[1]"]
    assert names("f/raw") == ["raw"]  # a file that is named is tried, whatever its suffix


def test_one_stem_twice(here):
    here("f/a.png", "f/a.tif", "f/A.bmp", "g/a.png", "f/b.png")
    found = names("f", "g")
    assert len(found) == len({name.casefold() for name in found}) == 5 and "b" in found
    assert names("f/a.png", "f/a.tif") == ["a_png", "a_tif"]
    here("h/a_png.bmp")
    assert sorted(names("f/a.png", "f/a.tif", "h")) == ["a_png", "a_png_2", "a_tif"]
    assert names("f/b.png", "f", "./f/b.png").count("b") == 1
    here("i/\u00e9.png"), here("j/e\u0301.png")  # one letter, and one file on a Mac
    assert sorted(names("i", "j")) == sorted(["\u00e9_png", "e\u0301_png_2"])


def test_outputs_are_no_inputs(here):
    here("a.png", "results/photos/img/a.png")
    assert names(".", without=[Path("results")]) == ["a"]
    here("results/own.png")  # the images are in the folder of the results themselves
    assert names("results", without=[Path("results"), Path("results/photos")]) == ["own"]


def test_links_go_by_their_own_names(here):
    here("store/77aa", "f/x.png")
    try:
        for name in ("film.avi", "p.png", "q.png"):
            Path("f", name).symlink_to(Path("store/77aa").resolve())
    except OSError:
        pytest.skip("no links here")
    found = find_sources(["f", "f/film.avi"])
    assert [source.name for source in found] == ["film", "p", "q", "x"]
    assert found[0].is_video and found[1].path.name == "p.png"


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", int)() == 0, reason="may enter all")
def test_a_folder_that_may_not_be_entered(here):
    here("closed/a.png")
    Path("closed").chmod(0)
    try:
        with pytest.raises(InputError, match=r"a\.png: (cannot be read|no such file)"):
            find_sources(["closed/a.png"])
    finally:
        Path("closed").chmod(0o755)


def test_a_folder_below_that_may_not_be_listed(here, monkeypatch):
    here("f/a.png", "f/closed/b.png", "f/.closed/c.png")
    scan = os.scandir

    def scandir(path):
        if Path(path).name.endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"^f.closed: cannot be read \(Permission denied\)"):
        find_sources(["f"])
    Path("f/closed/b.png").unlink()
    Path("f/closed").rmdir()
    assert [source.name for source in find_sources(["f"])] == ["a"]


def test_a_name_longer_than_any(here):
    with pytest.raises(InputError, match="cannot be read|no such file"):
        find_sources(["a" * 300 + ".png"])


def test_nothing_there(here):
    here("f/notes.txt")
    for what, message in (
        ("f", "no image or video"),
        ("lion", "no such file, folder or data set"),
        ("f/*.png", "no image or video"),
    ):
        with pytest.raises(InputError, match=message):
            names(what)


def test_titles(here, tmp_path):
    here("f/b.png")
    assert title(["f"]) == title(["f/"]) == title(["f/*.png"]) == title(["f/b.png", "g"]) == "f"
    assert title(["f/b.png"]) == "b"
    here("f/c. .png")
    assert title(["f/c. .png"]) == "c"
    assert title(["."]) == title(["*.png"]) == tmp_path.name
