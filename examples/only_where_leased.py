"""A child that runs in one of all pods; the others stand by. ``python -m examples.only_where_leased``."""

import sys

import trio

from otp import Supervisor, child, open_supervisor
from otp.engines import engine_for
from patterns import only_where_leased


async def pod(name: str, url: str, stop: trio.Event) -> None:  # one of several processes; here they are tasks
    async def poll_feed() -> None:
        print(f"{name} polls the feed")
        try:
            await trio.sleep_forever()
        finally:
            print(f"{name} polls no more")

    store = engine_for(url)
    feed = child(only_where_leased(store, "feed", poll_feed), id="feed")
    async with open_supervisor(Supervisor([child(lambda: store, id="store"), feed], strategy="rest_for_one")):
        await stop.wait()


async def main(url: str) -> None:
    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            nursery.start_soon(pod, f"pod {number}", url, stops[number - 1])
            await trio.sleep(0.2)
        for stop in stops:  # the second takes over within milliseconds
            stop.set()
            await trio.sleep(0.2)


stops = [trio.Event(), trio.Event()]
trio.run(main, [*sys.argv, "memory://pods"][1])
