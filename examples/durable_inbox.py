"""P3: messages outlive the actor and are handled in order by one owner. ``python -m examples.durable_inbox``."""

import sys

import trio

from checkpoints import Entry, Inbox
from otp import Supervisor, child, open_supervisor
from otp.engines import Topic, engine_for
from patterns import DurableInbox


class Ledger(DurableInbox[int]):
    async def init(self) -> None:
        self.total = 0

    async def handle_entry(self, entry: Entry[int]) -> None:
        async with entry.commit():  # in SQL one's own rows go in here: `as tx`, then `await tx.execute(...)`
            self.total += entry.payload
        print(f"entry {entry.seq}, epoch {self.epoch}: the total is {self.total}")
        if entry.seq == 2:
            complete.set()


async def main(url: str) -> None:
    store = engine_for(url)
    inbox = Inbox(store, "ledger", [Topic("posting", int)])
    ledger = child(lambda: Ledger(inbox), id="ledger")
    async with open_supervisor(Supervisor([child(lambda: store, id="store"), ledger], strategy="rest_for_one")):
        for order, amount in (("order-17", 5), ("order-17", 5), ("order-18", 7)):  # sent twice, handled once
            await inbox.post(amount, id=order)
        await complete.wait()


complete = trio.Event()
trio.run(main, [*sys.argv, "memory://"][1])
