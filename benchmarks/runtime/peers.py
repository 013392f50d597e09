"""The same program with `otp` and with its peers: who sends in a loop, and who calls in a loop.

Sends: one task sends `SENDS` messages in a row, then one call tells that all were handled. Each peer's own way is
taken: triotp and otpylib await each send, pykka (a thread for each actor) and `otp` do not. Calls: one task calls
again and again. `otp` has its default timeout of 5 s on each; the peers have none by default. Supervision costs
nothing per message in any of them, so only ours is supervised. Handlers do nothing.

Each run is the second one in a process of its own, because pykka's depend on what was before: a call is two switches
between threads, and these take six times as long when the threads are on different cores, which is where Linux puts
them if they are free. That is what is compared, so the machine must be idle: with one core busy, both run on the other.
How it would be if both were kept on one core is shown beside it.

A peer that is not installed, or that this version of Python cannot have, is left out of "the best".
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import statistics
import sys
import types
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import attrs
import trio
import trio.testing

from otp import Ref

from .measure import in_fresh_process, interleave, now, rate, ratio
from .messages import Counter, with_actor
from .table import Row

SENDS: Final = 9_000  # fewer than the mailbox holds by default
CALLS: Final = 3_000
ROUNDS: Final = 5


async def repeat(do: Callable[[int], Awaitable[object]], times: int) -> float:
    """How often per second `do` can be awaited."""
    begun = now()
    for i in range(times):
        await do(i)
    return times / (now() - begun)


# -- otp ------------------------------------------------------------------------------------------------


def otp_sends() -> float:
    async def body(actor: Counter, ref: Ref) -> float:
        actor.left = -1
        begun = now()
        for i in range(SENDS):
            ref.send(i)
        await ref.call(0)
        return SENDS / (now() - begun)

    return with_actor(body)


def otp_calls() -> float:
    async def body(_: Counter, ref: Ref) -> float:
        return await repeat(ref.call, CALLS)

    return with_actor(body)


# -- triotp: a memory channel for each actor, and another for each call ----------------------------------


def with_triotp(body: Callable[[Any], Awaitable[float]]) -> float:
    from triotp import application, gen_server, node

    async def init(_: object) -> None:
        return None

    async def handle_call(message: object, _: object, state: object) -> object:
        return gen_server.Reply(message), state

    async def handle_cast(_: object, state: object) -> object:
        return gen_server.NoReply(), state

    server, app = types.ModuleType("server"), types.ModuleType("app")
    vars(server).update(init=init, handle_call=handle_call, handle_cast=handle_cast)
    result: list[float] = []

    async def start(_: object) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gen_server.start, server, None, "server")
            await trio.testing.wait_all_tasks_blocked()
            result.append(await body(gen_server))
            nursery.cancel_scope.cancel()

    vars(app).update(start=start)
    node.run([application.app_spec(module=app, start_arg=None, permanent=False)])
    return result[0]


def triotp_sends() -> float:
    async def body(gen_server: Any) -> float:
        begun = now()
        for i in range(SENDS):
            await gen_server.cast("server", i)
        await gen_server.call("server", 0)
        return SENDS / (now() - begun)

    return with_triotp(body)


def triotp_calls() -> float:
    async def body(gen_server: Any) -> float:
        return await repeat(lambda i: gen_server.call("server", i), CALLS)

    return with_triotp(body)


# -- otpylib: asyncio ------------------------------------------------------------------------------------


def with_otpylib(body: Callable[[Any, Any], Awaitable[float]]) -> float:
    from otpylib import gen_server, process
    from otpylib.module import GEN_SERVER, OTPModule
    from otpylib.runtime import set_runtime
    from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

    class Server(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):  # type: ignore[call-arg, metaclass]
        async def init(self, state: object) -> object:
            return state

        async def handle_call(self, message: object, _from: object, state: object) -> object:
            return gen_server.Reply(message), state

        async def handle_cast(self, _message: object, state: object) -> object:
            return gen_server.NoReply(), state

        async def handle_info(self, _message: object, state: object) -> object:
            return gen_server.NoReply(), state

        async def terminate(self, _reason: object, _state: object) -> None:
            pass

    async def main() -> float:
        backend = AsyncIOBackend()
        await backend.initialize()
        set_runtime(backend)
        result: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            await gen_server.start(Server, None, "server")
            result.set_result(await body(gen_server, "server"))

        await process.spawn(run, mailbox=True)
        try:
            return await result
        finally:
            await backend.shutdown()

    return asyncio.run(main())


def otpylib_sends() -> float:
    async def body(gen_server: Any, server: Any) -> float:
        begun = now()
        for i in range(SENDS):
            await gen_server.cast(server, i)
        await gen_server.call(server, 0)
        return SENDS / (now() - begun)

    return with_otpylib(body)


def otpylib_calls() -> float:
    async def body(gen_server: Any, server: Any) -> float:
        return await repeat(lambda i: gen_server.call(server, i), CALLS)

    return with_otpylib(body)


# -- pykka: a thread for each actor ----------------------------------------------------------------------


def with_pykka(body: Callable[[Any], float]) -> float:
    import pykka

    class Server(pykka.ThreadingActor):
        def on_receive(self, message: object) -> object:
            return message

    server = Server.start()
    try:
        return body(server)
    finally:
        server.stop()


def pykka_sends() -> float:
    def body(server: Any) -> float:
        begun = now()
        for i in range(SENDS):
            server.tell(i)
        server.ask(0)
        return SENDS / (now() - begun)

    return with_pykka(body)


def pykka_calls_on_one_core() -> float:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return pykka_calls()


def pykka_calls() -> float:
    def body(server: Any) -> float:
        begun = now()
        for i in range(CALLS):
            server.ask(i)
        return CALLS / (now() - begun)

    return with_pykka(body)


# -- the rows --------------------------------------------------------------------------------------------


@attrs.frozen
class Peer:
    """One of those that we are compared with."""

    name: str
    sends: Callable[[], float]
    calls: Callable[[], float]

    @property
    def here(self) -> bool:
        """Whether it is installed."""
        return importlib.util.find_spec(self.name) is not None


PYKKA: Final = Peer("pykka", pykka_sends, pykka_calls)
PEERS: Final = [
    Peer("triotp", triotp_sends, triotp_calls),
    Peer("otpylib", otpylib_sends, otpylib_calls),
    PYKKA,
]


def measure() -> list[Row]:
    """The rows of this module."""
    rows = [
        *compare("send in a loop", otp_sends, {peer.name: peer.sends for peer in PEERS if peer.here}),
        *compare("call in a loop", otp_calls, {peer.name: peer.calls for peer in PEERS if peer.here}),
    ]
    if PYKKA.here and sys.platform == "linux":
        seen = interleave({"otp": fresh(otp_calls), "pykka": fresh(pykka_calls_on_one_core)}, ROUNDS)
        rows.append(row("call in a loop", "pykka, if its threads are kept on one core", seen["otp"], seen["pykka"]))
    return rows


def compare(what: str, ours: Callable[[], float], peers: dict[str, Callable[[], float]]) -> list[Row]:
    """The row that has to hold, with the best of the peers, and one for each of the others."""
    seen = interleave({"otp": fresh(ours), **{name: fresh(peer) for name, peer in peers.items()}}, ROUNDS)
    mine = seen.pop("otp")
    order = sorted(seen, key=lambda name: -statistics.median(seen[name]))
    rows = [row(what, name, mine, seen[name]) for name in order]
    best = rows[0] if rows else Row(what=f"{what} / none is installed", ours=rate(mine))
    rows[:1] = [attrs.evolve(best, what=f"{best.what}, the best peer", must=2, aim=4)]
    missing = [peer.name for peer in PEERS if not peer.here]
    return rows + [Row(what=f"{what} / {name}", ours=rate(mine), other="not installed") for name in missing]


def row(what: str, name: str, mine: list[float], theirs: list[float]) -> Row:
    """One line of the comparison."""
    return Row(what=f"{what} / {name}", ours=rate(mine), other=rate(theirs), value=ratio(mine, theirs))


def fresh(run: Callable[[], float]) -> Callable[[], float]:
    """The same, as the second run in a new process."""
    return partial(in_fresh_process, second, run)


def second(run: Callable[[], float]) -> float:
    """What the second run gives, when everything is loaded."""
    logging.disable()  # otpylib logs each message at DEBUG, to nobody
    with contextlib.suppress(ImportError):
        import loguru

        loguru.logger.remove()
    run()
    return run()
