"""The thread that ends the process, with a fake end."""

import threading
import time

from otp._last_resort import LastResort

BOUND = 20.0


class Fake:
    def __init__(self):
        self.calls = []
        self.left = threading.Event()

    def release(self):
        self.calls.append("release")

    def say(self, why):
        self.calls.append(why)

    def leave(self, code):
        self.calls.append(code)
        self.left.set()


def test_leaves_at_the_deadline_after_the_last_acts():
    fake = Fake()
    resort = LastResort(fake.release, fake.say, leave=fake.leave)
    resort.exit_by(time.monotonic() + 1000, 0, "far away")
    resort.exit_by(time.monotonic() + 0.01, 75, "the budget is used up")
    assert fake.left.wait(BOUND)
    *acts, last = fake.calls
    assert sorted(acts) == ["release", "the budget is used up: the process exits now, with code 75"]
    assert last == 75


def test_neither_act_waits_for_the_other_and_the_end_waits_for_neither():
    """A store that is locked must not keep the log from saying what is stuck, nor a full pipe the leases."""
    for stuck in ("release", "say"):
        fake = Fake()
        hangs = threading.Event().wait
        acts = [hangs, fake.say] if stuck == "release" else [fake.release, hangs]
        resort = LastResort(*acts, leave=fake.leave, patience=0.3)
        resort.exit_by(0, 1, "now")
        assert fake.left.wait(BOUND)
        assert len(fake.calls) == 2
        assert fake.calls[-1] == 1


def test_leaves_although_an_act_raises(caplog):
    fake = Fake()
    resort = LastResort(lambda: 1 / 0, fake.say, leave=fake.leave, patience=0.05)
    resort.exit_by(0, 1, "now")
    assert fake.left.wait(BOUND)
    assert fake.calls[-1] == 1
    assert "ZeroDivisionError" in caplog.text


def test_is_dismissed():
    fake = Fake()
    resort = LastResort(fake.release, fake.say, leave=fake.leave)
    resort.exit_by(time.monotonic() + 1000, 75, "never")
    resort.dismiss()
    for thread in resort.threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    assert fake.calls == []
