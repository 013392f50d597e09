"""P3: messages outlive the actor and are handled in order by one owner. ``python -m examples.durable_inbox``."""

import sys
import tempfile

import trio

from checkpoints import Entry, Inbox
from otp import Supervisor, child, open_supervisor
from otp.engines import Topic, engine_for
from patterns import DurableInbox


class Ledger(DurableInbox[int]):
    async def handle_entry(self, entry: Entry[int]) -> None:
        async with entry.commit() as tx:  # the entry's mark and our own rows: both are stored, or neither
            await tx.execute("UPDATE balance SET total = total + ?", entry.payload)
            [(total,)] = await tx.execute("SELECT total FROM balance")
        print(f"entry {entry.seq}, epoch {self.epoch}: the total is {total}")
        if entry.seq == 2:
            complete.set()


async def main(url: str) -> None:
    store = engine_for(url)
    inbox = Inbox(store, "ledger", [Topic("posting", int)])
    ledger = child(lambda: Ledger(inbox), id="ledger")
    async with store:
        async with store.transaction() as tx:
            await tx.execute("CREATE TABLE balance AS SELECT 0 AS total")
        for order, amount in (("order-17", 5), ("order-17", 5), ("order-18", 7)):  # sent twice, handled once
            await inbox.post(amount, id=order)
        async with open_supervisor(Supervisor([ledger])):  # nobody need be there when a message is sent
            await complete.wait()


complete = trio.Event()
with tempfile.TemporaryDirectory() as folder:
    trio.run(main, [*sys.argv, f"sqlite:///{folder}/ledger.db"][1])
