import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.prediction.tiles import predict_tiles


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(0, 7))
def test_the_weights_of_all_tiles_sum_to_1(height, width, side, overlap):
    image = np.random.default_rng(0).random((height, width)).astype(np.float32)
    seen = []

    def predict(tile):
        seen.append(tile.shape)
        return tile, tile * 2

    once, twice = predict_tiles(image, predict, side, overlap)
    assert max(max(shape) for shape in seen) <= side
    np.testing.assert_allclose(once, image, atol=1e-6)
    np.testing.assert_allclose(twice, 2 * image, atol=2e-6)


def test_an_edge_inside_the_image_counts_for_nothing_beside_a_neighbour():
    def predict(tile):  # wrong at its own edges, as a network is
        wrong = np.zeros_like(tile)
        wrong[[0, -1]] = wrong[:, [0, -1]] = 1
        return (wrong,)

    (blended,) = predict_tiles(np.zeros((100, 100), np.float32), predict, 40, 20)
    assert blended[3:-3, 3:-3].max() < 0.1


@pytest.mark.parametrize("length, count", [(40, 1), (41, 2), (60, 2), (61, 3)])
def test_no_more_tiles_than_needed(length, count):
    calls = []
    predict_tiles(np.zeros((9, length)), lambda tile: (calls.append(1), (tile,))[1], 40, 20)
    assert len(calls) == count
