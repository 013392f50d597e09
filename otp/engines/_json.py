"""Values to JSON and back through cattrs, strictly: a wrong type is an error, not converted.

bytes travel as base85, datetime and date as ISO 8601, enums by value (cattrs' own JSON settings), and besides
Decimal, UUID and Path as strings and timedelta as seconds. JSON has only text as keys: others are read back from it.
"""

# cattrs leaves the types of its mapping factory half unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import re
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_origin
from uuid import UUID

from cattrs import Converter, StructureHandlerNotFoundError, transform_error
from cattrs.cols import is_mapping, mapping_structure_factory
from cattrs.preconf.json import make_converter
from cattrs.v import format_exception

if TYPE_CHECKING:
    from collections.abc import Hashable

_KEY = "holdfast key"


def _is_path(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Path)


def _has_odd_keys(kind: Any) -> bool:
    """A plain mapping whose keys are not simply text."""
    arguments = get_args(kind)
    plain = is_mapping(kind) and len(arguments) == 2 and get_origin(kind) is not defaultdict
    return plain and arguments[0] not in (str, Any)


def _is_key(kind: Any) -> bool:
    return get_origin(kind) is Annotated and _KEY in get_args(kind)[1:]


def _mapping_hook(kind: Any, converter: Converter) -> Any:
    key = get_args(kind)[0]
    into: Any = get_origin(kind)
    return mapping_structure_factory(
        kind,
        converter,
        # An abstract Mapping cannot be made.
        structure_to=into if isinstance(into, type) and issubclass(into, dict) else dict,
        key_type=Annotated[key, _KEY],
    )


def _key_hook(kind: Any, converter: Converter) -> Any:
    key = get_args(kind)[0]
    hook = converter.get_structure_hook(key)

    def read(text: Any, _: Any) -> Any:
        try:
            return hook(text, key)
        except Exception:  # noqa: BLE001 - a number, say, which JSON has made a text
            return hook(json.loads(text), key)

    return read


@cache
def _converter() -> Converter:
    converter = make_converter(detailed_validation=True)
    # cattrs converts by default (str(None) == "None", int("7") == 7), which would hide damage.
    for kind, accepted in ((str, (str,)), (int, (int,)), (float, (int, float)), (bool, (bool,))):

        def strict(value: Any, _: Any, kind: Any = kind, accepted: Any = accepted) -> Any:
            if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
                raise TypeError(f"expected {kind.__name__}")
            return kind(value)

        converter.register_structure_hook(kind, strict)
    for text in (Decimal, UUID):
        converter.register_unstructure_hook(text, str)
        converter.register_structure_hook(text, lambda value, kind: kind(value))
    converter.register_unstructure_hook_func(_is_path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    converter.register_unstructure_hook(timedelta, lambda value: value.total_seconds())
    converter.register_structure_hook(timedelta, lambda value, _: timedelta(seconds=value))
    converter.register_structure_hook_factory(_has_odd_keys, _mapping_hook)
    converter.register_structure_hook_factory(_is_key, _key_hook)
    return converter


@cache
def unreadable(kind: Hashable) -> str | None:
    """Why nothing of this type could be built from JSON again; None if it can."""
    try:
        _converter().get_structure_hook(cast("Any", kind))
    except Exception as error:  # noqa: BLE001 - cattrs raises what it likes; it speaks of types, there is no value yet
        return str(error)
    return None


def dump(value: object, kind: Any) -> bytes:
    """Compact JSON. TypeError or ValueError for what JSON cannot say (NaN, unknown classes)."""
    plain = _converter().unstructure(value, kind)
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def build(data: Any, kind: Any) -> tuple[Any, str | None]:
    """(value, None), or (None, what is wrong): field paths and type names only, no content."""
    try:
        return _converter().structure(data, kind), None
    except Exception as error:  # noqa: BLE001 - validators and hooks raise what they like
        found = [_without_keys(each) for each in transform_error(error, format_exception=_said)]
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        return None, "; ".join(found[:3]) + more


def _said(error: BaseException, kind: Any) -> str:
    """What is wrong in one place. cattrs' own words only where they quote nothing of the payload."""
    if isinstance(error, KeyError | ValueError) or (isinstance(error, TypeError) and kind is not None):
        return format_exception(error, get_args(kind)[0] if _is_key(kind) else kind)
    if isinstance(error, StructureHandlerNotFoundError):
        return str(error)
    return f"does not fit ({type(error).__qualname__})"


def _without_keys(problem: str) -> str:
    """The path up to the first key of a mapping: indexes may be shown, keys may be secret."""
    what, at, path = problem.partition(" @ $")
    return what + at + re.sub(r"\[(?!\d+\]).*", "[...]", path, flags=re.DOTALL)
