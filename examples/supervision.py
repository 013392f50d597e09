"""Functions and an actor under a supervisor: what crashes comes back clean. ``python -m examples.supervision``."""

import trio

from otp import Actor, NotAlive, Supervisor, call, child, open_supervisor


async def heartbeat() -> None:
    while True:
        print("tick")
        await trio.sleep(0.25)


async def migrate() -> None:
    print("migrated, once")  # transient: it ends normally, so it is left in peace


class Counter(Actor):
    async def init(self) -> None:
        self.total = 0  # each incarnation begins anew

    async def handle_call(self, request: int) -> int:
        self.total += 100 // request
        return self.total


async def main() -> None:
    app = Supervisor([child(migrate, restart="transient"), child(heartbeat), child(Counter, name="counter")])
    async with open_supervisor(app):
        print("counter:", await call("counter", 10), await call("counter", 20))
        try:
            await call("counter", 0)
        except NotAlive as error:
            print("counter crashed:", repr(error.__cause__))
        await trio.sleep(0.3)  # the supervisor has put it right; heartbeat did not notice
        print("counter:", await call("counter", 10))


trio.run(main)
