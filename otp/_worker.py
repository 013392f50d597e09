"""What runs inside a worker process: take a job, run it, answer; die when the parent is gone.

The other side is `_processes.py`. The wire between them is a socket pair; a message is eight bytes of length
and the body. The first message of the worker is `READY`; then each job (a pickled function with its
arguments) is answered by `BEGUN` and, when it is done, one kind byte and a pickled value. The process belongs
to its parent alone: a terminal's Ctrl-C and a SIGTERM to the whole group are for the parent to act on, and
without the parent it has no reason to be.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

HEADER: Final = struct.Struct("!Q")
READY: Final = b"!"
BEGUN: Final = b"B"
"""The job has arrived and is now run. A worker that died without having said so has not begun it."""
RESULT: Final = b"R"
"""Followed by the pickled result."""
RAISED: Final = b"E"
"""Followed by a pickled (exception or None if it cannot travel, its name and text, formatted traceback)."""
UNSENDABLE: Final = b"U"
"""The job could not be read, or its result not be pickled: followed by a pickled sentence on that."""

GROUP_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM})
"""What a terminal or an init system sends to a whole process group. We are started with these blocked."""

_PR_SET_PDEATHSIG: Final = 1


def main(connection: socket.socket, parent: int, init: bytes) -> None:
    """Serve jobs until the parent closes the connection. This is the target of the process."""
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Blocked since before the exec, so that not even the first milliseconds of start-up can be hit.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)
    die_with_parent(parent)
    prepare: Callable[[], object] | None = pickle.loads(init)
    if prepare is not None:
        prepare()
    with connection, connection.makefile("rb") as incoming:
        try:
            _send(connection, READY)
            while (job := _receive(incoming)) is not None:
                _send(connection, BEGUN)
                _send(connection, _answer(job))
        except ConnectionError:
            return  # the parent closed its side, or is gone


def die_with_parent(parent: int) -> None:
    """Arrange that this process is killed when the process `parent` is gone, whatever it is doing then.

    On Linux the kernel does it (`PR_SET_PDEATHSIG`), so that C code which holds the GIL cannot prevent it.
    The signal belongs to the *thread* that started us: `_processes.py` starts workers from the loop's own
    thread. Everywhere a thread waits for the end of file on the pipe that `multiprocessing` holds open in the
    parent; it needs the GIL, so on macOS C code that never releases it delays the death until it does.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above: no signal will come any more
        _die()
    threading.Thread(target=_wait_for_parent, name="holdfast parent watch", daemon=True).start()


def _wait_for_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _answer(job: bytes) -> bytes:
    try:
        fn, args = pickle.loads(job)
    except Exception as error:  # noqa: BLE001  (unpickling runs anybody's code)
        return UNSENDABLE + pickle.dumps(f"it cannot be loaded in the worker process: {error!r}")
    try:
        result = fn(*args)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(f"{fn!r} is async; a worker process runs plain functions")  # noqa: TRY301
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is the job's)
        return RAISED + _pickle_error(error)
    try:
        return RESULT + pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001  (pickling runs anybody's code)
        return UNSENDABLE + pickle.dumps(
            f"its result, of type {type(result).__qualname__}, cannot be pickled: {error!r}"
        )


def _pickle_error(error: BaseException) -> bytes:
    described = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
    trace = error.__traceback__ and error.__traceback__.tb_next  # without our own frame
    text = "".join(traceback.format_exception(type(error), error, trace))
    # SystemExit and its like are meant for this process and must not end the parent.
    if isinstance(error, Exception):
        try:
            body = pickle.dumps((error, described, text), protocol=pickle.HIGHEST_PROTOCOL)
            # Many an exception pickles and then cannot be made again, because __init__ wants other arguments.
            if type(pickle.loads(body)[0]) is type(error):
                return body
        except Exception:  # noqa: BLE001
            pass
    return pickle.dumps((None, described, text), protocol=pickle.HIGHEST_PROTOCOL)


def _send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(HEADER.pack(len(body)))
    connection.sendall(body)


def _receive(incoming: BinaryIO) -> bytes | None:
    header = incoming.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    body = incoming.read(length)
    return body if len(body) == length else None
