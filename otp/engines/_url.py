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
        user, colon, _ = credentials.partition(":")
        authority = f"{user}:***@{host}" if colon else f"***@{host}"  # without a colon it may be a token
    return f"{scheme}://{authority}{slash}{path}"
