"""What a person sees of a run: a live picture in a terminal, plain lines elsewhere, the audit in words.

A view is fed with events and nothing else, so it shows a recorded run as well as a running one.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from attrs import Factory, define
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.rolling_deploy.analysis import step_names
from examples.rolling_deploy.events import Event, Kind
from examples.rolling_deploy.report import Report, in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

__all__ = ["JobPicture", "LiveView", "Picture", "PlainView", "PodPicture", "View", "open_view", "print_audit"]

_RATE_SECONDS = 10.0
_FORGET_SECONDS = 3.0
_NEWS = 8
_WIDTH = 80

_STYLES = {
    "starting": "yellow",
    "ready": "green",
    "available": "bold green",
    "draining": "magenta",
    "terminating": "magenta",
    "not ready": "yellow",
    "paused": "red",
    "killed": "red",
    "crash loop": "red",
    "ended": "dim",
    "gone": "dim",
}


@define
class PodPicture:
    """A pod: its version, its state in a word, since when (monotonic), whether it is the aggregator."""

    name: str
    version: str
    state: str
    since: float
    restarts: int = 0
    owner: bool = False


@define
class JobPicture:
    """A job under way: who has it, at which step it is, and how often it was claimed."""

    job: str
    pod: str = ""
    step: str = ""
    epoch: int = 0
    resumed: bool = False


@define
class Picture:
    """The state of a run, as far as the events have told."""

    pods: dict[str, PodPicture] = Factory(dict[str, PodPicture])
    running: dict[str, JobPicture] = Factory(dict[str, JobPicture])
    published: int = 0
    finished: int = 0
    applied: int = 0
    released: int = 0
    resumed: int = 0
    version: str = ""
    rolling: bool = False
    now: float = 0.0
    began: float = 0.0
    news: deque[str] = Factory(lambda: deque(maxlen=_NEWS))
    saved: set[tuple[str, str]] = Factory(set[tuple[str, str]])
    """The steps that have been saved, each with its job."""
    _steps: deque[float] = Factory(deque[float])

    def take(self, event: Event) -> None:
        """Bring the picture up to this event."""
        if not self.began:
            self.began = event.mono
        self.now = max(self.now, event.mono)
        self._take_pod(event)
        self._take_job(event)
        if (told := sentence(event)) is not None:
            self.news.append(f"{event.mono - self.began:6.1f}  {told}")

    def advance(self, now: float) -> None:
        """Let time pass to ``now`` (monotonic seconds): rates fall, pods that are gone fade away."""
        self.now = max(self.now, now)
        for name, pod in list(self.pods.items()):
            if pod.state == "gone" and self.now - pod.since > _FORGET_SECONDS:
                del self.pods[name]

    @property
    def rate(self) -> float:
        """Steps per second over the last ten seconds."""
        while self._steps and self.now - self._steps[0] > _RATE_SECONDS:
            self._steps.popleft()
        passed = min(_RATE_SECONDS, self.now - self.began)
        return len(self._steps) / passed if passed > 0 else 0.0

    def _take_pod(self, event: Event) -> None:
        kind, detail = event.kind, event.detail
        if kind is Kind.ROLLOUT_STARTED:
            self.version, self.rolling = str(detail.get("version", "")), True
        elif kind is Kind.ROLLOUT_FINISHED:
            self.rolling = False
        elif kind is Kind.POD_STARTED:
            version, restarts = str(detail.get("version", "")), int(detail.get("restarts", 0))
            self.pods[event.pod] = PodPicture(event.pod, version, "starting", event.mono, restarts)
        pod = self.pods.get(event.pod)
        if pod is None:
            return
        if kind in (Kind.OWNER_ACQUIRED, Kind.OWNER_RELEASED):
            pod.owner = kind is Kind.OWNER_ACQUIRED
        state = _state(event)
        leaving = pod.state in ("terminating", "draining")
        if state is not None and not (leaving and state in ("ready", "not ready", "available", "ended")):
            pod.state, pod.since = state, event.mono
        if kind in (Kind.POD_EXIT, Kind.POD_GONE):
            pod.owner = False
            self.running = {name: job for name, job in self.running.items() if job.pod != event.pod}

    def _take_job(self, event: Event) -> None:
        kind = event.kind
        if kind is Kind.JOB_PUBLISHED:
            self.published += 1
        elif kind is Kind.JOB_CLAIMED:
            self.running[event.job] = JobPicture(event.job, event.pod, "", event.epoch)
        elif kind is Kind.ENTRY_APPLIED:
            self.applied += 1
        elif kind is Kind.STEP_RUN:
            self._steps.append(event.mono)
            self.saved.add((event.job, event.step))
        job = self.running.get(event.job)
        if job is None or job.epoch != event.epoch:
            return
        if kind in (Kind.STEP_STARTED, Kind.STEP_RUN):
            job.step = event.step
        elif kind is Kind.JOB_RESUMED:
            job.step, job.resumed = event.step, True
            self.resumed += 1
        elif kind in (Kind.JOB_FINISHED, Kind.JOB_RELEASED, Kind.JOB_FAILED, Kind.LEASE_LOST):
            del self.running[event.job]
            self.finished += kind is Kind.JOB_FINISHED
            self.released += kind is Kind.JOB_RELEASED


def _state(event: Event) -> str | None:
    """The state into which this event brings its pod."""
    if event.kind is Kind.FAULT:
        return {"kill": "killed", "pause": "paused", "resume": "ready"}.get(str(event.detail.get("kind")))
    return {
        Kind.POD_READY: "ready",
        Kind.POD_UNREADY: "not ready",
        Kind.POD_AVAILABLE: "available",
        Kind.TERMINATING: "terminating",
        Kind.SIGTERM: "draining",
        Kind.POD_EXIT: "ended",
        Kind.CRASH_LOOP: "crash loop",
        Kind.POD_GONE: "gone",
    }.get(event.kind)


def sentence(event: Event) -> str | None:
    """What is worth telling of an event, in a few words; ``None`` for the everyday."""
    pod, job, detail = event.pod, event.job, event.detail
    match event.kind:
        case Kind.ROLLOUT_STARTED:
            return f"rolling out version {detail.get('version')}"
        case Kind.ROLLOUT_FINISHED:
            return f"version {detail.get('version')} is rolled out"
        case Kind.POD_STARTED if detail.get("restarts"):
            return f"{pod} starts again (restart {detail['restarts']})"
        case Kind.POD_STARTED:
            return f"{pod} starts"
        case Kind.POD_AVAILABLE:
            return f"{pod} is available"
        case Kind.SIGTERM:
            return f"{pod} gets SIGTERM"
        case Kind.GRACE_EXPIRED:
            return f"{pod} outlived its grace period and is killed"
        case Kind.LIVENESS_FAILED:
            return f"{pod} fails its liveness probe"
        case Kind.POD_EXIT:
            return f"{pod} ended with exit code {detail.get('code')}"
        case Kind.CRASH_LOOP:
            return f"{pod} is started again in {detail.get('delay')} s"
        case Kind.FAULT:
            return f"fault: {detail.get('kind')} {pod}".rstrip()
        case Kind.JOB_RELEASED:
            return f"{job} given back by {pod}"
        case Kind.JOB_SET_ASIDE:
            return f"{pod} leaves {detail.get('jobs')} jobs of a newer schema to newer pods"
        case Kind.JOB_RESUMED:
            return f"{job} goes on at {event.step} in {pod} (epoch {event.epoch})"
        case Kind.JOB_FAILED:
            return f"{job} failed in {pod}: {detail.get('error', '')}"
        case Kind.LEASE_LOST:
            return f"{pod} lost the lease of {job}"
        case Kind.OWNER_ACQUIRED:
            return f"{pod} is the aggregator now (epoch {event.epoch})"
        case _:
            return None


class View(AbstractContextManager["View"], Protocol):
    """Shows a run while it lasts."""

    def show(self, events: Iterable[Event], now: float) -> None:
        """Show what happened since the last call, at ``now`` (monotonic seconds); a few times a second."""
        ...


class PlainView:
    """One line for each thing worth telling, and the progress every few seconds."""

    def __init__(self, out: TextIO, *, every: float = 5.0) -> None:
        self._out = out
        self._every = every
        self._told = -math.inf
        self.picture = Picture()

    def show(self, events: Iterable[Event], now: float) -> None:
        """Print what is new."""
        picture = self.picture
        for event in events:
            picture.take(event)
            if (told := sentence(event)) is not None:
                self._out.write(f"{event.mono - picture.began:6.1f}  {told}\n")
        picture.advance(now)
        if picture.published and now - self._told >= self._every:
            self._told = now
            self._out.write(
                f"{now - picture.began:6.1f}  {picture.applied} of {picture.published} jobs counted, "
                f"{len(picture.running)} under way, {picture.rate:.1f} steps/s\n"
            )
        self._out.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.flush()


class LiveView:
    """A picture of the pods and jobs that is drawn anew in place."""

    def __init__(self, console: Console, *, steps: Sequence[str] | None = None) -> None:
        self._steps = tuple(steps or step_names())
        self.picture = Picture()
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def show(self, events: Iterable[Event], now: float) -> None:
        """Draw the picture as it is now."""
        for event in events:
            self.picture.take(event)
        self.picture.advance(now)
        self._live.update(self.render(), refresh=True)

    def render(self) -> RenderableType:
        """The whole picture."""
        picture = self.picture
        head = Text.assemble(
            ("holdfast", "bold"),
            f"   version {picture.version or '-'}{', rolling out' if picture.rolling else '':<13}",
            f"{picture.applied:3} of {picture.published} jobs counted   {picture.rate:4.1f} steps/s   ",
            f"{picture.released} given back, {picture.resumed} resumed   ",
            f"{max(0.0, picture.now - picture.began):3.0f} s",
        )
        # In steps: jobs run side by side, so that for long none is counted, and then many are. A bar ends without a
        # line feed, so it takes a grid's row to itself.
        progress = Table.grid()
        total = max(1, picture.published * len(self._steps))
        progress.add_row(ProgressBar(total=total, completed=len(picture.saved), width=_WIDTH))
        news = [Text(line, style="dim") for line in picture.news]
        return Group(head, progress, Text(), self._pods(), Text(), self._jobs(), Text(), *news)

    def _pods(self) -> Table:
        table = _table(("pod", 24), ("version", 9), ("state", 12), ("restarts", 9), ("", 10))
        for pod in self.picture.pods.values():
            state = Text(pod.state, style=_STYLES.get(pod.state, ""))
            table.add_row(pod.name, pod.version, state, str(pod.restarts), "aggregator" if pod.owner else "")
        return table

    def _jobs(self) -> Table:
        table = _table(("job", 10), ("pod", 24), ("step", 10), ("", 20), ("", 20))
        for _, job in sorted(self.picture.running.items()):
            done = self._steps.index(job.step) if job.step in self._steps else 0
            bar = ProgressBar(total=len(self._steps), completed=done, width=20)
            note = f"resumed, epoch {job.epoch}" if job.resumed else ""
            table.add_row(job.job, job.pod, job.step or "-", bar, note)
        return table

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def _table(*columns: tuple[str, int]) -> Table:
    """A plain table whose columns stay where they are, whatever comes and goes in them."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, width in columns:
        table.add_column(title, min_width=width, no_wrap=True)
    return table


def open_view(out: TextIO) -> View:
    """The view that suits ``out``: live when it is a terminal that can do it, plain lines otherwise."""
    console = Console(file=out)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console)
    return PlainView(out)


def print_audit(report: Report, out: TextIO) -> None:
    """Print the audit in words."""
    out.write("\n" + "\n".join(in_words(report)) + "\n")
    out.flush()
