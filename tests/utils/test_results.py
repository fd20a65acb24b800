import numpy as np

from utils.data.images import encode_png
from utils.files import write_bytes
from utils.results import find_export, map_path, write_logits, write_record


def test_data_sets_of_one_spelling_are_told_apart(door, refused, tmp_path):
    data, results = tmp_path / "data", tmp_path / "results"

    def export(name):
        write_logits(map_path(results / name, "mat", "a"), np.zeros((8, 8), np.float32))
        write_record(results / name, {"complete": True, "dataset": name})

    for name in ("dim24", "dim2_4"):
        mask = encode_png(np.zeros((8, 8), np.uint8))
        write_bytes(data / name / "test" / "masks" / "a.png", mask)
    export("dim2_4")
    options = ("cal_from_mask", "--data-root", data, "--results", results, "--dataset")
    assert "made for dim2_4, not for dim24" in refused(*options, "dim24")
    assert door(*options, "dim2_4")[0] == 0
    export("dim24")
    for name in ("dim24", "dim2_4"):
        assert find_export(results, name) == results / name
