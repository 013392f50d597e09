"""Actors under supervisors, on trio. The guide is docs/supervision.md; the names by topic are in docs/reference.md.

What holds everywhere, unless a docstring says otherwise:

- Durations are in seconds, and moments are those of trio's clock (:func:`trio.current_time`).
- An async function or method that returns has been a checkpoint; what becomes of it when it is cancelled, it says.
- A wrong argument is a ValueError or TypeError that names the argument, the value and what is allowed.
- All of it belongs to the thread, and the run, of the trio program that it is used in.
"""

import _holdfast

_holdfast.check_siblings(__name__)  # needs none, but by this its siblings know this file

from ._actor import Actor as Actor
from ._aliases import Alias as Alias
from ._aliases import Replied as Replied
from ._aliases import ReplyAlias as ReplyAlias
from ._call import Call as Call
from ._child import Behaviour as Behaviour
from ._child import ChildContext as ChildContext
from ._child import current_context as current_context
from ._deferred import DEFERRED as DEFERRED
from ._deferred import ReplyTo as ReplyTo
from ._errors import CallingSelf as CallingSelf
from ._errors import CallTimeout as CallTimeout
from ._errors import FailedToStart as FailedToStart
from ._errors import GaveUp as GaveUp
from ._errors import InitTimeout as InitTimeout
from ._errors import LinkedExit as LinkedExit
from ._errors import MailboxFull as MailboxFull
from ._errors import NameTaken as NameTaken
from ._errors import NeverStarted as NeverStarted
from ._errors import NoMailbox as NoMailbox
from ._errors import NotAlive as NotAlive
from ._errors import OtpError as OtpError
from ._events import ActorCrashed as ActorCrashed
from ._events import ChildEvent as ChildEvent
from ._events import ChildExited as ChildExited
from ._events import ChildIgnored as ChildIgnored
from ._events import ChildStarted as ChildStarted
from ._events import ChildStartFailed as ChildStartFailed
from ._events import ChildStuck as ChildStuck
from ._events import ConditionChanged as ConditionChanged
from ._events import EventBus as EventBus
from ._events import MailboxOverflowed as MailboxOverflowed
from ._events import MessageEvent as MessageEvent
from ._events import MessagesDropped as MessagesDropped
from ._events import OverflowOutcome as OverflowOutcome
from ._events import PoisonMessage as PoisonMessage
from ._events import StuckAfter as StuckAfter
from ._events import Subscriber as Subscriber
from ._events import SupervisorDecided as SupervisorDecided
from ._exit import Crashed as Crashed
from ._exit import ExitReason as ExitReason
from ._exit import Ignore as Ignore
from ._exit import Killed as Killed
from ._exit import Normal as Normal
from ._exit import RecordedError as RecordedError
from ._exit import Shutdown as Shutdown
from ._exit import Stop as Stop
from ._exit import is_normal_class as is_normal_class
from ._groups import Group as Group
from ._groups import Joined as Joined
from ._groups import Left as Left
from ._helpers import Helpers as Helpers
from ._host import host as host
from ._inspect import Inspection as Inspection
from ._links import Exited as Exited
from ._log import log_events as log_events
from ._mailbox_spec import Divert as Divert
from ._mailbox_spec import Mailbox as Mailbox
from ._mailbox_spec import WhenFull as WhenFull
from ._monitors import Down as Down
from ._monitors import Monitor as Monitor
from ._monitors import NoProcess as NoProcess
from ._names import call as call
from ._names import request as request
from ._names import send as send
from ._names import whereis as whereis
from ._overflow import Overflow as Overflow
from ._partitions import partition as partition
from ._partitions import partition_id as partition_id
from ._partitions import partitioned as partitioned
from ._pending import PendingCall as PendingCall
from ._pending import PendingCalls as PendingCalls
from ._probes import ProbesUnavailable as ProbesUnavailable
from ._processes import EndCause as EndCause
from ._processes import NotSendable as NotSendable
from ._processes import RemoteError as RemoteError
from ._processes import RemoteTraceback as RemoteTraceback
from ._processes import WorkerDied as WorkerDied
from ._processes import WorkerEnded as WorkerEnded
from ._processes import WorkerProcesses as WorkerProcesses
from ._processes import WorkersClosed as WorkersClosed
from ._processes import WorkerStarted as WorkerStarted
from ._processes import WorkerStatistics as WorkerStatistics
from ._protocol import ChildCount as ChildCount
from ._protocol import Decision as Decision
from ._protocol import Status as Status
from ._protocol import Verdict as Verdict
from ._public import claim as _claim
from ._ref import Ref as Ref
from ._refusals import AlreadyPresent as AlreadyPresent
from ._refusals import AlreadyStarted as AlreadyStarted
from ._refusals import ChildNotFound as ChildNotFound
from ._refusals import ChildRestarting as ChildRestarting
from ._refusals import ChildRunning as ChildRunning
from ._refusals import MaxChildren as MaxChildren
from ._refusals import SupervisorError as SupervisorError
from ._refusals import SupervisorStopped as SupervisorStopped
from ._refusals import WrongStrategy as WrongStrategy
from ._registry import Registry as Registry
from ._root import open_supervisor as open_supervisor
from ._runtime import Readiness as Readiness
from ._runtime import Runtime as Runtime
from ._service import Phase as Phase
from ._service import ServicePhase as ServicePhase
from ._service import run as run
from ._service import serve as serve
from ._settings import OnStuck as OnStuck
from ._settings import RunSettings as RunSettings
from ._spec import AutoShutdown as AutoShutdown
from ._spec import Backoff as Backoff
from ._spec import ChildSpec as ChildSpec
from ._spec import OnExceed as OnExceed
from ._spec import Restart as Restart
from ._spec import RestartBudget as RestartBudget
from ._spec import ShutdownTime as ShutdownTime
from ._spec import Start as Start
from ._spec import Strategy as Strategy
from ._spec import Supervisor as Supervisor
from ._spec import check_specs as check_specs
from ._spec import child as child
from ._statistics import ChildStatistics as ChildStatistics
from ._statistics import MailboxStatistics as MailboxStatistics
from ._statistics import RuntimeStatistics as RuntimeStatistics
from ._statistics import SupervisorStatistics as SupervisorStatistics
from ._supervisor_ref import ChildInfo as ChildInfo
from ._supervisor_ref import SupervisorRef as SupervisorRef
from ._timers import Timer as Timer
from ._watchdog import LoopStalled as LoopStalled
from ._watchdog import Watchdog as Watchdog
from ._watchdog import WatchdogStatistics as WatchdogStatistics

_claim(globals())
