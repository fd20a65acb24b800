import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from utils.data.images import encode_png
from utils.metrics import plots
from utils.metrics.evaluation import evaluate
from utils.metrics.page import write_page
from utils.metrics.plots import draw
from utils.metrics.protocols import CORRECTED, PROTOCOLS, PUBLISHED
from utils.metrics.scoring import Job, pair_files

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def page(folders, tmp_path):
    job = Job(pair_files(*folders), [CORRECTED, PUBLISHED])
    path = tmp_path / "out" / "report.html"
    pictures = {picture.stem: picture for picture in folders[1].with_name("images").iterdir()}
    write_page(path, evaluate("a <b> & c", job), job, pictures)
    return path


def test_images_come_worst_first_with_their_outlines(page):
    text = page.read_text(encoding="utf-8")
    ious = [float(v) for v in re.findall(r"</b> IoU ([\d.]+),", text)]
    assert len(ious) == 20 and ious == sorted(ious)
    assert "a &lt;b&gt; &amp; c" in text and "<b> & c" not in text
    figures = re.findall(r'<figure data-is="([^"]+)">(.*?)</figure>', text, re.S)
    for kinds, body in figures:
        assert ('<path class="missed"' in body) == ("missed" in kinds)
        assert ('<path class="false"' in body) == ("false" in kinds)
        if kinds == "perfect":
            assert '<path class="truth"' in body and '<path class="hit"' in body
    assert {kinds for kinds, _ in figures} == {"missed", "false", "perfect"}


def test_the_page_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "http://" not in text and "https://" not in text


def test_without_pictures_the_probability_is_shown(folders, tmp_path):
    text, _ = drawn(tmp_path, Job(pair_files(*folders), [PUBLISHED]))
    assert text.count("<image href=") == 20


def drawn(tmp_path, job):
    """The page of a job, and its images."""
    evaluation = evaluate("m", job)
    write_page(tmp_path / "report.html", evaluation, job, {})
    return (tmp_path / "report.html").read_text(encoding="utf-8"), evaluation.images


def saved(tmp_path, **pairs):
    """Files of maps and masks by name."""
    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
    for name, (logits, levels) in pairs.items():
        np.save(tmp_path / "maps" / f"{name}.npy", logits)
        (tmp_path / "masks" / f"{name}.png").write_bytes(encode_png(levels))
    return pair_files(tmp_path / "maps", tmp_path / "masks")


def test_a_map_of_another_size_is_drawn_as_it_was_counted(tmp_path):
    logits = np.full((256, 256), -9, np.float32)
    logits[40:42, 40:42] = 4
    logits[99, 99] = 3
    levels = np.where(logits > 0, 255, 0).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    files = saved(tmp_path, a=(logits, levels))
    for resized in (False, True):
        text, _ = drawn(tmp_path, Job(files, [PUBLISHED], "logits", resized))
        assert "2/2 hit, 0 false" in text
        assert text.count('<path class="truth"') == 2 and '<path class="missed"' not in text


def test_what_a_protocol_takes_for_no_false_alarm_is_none_on_the_page(tmp_path):
    logits = np.full((256, 256), -9, np.float32)
    logits[40:42, 40:49] = logits[46:48, 40:49] = 4  # two fragments of one target
    levels = np.zeros((256, 256), np.uint8)
    levels[40:49, 40:49] = 255
    files = saved(tmp_path, a=(logits, levels), without=(logits, np.zeros_like(levels)))
    text, seen = drawn(tmp_path, Job(files, [PROTOCOLS["rpcanet"]], "logits"))
    assert [target.outcome for image in seen for target in image.targets] == ["hit"]
    assert text.count('<path class="hit"') == 2 and 'class="false"' not in text
    assert 'data-is="perfect"' in text and 'data-is=""' in text


def test_a_strip_has_a_picture(tmp_path):
    strip = np.full((16, 16384), -9, np.float32)
    files = saved(tmp_path, a=(strip, np.zeros(strip.shape, np.uint8)))
    assert "data:image/jpeg" in drawn(tmp_path, Job(files, [CORRECTED], "logits"))[0]


def test_curves_of_several_methods_are_drawn_together(folders):
    job = Job(pair_files(*folders), [CORRECTED, PUBLISHED])
    a = evaluate("a", job)
    alone = draw([a], "corrected")
    assert set(alone) == {"roc", "precision_recall", "froc"}
    assert set(draw([a], "published")) == {"roc"}
    both = draw([a, a._replace(name="another method")], "corrected")
    for name, png in both.items():
        picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (600, 750, 3) and png != alone[name]


def test_lines_of_a_roc_are_straight_where_its_axis_is_not():
    x, y = plots._straight(np.array([0, 0, 0.5, 1]), np.array([0, 0.2, 0.9, 1]), 1e-7)
    assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    area = (np.diff(x) * (y[1:] + y[:-1]) / 2).sum()
    assert area == pytest.approx(0.5 * 0.55 + 0.5 * 0.95)
    at = np.searchsorted(x, 1e-3)
    assert y[at] == pytest.approx(0.2 + 1.4 * x[at]) and x[at] < 1.1e-3


@pytest.mark.parametrize("name", ["_a", "N$_$", "50 % $x", "方法", r"a\b^"])
def test_a_name_in_a_legend_is_no_formula(folders, name):
    method = evaluate(name, Job(pair_files(*folders), [CORRECTED]))
    drawn = draw([method], "corrected")
    assert all(
        drawn[curve] != png for curve, png in draw([method._replace(name="b")], "corrected").items()
    )


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(page, tmp_path, width):
    """Press each button; count what is shown; no sideways scrolling, on a phone either."""
    script = """<script>
      const shown = () => [...figures].filter(f => f.offsetParent !== null).length;
      const root = document.documentElement;
      const result = {scroll: root.scrollWidth - root.clientWidth,
        pictures: [...document.images].every(i => i.complete && i.naturalWidth > 0)};
      for (const b of buttons) { b.click(); result[b.dataset.filter] = shown(); }
      buttons[0].click();
      figures[0].querySelector("svg").dispatchEvent(new Event("click"));
      result.large = document.querySelectorAll("figure.large").length;
      document.title = JSON.stringify(result);
    </script></body>"""
    tested = tmp_path / "tested.html"
    text = page.read_text(encoding="utf-8")
    tested.write_text(text.replace("</body>", script), encoding="utf-8")
    shown = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}",
            f"--window-size={width},800", "--virtual-time-budget=5000", "--dump-dom",
            tested.as_uri(),
        ],
        capture_output=True, timeout=120,
    ).stdout.decode()  # fmt: skip
    result = json.loads(re.search(r"<title>(.*?)</title>", shown)[1])
    kinds = re.findall(r'data-is="([^"]+)"', text)
    expected = {k: sum(k in of for of in kinds) for k in ("missed", "false", "perfect")}
    assert result == {"scroll": 0, "pictures": True, "all": 20, "large": 1} | expected
