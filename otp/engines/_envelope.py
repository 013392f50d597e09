"""Payloads on the wire: a topic name, a schema version, JSON bytes and a checksum. Never pickle.

A `Topic` ties an explicit wire name to an attrs class and a version. Older versions are lifted by a chain
of upcasters on plain dicts (v1 -> v2 -> v3) before the class is built. cattrs does the converting and is
loaded at the first use only.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast, get_origin

from attrs import Factory, field, frozen

from ._errors import BadPayload, UnknownPayload
from ._options import text

T = TypeVar("T")
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

CODEC = "json"


def _checksum(topic: str, version: int, codec: str, body: bytes) -> int:
    """crc32 over what decides the meaning of the bytes; headers may be added on the way and are left out."""
    return zlib.crc32(body, zlib.crc32(f"{topic}\0{version}\0{codec}\0".encode()))


def _short(body: bytes) -> str:
    return f"<{len(body)} bytes>"


def _names(headers: Mapping[str, str]) -> str:
    return "{" + ", ".join(sorted(headers)) + "}"


def _frozen_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    checked: Mapping[Any, Any] = headers
    for key, value in checked.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"headers must map str to str; got {key!r}: {type(value).__name__}")
    return MappingProxyType(dict(headers))


@frozen(kw_only=True)
class Envelope:
    """A payload as it is stored. Its repr shows neither body nor header values: they may be secret.

    `checksum` is computed if not given; an engine gives back the stored one, and `Topic.decode` compares.
    """

    topic: str
    """The wire name of its kind."""
    version: int
    """Of the schema that `body` was written by, from 1."""
    body: bytes = field(repr=_short)
    """The payload itself."""
    codec: str = CODEC
    """How `body` was made of it."""
    headers: Mapping[str, str] = field(factory=dict[str, str], converter=_frozen_headers, repr=_names, hash=False)
    """What travels along; not under the checksum."""
    checksum: int = field(
        default=Factory(lambda self: _checksum(self.topic, self.version, self.codec, self.body), takes_self=True),
        repr=False,
    )

    @property
    def intact(self) -> bool:
        """True if the checksum matches."""
        return self.checksum == _checksum(self.topic, self.version, self.codec, self.body)


@frozen
class Topic(Generic[T]):
    """A kind of payload: its wire name, its type (an attrs class, or anything cattrs can build) and version.

    Shared by publisher and consumer. Raise `version` whenever old bytes no longer fit the type, and add
    an upcaster from the version before. `name` is what is stored (up to 200 characters), so it stays what it is when
    `type` is renamed.
    """

    name: str = field(validator=lambda _i, a, v: text(a.name, v, longest=200) and None)
    type: type[T]  # noqa: A003 - the natural word, and only used as an attribute
    version: int = 1
    _upcasters: dict[int, Upcaster] = field(factory=dict[int, Upcaster], init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.version, bool) or not isinstance(self.version, int):
            raise TypeError(f"version of topic {self.name!r} must be an int, not {self.version!r}")
        if self.version < 1:
            raise ValueError(f"version={self.version} of topic {self.name!r}: must be at least 1")

    def upcast(self, from_version: int) -> Callable[[Upcaster], Upcaster]:
        """Decorator: a function that turns the plain dict of `from_version` into that of the next version.

        ValueError if there is one already, or no next version.
        """
        if not 1 <= from_version < self.version:
            raise ValueError(f"upcast({from_version!r}) of topic {self.name!r}: must be from 1 to {self.version - 1}")
        if from_version in self._upcasters:
            raise ValueError(f"topic {self.name!r} already has an upcaster from version {from_version}")

        def add(upcaster: Upcaster) -> Upcaster:
            self._upcasters[from_version] = upcaster
            return upcaster

        return add

    @property
    def oldest(self) -> int:
        """The oldest version that `decode` can read: there are upcasters from it and from all after it."""
        version = self.version
        while version - 1 in self._upcasters:
            version -= 1
        return version

    def encode(self, value: T, *, headers: Mapping[str, str] | None = None) -> Envelope:
        """The envelope of `value`. TypeError if it is not of the topic's type or does not go into JSON."""
        if not _carries(self.type, value):
            raise TypeError(f"topic {self.name!r} carries {self.type.__qualname__}, not {type_name(value)}")
        from ._json import dump

        try:
            body = dump(value, self.type)
        except (AttributeError, TypeError, ValueError) as error:
            # The error text of json names a type or "Out of range float", not the payload.
            raise TypeError(f"topic {self.name!r}: {type_name(value)} cannot be encoded: {error}") from None
        return Envelope(topic=self.name, version=self.version, body=body, headers=headers or {})

    def decode(self, envelope: Envelope) -> T:
        """The value. UnknownPayload: newer version, other topic or codec. BadPayload: damaged or unfit."""
        e = envelope
        if e.topic != self.name or e.codec != CODEC or e.version > self.version:
            raise UnknownPayload(
                f"payload {e.topic!r} version {e.version} ({e.codec}) is not known here: "
                f"this program knows {self.name!r} up to version {self.version} ({CODEC})",
                topic=e.topic,
                version=e.version,
            )
        problem: str | None = None
        if not e.intact:
            problem = "checksum does not match"
        elif e.version < 1:
            problem = "versions begin at 1"
        data: Any = None
        if problem is None:
            try:
                data = json.loads(e.body)
            except (ValueError, RecursionError):
                problem = "not JSON"
        for version in range(e.version, self.version):
            if problem is not None:
                break
            data, problem = self._lift(data, version)
        if problem is None:
            from ._json import build

            value, problem = build(data, self.type)
            if problem is None:
                return cast("T", value)
        # Raised here, outside of any handler, so that no chained exception carries parts of the payload.
        raise BadPayload(
            f"payload {e.topic!r} version {e.version} ({len(e.body)} bytes): {problem}",
            topic=e.topic,
            version=e.version,
        )

    def _lift(self, data: Any, version: int) -> tuple[Any, str | None]:
        upcaster = self._upcasters.get(version)
        if upcaster is None:
            # Not the payload's fault: a program with the missing link can still read it, so it is kept.
            raise UnknownPayload(
                f"topic {self.name!r} has no upcaster from version {version} to {version + 1}",
                topic=self.name,
                version=version,
            )
        try:
            return upcaster(data), None
        except Exception as error:  # noqa: BLE001 - user code on unchecked data
            return None, f"upcaster {version} -> {version + 1} raised {type_name(error)}"


