"""The public names of otp: they say that they are otp's, can be pickled by that name, and their fields have types."""

import inspect
import pickle
import pydoc
import subprocess
import sys
import typing

import attrs
import pytest

import otp
import otp.testing

PUBLIC = {name: value for name, value in vars(otp).items() if not name.startswith("_") and not inspect.ismodule(value)}
OWN = [value for value in PUBLIC.values() if inspect.isclass(value) or inspect.isfunction(value)]


def test_everything_public_is_at_home_in_otp():
    assert {each.__name__: each.__module__ for each in OWN} == {each.__name__: "otp" for each in OWN}
    assert repr(otp.Killed) == "<class 'otp.Killed'>"


def test_so_is_everything_in_otp_testing_but_what_is_trios():
    homes = {name: getattr(otp.testing, name).__module__ for name in otp.testing.__all__}
    assert homes.pop("settle").partition(".")[0] == "trio"
    assert set(homes.values()) == {"otp.testing"}


@pytest.mark.parametrize("value", OWN, ids=lambda value: value.__name__)
def test_it_is_pickled_by_its_public_name(value):
    pickled = pickle.dumps(value)
    assert b"otp._" not in pickled
    assert pickle.loads(pickled) is value


def test_a_pickle_that_names_the_private_module_is_still_read():
    assert pickle.loads(b"cotp._exit\nKilled\n.") is otp.Killed


@pytest.mark.parametrize(
    "value", [each for each in OWN if inspect.isclass(each) and attrs.has(each)], ids=lambda value: value.__name__
)
def test_the_types_of_fields_can_be_found(value):
    """As cattrs and others do that make dicts of events: they look for the names in the module of the class.

    So a type that is named in a public field has to be exported, too.
    """
    hints = typing.get_type_hints(value)
    assert {field.name for field in attrs.fields(value)} <= hints.keys()


def test_everything_public_has_a_docstring_and_help_shows_it():
    assert [each.__name__ for each in OWN if not inspect.getdoc(each)] == []
    shown = pydoc.plain(pydoc.render_doc(otp))
    assert [each.__name__ for each in OWN if f"{each.__name__}(" not in shown] == []


def test_tracebacks_show_the_public_name():
    code = "import otp\nraise otp.NotAlive('app/ledger')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("otp.NotAlive: app/ledger is not alive\n")
