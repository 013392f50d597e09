"""Run settings and the arithmetic of the shutdown budget."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otp._budget import Budget
from otp._settings import RunSettings, parse_address


def test_reads_the_environment():
    environ = {
        "HOLDFAST_GRACE": "12.5",
        "HOLDFAST_PROBES": ":8080",
        "HOLDFAST_LOG_LEVEL": "debug",
        "HOLDFAST_ON_STUCK": "Stop",
        "PATH": "/bin",
        "HOLDFASTER": "unrelated",
    }
    settings = RunSettings.from_env(environ=environ)
    assert settings == RunSettings(grace=12.5, probes=":8080", log_level="DEBUG", on_stuck="stop")
    assert RunSettings.from_env(environ={"HOLDFAST_PROBES": ""}).probes is None
    assert RunSettings.from_env("POD_", environ={"POD_SETTLE": "3", "HOLDFAST_X": "1"}).settle == 3


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("HOLDFAST_GRACE", "soon", "HOLDFAST_GRACE must be a number of seconds, not 'soon'"),
        ("HOLDFAST_GRACE", "-1", "grace must be a finite number of seconds > 0, not -1.0"),
        ("HOLDFAST_GRACE", "nan", "grace must be"),
        ("HOLDFAST_GRACE", "inf", "grace must be"),
        ("HOLDFAST_SETTLE", "13", "settle must be at most half of grace, 12.5, not 13.0"),
        ("HOLDFAST_PROBES", "8080", "probes must be 'host:port', ':port' or '[v6 address]:port', not '8080'"),
        ("HOLDFAST_PROBES", ":65536", "probes must be"),
        ("HOLDFAST_LOG_LEVEL", "loud", "log_level must be one of 'DEBUG', 'INFO'"),
        ("HOLDFAST_ON_STUCK", "exit", "on_stuck must be one of 'report', 'stop', not 'exit'"),
        ("HOLDFAST_STALL_LIMIT", "0.1", "stall_limit must be at least warn_after, 0.5, not 0.1"),
        ("HOLDFAST_GRACEE", "1", "HOLDFAST_GRACEE is no setting; there are HOLDFAST_GRACE, HOLDFAST_LOG_LEVEL"),
        ("HOLDFAST_PORTS", "1", "HOLDFAST_PORTS is no setting"),
    ],
)
def test_refuses_what_it_does_not_know(variable, value, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        RunSettings.from_env(environ={variable: value})


def test_passes_over_the_service_links_of_kubernetes():
    links = [
        "HOLDFAST_SERVICE_HOST",
        "HOLDFAST_SERVICE_PORT",
        "HOLDFAST_SERVICE_PORT_HTTP",
        "HOLDFAST_PORT",
        "HOLDFAST_PORT_80_TCP",
        "HOLDFAST_PORT_80_TCP_ADDR",
    ]
    assert RunSettings.from_env(environ=dict.fromkeys(links, "x")) == RunSettings()


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":0", ("0.0.0.0", 0)),
        ("[::1]:8080", ("::1", 8080)),
        ("pod.local:1", ("pod.local", 1)),
    ],
)
def test_parses_addresses(address, parts):
    assert parse_address("probes", address) == parts


def test_the_default_budget():
    budget = Budget.plan(100.0, grace=25.0, settle=5.0)
    assert (budget.settle_until, budget.drain_until, budget.stop_until, budget.exit_by) == (105, 119, 124, 125)
    assert budget.children_until == 123
    assert budget.shift(-100) == Budget.plan(0.0, grace=25.0, settle=5.0)


def test_a_tiny_budget_still_has_every_phase():
    budget = Budget.plan(0.0, grace=0.5, settle=0.0)
    assert budget.drain_until == pytest.approx(0.275)
    assert budget.stop_until == pytest.approx(0.4)


def test_a_second_signal_skips_to_the_stop():
    budget = Budget.plan(0.0, grace=25.0, settle=5.0).hurry(2.0)
    assert (budget.settle_until, budget.drain_until, budget.stop_until, budget.exit_by) == (2, 2.5, 7, 8)


graces = st.floats(0.001, 1e6)


@given(begun=st.floats(0, 1e6), grace=graces, settle=st.floats(0, 0.5), later=st.floats(0, 2))
def test_phases_are_in_order_and_a_hurry_never_adds_time(begun, grace, settle, later):
    budget = Budget.plan(begun, grace=grace, settle=settle * grace)
    now = begun + later * grace
    for each in (budget, budget.hurry(now), budget.hurry(now).hurry(now)):
        assert each.settle_until <= each.drain_until <= each.children_until <= each.stop_until <= each.exit_by
    hurried = budget.hurry(now)
    assert hurried.exit_by <= budget.exit_by
    assert hurried.stop_until <= budget.stop_until
    assert hurried.settle_until <= now
    assert hurried.drain_until <= budget.drain_until
