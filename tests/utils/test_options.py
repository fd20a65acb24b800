import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils.options import (
    InputError,
    Parser,
    Stopped,
    choose_device,
    fraction,
    non_negative,
    positive,
    run_door,
    side_or_0,
)

ROOT = Path(__file__).parents[2]


def test_bad_input_is_one_line_and_exit_code_2(capsys):
    def door():
        raise InputError("a.png: no image")

    with pytest.raises(SystemExit) as stop:
        run_door(door)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: a.png: no image\n"


def test_a_message_stays_one_line_whatever_a_name_holds(capsys):
    def door():
        raise InputError("a\nb\x1b.png: 无图像")

    with pytest.raises(SystemExit):
        run_door(door)
    assert capsys.readouterr().err == "error: a\\nb\\x1b.png: 无图像\n"


def test_what_a_folder_refuses_is_one_line(capsys):
    def door():
        raise PermissionError(errno.EACCES, "Permission denied", "closed/a")

    with pytest.raises(SystemExit) as stop:
        run_door(door)
    assert stop.value.code == 2
    assert (
        capsys.readouterr().err
        == "error: closed/a: cannot be read or written (Permission denied)\n"
    )


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_that_leads_to_itself_is_one_line(tmp_path, capsys):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(SystemExit) as stop:
        run_door(lambda: (loop / "a").resolve(strict=True))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "loop" in error and error.count("\n") == 1

    def other():
        raise RuntimeError("of the code")

    with pytest.raises(RuntimeError, match="of the code"):
        run_door(other)


def run_code(code, **streams):
    return subprocess.run(
        [sys.executable, "-c", f"from utils.options import run_door\n{code}"], cwd=ROOT, **streams
    )


@pytest.mark.skipif(os.name == "nt", reason="descriptors are another matter there")
@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_closed_streams_stop_nothing(closed):
    door = run_code(
        "import sys\nrun_door(lambda: print('out') or print('err', file=sys.stderr) or 7)",
        preexec_fn=lambda: [os.close(number) for number in closed],
    )
    assert door.returncode == 7


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="of Linux")
def test_output_to_a_full_disk():
    with open("/dev/full", "w") as full:
        door = run_code("run_door(lambda: print('a'))", stdout=full, stderr=subprocess.PIPE)
    assert door.returncode == 2
    assert door.stderr == b"error: the output cannot be written (No space left on device)\n"


_TERMINATED = """
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from utils.files import new_folder
from utils.options import run_door

def door():
    with new_folder(Path({folder!r})), ProcessPoolExecutor(1) as pool:
        waits = pool.submit(time.sleep, 60)
        while not waits.running():
            time.sleep(0.01)
        print("begun", flush=True)
        waits.result()

if __name__ == "__main__":
    run_door(door)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process at once")
def test_sigterm_unwinds_what_runs(tmp_path):
    (tmp_path / "program.py").write_text(_TERMINATED.format(folder=str(tmp_path / "in" / "set")))
    door = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert door.stdout.readline() == b"begun\n" and list((tmp_path / "in").iterdir())
    for _ in range(2):  # a launcher may send it twice
        door.terminate()
    assert door.wait(timeout=30) == 143 and not list((tmp_path / "in").iterdir())
    door.stdout.close()


@pytest.mark.parametrize("arguments", [["--n", ""], ["--n="]])
def test_an_empty_argument_is_an_error(arguments):
    parser = Parser("A test.")
    parser.add_argument("--n", default=1)
    with pytest.raises(InputError, match="an argument is empty; is a variable"):
        parser.parse_args(arguments)


def test_ctrl_c(capsys):
    def door():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_door(door)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_has_enough():
    code = (
        "from utils.options import run_door\n"
        "run_door(lambda: [print(n, flush=True) for n in range(10**5)] and 0)\n"
    )
    door = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert door.stdout.readline() == b"0\n"
    door.stdout.close()
    assert door.wait() == 141 and door.stderr.read() == b""
    door.stderr.close()


def test_a_reader_that_has_enough_on_windows(monkeypatch, tmp_path):
    def refuse(*text):
        raise OSError(errno.EINVAL, "Invalid argument")

    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(out, "write", refuse, raising=False)
        monkeypatch.setattr(sys, "platform", "win32")
        with pytest.raises(SystemExit) as stop:
            run_door(lambda: print("a"))
    assert stop.value.code == 141


def test_a_job_that_was_stopped_says_how_to_go_on(capsys):
    def door():
        raise Stopped(15, "--resume goes on")

    with pytest.raises(SystemExit) as stop:
        run_door(door)
    assert stop.value.code == 143
    assert capsys.readouterr().err == "stopped: --resume goes on\n"


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
    for name in ("tpu9", "cuda:99", "meta", "hpu", "privateuseone"):
        with pytest.raises(InputError, match=f"--device {name}: not usable here") as error:
            choose_device(name)
        assert len(str(error.value)) < 220


def test_a_value_may_begin_with_a_minus():
    parser = Parser("A test.")
    parser.add_argument("--range")
    parser.add_argument("--n", type=float)
    parsed = parser.parse_args(["--range", "-20,-5", "--n", "-.5"])
    assert (parsed.range, parsed.n) == ("-20,-5", -0.5)
    with pytest.raises(InputError, match="expected one argument"):
        parser.parse_args(["--range", "--n"])


def test_numbers_say_what_they_should_be():
    parser = Parser("A test.")
    parser.add_argument("--n", type=positive)
    parser.add_argument("--seed", type=non_negative)
    with pytest.raises(InputError, match=r"1.5 is not a whole number from 1 to 10\^9"):
        parser.parse_args(["--n", "1.5"])
    parser.add_argument("--size", type=side_or_0)
    assert [parser.parse_args(["--size", n]).size for n in ("0", "16384")] == [0, 16384]
    for number in ("-1", "16385"):
        with pytest.raises(InputError, match=f"{number} is not 0 or a number of px up to 16384"):
            parser.parse_args([f"--size={number}"])
    with pytest.raises(InputError, match="is not a whole number of at least 0"):
        parser.parse_args(["--seed", str(2**64)])


def test_a_name_that_the_terminal_cannot_show_stops_nothing():
    code = "from utils.options import run_door\nrun_door(lambda: print('红外'))"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, env=environment
    )
    assert shown.returncode == 0 and shown.stdout.split() == [b"\\u7ea2\\u5916"]
