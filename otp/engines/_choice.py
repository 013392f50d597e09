"""A URL picks the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ._url import redacted

if TYPE_CHECKING:
    from ._engine import Engine


def engine_for(url: str, **options: Any) -> Engine[Any]:
    """The engine for `url`, configured but not opened.

    `sqlite:///jobs.db` (relative), `sqlite:////var/lib/jobs.db` (absolute), `memory://` (private to this
    engine), `memory://name` (shared within the process). Options are those of the engine's class.
    Raises ValueError for another scheme or a malformed URL, TypeError for an unknown option.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a string, not {url!r}")
    shown = redacted(url)
    scheme, _, rest = url.partition("://")
    if "?" in rest or "#" in rest:
        raise ValueError(f"{shown}: options are keyword arguments, not part of the URL (? is %3F, # is %23)")
    if scheme == "memory":
        from ._memory import MemoryEngine

        parts = urlsplit(url)
        if parts.path not in ("", "/"):
            raise ValueError(f"{shown}: must be memory:// or memory://name")
        return MemoryEngine(parts.netloc or None, **options)
    if scheme == "sqlite":
        host, slash, path = rest.partition("/")
        if host or not slash or not path:
            raise ValueError(f"{shown}: must be sqlite:///relative/path or sqlite:////absolute/path")
        from ._sqlite import SqliteEngine

        return SqliteEngine(unquote(path), **options)
    raise ValueError(f"{shown}: unknown kind of store; known: sqlite:///path, memory://")
