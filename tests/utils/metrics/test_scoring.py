from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import pytest
import scipy.io
from PIL import Image

from tests.utils.metrics import plain
from utils.data.images import encode_png
from utils.metrics.evaluation import evaluate
from utils.metrics.protocols import CORRECTED, PROTOCOLS, PUBLISHED
from utils.metrics.scoring import Job, MapAndMask, pair_files, score
from utils.options import InputError


def job(folders, **changes):
    return Job(pair_files(*folders), [CORRECTED, PUBLISHED])._replace(**changes)


def sums(chunks):
    """Sums over all chunks, by protocol, and the images."""
    chunks = list(chunks)
    scores = [sum(parts[1:], parts[0]) for parts in zip(*(c.scores for c in chunks), strict=True)]
    return scores, [image for chunk in chunks for image in chunk.images]


def same_arrays(a, b):
    return all(np.array_equal(x, vars(b)[name]) for name, x in vars(a).items())


def equal(a, b):
    return (
        a.counts == b.counts
        and same_arrays(a.roc, b.roc)
        and same_arrays(a.froc, b.froc)
        and np.array_equal(a.replicates, b.replicates)
    )


def test_counts_of_a_folder(folders):
    (corrected, published), images = sums(score(job(folders)))
    c = corrected.counts
    assert (c.n_images, c.n_targets, c.n_hits, c.n_false) == (20, 19, 16, 5)
    assert (c.tp_px, c.fn_px, c.fp_px, c.fa_px) == (16 * 6, 16 * 3 + 3 * 9, 15, 15)
    assert c.n_pixels == 20 * 40 * 60 + 10 * (64 * 48 - 40 * 60)
    assert published.counts.fa_of_px == 20 * 512 * 512
    assert published.counts.n_undecided == 1
    assert [image.name for image in images] == [f"{i:02}" for i in range(20)]

    outcomes = [target.outcome for image in images for target in image.targets]
    assert sorted(set(outcomes)) == ["false alarm", "hit", "missed"]
    assert outcomes.count("hit") == 16 and outcomes.count("missed") == 3
    (found,) = images[1].targets
    assert (found.area_px, found.peak_logit) == (9, 5)
    assert found.distance_px == pytest.approx(0.5) and found.iou == pytest.approx(6 / 9)


def test_a_place_is_column_and_row(tmp_path):
    masks, maps = tmp_path / "masks", tmp_path / "maps"
    mask = np.zeros((20, 40), np.uint8)
    mask[3:6, 30:32] = 255
    prediction = np.zeros_like(mask)
    prediction[15, 8] = 255
    for folder, levels in ((masks, mask), (maps, prediction)):
        folder.mkdir()
        (folder / "a.png").write_bytes(encode_png(levels))
    (image,) = sums(score(job((maps, masks))))[1]
    places = {target.outcome: (target.column, target.row) for target in image.targets}
    assert places == {"missed": (30.5, 4.0), "false alarm": (8.0, 15.0)}


def test_images_of_a_list_alone(folders, tmp_path):
    names = tmp_path / "test.txt"
    names.write_text("images/03.png\n01\n")
    chosen = pair_files(*folders, names)
    assert [name for name, _, _ in chosen] == ["01", "03"]
    names.write_text("03\nlion\n")
    with pytest.raises(InputError, match=r"test\.txt: no mask for lion"):
        pair_files(*folders, names)
    (folders[0] / "03.mat").unlink()
    names.write_text("03\n01\n")
    with pytest.raises(InputError, match=r"1 of 2 masks have no map .*\(mask 03\)"):
        pair_files(*folders, names)


def test_parts_add_up_to_the_whole(folders):
    whole, _ = sums(score(job(folders)))
    files = job(folders).files
    parts = [sums(score(job(folders, files=part)))[0] for part in (files[13:], files[:13])]
    for i in range(2):
        assert equal(whole[i], parts[0][i] + parts[1][i])


