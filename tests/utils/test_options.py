import pytest
import torch

from utils.options import InputError, Parser, choose_device, fraction, positive, run_door


def test_bad_input_is_one_line_and_exit_code_2(capsys):
    def door():
        raise InputError("a.png: no image")

    with pytest.raises(SystemExit) as stop:
        run_door(door)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a.png: no image\n"


def test_ctrl_c(capsys):
    def door():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_door(door)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("arguments", [["--n", "0"], ["--n", "x"], ["--part", "1"], ["--unknown"]])
def test_the_parser_takes_no_nonsense(arguments):
    parser = Parser("A test.")
    parser.add_argument("--n", type=positive)
    parser.add_argument("--part", type=fraction)
    with pytest.raises(InputError, match="--help lists the options"):
        parser.parse_args(arguments)


def test_devices():
    assert choose_device("auto").type in ("cpu", "cuda")
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("tpu9", "cuda:99"):
        with pytest.raises(InputError, match=f"--device {name}: not usable here"):
            choose_device(name)
