"""Dynamic supervisors: instances with keys, a limit to their number, and copies that are found by a key."""

import pickle
from collections import Counter
from typing import Any, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from otp import (
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    ChildNotFound,
    MaxChildren,
    NotAlive,
    RestartBudget,
    Supervisor,
    WrongStrategy,
    child,
    open_supervisor,
    partition,
    partition_id,
    partitioned,
    whereis,
)
from otp._protocol import StartInstance
from tests.otp.actors import Echo, boom, up
from tests.otp.virtual import virtual_time

pytestmark = virtual_time

COPIES = partitioned(child(Echo), 2)


def simple(**options):
    limits = {"max_children": options.pop("max_children", None)}
    return Supervisor([child(Echo, id="worker", **options)], strategy="simple_one_for_one", **limits)


def ids(supervisor):
    return [info.id for info in supervisor.which_children()]


# -- keys


async def test_a_key_is_part_of_the_id_and_there_is_one_instance_of_it():
    async with open_supervisor(simple(restart="transient")) as supervisor:
        tenant = up(await supervisor.start_instance(key="tenant-7"))
        await supervisor.start_instance()
        await supervisor.start_instance(key="tenant-8")
        assert tenant.id == "worker:tenant-7"
        assert ids(supervisor) == ["worker:tenant-7", "worker:1", "worker:tenant-8"]
        with pytest.raises(AlreadyStarted, match="app: child 'worker:tenant-7' has been started already"):
            await supervisor.start_instance(key="tenant-7")
        tenant.send(boom)  # restarted, under the same id
        await wait_all_tasks_blocked()
        with pytest.raises(AlreadyStarted):
            await supervisor.start_instance(key="tenant-7")
        assert supervisor.ref("worker:tenant-7") is not tenant


async def test_a_key_can_be_used_again_when_its_instance_is_gone():
    async with open_supervisor(simple(restart="transient")) as supervisor:
        first = up(await supervisor.start_instance(key="k"))
        first.send(lambda actor: actor.stop())
        await wait_all_tasks_blocked()
        second = up(await supervisor.start_instance(key="k"))
        assert second is supervisor.ref("worker:k")
        await supervisor.terminate_child("worker:k")
        with pytest.raises(ChildNotFound):
            await supervisor.terminate_child("worker:k")
        assert up(await supervisor.start_instance(key="k")).id == "worker:k"


async def test_a_key_is_taken_while_its_instance_waits_or_is_parked():
    park = RestartBudget(intensity=0, on_exceed="park")
    async with open_supervisor(simple(budget=park, backoff=Backoff(initial=2.0))) as supervisor:
        up(await supervisor.start_instance(key="k")).send(boom)
        for status in ("restarting", "parked"):
            await trio.sleep(1.5)
            assert supervisor.which_children()[0].status == status
            with pytest.raises(AlreadyPresent):
                await supervisor.start_instance(key="k")
        await supervisor.terminate_child("worker:k")
        assert await supervisor.start_instance(key="k") is supervisor.ref("worker:k")


async def test_a_key_is_taken_while_its_instance_is_starting_or_stopping():
    class Slow(Echo):
        async def init(self):
            await trio.sleep(1)

        async def terminate(self, reason):
            await trio.sleep(1)

    spec = Supervisor([child(Slow, id="worker")], strategy="simple_one_for_one")
    async with open_supervisor(spec) as supervisor, trio.open_nursery() as nursery:
        for request in (lambda: supervisor.start_instance(key="k"), lambda: supervisor.terminate_child("worker:k")):
            nursery.start_soon(request)
            await trio.sleep(0.5)
            with pytest.raises(AlreadyStarted):
                await supervisor.start_instance(key="k")
            await trio.sleep(1)
        assert ids(supervisor) == []


@pytest.mark.parametrize("key", ["", "a/b", 7, "7", "٣"])
async def test_bad_keys_are_refused(key):
    with pytest.raises(ValueError, match="key must"):
        StartInstance((), key)


# -- max_children


