"""The life of pods, under virtual time and with containers that exist only in the test."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
import yaml
from attrs import Factory, define, evolve

from examples.rolling_deploy.controller import Backoff, Controller
from examples.rolling_deploy.events import Event, Kind
from examples.rolling_deploy.manifest import DEFAULT_MANIFEST, Deployment, Hook, PodTemplate, Probe, load
from examples.rolling_deploy.pod import PodSettings


@define
class Behaviour:
    """How the program in the containers behaves; times in seconds after its start, or after SIGTERM."""

    ready_after: float = 2.0
    drain: float = 1.0
    crash_after: float = math.inf
    code: int = 0
    deaf: bool = False
    alive: Callable[[float], bool] = Factory(lambda: lambda age: True)


@define(eq=False)
class FakeContainer:
    """A container that is only a few times on the virtual clock."""

    command: Sequence[str]
    env: Mapping[str, str]
    behaviour: Behaviour
    pid: int
    started: float = Factory(trio.current_time)
    ends: float = math.inf
    code: int = 0
    changed: trio.Event = Factory(trio.Event)
    signals: list[tuple[float, int]] = Factory(list)

    def end_at(self, time: float, code: int) -> None:
        if time < self.ends:
            self.ends, self.code = time, code
            changed, self.changed = self.changed, trio.Event()
            changed.set()

    async def wait(self) -> int:
        while trio.current_time() < self.ends:
            changed = self.changed
            with trio.move_on_at(self.ends):
                await changed.wait()
        return self.code

    def send_signal(self, number: int) -> None:
        self.signals.append((trio.current_time() - self.started, number))
        if number == signal.SIGTERM and not self.behaviour.deaf:
            self.end_at(trio.current_time() + self.behaviour.drain, self.behaviour.code)

    def signal_all(self, number: int) -> None:
        self.signals.append((trio.current_time() - self.started, number))
        if number == signal.SIGKILL:
            self.end_at(trio.current_time(), -number)


class World:
    """The fake host: starts containers, answers probes, and keeps what happened."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.containers: list[FakeContainer] = []
        self.events: list[tuple[float, Event]] = []
        self.hooks: list[float] = []
        self.hook_seconds = 0.0
        self.refuse = False
        self.most_counted = 0
        self.least_available = math.inf

    @asynccontextmanager
    async def __call__(
        self, command: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]
    ) -> AsyncIterator[Any]:
        if self.refuse:
            raise FileNotFoundError("no such program")
        behaviour = self.behaviours.get(env.get("VERSION", ""), Behaviour())
        container = FakeContainer(command, env, behaviour, 1000 + len(self.containers))
        if command[0] == "hook":
            self.hooks.append(trio.current_time())
            container.end_at(trio.current_time() + self.hook_seconds, 0)
        else:
            self.containers.append(container)
            on_line(f"hello from {env['POD_NAME']}")
            container.end_at(trio.current_time() + behaviour.crash_after, 1)
        try:
            yield container
        finally:
            container.signal_all(signal.SIGKILL)

    async def probe(self, port: int, path: str, timeout: float) -> bool:
        for container in reversed(self.containers):
            if container.env["PORT"] == str(port):
                age = trio.current_time() - container.started
                if path == "/livez":
                    return container.behaviour.alive(age)
                return age >= container.behaviour.ready_after
        return False

    def sink(self, event: Event) -> None:
        self.events.append((trio.current_time(), event))

    def times(self, kind: Kind, pod: str = "") -> list[float]:
        return [time for time, event in self.events if event.kind is kind and pod in ("", event.pod)]


