"""What type checkers make of the public face. Only checked, by `make check`; the functions are never called."""

from typing import Any, assert_type

import attrs

from otp import Actor, Call, ChildInfo, Ref, Supervisor, SupervisorRef, call, child, open_supervisor, whereis


@attrs.frozen
class GetTotal(Call[int]):
    account: str


@attrs.frozen
class GetNames(Call[list[str]]):
    pass


async def _calls_know_their_answer(ref: Ref) -> None:
    assert_type(await ref.call(GetTotal("a")), int)
    assert_type(await ref.call(GetNames(), timeout=1), list[str])
    assert_type(await call("ledger", GetTotal("a")), int)
    assert_type(await call(ref, GetNames()), list[str])
    assert_type(await ref.call("anything else"), Any)
    assert_type(await call("ledger", ("a", "tuple")), Any)


async def _helpers_are_checked(actor: Actor) -> None:
    async def helper(number: int) -> str:
        return str(number)

    async def in_turn() -> float:
        return 1.5

    actor.nursery.start_soon(helper, 1)
    actor.nursery.start_soon(helper, "x")  # type: ignore[arg-type]
    assert_type(await actor.in_turn(in_turn), float)


async def _the_front_door() -> None:
    async with open_supervisor(Supervisor([child(Actor)])) as supervisor:
        assert_type(supervisor, SupervisorRef)
        assert_type(supervisor.which_children(), list[ChildInfo])
        assert_type(supervisor.ref("x"), Ref)
        assert_type(whereis("x"), Ref | None)
        assert_type(await supervisor.start_child(child(Actor)), Ref | None)
