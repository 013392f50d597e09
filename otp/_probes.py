"""`/livez`, `/readyz` and `/startupz` over HTTP, served by the loop that they speak of.

Live means: the loop runs. Nothing outside of the process counts, since restarting every worker because a database is
down helps nobody. Ready means: all is started, nothing that the tree depends on is known to be bad, and no shutdown has
begun. Started means: it was ready to begin with, once.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs
import trio

from ._errors import OtpError
from ._settings import parse_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from hypercorn.config import Config

_logger: Final = logging.getLogger("otp.probes")

Message: TypeAlias = "MutableMapping[str, Any]"


@attrs.frozen
class Answer:
    """What a probe found: ok, or why not, and anything else worth knowing."""

    ok: bool
    reasons: tuple[str, ...] = ()
    details: dict[str, object] = attrs.field(factory=dict[str, object])


class Health(Protocol):
    """Whom the probes ask."""

    def live(self) -> Answer:
        """Whether the process should be left alive."""
        ...

    def ready(self) -> Answer:
        """Whether it can take work."""
        ...

    def started(self) -> Answer:
        """Whether it has finished starting."""
        ...


class ProbesUnavailable(OtpError):
    """The probes cannot be served at the address that they were given, or not at all.

    Attributes:
        address: Where they were to be served.
        why: What is wrong.
    """

    def __init__(self, address: str, why: str) -> None:
        super().__init__(address, why)
        self.address = address
        self.why = why

    def __str__(self) -> str:
        return f"cannot serve the probes on {self.address}: {self.why}"


async def serve_probes(
    address: str, health: Health, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve the probes until cancelled; the task has started, with "host:port", when they can be asked.

    Raises:
        ProbesUnavailable: if the address is taken or not ours, or hypercorn is not installed.
    """
    try:
        from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType]
    except ImportError as error:
        raise ProbesUnavailable(address, f"{error}; install holdfast[ops], or run without probes") from error

    first = _bind(address)
    bound = _name(first)
    listener: socket.socket | None = first
    task_status.started(bound)
    app = _application(health)
    while True:
        try:
            await serve(app, _config(listener or _bind(bound)), mode="asgi")
        except Exception:
            # A client must not be able to take the service down by what it sends.
            _logger.exception("the probe server failed and is started again")
        listener = None
        await trio.sleep(1)


def _bind(address: str) -> socket.socket:
    host, port = parse_address("probes", address)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        hint = "; is another instance running? Port 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
        raise ProbesUnavailable(address, f"{error.strerror or error}{hint}") from error
    return listener


def _name(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _config(listener: socket.socket) -> Config:
    """Make hypercorn take over the socket and be silent. Its `serve` installs no signal handlers."""
    from hypercorn.config import Config

    fileno = listener.detach()
    errors = _logger.getChild("server")
    errors.setLevel(logging.WARNING)
    config = Config()
    config.bind = [f"fd://{fileno}"]
    config.accesslog = None
    config.errorlog = errors
    config.include_server_header = False
    config.graceful_timeout = 0
    return config


def _application(health: Health) -> Callable[..., Awaitable[None]]:
    probes: dict[str, Callable[[], Answer]] = {
        "/livez": health.live,
        "/readyz": health.ready,
        "/startupz": health.started,
    }

    async def application(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            status, body = _respond(scope["method"], probes.get(scope["path"]))
            headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
            headers.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return application


def _respond(method: str, probe: Callable[[], Answer] | None) -> tuple[int, bytes]:
    if probe is None:
        status, answer = 404, Answer(ok=False, reasons=("there are /livez, /readyz and /startupz",))
    elif method not in {"GET", "HEAD"}:
        status, answer = 405, Answer(ok=False, reasons=("ask with GET",))
    else:
        answer = probe()
        status = 200 if answer.ok else 503
    body = {"ok": answer.ok, "reasons": list(answer.reasons), **answer.details}
    return status, json.dumps(body).encode() + b"\n"
