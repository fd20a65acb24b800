import signal
import time

import pytest

from utils.training.signals import Signals


def test_the_second_ctrl_c_interrupts_unless_it_is_the_first_once_more(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    signals = Signals()
    for seconds, number in ((0, signal.SIGINT), (0.1, signal.SIGINT), (9, signal.SIGTERM)):
        now[0] = 100 + seconds
        signals._note(number, None)
    assert signals.received == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        signals._note(signal.SIGINT, None)
