import io

import numpy as np
import pytest
from matplotlib import image as pictures

from utils.prediction import Predictor
from utils.prediction import pictures as drawings
from utils.prediction.pictures import overlay, stage_figure, surface_figure
from utils.prediction.predictor import Result

GREEN = (60, 220, 80)


def result(height, width, *pixels, levels=None):
    logits = np.full((height, width), -9, np.float32)
    for row, column in pixels:
        logits[row, column] = 2
    if levels is None:
        levels = np.full((height, width), 100, np.uint8)
    return Result(levels, (0.0, 255.0), logits, np.zeros_like(logits), 0.5, 1)


def test_a_box_around_a_target():
    picture = overlay(result(600, 700, (300, 400)))
    assert picture.shape == (600, 700, 3) and picture.dtype == np.uint8
    rows, columns = np.nonzero((picture == GREEN).all(axis=2))
    assert (rows.max(), columns.min()) == (303, 397)
    assert (picture[300, 400] == 100).all()  # the target itself stays to be seen
    assert (overlay(result(600, 700)) == 100).all()


def test_the_label_of_a_box_as_high_as_the_image_is_in_it():
    picture = overlay(result(600, 700, *((row, 400) for row in range(600))))
    assert (picture[:, 410:] != 100).any()  # right of the box


def test_small_images_are_enlarged():
    levels = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    picture = overlay(result(30, 40, levels=levels))
    assert picture.shape == (390, 520, 3)
    assert np.array_equal(picture[::13, ::13, 0], levels)


@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (513, 3)])
def test_any_shape(shape):
    image = result(*shape, (0, 0), (shape[0] - 1, shape[1] - 1))
    assert (overlay(image) != overlay(result(*shape))).any()
    assert surface_figure(image) != surface_figure(result(*shape))


def test_a_target_changes_its_surface_only():
    drawn = [
        pictures.imread(io.BytesIO(surface_figure(result(40, 40, *pixels))))
        for pixels in ([], [(20, 20)])
    ]
    columns = np.flatnonzero((drawn[0] != drawn[1]).any(axis=(0, 2)))
    assert columns.min() > 2 / 3 * drawn[0].shape[1]  # image, background and target in a row


def test_a_column_for_every_stage(weights):
    predictor = Predictor(weights, "cpu")
    image = predictor(np.random.default_rng(0).integers(0, 255, (40, 600), np.uint8))
    png = pictures.imread(io.BytesIO(stage_figure(predictor, image)))
    narrow = pictures.imread(io.BytesIO(stage_figure(predictor, result(40, 40))))
    assert png.shape[1] == narrow.shape[1]
    assert 719 <= png.shape[1] <= 720  # the image and two stages; Matplotlib rounds it


def test_stages_are_those_of_the_prediction(weights, monkeypatch):
    predictor, seen, shown = Predictor(weights, "cpu", size=64), [], {}
    monkeypatch.setattr(
        predictor,
        "stages",
        lambda levels, limits, stages=predictor.stages: (
            seen.append(levels.shape) or stages(levels, limits)
        ),
    )
    monkeypatch.setattr(
        drawings, "_show", lambda axes, m, title, limits=None: shown.update({title: m})
    )
    levels = np.random.default_rng(0).integers(0, 255, (40, 600), np.uint8)
    stage_figure(predictor, predictor(levels))
    predictor.size = 0
    image = predictor(levels)
    stage_figure(predictor, image)
    window = drawings._window(image)
    np.testing.assert_allclose(255 * shown["image"], levels[window], atol=1e-4)
    np.testing.assert_allclose(shown["target T, stage 2"], image.probability[window], atol=1e-6)
    monkeypatch.setattr("utils.prediction.predictor.WHOLE", 1)
    stage_figure(predictor, image)
    assert seen == [(40, 600), (40, 600), (40, 512)]  # in tiles: a window
