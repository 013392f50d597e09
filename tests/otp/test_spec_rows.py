"""OTP's tests of child specs and flags: what is wrong is refused where it is written, by an error that says what.

The number in a name is the row of OTP's supervisor_SUITE in the project's inventory; the rest is its case. In OTP specs
are maps that the supervisor checks when it starts; here they are values that are checked when they are made.
"""

import math
from itertools import product
from typing import Any, get_args

import pytest

from otp import Supervisor, check_specs, child, open_supervisor
from otp._spec import AutoShutdown, Restart, Strategy
from tests.otp.actors import Echo
from tests.otp.virtual import virtual_time

pytestmark = virtual_time


async def test_row_015_sup_start_map_faulty_specs():
    """Adapted: what is missing is a missing argument, and a key that is not known is refused, unlike in OTP."""
    with pytest.raises(ValueError, match=r"id is needed: .* has no name of its own"):
        child(lambda: None)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'start'"):
        child(id="a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'restrat'"):
        child(Echo, restrat="permanent")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"each of children must be what child\(\) returns, not \{'id': 'a'\}"):
        Supervisor([{"id": "a"}])  # type: ignore[list-item]


WRONG = [
    ([child(Echo), child(Echo)], "children must have different ids, but 'Echo' is there twice"),
    ([Echo], r"each of children must be what child\(\) returns, not <class"),
    ([child(lambda n: n, id="needy")], "child 'needy': start cannot be called without arguments"),
    ([child(Echo, restart="transient", significant=True)], "significant must be False for child 'Echo'"),
]


@pytest.mark.parametrize(("specs", "message"), WRONG)
async def test_row_026_child_specs(specs, message):
    """Adapted: specs are values, so a list of them can be wrong as a whole; `check_specs` says so and does nothing."""
    with pytest.raises((TypeError, ValueError), match=message):
        Supervisor(specs)
    with pytest.raises((TypeError, ValueError), match=message):
        check_specs(specs, auto_shutdown="never")
    check_specs([child(Echo, restart="transient", significant=True)])  # auto_shutdown may be anything
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"simple_one_for_one needs exactly one child, the template, not {count}"):
            Supervisor([child(Echo, id=str(n)) for n in range(count)], strategy="simple_one_for_one")


async def test_row_027_child_specs_map():
    starts: list[Any] = [Echo, Supervisor([])]
    shutdowns: list[Any] = ["brutal", "infinity", 0, 5, 0.5, None]
    combinations = product(
        get_args(Strategy), get_args(AutoShutdown), get_args(Restart), [False, True], starts, shutdowns
    )
    accepted = 0
    for strategy, auto_shutdown, restart, significant, start, shutdown in combinations:
        simple = strategy == "simple_one_for_one"
        bad = (significant and (restart == "permanent" or auto_shutdown == "never")) or (
            simple and auto_shutdown != "never"
        )
        try:
            spec = child(start, id="a", restart=restart, significant=significant, shutdown=shutdown)
            if not simple:
                check_specs([spec], auto_shutdown=auto_shutdown)
            supervisor = Supervisor([spec], strategy=strategy, auto_shutdown=auto_shutdown)
        except ValueError:
            assert bad, "refused"
        else:
            assert not bad, "accepted"
            accepted += 1
            async with open_supervisor(supervisor, log=False) as running:
                assert running.count_children().specs == 1
                if not simple:
                    kept = running.get_childspec("a")
                    assert kept is spec
                    nested = isinstance(start, Supervisor)
                    assert kept.shutdown == (("infinity" if nested else 5.0) if shutdown is None else shutdown)
                    assert kept.init_timeout == (math.inf if nested else 30.0)
    assert accepted == 3 * (3 + 2 * 5) * 12 + 3 * 12


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("strategy", "none_for_one", "must be one of 'one_for_one', 'one_for_all', 'rest_for_one', 'simple_one_f"),
        ("intensity", -1, "must be a whole number >= 0"),
        ("intensity", 1.5, "must be a whole number >= 0"),
        ("period", 0, "must be a finite number of seconds > 0"),
        ("period", "5", "must be a finite number of seconds > 0"),
        ("auto_shutdown", "always", "must be one of 'never', 'any_significant', 'all_significant'"),
        ("auto_shutdown", True, "must be one of"),
        ("max_children", 0, "must be a whole number >= 1"),
        ("backoff", 1.0, "must be a Backoff or None"),
    ],
)
async def test_row_028_sup_flags(flag, value, allowed):
    """Adapted: flags are arguments. Each error names the argument, what is allowed and what it got instead."""
    with pytest.raises((TypeError, ValueError)) as refused:
        Supervisor([], **{flag: value})
    assert str(refused.value).startswith(f"{flag} {allowed}")
    assert str(refused.value).endswith(f", not {value!r}")
    with pytest.raises(TypeError, match="unexpected keyword argument 'intensty'"):
        Supervisor([], intensty=3)  # type: ignore[call-arg]