def deployment(**changes: Any) -> Deployment:
    template = PodTemplate(
        command=("program",),
        env={"VERSION": "1", "STORE": "db:/mnt/state/x.db"},
        env_fields={"POD_NAME": "metadata.name"},
        mounts=("/mnt/state",),
        readiness=Probe("/readyz", 80, period=1, failure_threshold=2),
        grace=10,
    )
    template_changes = changes.pop("template", {})
    return evolve(Deployment("app", 3, 1, 0, 1, evolve(template, **template_changes)), **changes)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def start(world, nursery, tmp_path):
    async def start_controller(spec: Deployment, **options: Any) -> Controller:
        options = {"seed": 1, "probe": world.probe, "directory": tmp_path, **options}
        controller = Controller(spec, world, world.sink, **options)
        await nursery.start(controller.run)
        return controller

    return start_controller


def watch(world: World, controller: Controller) -> Callable[[Event], None]:
    """A sink that also notes the extremes of the rollout at each event."""

    def note() -> None:
        counted = [pod for pod in controller.pods() if not pod.terminating]
        world.most_counted = max(world.most_counted, len(counted))
        world.least_available = min(world.least_available, sum(pod.available for pod in counted))

    def sink(event: Event) -> None:
        world.sink(event)
        note()

    return sink


async def test_pods_become_ready_and_then_available(autojump_clock, start, world):
    controller = await start(deployment())
    await controller.wait_rolled_out()
    # Started at 0, ready at the probe of second 2, available one second later.
    assert set(world.times(Kind.POD_READY)) == {2.0}
    assert set(world.times(Kind.POD_AVAILABLE)) == {3.0}
    assert len(controller.pods()) == 3
    assert all(pod.available and pod.version == "1" for pod in controller.pods())


async def test_a_rollout_keeps_to_the_limits_and_overlaps(autojump_clock, start, world):
    controller = await start(deployment())
    await controller.wait_rolled_out()
    controller._sink = watch(world, controller)
    began = trio.current_time()
    controller.apply(controller.deployment.with_template(VERSION="2"))
    await controller.wait_rolled_out()
    # Three times: two seconds to readiness and one to availability.
    assert trio.current_time() - began == pytest.approx(9.0)
    assert world.most_counted == 4
    assert world.least_available == 3
    assert [pod.version for pod in controller.pods() if not pod.terminating] == ["2", "2", "2"]
    # The next pod was started while the old one was draining.
    assert world.times(Kind.SIGTERM)[0] == world.times(Kind.POD_STARTED)[4]
    await controller.wait_gone()
    assert len(controller.pods()) == 3
    assert [event.detail["version"] for _, event in world.events if event.kind is Kind.ROLLOUT_FINISHED] == [
        "1",
        "2",
    ]


async def test_a_second_rollout_in_the_midst_of_the_first(autojump_clock, start, world):
    controller = await start(deployment())
    await controller.wait_rolled_out()
    controller.apply(controller.deployment.with_template(VERSION="2"))
    await trio.sleep(4.0)
    controller.apply(controller.deployment.with_template(VERSION="3"))
    await controller.wait_rolled_out()
    assert [pod.version for pod in controller.pods() if not pod.terminating] == ["3", "3", "3"]


async def test_variables_and_mounts(autojump_clock, start, world, tmp_path):
    await start(deployment(), env={"EXTRA": "yes"})
    await trio.testing.wait_all_tasks_blocked()
    variables = [container.env for container in world.containers]
    assert len({each["PORT"] for each in variables}) == 3
    assert len({each["POD_NAME"] for each in variables}) == 3
    assert {each["STORE"] for each in variables} == {f"db:{tmp_path}/x.db"}
    assert {each["EXTRA"] for each in variables} == {"yes"}