def _carries(kind: Any, value: object) -> bool:
    """Generic aliases such as list[int] cannot be checked by isinstance; encoding them will tell."""
    return not isinstance(kind, type) or isinstance(value, kind)


def type_name(value: object) -> str:
    return type(value).__qualname__


class Topics:
    """The topics one queue or inbox carries: encode by the value's type, decode by the wire name."""

    def __init__(self, topics: Iterable[Topic[Any]]) -> None:
        self._by_name: dict[str, Topic[Any]] = {}
        self._by_type: dict[Any, Topic[Any]] = {}
        for topic in topics:
            if not isinstance(topic, Topic):
                raise TypeError(f"topics must be Topic values, not {topic!r}")
            kind = get_origin(topic.type) or topic.type  # a value of Box[int] is a Box
            if topic.name in self._by_name or kind in self._by_type:
                raise ValueError(f"topic {topic.name!r} ({topic.type!r}): name or type is given twice")
            self._by_name[topic.name] = topic
            self._by_type[kind] = topic
        if not self._by_name:
            raise ValueError("topics must not be empty")

    @property
    def names(self) -> tuple[str, ...]:
        """Their wire names, in the order given."""
        return tuple(self._by_name)

    @property
    def versions(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """What can be decoded: (topic, codec) with the oldest and the newest version."""
        return {(topic.name, CODEC): (topic.oldest, topic.version) for topic in self._by_name.values()}

    def encode(self, value: object, *, headers: Mapping[str, str] | None = None) -> Envelope:
        """By the exact type of `value`; TypeError if no topic carries it."""
        topic = self._by_type.get(type(value))
        if topic is None:
            raise TypeError(f"no topic for {type_name(value)} here; known: {', '.join(sorted(self._by_name))}")
        from ._json import unreadable

        kind: Any = topic.type
        if (why := unreadable(kind)) is not None:  # better refused here than buried by whoever reads it
            raise TypeError(f"topic {topic.name!r}: no {type_name(value)} could be read back: {why}")
        return topic.encode(value, headers=headers)

    def decode(self, envelope: Envelope) -> Any:
        """By the envelope's topic name; errors as `Topic.decode`."""
        topic = self._by_name.get(envelope.topic)
        if topic is None:
            raise UnknownPayload(
                f"topic {envelope.topic!r} is not known here; known: {', '.join(sorted(self._by_name))}",
                topic=envelope.topic,
                version=envelope.version,
            )
        return topic.decode(envelope)
