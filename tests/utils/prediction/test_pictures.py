import io

import numpy as np
import pytest
from matplotlib import image as pictures

from utils.prediction import Predictor
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


def test_small_images_are_enlarged():
    levels = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    picture = overlay(result(30, 40, levels=levels))
    assert picture.shape == (390, 520, 3)
    assert np.array_equal(picture[::13, ::13, 0], levels)


@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (513, 3)])
def test_any_shape(shape):
    image = result(*shape, (0, 0), (shape[0] - 1, shape[1] - 1))
    assert overlay(image).ndim == 3
    png = pictures.imread(io.BytesIO(surface_figure(image)))
    assert png.std() > 0


def test_a_column_for_every_stage(weights):
    predictor = Predictor(weights, "cpu")
    image = predictor(np.random.default_rng(0).integers(0, 255, (40, 600), np.uint8))
    png = pictures.imread(io.BytesIO(stage_figure(predictor, image)))
    narrow = pictures.imread(io.BytesIO(stage_figure(predictor, result(40, 40))))
    assert png.shape[1] == narrow.shape[1] == 720  # the image and two stages
    assert png.std() > 0.01


def test_stages_are_those_of_the_prediction(weights, monkeypatch):
    predictor, seen = Predictor(weights, "cpu", size=64), []
    monkeypatch.setattr(
        predictor,
        "stages",
        lambda levels, limits, stages=predictor.stages: (
            seen.append(levels.shape) or stages(levels, limits)
        ),
    )
    stage_figure(predictor, predictor(np.zeros((40, 600), np.uint8)))
    predictor.size = 0
    stage_figure(predictor, predictor(np.zeros((40, 600), np.uint8)))
    assert seen == [(40, 600), (40, 512)]  # resized as a whole, or a window
