"""The thread that ends the process, with a fake end."""

import threading
import time

from otp._last_resort import LastResort

BOUND = 20.0


class Fake:
    def __init__(self):
        self.calls = []
        self.left = threading.Event()

    def at_exit(self):
        self.calls.append("at_exit")

    def leave(self, code):
        self.calls.append(code)
        self.left.set()


def test_leaves_at_the_deadline_after_the_callbacks(caplog):
    fake = Fake()
    resort = LastResort(fake.at_exit, leave=fake.leave)
    resort.exit_by(time.monotonic() + 1000, 0, "far away")
    resort.exit_by(time.monotonic() + 0.01, 75, "the budget is used up")
    assert fake.left.wait(BOUND)
    assert fake.calls == ["at_exit", 75]
    assert "the budget is used up: the process exits now, with code 75" in caplog.text


def test_leaves_although_a_callback_hangs_or_raises(caplog):
    for at_exit in (threading.Event().wait, lambda: 1 / 0):
        fake = Fake()
        resort = LastResort(at_exit, leave=fake.leave, patience=0.05)
        resort.exit_by(0, 1, "now")
        assert fake.left.wait(BOUND)
        assert fake.calls == [1]
    assert "ZeroDivisionError" in caplog.text


def test_is_dismissed():
    fake = Fake()
    resort = LastResort(fake.at_exit, leave=fake.leave)
    resort.exit_by(time.monotonic() + 1000, 75, "never")
    resort.dismiss()
    for thread in resort._threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    assert fake.calls == []
