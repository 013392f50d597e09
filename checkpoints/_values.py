"""Step data to bytes and back: through a topic where there is one for the type, otherwise as plain JSON."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Literal

from otp.engines import Envelope, Topic

if TYPE_CHECKING:
    from collections.abc import Sequence

# The wire name of what has no topic. It says nothing of the Python type: that may be renamed or moved freely.
_PLAIN: Final = "value"


class Values:
    """How a store of checkpoints writes and reads the data of its steps."""

    def __init__(self, topics: Sequence[Topic[Any]]) -> None:
        self._by_type: dict[Any, Topic[Any]] = {}
        names: set[str] = set()
        for topic in topics:
            if not isinstance(topic, Topic):
                raise TypeError(f"topics must be Topic values, not {topic!r}")
            if topic.name == _PLAIN:
                raise ValueError(f"the topic name {_PLAIN!r} is what plain values are stored under: choose another")
            if topic.name in names or topic.type in self._by_type:
                raise ValueError(f"topic {topic.name!r} ({topic.type!r}): name or type is given twice")
            names.add(topic.name)
            self._by_type[topic.type] = topic

    def encode(self, value: object) -> Envelope:
        """Return the envelope of a value; an Envelope is taken as it is."""
        if isinstance(value, Envelope):
            return value
        kind: Any = type(value)
        topic = self._by_type.get(kind)
        if topic is None:
            topic = Topic(_PLAIN, kind)
        return topic.encode(value)

    def decode(self, envelope: Envelope, as_type: Any) -> Any:
        """Return the value as `as_type`."""
        if as_type is None or as_type is NoneType:  # a step without a result; cattrs has no rule for it
            as_type = Literal[None]  # noqa: PYI061  it has one for this
        topic = self._by_type.get(as_type)
        if topic is None:
            topic = Topic(_PLAIN, as_type)
        return topic.decode(envelope)