async def test_max_children_is_a_limit_of_all_that_are_there():
    park = RestartBudget(intensity=0, on_exceed="park")
    async with open_supervisor(simple(max_children=2, budget=park)) as supervisor:
        one = up(await supervisor.start_instance())
        await supervisor.start_instance()
        with pytest.raises(MaxChildren, match="app has 2 instances, and max_children allows no more") as refused:
            await supervisor.start_instance()
        assert (refused.value.supervisor, refused.value.limit) == ("app", 2)
        again = pickle.loads(pickle.dumps(refused.value))
        assert (str(again), again.limit) == (str(refused.value), 2)
        one.send(boom)  # parked, so that it can come back
        await wait_all_tasks_blocked()
        with pytest.raises(MaxChildren):
            await supervisor.start_instance()
        await supervisor.terminate_child("worker:1")
        assert up(await supervisor.start_instance()).id == "worker:3"  # what was refused has used up no number


async def test_a_key_that_is_there_is_told_before_the_limit():
    async with open_supervisor(simple(max_children=1)) as supervisor:
        await supervisor.start_instance(key="k")
        with pytest.raises(AlreadyStarted):
            await supervisor.start_instance(key="k")


async def test_bad_limits_are_refused():
    with pytest.raises(ValueError, match="max_children must be a whole number >= 1, not 0"):
        simple(max_children=0)
    with pytest.raises(ValueError, match="max_children must be None under one_for_one, not 3"):
        Supervisor([], max_children=3)


# -- partitions


async def test_a_key_leads_to_the_same_copy_also_after_a_restart():
    caches = partitioned(child(Echo, id="cache", name="cache"), 4)
    async with open_supervisor(Supervisor([child(caches, id="caches")])) as root:
        supervisor = root.supervisor("caches")
        assert ids(supervisor) == ["cache:0", "cache:1", "cache:2", "cache:3"]
        ref = partition(supervisor, "user-7")
        assert partition(supervisor, "user-7") is ref
        assert whereis(ref.id) is ref
        ref.send(boom)
        await wait_all_tasks_blocked()
        again = partition(supervisor, "user-7")
        assert again is not ref
        assert again.id == ref.id
        await supervisor.terminate_child(ref.id)
        with pytest.raises(NotAlive):
            partition(supervisor, "user-7")


async def test_keys_are_spread_and_their_hash_never_changes():
    spec = partitioned(child(Echo, id="e"), 8)
    spread = Counter(partition_id(spec, f"user-{n}") for n in range(8000))
    assert set(spread) == {f"e:{n}" for n in range(8)}
    assert max(spread.values()) < 1150
    assert [partition_id(spec, key) for key in ("user-7", b"user-7", "", 13, -1)] == ["e:1", "e:1", "e:0", "e:5", "e:7"]
    assert partition_id(spec, "not utf-8: \udc80") in {child.id for child in spec.children}  # as names of files may be


async def test_copies_may_be_supervisors():
    shards = partitioned(child(simple(), id="shard"), 3)
    async with open_supervisor(shards) as supervisor:
        shard = supervisor.supervisor(partition_id(supervisor.spec, "tenant-1"))
        assert up(await shard.start_instance(key="tenant-1")).path.endswith("worker:tenant-1")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: partitioned(child(Echo), 0), "partitions must be a whole number >= 1, not 0"),
        (lambda: partitioned(cast("Any", Echo), 2), r"spec must be what child\(\) returns"),
        (lambda: partition_id(COPIES, cast("Any", 1.5)), "key must be a str, bytes or int, not 1.5"),
        (lambda: partition_id(COPIES, True), "key must be a str, bytes or int, not True"),
        (lambda: partition_id(Supervisor([child(Echo)]), "k"), r"spec must be what partitioned\(\) made"),
        (lambda: partition_id(Supervisor([]), "k"), r"spec must be what partitioned\(\) made"),
    ],
)
async def test_bad_partitions_are_refused(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        wrong()


async def test_instances_are_for_one_strategy_only():
    async with open_supervisor(Supervisor([])) as supervisor:
        with pytest.raises(WrongStrategy):
            await supervisor.start_instance(key="k")
