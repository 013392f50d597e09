"""The lease rules against a model of the store: time, answers, outages, stalls and other holders at random."""

from math import inf

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otp.engines._keeper import Beat, LeaseKeeper
from otp.engines._token import Token

LEASE, MARGIN, STALL = 15.0, 1.5, 5.0
INTERVAL = LEASE / 3


class Keeping(RuleBasedStateMachine):
    """`store` is the truth: key -> (epoch, until). Everything our side believes must be on the safe side of it."""

    def __init__(self) -> None:
        super().__init__()
        self.keeper = LeaseKeeper(lease=LEASE, margin=MARGIN, stall_limit=STALL)
        self.now = 0.0
        self.store: dict[str, tuple[int, float]] = {}
        self.foreign: set[str] = set()  # keys another process holds
        self.ours: set[Token] = set()  # what our holders believe to hold
        self.reported: set[Token] = set()
        self.let_go: set[Token] = set()
        self.settling: dict[Token, bool] = {}  # token -> the finish has been committed
        self.flight: tuple[Beat, set[Token]] | None = None  # and what the store answered
        self.last_pulse = -inf

    # -- the world ---------------------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([0.0, 0.1, 0.9, 1.0, 2.5, 4.9, 5.1, 7.0, 13.4, 13.5, 15.0, 40.0]), alive=st.booleans()
    )
    def time_passes(self, seconds: float, alive: bool) -> None:
        self.now += seconds
        # The watchdog runs in the loop: whenever the loop runs, what has to be given up is given up.
        if alive:
            self.pulse()

    @rule()
    def pulse(self) -> None:
        self.keeper.pulse(self.now)
        self.last_pulse = self.now
        for token in self.keeper.expired(self.now):
            self.lost(token)

    @rule(key=st.sampled_from("abc"))
    def another_process_takes_over(self, key: str) -> None:
        epoch, until = self.store.get(key, (0, -inf))
        if until <= self.now:
            self.store[key] = (epoch + 1, self.now + LEASE)
            self.foreign.add(key)
            # The one that counts: nobody here may still believe to hold it - provided that our loop runs.
            if self.last_pulse == self.now:
                believing = [token for token in self.ours if token.key == key]
                assert not [token for token in believing if not self.settling.get(token)]

    @rule(key=st.sampled_from("abc"))
    def it_frees_it_again(self, key: str) -> None:
        if key in self.foreign:
            self.foreign.discard(key)
            self.store[key] = (self.store[key][0], -inf)

    # -- our process -------------------------------------------------------------------------------

    @rule(key=st.sampled_from("abc"), takes=st.sampled_from([0.0, 0.2, 3.0, 14.0]))
    def we_claim(self, key: str, takes: float) -> None:
        epoch, until = self.store.get(key, (0, -inf))
        if until > self.now:
            return
        sent = self.now
        self.store[key] = (epoch + 1, self.now + LEASE)
        self.foreign.discard(key)
        token = Token("k", key, "us", epoch + 1)
        self.now += takes  # the answer is slow; the loop runs again when it comes
        self.pulse()
        self.keeper.hold(token, sent=sent, now=self.now)
        self.last_pulse = self.now
        self.ours.add(token)
        for gone in self.keeper.expired(self.now):
            self.lost(gone)

    def lost(self, token: Token) -> None:
        assert token in self.ours, "reported something that we do not hold"
        assert token not in self.reported, "reported twice"
        assert token not in self.let_go, "reported although it was let go"
        self.ours.discard(token)
        self.settling.pop(token, None)
        self.reported.add(token)

    @precondition(lambda self: self.ours)
    @rule(data=st.data(), commit=st.booleans())
    def a_finish_begins(self, data: st.DataObject, commit: bool) -> None:
        token = data.draw(st.sampled_from(sorted(self.ours, key=repr)))
        if token in self.settling:
            return
        self.keeper.settle(token)
        fits = self.store[token.key][0] == token.epoch and token.key not in self.foreign
        if commit and fits:
            self.store[token.key] = (token.epoch, -inf)  # committed, but the answer is not here yet
        self.settling[token] = commit and fits

    @precondition(lambda self: self.settling)
    @rule(data=st.data())
    def a_finish_ends(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.settling, key=repr)))
        if self.settling.pop(token):
            assert self.keeper.let_go(token)
            self.ours.discard(token)
            self.let_go.add(token)
        else:
            self.keeper.unsettle(token, now=self.now)

    # -- the heartbeat -----------------------------------------------------------------------------

    @precondition(lambda self: self.flight is None)
    @rule()
    def heartbeat_begins(self) -> None:
        due = self.keeper.next_beat()
        beat = self.keeper.begin(self.now)
        if beat is None:
            return
        assert due <= self.now
        assert beat.sent == self.now
        assert self.now - self.last_pulse <= STALL, "renewed although the loop has stalled"
        assert self.keeper.next_beat() == inf, "a second beat beside the first"
        still = set()
        for token in beat.tokens:
            epoch, until = self.store[token.key]
            finished = until == -inf
            if epoch == token.epoch and token.key not in self.foreign and not finished:
                self.store[token.key] = (epoch, self.now + LEASE)
                still.add(token)
        self.flight = (beat, still)

    @precondition(lambda self: self.flight is not None)
    @rule(takes=st.sampled_from([0.0, 0.5, 6.0, 20.0]), fails=st.booleans())
    def heartbeat_is_answered(self, takes: float, fails: bool) -> None:
        assert self.flight is not None
        beat, still = self.flight
        self.flight = None
        self.now += takes
        if fails:
            self.keeper.failed(beat, now=self.now)
            # Tried again soon, and only while there is hope.
            assert not len(self.keeper) or self.keeper.next_beat() <= self.now + INTERVAL
            return
        for token in self.keeper.renewed(beat, still, now=self.now):
            assert token not in self.settling, "our own finish was taken for a loss"
            self.lost(token)
        for token in beat.tokens:
            if token in self.keeper and token in still:
                assert self.keeper.deadline(token) == max(beat.sent + LEASE, self.keeper.deadline(token) or 0)

    # -- always ------------------------------------------------------------------------------------

    @invariant()
    def we_stop_strictly_before_the_store_lets_others_in(self) -> None:
        for token in self.ours:
            deadline = self.keeper.deadline(token)
            assert deadline is not None
            epoch, until = self.store[token.key]
            if epoch == token.epoch and token.key not in self.foreign and until != -inf:
                assert deadline <= until, "the holder believes in a longer lease than the store"
                assert self.keeper.next_expiry() <= deadline - MARGIN < until

    @invariant()
    def every_lease_is_renewed_every_third_of_it(self) -> None:
        if self.flight is None:
            for token in self.ours:
                deadline = self.keeper.deadline(token)
                assert deadline is not None
                # Due a third after the last success, or sooner after a failure.
                assert self.keeper.next_beat() <= max(deadline - LEASE + INTERVAL, self.now + INTERVAL)

    @invariant()
    def we_hold_what_we_believe(self) -> None:
        assert self.ours == set(self.keeper.tokens())
        assert not self.reported & self.let_go


