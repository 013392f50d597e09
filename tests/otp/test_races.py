"""Races, each under many schedules: what must hold in whatever order the tasks run."""

from otp import Supervisor, child, open_supervisor
from otp.testing import crash, seeded_schedules, settle
from tests.otp.actors import Echo


@seeded_schedules(20)
async def test_who_is_asked_to_stop_after_its_end_is_not_remembered():
    """Both end at once: the supervisor hears of one, and asks the other to stop, of which it has yet to hear."""
    app = Supervisor([child(Echo, id="a"), child(Echo, id="b")], strategy="one_for_all")
    async with open_supervisor(app) as supervisor:
        crash(supervisor.ref("a"))
        crash(supervisor.ref("b"))
        await settle()
        assert not supervisor.runtime.stopping
