"""What clients do to the children of a tree, and what may come of it."""

from __future__ import annotations

import trio

from otp import (
    ChildNotFound,
    MailboxFull,
    NoMailbox,
    NotAlive,
    OtpError,
    PendingCalls,
    Ref,
    call,
    partition,
    partition_id,
    send,
    whereis,
)
from otp.testing import crash
from tests.otp.soak import ties
from tests.otp.soak.calls import ask, asked_for, look_at
from tests.otp.soak.client import Client, operation, supervisors
from tests.otp.soak.messages import ANSWERS, is_full, no_room, post
from tests.otp.soak.trees import is_partitioned
from tests.otp.soak.world import Boom

# -- messages ----------------------------------------------------------------------------------------------


@operation(20)
async def send_to(client: Client) -> None:
    ref = client.ref()
    if ref is not None:
        await deliver(client, ref)


@operation(4)
async def flood(client: Client) -> None:
    """Many at once: what there is no room for must be the right ones."""
    ref = client.ref()
    for _ in range(client.random.randint(2, 8)):
        if ref is not None:
            await deliver(client, ref)


@operation(5)
async def send_and_wait_for_room(client: Client) -> None:
    ref = client.ref()
    if ref is not None:
        with trio.move_on_after(client.random.choice([0.0, 1.0, 60.0])):
            await deliver(client, ref, wait=True)


async def deliver(client: Client, ref: Ref, *, wait: bool = False) -> None:
    world, note = client.world, client.note()
    nowhere, full = world.leads_nowhere(ref), is_full(ref)
    try:
        if wait:
            await ref.send_wait(note)
            world.mail["sent"] += 1
        else:
            post(world, note, ref.send)
    except NotAlive:
        world.claim(world.refuses(ref), f"{ref} refuses {note}, but is not stopping")
        world.count("send NotAlive")
    except MailboxFull:
        world.claim(not wait, f"{ref} refuses {note}, though its sender would wait")
        no_room(world, ref, note)
        world.count("send MailboxFull")
    except NoMailbox:
        record = world.by_ref.get(ref)
        world.claim(record is None or record.kind != "actor", f"{ref} refuses {note}, but is an actor")
        world.count("send NoMailbox")
    else:
        world.claim(not nowhere, f"{ref} took {note}")
        world.claim(wait or not full, f"{ref} took {note}, but is full")
        world.count("send")


@operation(3)
async def use_a_name(client: Client) -> None:
    world = client.world
    name = client.random.choice([*world.runtime.registry.names()] * 4 + ["nobody"])
    ref = whereis(name)
    world.claim((ref is None) == (name == "nobody"), f"the name {name!r} is {ref}'s")
    try:
        post(world, client.note(), lambda note: send(name, note))
    except OtpError:
        world.count("send by name: refused")
    else:
        world.claim(ref is not None, f"{name!r} took a message")
        world.count("send by name")
    if ref is None:
        try:
            await call(name, "x")
        except NotAlive:
            return
        world.claim(holds=False, text="nobody has answered")


@operation(3)
async def use_a_group(client: Client) -> None:
    world, group = client.world, client.random.choice(ties.GROUPS)
    members = set(group.members())
    expected = ties.members(world, group)
    world.claim(members == expected, f"the members of {group} are {members}, not {expected}")
    chosen: list[Ref] = []
    try:
        if client.random.random() < 0.5:
            post(world, client.note(to_many=True), group.send_all)
        else:
            note = client.note()
            post(world, note, lambda note: chosen.append(group.send_one(note)))
            (ref,) = chosen
            elsewhere = world.by_ref[ref].mailbox.when_full not in ("refuse", "drop_oldest")
            world.claim(elsewhere or note in ref._box.queue, f"{ref} has not got {note}")
    except NotAlive:
        world.claim(all(world.refuses(ref) for ref in members), f"{group} refuses, but some of {members} are alive")
        world.count("send to a group: refused")
    except MailboxFull:
        world.count("send to a group: full")
    else:
        world.claim(members.issuperset(chosen), f"{chosen} is not in {group}")
        world.count("send to a group")


