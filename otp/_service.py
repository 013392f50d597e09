"""A tree as a service: signals, probes, the phases of stopping, and the exit code.

Stopping has phases, with one budget for all of them (`_budget.py`): not ready, but going on, until routers have heard
of it (settle) - taking in no more work and finishing what was begun (drain) - the supervisors' ordered stop - the end
by force. What lies outside of the loop, since the loop itself may be what is stuck: `_stop_request.py` and
`_last_resort.py`.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeAlias

import attrs
import trio

from . import _checks as checks
from ._budget import Budget
from ._events import ChildStuck, SupervisorDecided
from ._last_resort import LastResort
from ._probes import Answer, serve_probes
from ._root import open_supervisor
from ._runtime import Runtime
from ._settings import RunSettings
from ._stop_request import GIVEN_BACK, StopRequest
from ._unwrap import unwrap
from ._watchdog import Watchdog

if TYPE_CHECKING:
    from ._spec import Supervisor
    from ._statistics import SupervisorStatistics

Phase: TypeAlias = Literal["starting", "serving", "settling", "draining", "stopping", "stopped"]
"""Where a service is in its life, in this order. Without a `settle` time, or when the tree ends by itself, some are
left out."""

DRAINED: Final = 0
FAILED: Final = 1
_REPORT_EVERY: Final = 5.0
"""Seconds between two reports of what a shutdown waits for."""

_logger: Final = logging.getLogger("otp.service")


@attrs.frozen(kw_only=True)
class ServicePhase:
    """The service has entered another phase of its life."""

    phase: Phase
    """Which."""
    at: float
    """When, on trio's clock."""
    left: float | None
    """Seconds until the process will have ended; None as long as it is not to stop."""
    by: str | None
    """Who was the last to ask for the stop: "SIGTERM", say, or "on_stuck (app/ledger)"; None if nobody has."""


def run(app: Supervisor, *, settings: RunSettings | None = None, runtime: Runtime | None = None) -> NoReturn:
    """Run the tree `app` as the service that this process is, and exit. To be called in the main thread.

    SIGTERM and SIGINT stop it: not ready, settle, drain, ordered stop. A second signal cuts the draining short, a third
    exits at once. After the `grace` time the process exits, whatever does not end: a thread sees to that, which a
    handler that blocks the loop cannot hold up. A log is set up on stdout unless the program has one.

    The exit code is 0 if all work was done, 1 if the service failed (the tree gave up, or did not start, or the probes
    could not be served, or it stops because a child is stuck, see :class:`RunSettings`), and 75 if work had to be given
    back, or something did not end in time.

    The phases are those that Kubernetes asks for; OTP has the ordered stop alone.

    Args:
        app: What to supervise.
        settings: How; by default what the environment says, see :meth:`RunSettings.from_env`.
        runtime: What the tree shares, for who wants to subscribe to its events before it starts; default: a new one.

    Raises:
        ValueError: if a setting in the environment is not allowed.
        TypeError: if `runtime` is not one.
        SystemExit: always, in the end; with a code of its own if a child has called `sys.exit`.
    """
    settings = RunSettings.from_env() if settings is None else settings
    _set_up_log(settings.log_level)
    service = _Service(app, settings, runtime)
    # Nothing is put back afterwards: the process ends, and until it has ended signals and the last resort count.
    service.stop_request.obey_signals()
    code = DRAINED
    try:
        code = trio.run(service.run)
    except BaseException as error:  # noqa: BLE001  (raised again)
        code = FAILED
        raise unwrap(error) from None  # sys.exit() in a child, say
    finally:
        service.stop_request.leave(code)
    # The interpreter would end with a last collection of all there is: on a busy machine that takes longer than a short
    # grace time has left, no thread of last resort runs meanwhile, and it frees what ends anyway.
    gc.freeze()
    sys.exit(code)


async def serve(app: Supervisor, settings: RunSettings | None = None, *, runtime: Runtime | None = None) -> int:
    """Do what :func:`run` does inside a trio program, and return the exit code.

    In the main thread signals are obeyed until it returns; in others nothing but cancellation, or the end of the tree,
    stops it, or a child that is stuck, if `settings` say so. Cancellation stops the tree in order, without draining.
    When the `grace` time after a signal, or after a child was stuck, is over the process exits here, too, whatever else
    it does: it was asked to. The log is left as it is.

    Args:
        app: What to supervise.
        settings: How; by default the defaults of :class:`RunSettings`, and not the environment.
        runtime: What the tree shares, for who wants to subscribe to its events before it starts; default: a new one.

    Returns:
        The exit code, as of `run`. A tree that fails is logged and returned as 1, not raised.

    Raises:
        TypeError: if `runtime` is not one.
    """
    service = _Service(app, RunSettings() if settings is None else settings, runtime)
    put_back = service.stop_request.obey_signals()
    try:
        return await service.run()
    finally:
        put_back()
        service.dismiss()


