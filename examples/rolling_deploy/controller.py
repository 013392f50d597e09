"""A deployment controller and kubelet for one host: what Kubernetes does with pods, done with process groups.

The decisions of a rollout are made in :mod:`examples.rolling_deploy.rollout`; here is the shell that observes
pods, carries decisions out and lives through each pod's life:

    started -> (readiness probe) -> ready -> (minReadySeconds) -> available
    ended by itself -> started again in place, with a growing delay
    deleted -> terminating: preStop -> SIGTERM -> what is left of the grace period -> SIGKILL

Times are read from trio's clock, so tests run under a virtual one.
"""

from __future__ import annotations

import math
import random
import signal
import string
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import trio
from attrs import Factory, define, evolve, frozen

from examples.rolling_deploy.events import Json, Kind, Sink, event_now
from examples.rolling_deploy.manifest import POD_NAME_FIELD, Deployment, PodTemplate, Probe
from examples.rolling_deploy.probes import Verdict, http_get
from examples.rolling_deploy.processes import Container, Launcher, free_port
from examples.rolling_deploy.rollout import Create, Desired, Pod, ReplicaSet, reconcile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from pathlib import Path

__all__ = ["Backoff", "Controller", "PodStatus"]

_CANNOT_START = 127


@frozen
class Backoff:
    """How long to wait before a container that ended is started again.

    Not at all the first time, then ``base`` seconds, doubled up to ``cap``. Kubernetes takes 10 s and 300 s,
    and starts over after ten minutes without trouble; a demo of a minute is shorter.
    """

    base: float = 0.5
    cap: float = 8.0
    reset_after: float = 30.0

    def delay(self, crashes: int) -> float:
        """Seconds before the start after so many ends in a row."""
        return 0.0 if crashes <= 1 else min(self.cap, self.base * 2.0 ** (crashes - 2))


@frozen
class PodStatus:
    """A pod as the controller sees it. ``pid`` is 0 while no container runs."""

    name: str
    version: str
    revision: int
    pid: int
    restarts: int
    ready: bool
    available: bool
    terminating: bool


@define(eq=False)
class _Pod:
    name: str
    revision: int
    created: int
    template: PodTemplate
    port: int
    container: Container | None = None
    ready: bool = False
    available: bool = False
    ready_since: float = math.inf
    restarts: int = 0
    deleted: trio.Event = Factory(trio.Event)

    def observed(self) -> Pod:
        return Pod(
            self.name,
            self.revision,
            self.created,
            ready=self.ready,
            available=self.available,
            restarts=self.restarts,
            terminating=self.deleted.is_set(),
        )


