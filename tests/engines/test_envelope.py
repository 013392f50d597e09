"""Payloads: encoding, versions, and errors that never show what is inside."""

import enum
import json
import traceback
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pytest
from attrs import field, frozen, validators
from hypothesis import given
from hypothesis import strategies as st

from otp.engines import BadPayload, Envelope, Topic, Topics, UnknownPayload

SECRET = "hunter2hunter2"


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    ONE = 1


@frozen
class Inner:
    numbers: list[int]


@frozen
class Everything:
    text: str
    flag: bool
    ratio: float
    blob: bytes
    at: datetime
    day: date
    colour: Colour
    inner: Inner
    id: uuid.UUID
    price: Decimal
    path: Path
    wait: timedelta
    maybe: str | None = None


@frozen
class Login:
    name: str
    password: str = field(validator=validators.max_len(20))


LOGIN = Topic("login", Login, version=3)


@LOGIN.upcast(1)
def _(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "password": old.pop("pw")}


@LOGIN.upcast(2)
def _(old: dict[str, Any]) -> dict[str, Any]:
    return {"name": old["user"], "password": old["password"]}


def login(body: bytes, version: int = 3, **rest: Any) -> Envelope:
    return Envelope(topic="login", version=version, body=body, **rest)


def test_round_trip():
    value = Everything(
        "ä\0b", True, 0.5, b"\0\xff", datetime(2026, 8, 1, tzinfo=UTC), date(2026, 8, 1), Colour.RED, Inner([1]),
        uuid.UUID(int=7), Decimal("1.10"), Path("/a"), timedelta(minutes=1),
    )  # fmt: skip
    topic = Topic("everything", Everything)
    envelope = topic.encode(value, headers={"trace": SECRET})
    assert topic.decode(envelope) == value
    assert envelope.codec == "json"
    assert SECRET not in repr(envelope)
    assert "trace" in repr(envelope)


@given(st.text(), st.binary(), st.dictionaries(st.text(), st.integers()))
def test_any_content(text: str, blob: bytes, numbers: dict[str, int]):
    for kind, value in ((bytes, blob), (dict[str, int], numbers)):
        topic = Topic("t", kind)
        assert topic.decode(topic.encode(value)) == value
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert Topic("t", str).decode(Topic("t", str).encode(text)) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (dict[int, str], {1: "a", -2: "b"}),
        (dict[float, int], {1.5: 1}),
        (dict[bool, int], {True: 1}),
        (dict[Size, int], {Size.ONE: 1}),
        (dict[Colour, int], {Colour.RED: 1}),
        (dict[date, int], {date(2026, 8, 1): 1}),
        (dict[uuid.UUID, dict[int, int]], {uuid.UUID(int=7): {1: 2}}),
        (dict[int | None, int], {None: 1, 2: 2}),
        (Mapping[int, list[int]], {1: [2]}),
        (OrderedDict[int, int], OrderedDict({3: 1})),
    ],
)
def test_keys_that_are_not_text(kind: Any, value: Any):
    topic = Topic("t", kind)
    found = topic.decode(topic.encode(value))
    assert found == value
    assert type(found) is type(value)


def test_versions_are_lifted_in_a_chain():
    assert LOGIN.decode(login(b'{"user":"a","pw":"b"}', 1)) == Login("a", "b")
    assert LOGIN.decode(login(b'{"user":"a","password":"b"}', 2)) == Login("a", "b")
    assert LOGIN.decode(login(b'{"name":"a","password":"b","new":1}')) == Login("a", "b")


@pytest.mark.parametrize(
    ("envelope", "match"),
    [
        (login(b"{}", 4), "up to version 3"),
        (Envelope(topic="other", version=1, body=b"{}"), "not known here"),
        (login(b"{}", codec="msgpack"), "msgpack"),
    ],
)
def test_unknown(envelope: Envelope, match: str):
    with pytest.raises(UnknownPayload, match=match) as caught:
        LOGIN.decode(envelope)
    assert caught.value.topic == envelope.topic
    assert caught.value.version == envelope.version


def test_a_missing_upcaster_is_unknown_since_another_program_may_have_it():
    with pytest.raises(UnknownPayload, match="no upcaster from version 1 to 2"):
        Topic("login", Login, version=2).decode(login(b"{}", 1))


