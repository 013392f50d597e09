"""The clock that all processes of one host agree on, whatever happens to the wall clock.

Engine time = time since boot (including sleep) + an offset stored in the database under the boot's id. The
first opener after a boot takes the offset from the wall clock, but never so that time would go back behind
what was seen before; all others use the stored one. So a jump of the wall clock changes nothing,
processes cannot disagree, and a reboot goes on.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from attrs import frozen


@frozen
class HostClock:
    """`boot` identifies the boot in which `monotonic` counts; replaced by tests to play reboots and jumps."""

    boot: str
    monotonic: Callable[[], float]
    wall: Callable[[], float] = time.time


def _since_boot() -> Callable[[], float]:
    if hasattr(time, "CLOCK_BOOTTIME"):  # Linux: goes on while the machine sleeps
        return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":  # there CLOCK_MONOTONIC goes on, and time.monotonic() does not
        return lambda: time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.monotonic


def _boot_session() -> str | None:
    """The boot session id of macOS, by sysctl."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"))
    size = ctypes.c_size_t(128)
    buffer = ctypes.create_string_buffer(size.value)
    failed = libc.sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
    return None if failed else buffer.value.decode()


def _boot_id(since_boot: Callable[[], float]) -> str:
    try:
        if sys.platform == "darwin":
            found = _boot_session()
        else:
            found = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        found = None
    # Without an id: the minute of the boot. A jump of the wall clock then looks like a reboot, after which
    # time goes on from where it was.
    return found or f"minute-{int((time.time() - since_boot()) // 60)}"


@cache
def host_clock() -> HostClock:
    """The clock of this host."""
    since_boot = _since_boot()
    return HostClock(_boot_id(since_boot), since_boot)


def offset_for(host: HostClock, *, last_seen: float) -> float:
    """The offset for a boot that has none yet: by the wall clock, not before `last_seen`."""
    return max(host.wall(), last_seen) - host.monotonic()
