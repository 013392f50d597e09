"""What the engines share: clients, transactions, clock, lease and envelope.

Importing this loads no database library; `engine_for` and `SqliteEngine` do.
"""

from typing import TYPE_CHECKING, Any

from ._choice import engine_for as engine_for
from ._dead import DeadLetter as DeadLetter
from ._dead import Failure as Failure
from ._engine import Capabilities as Capabilities
from ._engine import Engine as Engine
from ._engine import EngineStatistics as EngineStatistics
from ._engine import Transaction as Transaction
from ._envelope import Envelope as Envelope
from ._envelope import Topic as Topic
from ._envelope import Topics as Topics
from ._errors import BadPayload as BadPayload
from ._errors import LeaseLost as LeaseLost
from ._errors import NotOpen as NotOpen
from ._errors import PayloadError as PayloadError
from ._errors import SchemaMismatch as SchemaMismatch
from ._errors import StoreError as StoreError
from ._errors import StoreFull as StoreFull
from ._errors import StoreUnavailable as StoreUnavailable
from ._errors import TransactionTimeout as TransactionTimeout
from ._errors import UnknownPayload as UnknownPayload
from ._lease import Lease as Lease
from ._memory import MemoryEngine as MemoryEngine
from ._memory import MemoryStore as MemoryStore
from ._memory import MemoryTable as MemoryTable
from ._memory import MemoryTables as MemoryTables
from ._schema import Migration as Migration
from ._token import Token as Token
from ._url import redacted as redacted

if TYPE_CHECKING:
    from ._sqlite import SqliteEngine as SqliteEngine


def __getattr__(name: str) -> Any:
    if name == "SqliteEngine":
        from ._sqlite import SqliteEngine

        return SqliteEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