class _Service:
    """One service, from start to stop."""

    def __init__(self, app: Supervisor, settings: RunSettings, runtime: Runtime | None = None) -> None:
        checks.instance("runtime", runtime, Runtime | None, "a Runtime or None")
        self._app = app
        self._settings = settings
        self.runtime = Runtime() if runtime is None else runtime
        self.runtime.on_interrupt.append(self._stops_by_itself)
        budget = Budget.plan(0.0, grace=settings.grace, settle=settings.settle)
        self._patience = budget.exit_by - budget.stop_until
        self._resort = LastResort(self._release, self._say_what_is_stuck, patience=self._patience)
        self.stop_request = StopRequest(settings, self._resort)
        self._watchdog = Watchdog(
            warn_after=settings.warn_after,
            stall_limit=settings.stall_limit,
            on_stall=self.runtime.events.emit,
        )
        self._phase: Phase = "starting"
        self._budget: Budget | None = None
        self._asked = trio.Event()
        self._failed = False  # and stops by itself
        self._stops_for_stuck = False
        self._tree = trio.CancelScope()
        self._pause = trio.CancelScope()  # around what the second request cuts short
        self._not_done: list[str] = []

    async def run(self) -> int:
        """Serve until asked to stop, or until the tree fails; return the exit code."""
        try:
            async with trio.open_nursery() as nursery:
                if self._settings.probes is not None:
                    address = await nursery.start(serve_probes, self._settings.probes, self)
                    _logger.info("probes at http://%s/livez, /readyz and /startupz", address)
                # Not before that: importing the HTTP server takes as long as a small stall.
                with self._watchdog, self.stop_request.told_to(self._hear):
                    nursery.start_soon(self._wind_down)
                    nursery.start_soon(self._report)
                    code = await self._run_tree()
                nursery.cancel_scope.cancel()
        except Exception as error:
            # What the tree fails with is caught further in: this is the probes' address, or a defect of our own.
            _logger.error("the service could not run: %s", unwrap(error), exc_info=unwrap(error))  # noqa: TRY400
            code = FAILED
        _logger.info("stopped, exit code %d", code)
        return code

    async def _run_tree(self) -> int:
        unsubscribe = self.runtime.events.subscribe(self._watch_decisions, SupervisorDecided)
        try:
            with self._tree:
                async with open_supervisor(self._app, runtime=self.runtime):
                    if not self._asked.is_set():
                        self._enter("serving")
                    try:
                        await trio.sleep_forever()
                    finally:
                        if self._budget is None:  # neither asked to stop nor failed: `serve` was cancelled
                            self.runtime.begin_drain(self._plan_from_now().drain_until)
        except Exception as error:
            _logger.error("the service has failed: %s", unwrap(error), exc_info=unwrap(error))  # noqa: TRY400
            return FAILED
        finally:
            unsubscribe()
            self._enter("stopped")
        if self._stops_for_stuck:
            return FAILED
        return GIVEN_BACK if self._not_done else DRAINED

    async def _wind_down(self) -> None:
        """Wait until asked to stop; do what comes before the ordered stop, and then have the tree left."""
        await self._wait_until_asked()
        assert self._budget is not None
        if self._failed:
            return  # it stops already
        if self._phase == "serving" and self._budget.settle_until > trio.current_time():
            self._enter("settling")
            with self._pause:
                await trio.sleep_until(self._budget.settle_until)
        self._enter("draining")
        drained = False
        while not drained:
            with trio.CancelScope() as self._pause:  # left when asked again: then there is less time
                self._not_done = await self.runtime.drain(self._budget.drain_until)
                drained = True
        if self._not_done:
            _logger.warning("not done at the end of the drain, so given back: %s", _listed(self._not_done))
        self._enter("stopping")
        self._tree.cancel(reason="the service stops")

    async def _wait_until_asked(self) -> None:
        """Wait. Until somebody asks, or `serve` is cancelled, a child that is stuck can be what asks."""
        unsubscribe = self.runtime.events.subscribe(self._hear_of_stuck, ChildStuck)
        try:
            await self._asked.wait()
        finally:
            unsubscribe()

    def _hear_of_stuck(self, event: object) -> None:
        """Ask to stop, if that is what is to follow; unless it stops by itself, or was asked and has yet to hear it."""
        assert isinstance(event, ChildStuck)
        if self._settings.on_stuck == "stop" and not self._failed and self.stop_request.count == 0:
            _logger.error("the service has failed: %s is stuck, and on_stuck is 'stop'", event.path)
            self._stops_for_stuck = True
            self.stop_request.ask(f"on_stuck ({event.path})")
            self.stop_request.leave(FAILED)

    def _hear(self) -> None:
        """Somebody has asked to stop, or asked again; in the loop."""
        self._budget = self.stop_request.budget()
        if self.stop_request.count == 1:
            self.runtime.stop_all_by(self._budget.children_until)
        else:
            self.runtime.hurry(self._budget.drain_until, self._budget.children_until)
        _logger.info(
            "asked to stop by %s%s: %.1f s left",
            self.stop_request.by,
            "" if self.stop_request.count == 1 else ", again",
            self._budget.exit_by - trio.current_time(),
        )
        if self.stop_request.count > 1:
            self._pause.cancel(reason="asked to stop again")
        self._asked.set()

    def _watch_decisions(self, event: object) -> None:
        """See the root give up, or shut down since its significant children have ended."""
        assert isinstance(event, SupervisorDecided)
        if "/" not in event.path and event.decision.verdict in {"give up", "roll back", "auto shutdown"}:
            self._stops_by_itself()

    def _stops_by_itself(self) -> None:
        """The tree is about to stop, though nobody has asked for it: that must come to an end, too."""
        self._failed = True
        self.stop_request.leave(FAILED)
        if self._budget is None:
            budget = self._plan_from_now()
            self.runtime.stop_all_by(budget.children_until)
            # Not drained, since it stops already. But one that does not stop must not keep those whose turn comes after
            # it from giving their work back.
            self.runtime.begin_drain(budget.drain_until)
            self._enter("stopping")

    def _plan_from_now(self) -> Budget:
        return Budget.plan(trio.current_time(), grace=self._settings.grace, settle=0.0)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        _logger.info("%s", phase)
        if self.runtime.events.wants(ServicePhase):
            now = trio.current_time()
            left = None if self._budget is None else self._budget.exit_by - now
            self.runtime.events.emit(ServicePhase(phase=phase, at=now, left=left, by=self.stop_request.by or None))

    async def _report(self) -> None:
        await self._asked.wait()
        while True:
            await trio.sleep(_REPORT_EVERY)
            assert self._budget is not None
            left = self._budget.exit_by - trio.current_time()
            _logger.info("%s, %.1f s left, waiting for %s", self._phase, left, _listed(self._waiting_for()))

    def _waiting_for(self) -> list[str]:
        statistics = self.runtime.statistics()
        if self._phase == "draining":
            return list(statistics.draining)
        return [] if statistics.root is None else _alive(statistics.root)

    def dismiss(self) -> None:
        """Nothing is left that could be stuck."""
        self._resort.dismiss()

    def _release(self) -> None:
        """Give back what must not be kept; in a thread, the loop may be blocked."""
        for error in self.runtime.run_exit_callbacks():
            _logger.error("an exit callback failed: %s", error, exc_info=error)

    def _say_what_is_stuck(self, why: str) -> None:
        """Name it, and say what happens now; in another thread."""
        self._say_what_has_not_ended()
        _logger.critical("%s", why)

    def _say_what_has_not_ended(self) -> None:
        if self._phase == "stopped":
            threads = [each.name for each in threading.enumerate() if not each.daemon]
            _logger.critical("stopped, but the interpreter does not end; threads: %s", _listed(threads))
            return
        answer: SimpleQueue[list[str]] = SimpleQueue()
        try:
            self.stop_request.in_loop(lambda: answer.put(self._waiting_for()))
            _logger.critical(
                "still %s; these have not ended: %s", self._phase, _listed(answer.get(timeout=self._patience / 4))
            )
        except Empty:
            culprit = self._watchdog.culprit()
            _logger.critical("still %s; the loop is blocked: %s\n%s", self._phase, culprit, culprit.stack)

    # The probes ask these.

    def live(self) -> Answer:
        """Whether the loop runs."""
        why = self._watchdog.why_not_alive()
        seen = self._watchdog.statistics()
        return Answer(why is None, () if why is None else (why,), {"stalls": seen.stalls, "worst_stall": seen.worst})

    def ready(self) -> Answer:
        """Whether the tree is ready, and stays."""
        readiness = self.runtime.readiness()
        stopping = self._phase in {"settling", "draining", "stopping", "stopped"}
        reasons = (f"shutting down: {self._phase}",) if stopping else ()
        named = {"parked": readiness.parked, "stuck": readiness.stuck}
        details: dict[str, object] = {what: list(paths) for what, paths in named.items() if paths}
        return Answer(readiness.ok and not stopping, (*reasons, *readiness.reasons), details)

    def started(self) -> Answer:
        """Whether the tree has started."""
        return Answer(self._phase != "starting", ("starting",) if self._phase == "starting" else ())


def _alive(supervisor: SupervisorStatistics) -> list[str]:
    paths: list[str] = []
    for each in supervisor.children:
        if each.children is not None:
            paths += _alive(each.children)
        elif each.incarnation is not None:
            paths.append(f"{supervisor.path}/{each.id}" + (" (stuck)" if each.stuck else ""))
    return paths


def _listed(paths: list[str], most: int = 10) -> str:
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return (", ".join(paths[:most]) or "nothing") + more


def _set_up_log(level: str) -> None:
    """Readable lines on stdout, unless the program has set up a log of its own."""
    logging.basicConfig(
        stream=sys.stdout,
        level=level,
        format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
