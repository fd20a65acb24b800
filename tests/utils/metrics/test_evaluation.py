import csv
import json

import numpy as np
import pytest
import scipy.io

from utils.data.images import encode_png, read_levels
from utils.metrics import report
from utils.metrics.counts import Counts, count
from utils.metrics.curves import Curve
from utils.metrics.evaluation import (
    comparison_json,
    differences,
    evaluate,
    thinned,
    write_evaluation,
)
from utils.metrics.maps import Map
from utils.metrics.protocols import CORRECTED, PROTOCOLS, PUBLISHED
from utils.metrics.scoring import Job, pair_files


@pytest.fixture
def evaluation(folders, tmp_path):
    job = Job(pair_files(*folders), [CORRECTED, PUBLISHED])
    evaluation = evaluate("ours", job)
    write_evaluation(tmp_path / "out", evaluation, {"dataset": "some"})
    return evaluation


def strict_json(path):
    def refuse(text):
        raise AssertionError(f"{text} in JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_metrics_json(evaluation, tmp_path):
    content = strict_json(tmp_path / "out" / "metrics.json")
    assert content["schema"] == 3 and content["dataset"] == "some" and content["method"] == "ours"
    corrected, published = content["corrected"], content["published"]
    assert corrected["pd"] == 16 / 19 and corrected["n_hits"] == 16 and corrected["fa_px"] == 15
    assert corrected["iou"] == 96 / (96 + 75 + 15)
    low, high = corrected["intervals"]["iou"]
    assert low < corrected["iou"] < high
    assert corrected["pd_over_25"] is None and published["pd_over_25"] is not None
    assert 0.5 < corrected["roc_auc"] <= 1 and 0 < corrected["average_precision"] <= 1
    assert corrected["protocol"]["matching"] == "assignment"
    assert published["protocol"]["denominator"] == 512 * 512
    assert content["warnings"] == [
        "published: dividing by the maximum is undefined for 1 of 20 images: an empty mask is read "
        "as no target, an all-zero map as no detection"
    ]


def test_tables_of_images_targets_and_curves(evaluation, tmp_path):
    def read(name):
        with (tmp_path / "out" / name).open(newline="") as file:
            return list(csv.DictReader(file))

    images = read("per_image.csv")
    assert len(images) == 20 and images[0]["image"] == "00" and float(images[0]["iou"]) == 0
    assert sum(int(row["n_hits"]) for row in images) == 16
    targets = read("per_target.csv")
    assert sum(row["outcome"] == "missed" for row in targets) == 3
    assert all(row["distance_px"] == "" for row in targets if row["outcome"] != "hit")
    curves = read("curve.csv")
    assert {(row["protocol"], row["curve"]) for row in curves} == {
        ("corrected", "roc"),
        ("corrected", "precision_recall"),
        ("corrected", "froc"),
        ("published", "roc"),
    }
    iou_at = [row for row in curves if row["curve"] == "precision_recall"]
    assert len(iou_at) == len(evaluation.results["corrected"].curves["precision_recall"].x)
    ious = {row["iou"] for row in iou_at}
    assert f"{96 / 186:.6g}" in ious
    assert {row["iou"] for row in curves if row["curve"] != "precision_recall"} == {""}


def test_a_folder_of_another_kind_is_doubted(folders):
    for path in folders[0].iterdir():
        scipy.io.savemat(path, {"T": np.full_like(scipy.io.loadmat(path)["T"], 0.25)})
    job = Job(pair_files(*folders), [CORRECTED])
    (warning,) = evaluate("ours", job).warnings
    assert "--probabilities" in warning


def test_empty_maps_hide_no_doubt(folders):
    for path in folders[0].iterdir():
        levels = (scipy.io.loadmat(path)["T"] > 0).astype(np.uint8)
        path.with_suffix(".png").write_bytes(encode_png(levels))
        path.unlink()
    job = Job(pair_files(*folders), [CORRECTED])
    (warning,) = evaluate("ours", job).warnings
    assert "--binary" in warning
    for path in folders[0].iterdir():
        path.write_bytes(encode_png(np.zeros_like(read_levels(path))))
    assert not evaluate("ours", job).warnings


def test_the_published_auc_without_targets_is_zero(folders):
    for path in folders[1].iterdir():
        path.write_bytes(encode_png(np.zeros_like(read_levels(path))))
    job = Job(pair_files(*folders), [CORRECTED, PUBLISHED])
    results = evaluate("ours", job).results
    assert results["corrected"].figures["roc_auc"] is None
    assert results["published"].figures["roc_auc"] == 0


def test_the_roc_of_each_protocol(tmp_path):
    probability = np.full((256, 256), 0.01, np.float32)
    probability[128:] = 0.20
    probability[20:22, 20:22], probability[40, 40] = 0.30, 0.10
    levels = np.zeros((256, 256), np.uint8)
    levels[20:22, 20:22] = levels[40, 40] = 255
    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "maps" / "a.npy", probability)
    (tmp_path / "masks" / "a.png").write_bytes(encode_png(levels))
    files = pair_files(tmp_path / "maps", tmp_path / "masks")
    job = Job(files, list(PROTOCOLS.values()), "probabilities")
    results = evaluate("ours", job).results
    clutter = 128 * 256 / (256 * 256 - 5)  # which hides one of two targets, one of five pixels
    for name, hidden in (("corrected", 1 / 5), ("dnanet", 1 / 5), ("basicirstd", 1 / 5),
                         ("published", 1 / 2), ("drpca", 1 / 2), ("rpcanet", 1 / 2)):  # fmt: skip
        assert results[name].figures["roc_auc"] == pytest.approx(1 - hidden * clutter), name


