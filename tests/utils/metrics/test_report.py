import json

import numpy as np

from utils.metrics.counts import Counts, count
from utils.metrics.report import as_json, one_line, table


def test_figures_stand_beside_their_counts():
    true = np.zeros((100, 100), bool)
    true[10:12, 10:12] = True
    predicted = true.copy()
    predicted[50, 50] = True
    counts = count(predicted, true)
    text = table(counts)
    assert "IoU          80.00 %   4 of 5 px" in text
    assert "Pd          100.00 %   1 of 1 targets" in text
    assert "Fa         100.00e-6   1 of 10000 px" in text
    assert one_line(counts) == "IoU 0.8000  nIoU 0.8000  Pd 1/1  Fa 100.00e-6"


def test_what_is_undefined_says_so_and_is_null_in_json():
    assert table(Counts()).count("undefined") == 7
    content = json.loads(json.dumps(as_json(Counts()), allow_nan=False))
    assert content["schema"] == 1
    assert content["corrected"]["iou"] is None
    assert content["corrected"]["n_targets"] == 0
