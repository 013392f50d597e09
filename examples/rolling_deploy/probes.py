"""Probes: asking a pod over HTTP, and what a row of answers means."""

from __future__ import annotations

import trio
from attrs import define, field

__all__ = ["Verdict", "http_get"]


@define
class Verdict:
    """The standing of a probe: it changes after enough equal results in a row, as in Kubernetes."""

    success_threshold: int
    failure_threshold: int
    standing: bool
    """What is held to be so now; give the initial value: not ready, but alive."""
    _last: bool | None = field(default=None, init=False)
    _row: int = field(default=0, init=False)

    def record(self, *, success: bool) -> bool:
        """Take in one result; returns the standing after it."""
        self._row = self._row + 1 if success is self._last else 1
        self._last = success
        if self._row >= (self.success_threshold if success else self.failure_threshold):
            self.standing = success
        return self.standing


async def http_get(port: int, path: str, timeout: float) -> bool:
    """Whether a GET to this port of this host is answered with 200 to 399 within ``timeout`` seconds.

    Whatever goes wrong on the way is an answer too: no.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: probe\r\nConnection: close\r\n\r\n"
    head = b""
    with trio.move_on_after(timeout):
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(request.encode("ascii"))
                while b"\r\n" not in head and len(head) < 1024:
                    received = await stream.receive_some(1024)
                    if not received:
                        break
                    head += received
        except (OSError, trio.BrokenResourceError):
            return False
    words = head.partition(b"\r\n")[0].split()
    return len(words) >= 2 and words[0].startswith(b"HTTP/1.") and words[1].isdigit() and 200 <= int(words[1]) < 400