def test_processes_change_nothing(folders):
    alone, images = sums(score(job(folders)))
    together, same = sums(score(job(folders), workers=2))
    assert images == same
    assert all(equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_worker_names_the_bad_file(folders):
    (folders[0] / "07.mat").write_bytes(b"")
    with pytest.raises(InputError, match=r"07\.mat: not a \.mat file"):
        list(score(job(folders), workers=2))


@pytest.mark.parametrize("error", [OSError("no more"), BrokenProcessPool("no more")])
def test_processes_that_do_not_start(folders, monkeypatch, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr("utils.metrics.scoring.ProcessPoolExecutor", refuse)
    with pytest.raises(InputError, match=r"--workers 2: .*\(no more\); use fewer"):
        evaluate("ours", job(folders), workers=2)


def test_results_for_other_images_than_the_masks(folders):
    (folders[0] / "01.mat").rename(folders[0] / "x.mat")
    with pytest.raises(
        InputError, match=r"1 of 20 masks have no map and 1 maps no mask \(mask 01; map x\)"
    ):
        pair_files(*folders)


def test_sizes_that_differ(folders):
    scipy.io.savemat(folders[0] / "01.mat", {"T": np.full((20, 30), -5.0)})
    with pytest.raises(InputError, match=r"01\.mat: 30x20 px, but its mask has 60x40 px; --resize"):
        list(score(job(folders)))
    assert sums(score(job(folders, resize=True)))[0][0].counts.n_images == 20
    with pytest.raises(InputError, match=r"01\.mat: 30x20 px, but its mask has 60x40 px"):
        list(score(job(folders, protocols=[PUBLISHED])))
    scipy.io.savemat(folders[0] / "01.mat", {"T": np.full((256, 256), -5.0)})
    # a map of the protocol's own size is what networks that see 256 x 256 px give
    assert sums(score(job(folders, protocols=[PUBLISHED])))[0][0].counts.n_images == 20


def test_a_map_is_resized_once(tmp_path):
    logits = np.full((256, 256), -9, np.float32)
    logits[40:42, 40:42] = 4
    logits[99, 99] = 3  # lost where it is first brought to 512 and then back
    levels = np.where(logits > 0, 255, 0).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    for folder in ("maps", "masks"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "maps" / "a.npy", logits)
    (tmp_path / "masks" / "a.png").write_bytes(encode_png(levels))
    both = job((tmp_path / "maps", tmp_path / "masks"), kind="logits", resize=True)
    corrected, published = sums(score(both))[0]
    assert (published.counts.n_hits, published.counts.tp_px, published.counts.fn_px) == (2, 5, 0)
    assert corrected.counts.n_pixels == 512 * 512


def test_a_method_that_writes_pictures_scores_as_its_logits(folders, tmp_path):
    pictures = tmp_path / "png"
    pictures.mkdir()
    for path in folders[0].iterdir():
        logits = scipy.io.loadmat(path)["T"]
        levels = np.rint(255 / (1 + np.exp(-logits))).astype(np.uint8)
        (pictures / f"{path.stem}_Pred.png").write_bytes(encode_png(levels))
    a, _ = sums(score(job(folders)))
    b, _ = sums(score(job((pictures, folders[1]))))
    assert a[0].counts == b[0].counts


def test_mask_rules_are_the_protocols(folders):
    path = folders[1] / "01.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    row, column = np.argwhere(mask)[0]
    mask[row, column] = 200  # a grey edge
    path.write_bytes(encode_png(mask))
    one = job(folders)._replace(files=pair_files(*folders)[1:2])
    corrected, published = sums(score(one._replace(protocols=[CORRECTED, PUBLISHED])))[0]
    native = PUBLISHED.mask(mask)
    assert corrected.counts.tp_px + corrected.counts.fn_px == 9
    assert native.sum() == 8 and published.counts.n_targets == 1
    pair = MapAndMask.read(*one.files[0][1:], None)
    found, true = pair.sized(PUBLISHED, False)
    logits, expected = plain.sized(pair.prediction.values, mask)
    np.testing.assert_array_equal(found.values, logits)
    np.testing.assert_array_equal(true, expected)
    dnanet = PROTOCOLS["dnanet"]
    by_centres = Image.fromarray(dnanet.mask(mask)).resize((256, 256), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(pair.sized(dnanet, False)[1], by_centres)
