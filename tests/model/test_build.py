import pytest

from model import build_model


def test_the_published_size():
    net = build_model()
    assert net.config == {"stages": 5, "width": 16, "without": "nothing"}
    assert sum(p.numel() for p in net.parameters()) == 9_646_219


def test_the_alias_is_the_same_network():
    for name in ("dcnet", "MSCoNet"):
        config = build_model(name, stages=1, width=2).config
        assert config == {"stages": 1, "width": 2, "without": "nothing"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "unet"}, "no network is named 'unet'; known: msconet, dcnet"),
        ({"stages": 0}, "stages must be at least 1, got 0"),
        ({"without": "head"}, "no part .* 'head'; known: nothing, soa, ddc, gates"),
        ({"width": -1}, "width must be at least 1, got -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(**arguments)