class Controller:
    """Keeps a deployment's pods as they should be, for as long as :meth:`run` runs.

    All methods but :meth:`run` may be called from any task of the same trio run.
    """

    def __init__(
        self,
        deployment: Deployment,
        launcher: Launcher,
        sink: Sink,
        *,
        directory: Path,
        env: Mapping[str, str] | None = None,
        seed: int | None = None,
        probe: Callable[[int, str, float], Awaitable[bool]] = http_get,
        backoff: Backoff | None = None,
        stop_extension: float = 2.0,
    ) -> None:
        """Nothing is started yet.

        ``directory`` stands for every volume that the template mounts: a mount path in a variable of the
        template is replaced by it, and ``directory/logs`` gets a file of output for each pod. ``env`` are
        further variables for every pod, which override the template's. ``seed`` makes the pods' names
        reproducible. ``stop_extension`` is what a container gets once, in seconds, when its preStop hook has
        used up the whole grace period.
        """
        self._deployment = deployment
        self._launcher = launcher
        self._sink = sink
        self._directory = directory
        self._logs = directory / "logs"
        self._env = dict(env or {})
        self._random = random.Random(seed)
        self._probe = probe
        self._backoff = backoff or Backoff()
        self._stop_extension = stop_extension
        self._templates: list[PodTemplate] = []
        self._sets: tuple[ReplicaSet, ...] = ()
        self._pods: dict[str, _Pod] = {}
        self._ports: set[int] = set()
        self._created = 0
        self._changed = trio.Event()
        self._complete = False
        self._announced: int = -1
        self._finished: int = -1
        self.exit_codes: dict[str, list[int]] = {}
        """The exit codes of each pod's containers, in order; negative for a signal."""

    # -- what should be --

    @property
    def deployment(self) -> Deployment:
        """The deployment as it should be now."""
        return self._deployment

    def apply(self, deployment: Deployment) -> None:
        """Take this from now on. A template that is new starts a rollout; an earlier one, a rollback."""
        self._deployment = deployment
        self._complete = False
        self._wake()

    async def wait_rolled_out(self) -> None:
        """Wait until every replica is of the newest template and available, and no older pod counts any more.

        Pods that are still draining do not keep it waiting. There is no time limit; put one around it.
        """
        while not self._complete:
            await self._changed.wait()

    async def wait_serving(self) -> tuple[PodStatus, ...]:
        """Wait until some pods are ready and not terminating; these."""
        while not (serving := tuple(pod for pod in self.pods() if pod.ready and not pod.terminating)):
            await self._changed.wait()
        return serving

    async def wait_gone(self) -> None:
        """Wait until no pod is terminating any more."""
        while any(pod.deleted.is_set() for pod in self._pods.values()):
            await self._changed.wait()

    async def stop(self) -> None:
        """Scale to nothing in the ordinary way, and wait until the last pod has ended."""
        self.apply(evolve(self._deployment, replicas=0))
        while self._pods:
            await self._changed.wait()

    # -- what is --

    def pods(self) -> tuple[PodStatus, ...]:
        """All pods that have not ended for good, oldest first."""
        return tuple(
            PodStatus(
                pod.name,
                pod.template.version,
                pod.revision,
                pod.container.pid if pod.container else 0,
                pod.restarts,
                pod.ready,
                pod.available,
                pod.deleted.is_set(),
            )
            for pod in self._pods.values()
        )

    # -- disturbances --

    def delete(self, name: str) -> bool:
        """End a pod as ``kubectl delete pod`` does; another takes its place. False: no such pod."""
        pod = self._pods.get(name)
        if pod is None or pod.deleted.is_set():
            return False
        self._emit(Kind.FAULT, pod, kind="term")
        self._terminate(pod)
        self._complete = False
        self._wake()
        return True

    def kill(self, name: str) -> bool:
        """Kill everything in a pod's container with SIGKILL. False when none is running."""
        pod = self._pods.get(name)
        if pod is None or not self._disturb(name, "kill", signal.SIGKILL):
            return False
        # At once, so that nobody takes the rollout for complete until the end of the process is noticed.
        pod.ready = pod.available = self._complete = False
        pod.ready_since = math.inf
        return True

    def resume(self, name: str) -> bool:
        """Let a container go on that has stopped itself (SIGSTOP). False when none is running."""
        return self._disturb(name, "resume", signal.SIGCONT)

    def _disturb(self, name: str, kind: str, number: int) -> bool:
        pod = self._pods.get(name)
        if pod is None or pod.container is None:
            return False
        self._emit(Kind.FAULT, pod, kind=kind)
        pod.container.signal_all(number)
        return True

    # -- the loop --

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the pods as they should be until cancelled; then every container is killed.

        For an orderly end call :meth:`stop` first. Tells ``task_status`` when the first pods are being
        started.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        async with trio.open_nursery() as nursery:
            self._reconcile(nursery)
            task_status.started()
            while True:
                await self._changed.wait()
                self._reconcile(nursery)

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _reconcile(self, nursery: trio.Nursery) -> None:
        revision = self._revision(self._deployment.template)
        if revision != self._announced:
            self._announced, self._finished = revision, -1
            self._emit(Kind.ROLLOUT_STARTED, version=self._deployment.template.version, revision=revision)
        desired = Desired(
            self._deployment.replicas, self._deployment.max_surge, self._deployment.max_unavailable, revision
        )
        while True:
            plan = reconcile(desired, self._sets, (pod.observed() for pod in self._pods.values()))
            settled = plan.sets == self._sets and not plan.actions
            self._sets = plan.sets
            for action in plan.actions:
                if isinstance(action, Create):
                    nursery.start_soon(self._live, self._create(action.revision))
                else:
                    self._terminate(self._pods[action.pod])
            if settled:
                break
        if plan.complete and self._finished != revision:
            self._finished = revision
            self._emit(Kind.ROLLOUT_FINISHED, version=self._deployment.template.version, revision=revision)
        if plan.complete is not self._complete:
            self._complete = plan.complete
            self._wake()

    def _revision(self, template: PodTemplate) -> int:
        if template not in self._templates:
            self._templates.append(template)
        return self._templates.index(template)

    def _create(self, revision: int) -> _Pod:
        template = self._templates[revision]
        suffix = "".join(self._random.choices(string.ascii_lowercase + string.digits, k=5))
        self._created += 1
        # The number makes the name unique; the rest is for the eye, as with Kubernetes' own.
        name = f"{self._deployment.name}-v{template.version or revision + 1}-{self._created}{suffix}"
        port = free_port()
        while port in self._ports:
            port = free_port()
        self._ports.add(port)
        pod = _Pod(name, revision, self._created, template, port)
        self._pods[name] = pod
        return pod

    def _terminate(self, pod: _Pod) -> None:
        if not pod.deleted.is_set():
            self._emit(Kind.TERMINATING, pod, grace=pod.template.grace)
            pod.deleted.set()

    def _emit(self, kind: Kind, pod: _Pod | None = None, /, **detail: Json) -> None:
        self._sink(event_now(kind, pod=pod.name if pod else "", detail=detail))

    # -- a pod's life --

    async def _live(self, pod: _Pod) -> None:
        crashes = 0
        try:
            while not pod.deleted.is_set():
                started = trio.current_time()
                await self._run_container(pod)
                crashes = 1 if trio.current_time() - started >= self._backoff.reset_after else crashes + 1
                if pod.deleted.is_set():
                    break
                delay = self._backoff.delay(crashes)
                if delay:
                    self._emit(Kind.CRASH_LOOP, pod, delay=delay)
                    with trio.move_on_after(delay):
                        await pod.deleted.wait()
                pod.restarts += 1
        finally:
            del self._pods[pod.name]
            self._wake()
        self._emit(Kind.POD_GONE, pod)

    async def _run_container(self, pod: _Pod) -> None:
        started = trio.current_time()
        code = _CANNOT_START
        with (self._logs / f"{pod.name}.log").open("a", encoding="utf-8") as log:

            def on_line(line: str) -> None:
                log.write(line + "\n")
                log.flush()
                self._emit(Kind.LOG, pod, line=line)

            try:
                async with self._launcher(self._command(pod.template.command), self._variables(pod), on_line) as it:
                    pod.container = it
                    self._emit(
                        Kind.POD_STARTED,
                        pod,
                        pid=it.pid,
                        version=pod.template.version,
                        revision=pod.revision,
                        restarts=pod.restarts,
                        port=pod.port,
                    )
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._watch_readiness, pod, nursery)
                        nursery.start_soon(self._watch_liveness, pod, it)
                        nursery.start_soon(self._stop_when_deleted, pod, it)
                        code = await it.wait()
                        self._ended(pod, code, trio.current_time() - started)
                        nursery.cancel_scope.cancel()
            except OSError as error:
                on_line(f"the container could not be started: {error}")
                self._ended(pod, code, 0.0)

    def _ended(self, pod: _Pod, code: int, seconds: float) -> None:
        pod.container = None
        pod.ready = pod.available = False
        pod.ready_since = math.inf
        self.exit_codes.setdefault(pod.name, []).append(code)
        self._emit(Kind.POD_EXIT, pod, code=code, restarts=pod.restarts, seconds=round(seconds, 3))
        self._wake()

    def _command(self, command: Iterable[str]) -> list[str]:
        first, *rest = command
        return [sys.executable if first in ("python", "python3") else first, *rest]

    def _variables(self, pod: _Pod) -> dict[str, str]:
        template = pod.template
        variables = {name: self._mounted(template, value) for name, value in template.env.items()}
        variables |= {name: pod.name for name, path in template.env_fields.items() if path == POD_NAME_FIELD}
        # All pods share this host's one address, so each needs its own port.
        return variables | self._env | {"HOST": "127.0.0.1", "PORT": str(pod.port)}

    def _mounted(self, template: PodTemplate, value: str) -> str:
        for path in template.mounts:
            directory = str(self._directory)
            value = value.replace(path, quote(directory) if "://" in value else directory)
        return value

    # -- probes --

    async def _watch_readiness(self, pod: _Pod, nursery: trio.Nursery) -> None:
        probe = pod.template.readiness
        if probe is None:
            self._set_ready(pod, nursery, ready=True)
            return
        verdict = Verdict(probe.success_threshold, probe.failure_threshold, standing=False)
        await trio.sleep(probe.initial_delay)
        while True:
            started = trio.current_time()
            self._set_ready(pod, nursery, ready=verdict.record(success=await self._ask(pod, probe)))
            await trio.sleep_until(started + probe.period)

    def _set_ready(self, pod: _Pod, nursery: trio.Nursery, *, ready: bool) -> None:
        if ready is pod.ready:
            return
        pod.ready = ready
        if ready:
            pod.ready_since = trio.current_time()
            self._emit(Kind.POD_READY, pod)
            nursery.start_soon(self._become_available, pod, pod.ready_since)
        else:
            pod.available = False
            pod.ready_since = math.inf
            self._emit(Kind.POD_UNREADY, pod)
        self._wake()

    async def _become_available(self, pod: _Pod, since: float) -> None:
        await trio.sleep_until(since + self._deployment.min_ready)
        if pod.ready_since == since:
            pod.available = True
            self._emit(Kind.POD_AVAILABLE, pod)
            self._wake()

    async def _watch_liveness(self, pod: _Pod, container: Container) -> None:
        probe = pod.template.liveness
        if probe is None:
            return
        verdict = Verdict(probe.success_threshold, probe.failure_threshold, standing=True)
        await trio.sleep(probe.initial_delay)
        while True:
            started = trio.current_time()
            alive = verdict.record(success=await self._ask(pod, probe))
            if pod.deleted.is_set():
                return  # its end is under way already, and a drain need not answer
            if not alive:
                self._emit(Kind.LIVENESS_FAILED, pod)
                await self._stop_container(pod, container)
                return
            await trio.sleep_until(started + probe.period)

    async def _ask(self, pod: _Pod, probe: Probe) -> bool:
        with trio.move_on_after(probe.timeout):
            return await self._probe(pod.port, probe.path, probe.timeout)
        return False

    # -- a container's end --

    async def _stop_when_deleted(self, pod: _Pod, container: Container) -> None:
        await pod.deleted.wait()
        await self._stop_container(pod, container)

    async def _stop_container(self, pod: _Pod, container: Container) -> None:
        deadline = trio.current_time() + pod.template.grace
        if pod.template.pre_stop is not None:
            with trio.move_on_at(deadline) as scope:
                await self._pre_stop(pod)
            if scope.cancelled_caught:
                self._emit(Kind.PRE_STOP, pod, error="cut off by the end of the grace period")
                deadline = trio.current_time() + self._stop_extension
        self._emit(Kind.SIGTERM, pod)
        container.send_signal(signal.SIGTERM)
        await trio.sleep_until(deadline)
        self._emit(Kind.GRACE_EXPIRED, pod)
        container.signal_all(signal.SIGKILL)

    async def _pre_stop(self, pod: _Pod) -> None:
        hook = pod.template.pre_stop
        if hook is None:
            return
        started = trio.current_time()
        detail: dict[str, Json] = {}
        if hook.command:
            try:
                async with self._launcher(
                    self._command(hook.command),
                    self._variables(pod),
                    lambda line: self._emit(Kind.LOG, pod, line=f"preStop: {line}"),
                ) as process:
                    detail["code"] = await process.wait()
            except OSError as error:
                # Kubernetes notes a failed hook as an event and goes on with SIGTERM.
                detail["error"] = str(error)
        else:
            await trio.sleep(hook.sleep)
        self._emit(Kind.PRE_STOP, pod, seconds=round(trio.current_time() - started, 3), **detail)
