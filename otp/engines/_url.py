"""URLs of stores, without their secrets."""

from __future__ import annotations


def redacted(url: str) -> str:
    """`url` without password and without its query, which may hold more of them; for logs and errors."""
    scheme, found, rest = url.partition("://")
    if not found:
        return "<not a URL>"
    rest = rest.partition("?")[0].partition("#")[0]
    authority, slash, path = rest.partition("/")
    credentials, at, host = authority.rpartition("@")
    if at:
        authority = f"{credentials.partition(':')[0]}:***@{host}"
    return f"{scheme}://{authority}{slash}{path}"