async def test_the_manifest_is_what_is_run(autojump_clock, start, world, tmp_path):
    state = tmp_path / "a state"
    state.mkdir()
    controller = await start(load(), directory=state)
    await controller.wait_rolled_out()
    written = yaml.safe_load(DEFAULT_MANIFEST.read_text(encoding="utf-8").split("\n---\n")[0])["spec"]
    container = written["template"]["spec"]["containers"][0]
    assert len(world.containers) == written["replicas"]
    assert {running.env["POD_NAME"] for running in world.containers} == {pod.name for pod in controller.pods()}
    for running in world.containers:
        assert running.command == [sys.executable, *container["command"][1:]]
        mount = container["volumeMounts"][0]["mountPath"]
        plain = {each["name"]: each["value"].replace(mount, str(state)) for each in container["env"] if "value" in each}
        plain["STORE_URL"] = plain["STORE_URL"].replace(" ", "%20")
        own = {"HOST": "127.0.0.1", **{name: running.env[name] for name in ("POD_NAME", "PORT")}}
        assert running.env == plain | own
        settings = PodSettings.from_env(running.env)
        assert settings.drain < written["template"]["spec"]["terminationGracePeriodSeconds"]


async def test_output_goes_to_a_file_and_to_the_events(autojump_clock, start, world, tmp_path):
    controller = await start(deployment(replicas=1))
    await trio.testing.wait_all_tasks_blocked()
    name = controller.pods()[0].name
    assert await trio.Path(tmp_path / "logs" / f"{name}.log").read_text() == f"hello from {name}\n"
    assert [event.detail["line"] for _, event in world.events if event.kind is Kind.LOG] == [f"hello from {name}"]


async def stop_one(controller: Controller, world: World) -> FakeContainer:
    """Scale to nothing from one pod, and give its container."""
    await controller.wait_rolled_out()
    await controller.stop()
    assert controller.pods() == ()
    return world.containers[0]


async def test_the_pre_stop_hook_runs_first_and_inside_the_grace(autojump_clock, start, world):
    world.hook_seconds = 4.0
    world.behaviours["1"] = Behaviour(deaf=True)
    controller = await start(deployment(replicas=1, template={"pre_stop": Hook(command=("hook",))}))
    container = await stop_one(controller, world)
    assert world.hooks == [3.0]
    assert container.signals[:2] == [(7.0, signal.SIGTERM), (13.0, signal.SIGKILL)]
    assert world.times(Kind.GRACE_EXPIRED) == [13.0]
    assert list(controller.exit_codes.values()) == [[-9]]


async def test_a_hook_that_uses_up_the_grace_leaves_two_seconds(autojump_clock, start, world):
    world.hook_seconds = 60.0
    world.behaviours["1"] = Behaviour(deaf=True)
    controller = await start(deployment(replicas=1, template={"pre_stop": Hook(command=("hook",))}))
    container = await stop_one(controller, world)
    assert container.signals[:2] == [(13.0, signal.SIGTERM), (15.0, signal.SIGKILL)]


async def test_a_hook_that_sleeps(autojump_clock, start, world):
    controller = await start(deployment(replicas=1, template={"pre_stop": Hook(sleep=3)}))
    container = await stop_one(controller, world)
    assert container.signals[0] == (6.0, signal.SIGTERM)
    assert list(controller.exit_codes.values()) == [[0]]
    assert world.times(Kind.GRACE_EXPIRED) == []


async def test_a_crashed_container_is_started_again_in_place(autojump_clock, start, world):
    world.behaviours["1"] = Behaviour(crash_after=1.0)
    controller = await start(deployment(replicas=1), backoff=Backoff(base=1, cap=4))
    await trio.sleep(20.0)
    # Ends after one second each time; then 0, 1, 2, 4, 4 ... seconds of delay.
    assert world.times(Kind.POD_STARTED)[:6] == [0.0, 1.0, 3.0, 6.0, 11.0, 16.0]
    assert len({event.pod for _, event in world.events if event.kind is Kind.POD_STARTED}) == 1
    assert controller.pods()[0].restarts >= 5


async def test_time_without_trouble_resets_the_delay(autojump_clock, start, world):
    world.behaviours["1"] = Behaviour(crash_after=40.0)
    await start(deployment(replicas=1), backoff=Backoff(base=1, cap=4, reset_after=30))
    await trio.sleep(130.0)
    assert world.times(Kind.CRASH_LOOP) == []
    assert world.times(Kind.POD_STARTED) == [0.0, 40.0, 80.0, 120.0]


