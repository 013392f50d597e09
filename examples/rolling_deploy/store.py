"""What the processes of a run share: one store, with one queue of jobs and the aggregator's inbox in it."""

from __future__ import annotations

from typing import Any

from checkpoints import Inbox
from examples.rolling_deploy.payloads import RESULT, JobResult, analyse_topic
from otp.engines import Engine, engine_for
from queues import Queue

QUEUE = "analysis"
INBOX = "totals"


def open_store(url: str, lease: float) -> Engine[Any]:
    """The engine, not yet entered; leases last ``lease`` seconds."""
    return engine_for(url, lease=lease)


def jobs_queue(store: Engine[Any], schema: int) -> Queue[Any]:
    """The queue of jobs, as a program that knows ``schema`` sees it."""
    return Queue(store, QUEUE, [analyse_topic(schema)])


def totals_inbox(store: Engine[Any]) -> Inbox[JobResult]:
    """The aggregator's inbox."""
    return Inbox(store, INBOX, [RESULT])
