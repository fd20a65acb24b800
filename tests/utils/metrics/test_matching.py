from itertools import permutations

import numpy as np
import skimage.measure
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.metrics.matching import assign, components, intersections, match
from utils.metrics.protocols import PROTOCOLS

centroids = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 6), st.just(2)),
    elements=st.integers(0, 24).map(lambda v: v / 4),
)
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)


@given(centroids, centroids)
def test_the_most_hits_and_among_those_the_least_distance(true, predicted):
    pairs = assign(true, predicted, 3.0)
    assert len({t for t, _ in pairs}) == len({p for _, p in pairs}) == len(pairs)
    distance = np.linalg.norm(true[:, None] - predicted[None], axis=2)
    assert all(distance[t, p] < 3 for t, p in pairs)

    best = (0, 0.0)
    small, large = sorted((len(true), len(predicted)))
    table = distance if len(true) == small else distance.T
    for chosen in permutations(range(large), small):
        near = [table[row, column] for row, column in enumerate(chosen) if table[row, column] < 3]
        best = min(best, (-len(near), sum(near)))
    total = sum(distance[t, p] for t, p in pairs)
    assert -len(pairs) == best[0] and abs(total - best[1]) < 1e-9


@given(hnp.arrays(bool, shapes))
def test_components_are_those_of_scikit_image_in_its_order(mask):
    labels = skimage.measure.label(mask, connectivity=2)
    regions = skimage.measure.regionprops(labels)
    ours = components(mask)
    np.testing.assert_array_equal(ours.labels, labels)
    np.testing.assert_array_equal(ours.areas, [region.area for region in regions])
    expected = np.reshape([region.centroid for region in regions], (-1, 2))
    np.testing.assert_allclose(ours.centroids[:, ::-1], expected)


def test_components_of_a_part_of_an_array():
    whole = np.zeros((9, 12), bool)
    whole[2:4, 3:5] = True
    part = components(whole[1:8, 2::2])
    assert part.areas.tolist() == [2] and part.centroids.tolist() == [[1, 1.5]]


@given(shapes.flatmap(lambda s: st.tuples(hnp.arrays(bool, s), hnp.arrays(bool, s))))
def test_overlaps(pair):
    true, predicted = map(components, pair)
    shared = intersections(true, predicted)
    assert shared.shape == (len(true.areas), len(predicted.areas))
    assert shared.sum() == (pair[0] & pair[1]).sum()
    hit = dict(match(true, predicted, PROTOCOLS["rpcanet"]))
    for t in range(len(true.areas)):
        inside = pair[1] & (true.labels == t + 1)
        assert (t in hit) == inside.any()
        if t in hit:
            assert shared[t, hit[t]] == shared[t].max()