def test_thinning_keeps_the_line():
    curve = Curve(np.arange(7)[::-1], np.arange(7) / 6, np.array([0, 0, 0, 1, 1, 1, 1.0]))
    assert thinned(curve).x.tolist() == [0, 2 / 6, 3 / 6, 1]


def test_figures_stand_beside_their_counts(evaluation):
    text = report.table(evaluation)
    heading, *lines = text.splitlines()
    assert heading.split() == "corrected, native size published, 256x256".split()
    rows = {line[:17].strip(): line for line in lines}
    assert "51.61 %" in rows["IoU"] and "96/186 px" in rows["IoU"]
    assert "84.21 %" in rows["Pd"] and "16/19 targets" in rows["Pd"]
    assert "15/54720 px" in rows["Fa x1e-6"]
    assert "undefined" in rows["Pd, 1-4 px"]
    assert rows["Pd at Fa 1e-6"].count("%") == 1


def test_one_line():
    true = np.zeros((100, 100), bool)
    true[10:12, 10:12] = True
    logits = np.where(true, 3, -3).astype(np.float32)
    logits[50, 50] = 1
    counts = count(Map(logits), true)
    assert report.one_line(counts) == "IoU 0.8000  nIoU 0.8000  Pd 1/1  Fa 100.00e-6"
    assert report.one_line(Counts()).count("undefined") == 3


@pytest.fixture
def two(evaluation):
    corrected = evaluation.results["corrected"]
    figures = corrected.figures | {"iou": 0.9, "fa": 5e-3, "niou": None}
    samples = corrected.samples | {"iou": corrected.samples["iou"] + 0.25}
    other = corrected._replace(figures=figures, samples=samples)
    return [
        evaluation._replace(results={"corrected": corrected}),
        evaluation._replace(name=r"a|b_c,d^~\e", results={"corrected": other}),
    ]


def test_comparison_in_markdown(two):
    heading, _, *lines = report.comparison(two).splitlines()
    header, rule, ours, other, difference = lines
    assert heading == "corrected, native size:"
    assert header.startswith("| method | IoU % | nIoU % |") and "Fa ×1e-6" in header
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    assert ours.startswith("| ours | 51.61 | **") and "**274.12**" in ours
    assert other.startswith(r"| a\|b_c,d^~\e | **90.00** | - |") and "5000.00" in other
    # of the same images: all that differs is what was added
    assert difference.startswith(r"| a\|b_c,d^~\e - ours | +38.39 [+25.00, +25.00] | - | +0.00 [")
    assert "| +4725.88 [+0.00, +0.00] |" in difference and difference.endswith("| +0.00 |")


def test_comparison_in_latex_and_csv(two):
    text = report.comparison(two, "latex")
    assert text.startswith("% corrected, native size:") and text.endswith(r"\end{tabular}")
    name = r"a|b\_c,d\textasciicircum{}\textasciitilde{}\textbackslash{}e"
    assert name + r" & \textbf{90.00} & - &" in text and name + " - ours & +38.39 [" in text
    header, _, other = csv.reader(report.comparison(two, "csv").splitlines())
    assert header[:3] == ["protocol", "method", "IoU (%)"] and len(header) == len(other)
    assert other[:4] == ["corrected", r"a|b_c,d^~\e", "90.00", "-"]


def test_differences_are_of_the_same_resampled_images(two):
    result = two[0].results["corrected"]
    found = differences(result, result)
    assert found["pd"] == (0, [0, 0]) and found["pd_over_25"] == (None, None)
    assert found["roc_auc"] == (0, None)
    content = comparison_json(two)
    assert content["first"] == "ours" and list(content["corrected"]) == [r"a|b_c,d^~\e"]
    assert content["corrected"][r"a|b_c,d^~\e"]["niou"]["difference"] is None