TestKeeping = Keeping.TestCase


def token(epoch: int = 1, key: str = "a") -> Token:
    return Token("k", key, "us", epoch)


def keeper() -> LeaseKeeper:
    return LeaseKeeper(lease=LEASE, margin=MARGIN, stall_limit=STALL)


def test_renewed_at_a_third_counted_from_before_the_send():
    k = keeper()
    k.hold(token(), sent=0.0, now=2.0)
    assert k.next_beat() == 5.0
    assert k.begin(4.9) is None
    beat = k.begin(5.0)
    assert beat is not None
    assert k.renewed(beat, [token()], now=8.0) == []
    assert k.deadline(token()) == 20.0
    assert k.next_beat() == 10.0


def test_an_old_answer_says_nothing_about_a_newer_epoch():
    k = keeper()
    k.hold(token(1), sent=0.0, now=0.0)
    k.pulse(5.0)
    beat = k.begin(5.0)
    assert beat is not None
    k.let_go(token(1))
    k.hold(token(2), sent=5.5, now=5.5)
    assert k.renewed(beat, [], now=6.0) == []
    assert token(2) in k
    assert k.deadline(token(2)) == 20.5


def test_the_very_same_token_held_again_is_another_holding():
    k = keeper()
    k.hold(token(), sent=0.0, now=0.0)
    k.pulse(5.0)
    beat = k.begin(5.0)
    assert beat is not None
    k.let_go(token())
    k.hold(token(), sent=5.5, now=5.5)
    assert k.renewed(beat, [], now=6.0) == []
    assert token() in k
    with pytest.raises(ValueError, match="held already"):
        k.hold(token(), sent=6.0, now=6.0)


def test_what_is_due_soon_goes_along():
    k = keeper()
    for number, sent in enumerate((0.0, 1.0, 2.0, 4.9)):
        k.hold(token(key=str(number)), sent=sent, now=5.0)
    beat = k.begin(5.0)
    assert beat is not None
    assert [t.key for t in beat.tokens] == ["0", "1", "2"]


def test_no_renewal_past_the_stall_and_again_after_it():
    k = keeper()
    k.hold(token(), sent=0.0, now=0.0)
    assert k.begin(5.01) is None
    assert k.stalled(5.01)
    k.pulse(5.5)
    assert k.begin(5.5) is not None


def test_an_outage_is_tried_again_until_it_is_too_late():
    k = keeper()
    k.hold(token(), sent=0.0, now=0.0)
    now, tries = 5.0, 0
    while not k.expired(now):
        k.pulse(now)
        if (beat := k.begin(now)) is not None:
            tries += 1
            k.failed(beat, now=now)
        now = min(k.next_beat(), k.next_expiry())
    assert now == 13.5
    assert tries == 9
    assert len(k) == 0


def test_a_finish_under_way_is_not_taken_for_a_loss():
    k = keeper()
    k.hold(token(), sent=0.0, now=0.0)
    k.settle(token())
    k.pulse(5.0)
    beat = k.begin(5.0)
    assert beat is not None
    assert k.renewed(beat, [], now=5.1) == []  # the store has seen our finish, we have not
    assert k.next_beat() == 6.1  # asked again soon, in case it was not ours
    assert k.let_go(token())
    assert not k.let_go(token())


def test_a_finish_that_was_rolled_back_leaves_the_lease_and_is_checked_at_once():
    k = keeper()
    k.hold(token(), sent=0.0, now=0.0)
    k.pulse(5.0)
    beat = k.begin(5.0)
    assert beat is not None
    k.settle(token())
    k.unsettle(token(), now=5.1)
    assert k.renewed(beat, [], now=5.2) == []  # may have been asked in between
    k.pulse(6.2)
    beat = k.begin(6.2)
    assert beat is not None
    assert k.renewed(beat, [], now=6.3) == [token()]
