"""Conformance: of all who want a name, one holds it, and each time under a new epoch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from checkpoints import AlreadyHeld, NameLeases
from otp.engines import Engine, Lease, LeaseLost

from ._stage import PATIENCE, Boom, Stage

MakeEngine = Callable[[], Engine[Any]]


class NameLeaseConformance(Stage):
    """Leases of names."""

    async def hold(self, names: NameLeases, name: str = "ledger") -> Lease:
        """Stand by until the name is ours."""
        with trio.fail_after(PATIENCE):
            while (lease := await names.acquire(name)) is None:
                await names.wait(name)
            return lease

    async def test_one_holds_a_name(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            lease = await NameLeases(one).acquire("ledger")
            assert lease is not None
            assert (lease.token.owner, lease.token.epoch, lease.token.key) == (one.owner, 1, "ledger")
            assert await NameLeases(two).acquire("ledger") is None
            assert await NameLeases(two).acquire("other") is not None

    async def test_fault_09_of_many_at_once_one_gets_it(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 5) as pods:
            got: list[Lease] = []

            async def try_it(pod: Engine[Any]) -> None:
                if (lease := await NameLeases(pod).acquire("ledger")) is not None:
                    got.append(lease)

            async with trio.open_nursery() as nursery:
                for pod in pods:
                    nursery.start_soon(try_it, pod)
            assert len(got) == 1

    async def test_each_acquisition_has_a_higher_epoch(self, make_engine: MakeEngine) -> None:
        epochs: list[int] = []
        for _ in range(2):  # also after all processes have gone
            async with self.pods(make_engine, 2) as pods:
                for pod in (*pods, pods[0], pods[0]):
                    names = NameLeases(pod)
                    lease = await self.hold(names)
                    epochs.append(lease.token.epoch)
                    assert await names.release(lease)
        assert epochs == list(range(1, 9))

    async def test_this_process_cannot_hold_it_twice(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            lease = await self.hold(NameLeases(pod))
            with pytest.raises(AlreadyHeld, match="'ledger' is already held"):
                await NameLeases(pod).acquire("ledger")
            lease.lose("the test says so")  # who has lost it may stand in line again, and then with a new epoch
            again = await self.hold(NameLeases(pod))
            assert again.token.epoch == lease.token.epoch + 1

    async def test_fault_09_a_release_wakes_the_standby_at_once(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            lease = await self.hold(NameLeases(one))
            taken: list[float] = []

            async def stand_by(*, task_status: trio.TaskStatus[None]) -> None:
                names = NameLeases(two)
                assert await names.acquire("ledger") is None
                task_status.started()
                assert (await self.hold(names)).token.epoch == 2
                taken.append(two.monotonic())

            async with trio.open_nursery() as nursery:
                await nursery.start(stand_by)
                await trio.testing.wait_all_tasks_blocked(0.02)
                released = two.monotonic()
                assert await NameLeases(one).release(lease)
            assert taken[0] - released < self.lease / 2  # woken, and not by the end of the lease

    async def test_fault_09_a_killed_holder_is_followed_when_its_lease_is_over(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            lease = await self.hold(NameLeases(one))
            one.let_go(lease)  # nobody renews it: as if the process were dead
            after = await self.hold(NameLeases(two))
            assert two.monotonic() >= lease.deadline - 0.01
            assert after.token.epoch == 2

    async def test_a_held_name_is_renewed(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            lease = await self.hold(NameLeases(one))
            first = lease.deadline
            with trio.fail_after(PATIENCE):
                while one.monotonic() < first + self.lease:
                    assert await NameLeases(two).acquire("ledger") is None
                    await trio.sleep(self.lease / 10)
            assert not lease.lost

    async def test_fault_10_a_zombie_learns_that_another_has_it(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            lease = await self.hold(NameLeases(one))
            one.let_go(lease)
            after = await self.hold(NameLeases(two))
            one.hold(lease)  # it wakes up, and goes on as if nothing had happened
            with pytest.raises(LeaseLost), trio.fail_after(PATIENCE), lease.guard():
                await trio.sleep_forever()
            assert not await NameLeases(one).release(lease)
            assert not after.lost
            holder = await NameLeases(one).holder("ledger")
            assert holder is not None
            assert (holder.owner, holder.epoch) == (two.owner, 2)

    async def test_fault_22_an_old_lease_releases_nothing(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            names = NameLeases(pod)
            old = await self.hold(names)
            assert await names.release(old)
            new = await self.hold(names)
            assert not await names.release(old)
            with pytest.raises(AlreadyHeld):
                await names.acquire("ledger")
            assert await names.release(new)
            assert not await names.release(new)
            assert await names.holder("ledger") is None

    async def test_an_old_lease_of_the_same_process_is_not_renewed(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            names = NameLeases(pod)
            old = await self.hold(names)
            await names.release(old)
            new = await self.hold(names)
            again = Lease(old.token, deadline=pod.monotonic() + self.lease)
            pod.hold(again)  # as a task would that has missed the restart
            with trio.fail_after(PATIENCE), suppress(LeaseLost), again.guard():
                while True:
                    await trio.sleep(self.lease / 10)
                    assert pod.monotonic() < old.deadline + 2 * self.lease
            assert not new.lost

    async def test_holder_tells_people(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            names = NameLeases(pod)
            assert await names.holder("ledger") is None
            await self.hold(names)
            holder = await names.holder("ledger")
            assert holder is not None
            assert (holder.name, holder.owner, holder.epoch) == ("ledger", pod.owner, 1)
            assert 0 < holder.remaining <= self.lease

    async def test_a_free_name_needs_no_waiting(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            names = NameLeases(pod)
            with trio.fail_after(PATIENCE):
                await names.wait("ledger")
                await names.release(await self.hold(names))
                await names.wait("ledger")

    async def test_held_releases_however_it_ends(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine) as (pod,):
            names = NameLeases(pod)
            with pytest.raises(Boom):
                async with names.held("ledger"):
                    raise Boom
            with trio.CancelScope() as scope:
                async with names.held("ledger") as lease:
                    assert lease.token.epoch == 2
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught
            assert await names.holder("ledger") is None

    async def test_a_cancelled_acquire_leaves_no_lease_that_nobody_knows(self, make_engine: MakeEngine) -> None:
        async with self.pods(make_engine, 2) as (one, two):
            names = NameLeases(one)
            for delay in (0, 1, 2, 3):
                lease: Lease | None = None
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:

                        async def cancel_soon(delay: int = delay, scope: trio.CancelScope = scope) -> None:
                            for _ in range(delay):
                                await trio.lowlevel.checkpoint()
                            scope.cancel()

                        nursery.start_soon(cancel_soon)
                        lease = await names.acquire("ledger")
                if lease is None:  # withdrawn: the name is free
                    assert await NameLeases(two).holder("ledger") is None
                else:
                    assert await names.release(lease)

    async def test_a_bad_name_is_refused(self, make_engine: MakeEngine) -> None:
        names: Any = NameLeases(make_engine())
        for wrong, error in (("", ValueError), ("a\0b", ValueError), (7, TypeError)):
            for ask in (names.acquire, names.wait, names.holder):
                with pytest.raises(error, match="name"):
                    await ask(wrong)