@operation(3)
async def use_a_partition(client: Client) -> None:
    """The same key leads to the same copy, always, and to no other while that is not alive."""
    world, random = client.world, client.random
    candidates = [each for each in supervisors(client.root) if is_partitioned(each.spec)]
    if not candidates:
        return
    supervisor, key = random.choice(candidates), random.randrange(100)
    copies = [each.id for each in supervisor.spec.children]
    id_ = copies[key % len(copies)]
    world.claim(partition_id(supervisor.spec, key) == id_, f"{key} does not lead to {id_} of {supervisor}")
    try:
        ref = partition(supervisor, key)
    except (NotAlive, ChildNotFound):  # the latter if it was deleted, or is temporary and has ended
        alive = any(info.ref is not None and info.ref.alive for info in supervisor.which_children() if info.id == id_)
        world.claim(not alive, f"{key} leads nowhere, but {id_} of {supervisor} is alive")
        world.count("partition down")
    else:
        world.claim(ref.id == id_, f"{key} leads to {ref}, not to {id_} of {supervisor}")
        world.count("partition")
        await deliver(client, ref)


# -- calls -------------------------------------------------------------------------------------------------


@operation(20)
async def call_somebody(client: Client) -> None:
    random, ref, other = client.random, client.ref(), client.ref()
    if ref is None:
        return
    action = random.choice(ANSWERS)
    with trio.move_on_after(random.choice([200.0, 200.0, 200.0, random.random() * 2])):
        try:
            timeout = random.choice([5.0, 5.0, 5.0, 0.0, 0.5, 60.0])
            await ask(client.world, ref, action if other is not None else "sleep", timeout=timeout, other=other)
        except OtpError:
            pass


@operation(5)
async def ask_several(client: Client) -> None:
    """Calls that are not waited for at once: each ends once, in one of the ways that it may."""
    world, random = client.world, client.random
    refs = [ref for _ in range(random.randint(1, 4)) if (ref := client.ref()) is not None]
    # They have no deadline of their own, so they are waited for until the callee has answered or ended.
    everyone = [asked_for(world, ref, random.choice(["nothing", "sleep", "crash", "defer"])) for ref in refs]
    try:
        with PendingCalls() as calls:
            for asked, call_ in everyone:
                calls.add(call_, label=asked)
            if random.random() < 0.5:
                with trio.move_on_after(random.random() * 3):
                    async for asked, call_ in calls:
                        look_at(world, asked, call_)
            for asked, call_ in everyone[: random.randint(0, 1)]:
                abandons, timeout = random.random() < 0.5, random.choice([0.0, 1.0, 20.0])
                try:
                    await (call_.receive if abandons else call_.wait)(timeout=timeout)
                except OtpError:
                    asked.over |= abandons and not call_.done
            left = sum(not asked.over for asked, _ in everyone)
            world.claim(len(calls) == left, f"{len(calls)} of {left} calls are left")
    finally:  # those that were not done are abandoned
        for asked, call_ in everyone:
            if not asked.over:
                asked.over = True
                world.count("request abandoned" if not call_.done else "request done unseen")
            del world.asked[asked.token]


@operation(5)
async def ask_and_go(client: Client) -> None:
    """Calls whose answers are looked at when all is at rest: then they must be there."""
    for _ in range(client.random.randint(1, 4)):
        ref = client.ref()
        if ref is not None:
            action = client.random.choice(["nothing", "sleep", "crash", "defer"])
            client.world.left_behind.append(asked_for(client.world, ref, action))


@operation(2)
async def inspect_somebody(client: Client) -> None:
    world, ref = client.world, client.ref()
    if ref is None:
        return
    try:
        seen = await ref.inspect(timeout=client.random.choice([0.0, 1.0, 5.0]))
    except OtpError as error:
        world.count(f"inspect {type(error).__name__}")
    else:
        world.claim(isinstance(seen.state, dict) and "record" in seen.state, f"{ref} shows {seen}")
        world.count("inspect")


# -- and without asking ------------------------------------------------------------------------------------


@operation(2)
async def make_it_crash(client: Client) -> None:
    ref = client.ref()
    if ref is not None and ref in client.world.by_ref and client.world.chance(1):
        crash(ref, Boom("injected"))
        client.world.count("crash")


@operation(3)
async def revoke_an_alias(client: Client) -> None:
    world = client.world
    if world.aliases:
        alias = client.random.choice(world.aliases)
        alias.revoke()
        world.revoked.add(alias)
        world.count("revoked")
