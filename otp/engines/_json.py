"""Values to JSON and back through cattrs, strictly: a wrong type is an error, not converted.

bytes travel as base85, datetime and date as ISO 8601, enums by value (cattrs' own JSON settings), and besides
Decimal, UUID and Path as strings and timedelta as seconds.
"""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from cattrs import Converter, transform_error
from cattrs.preconf.json import make_converter


def _is_path(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Path)


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
    return converter


def dump(value: object, kind: Any) -> bytes:
    """Compact JSON. TypeError or ValueError for what JSON cannot say (NaN, unknown classes)."""
    plain = _converter().unstructure(value, kind)
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def build(data: Any, kind: Any) -> tuple[Any, str | None]:
    """(value, None), or (None, what is wrong): field paths and type names only, no content."""
    try:
        return _converter().structure(data, kind), None
    except Exception as error:  # noqa: BLE001 - validators and hooks raise what they like
        found = transform_error(error)
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        return None, "; ".join(found[:3]) + more