async def test_a_pod_can_be_deleted_while_it_waits_to_start_again(autojump_clock, start, world):
    world.behaviours["1"] = Behaviour(crash_after=1.0)
    controller = await start(deployment(replicas=1), backoff=Backoff(base=100, cap=100))
    await trio.sleep(5.0)
    with trio.fail_after(1):
        await controller.stop()


async def test_a_program_that_cannot_be_started_is_a_crash(autojump_clock, start, world):
    world.refuse = True
    controller = await start(deployment(replicas=1))
    await trio.sleep(5.0)
    assert len(controller.pods()) == 1
    lines = [event.detail["line"] for _, event in world.events if event.kind is Kind.LOG]
    assert "no such program" in lines[0]
    world.refuse = False
    await controller.wait_rolled_out()


async def test_a_failing_liveness_probe_restarts_the_container(autojump_clock, start, world):
    world.behaviours["1"] = Behaviour(alive=lambda age: age < 10)
    liveness = Probe("/livez", 80, initial_delay=3, period=2, failure_threshold=3)
    controller = await start(deployment(replicas=1, template={"liveness": liveness}))
    await trio.sleep(17.0)
    # Asked at 3, 5, 7, 9, 11, 13, 15: the third failure in a row is at 15; then one second of drain.
    assert world.times(Kind.LIVENESS_FAILED) == [15.0]
    assert world.times(Kind.POD_STARTED) == [0.0, 16.0]
    assert controller.pods()[0].restarts == 1


async def test_readiness_comes_and_goes_by_its_thresholds(autojump_clock, start, world):
    controller = await start(deployment(replicas=1))
    await controller.wait_rolled_out()
    world.containers[0].behaviour = Behaviour(ready_after=8.0)
    await trio.sleep(10.0)
    # Asked every second; at 4 and 5 in vain, then from 8 on again.
    assert world.times(Kind.POD_UNREADY) == [5.0]
    assert world.times(Kind.POD_READY) == [2.0, 8.0]


async def test_a_version_that_never_gets_ready_does_not_replace_the_old_one(autojump_clock, start, world):
    world.behaviours["2"] = Behaviour(ready_after=math.inf)
    controller = await start(deployment())
    await controller.wait_rolled_out()
    controller.apply(controller.deployment.with_template(VERSION="2"))
    with trio.move_on_after(100) as waiting:
        await controller.wait_rolled_out()
    assert waiting.cancelled_caught
    assert sorted(pod.version for pod in controller.pods()) == ["1", "1", "1", "2"]
    controller.apply(controller.deployment.with_template(VERSION="1"))
    await controller.wait_rolled_out()
    await controller.wait_gone()
    assert [pod.version for pod in controller.pods()] == ["1", "1", "1"]


async def test_faults(autojump_clock, start, world):
    controller = await start(deployment())
    await controller.wait_rolled_out()
    first, second, third = (pod.name for pod in controller.pods())
    assert controller.kill(first)
    assert controller.delete(second)
    assert not controller.delete(second)
    assert controller.resume(third)
    assert not controller.kill("nobody")
    await controller.wait_rolled_out()
    assert [event.detail["kind"] for _, event in world.events if event.kind is Kind.FAULT] == [
        "kill",
        "term",
        "resume",
    ]
    assert controller.exit_codes[first] == [-9]
    assert {pod.name for pod in controller.pods() if not pod.terminating} > {first, third}


async def test_cancelling_the_controller_kills_every_container(world, tmp_path, autojump_clock):
    controller = Controller(deployment(), world, world.sink, directory=tmp_path, probe=world.probe)
    with trio.move_on_after(5):
        await controller.run()
    assert len(world.containers) == 3
    assert all((5.0, signal.SIGKILL) in container.signals for container in world.containers)
