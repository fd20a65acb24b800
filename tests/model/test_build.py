import pytest

from model import build_model


def test_the_published_size():
    net = build_model()
    assert net.config == {"stages": 5, "width": 16}
    assert sum(p.numel() for p in net.parameters()) == 9_646_219


def test_the_alias_is_the_same_network():
    assert build_model("dcnet", stages=1, width=2).config == {"stages": 1, "width": 2}
    assert build_model("MSCoNet", stages=1, width=2).config == {"stages": 1, "width": 2}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "unet"}, "no network is named 'unet'; known: msconet, dcnet"),
        ({"stages": 0}, "stages must be at least 1, got 0"),
        ({"width": -1}, "width must be at least 1, got -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(**arguments)