@pytest.mark.parametrize(
    ("envelope", "match"),
    [
        (login(b'{"name":"a","password":"' + SECRET.encode()), "not JSON"),
        (login(b"\xff\xfe"), "not JSON"),
        (login(b"[" * 100_000), "not JSON"),
        (login(b'{"name":"a"}'), r"\$\.password"),
        (login(b'{"name":1,"password":"' + SECRET.encode() + b'"}'), r"str @ \$\.name"),
        (login(b'{"name":"a","password":"' + SECRET.encode() * 3 + b'"}'), "invalid value"),
        (login(b'["' + SECRET.encode() + b'"]'), "login"),
        (login(b'"' + SECRET.encode() + b'"'), "login"),
        (login(b"null"), "login"),
        (login(b'{"name":"a","password":"' + SECRET.encode() + b'"}', checksum=1), "checksum"),
        (login(b'{"user":"' + SECRET.encode() + b'"}', 1), "upcaster 1 -> 2 raised KeyError"),
        (login(b'"' + SECRET.encode() + b'"', 1), "upcaster 1 -> 2 raised"),
        (login(b"{}", 0), "versions begin at 1"),
    ],
)
def test_bad_payloads_are_refused_without_showing_them(envelope: Envelope, match: str):
    with pytest.raises(BadPayload, match=match) as caught:
        LOGIN.decode(envelope)
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in text
    assert caught.value.__context__ is None
    assert SECRET not in repr(envelope)


@frozen
class Choice:
    one: Literal["a", "b"] = "a"
    many: dict[str, int] = field(factory=dict[str, int])
    numbers: dict[int, int] = field(factory=dict[int, int])
    text: str = field(default="")

    @text.validator
    def _(self, _attribute: object, value: str) -> None:
        if value:
            raise AttributeError  # cattrs' own words for errors stumble over one without arguments


@pytest.mark.parametrize(
    ("body", "match"),
    [
        ({"one": SECRET}, r"does not fit .* @ \$\.one"),
        ({"many": {SECRET: "x"}}, r"expected int @ \$\.many\[\.\.\.\]"),
        ({"numbers": {SECRET: 1}}, r"expected int @ \$\.numbers\[\.\.\.\]"),
        ({"text": SECRET}, "does not fit"),
    ],
)
def test_no_value_and_no_key_is_shown(body: dict[str, Any], match: str):
    with pytest.raises(BadPayload, match=match) as caught:
        Topic("choice", Choice).decode(Envelope(topic="choice", version=1, body=json.dumps(body).encode()))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_what_cannot_be_encoded():
    with pytest.raises(TypeError, match="carries Login"):
        LOGIN.encode("x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be encoded"):
        Topic("f", float).encode(float("nan"))
    with pytest.raises(TypeError, match="cannot be encoded"):
        Topic("o", object).encode(object())
    with pytest.raises(TypeError, match="cannot be encoded"):
        Topic("d", list[date]).encode(["today"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="headers"):
        LOGIN.encode(Login("a", "b"), headers={"a": 1})  # type: ignore[dict-item]


T = TypeVar("T")


@frozen
class Box(Generic[T]):
    content: T


@frozen
class Left:
    at: int


@frozen
class Right:
    at: int


@frozen
class EitherSide:
    side: Left | Right


def test_what_could_not_be_read_back_is_refused_when_it_is_put():
    """Not by whoever reads it: then it would be in the store, and lost."""
    with pytest.raises(TypeError, match="topic 'box': no Box could be read back: Missing type for generic"):
        Topics([Topic("box", Box)]).encode(Box(3))
    with pytest.raises(TypeError, match="no EitherSide could be read back: Could not disambiguate between"):
        Topics([Topic("either", EitherSide)]).encode(EitherSide(Left(1)))


def test_a_generic_class_with_its_parameter_is_a_type_like_any_other():
    topics = Topics([Topic("box", Box[int])])
    assert topics.decode(topics.encode(Box(3))) == Box(3)
    with pytest.raises(ValueError, match="is given twice"):
        Topics([Topic("box", Box[int]), Topic("other box", Box[str])])  # a value does not say which it is


def test_topics():
    topics = Topics([LOGIN, Topic("inner", Inner)])
    assert topics.names == ("login", "inner")
    envelope = topics.encode(Inner([1]), headers={"a": "b"})
    assert envelope.topic == "inner"
    assert dict(envelope.headers) == {"a": "b"}
    assert topics.decode(envelope) == Inner([1])
    with pytest.raises(TypeError, match="no topic for str"):
        topics.encode("x")
    with pytest.raises(UnknownPayload, match="inner, login"):
        topics.decode(Envelope(topic="x", version=1, body=b""))
    with pytest.raises(ValueError, match="twice"):
        Topics([LOGIN, LOGIN])
    with pytest.raises(ValueError, match="empty"):
        Topics([])
    with pytest.raises(TypeError, match="Topic values"):
        Topics([Login])  # type: ignore[list-item]


def test_wrong_topics():
    for name in ("", "a\nb", "x" * 201):
        with pytest.raises(ValueError, match="name"):
            Topic(name, str)
    with pytest.raises(ValueError, match="version=0"):
        Topic("a", str, version=0)
    with pytest.raises(TypeError, match="version"):
        Topic("a", str, version=True)
    with pytest.raises(ValueError, match="from 1 to 2"):
        LOGIN.upcast(3)
    with pytest.raises(ValueError, match="already"):
        LOGIN.upcast(1)
