from itertools import permutations

import numpy as np
import skimage.measure
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from utils.metrics.matching import Components, components, match

centroids = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 5), st.just(2)),
    elements=st.integers(0, 24).map(lambda v: v / 4),
)


def as_components(points):
    return Components(points, np.ones(len(points), np.int64))


@given(centroids, centroids)
def test_the_most_hits_and_among_those_the_least_distance(true, predicted):
    pairs = match(as_components(true), as_components(predicted))
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


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_components_are_those_of_scikit_image(mask):
    regions = skimage.measure.regionprops(skimage.measure.label(mask, connectivity=2))
    ours = components(mask)
    expected = sorted((region.centroid[1], region.centroid[0], region.area) for region in regions)
    found = sorted((*c, a) for c, a in zip(*ours, strict=True))
    np.testing.assert_allclose(found, expected)
