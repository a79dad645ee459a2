"""Which process this is, in a way that no other ever was, and whether one that said so is still there.

A number of a process is given out again, so its start time goes with it; both mean something only until the machine
is restarted (its boot id) and, on Linux, among the processes that see each other (a container has its own numbers).
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache

BOOT_ID = "/proc/sys/kernel/random/boot_id"

_LINUX = os.path.exists(BOOT_ID)

_EXITING, _KILLED = 0x4, 1 << 8
"""Of the flags of a process (PF_EXITING), and of the signals that wait for it: it runs nothing any more."""

SAME_START = 2.0
"""Seconds by which two readings of one start time may differ where the system clock is what they are counted by."""


def here() -> str:
    """This process: `host/boot/namespace/number/start`."""
    return _named(os.getpid())


def alive(process: str) -> bool | None:
    """Whether a process, as `here` named it, is there; None where that cannot be seen from here."""
    try:
        *machine, number, start = process.rsplit("/", 2)
        if machine != [_machine()]:
            return None
        return _runs(int(number), start)
    except (ValueError, OSError):
        return None


def described(process: str) -> str:
    """A process for people: `process 123 on host`."""
    host, _, rest = process.partition("/")
    return f"process {rest.rsplit('/', 2)[-2]} on {host}" if rest.count("/") >= 2 else process


@lru_cache(maxsize=4)
def _named(number: int) -> str:
    # Cached by the number: a child of a fork is another process.
    return f"{_machine()}/{number}/{_started(number)}"


@lru_cache(maxsize=1)
def _machine() -> str:
    host = socket.gethostname().replace("/", "_") or "localhost"
    if _LINUX:
        with open(BOOT_ID) as file:
            boot = file.read().strip()
        return f"{host}/{boot[:13]}/{os.stat('/proc/self/ns/pid').st_ino}"
    return f"{host}/-/-"  # start times are of the clock there, and no restart gives one out again


def _started(number: int) -> str:
    """When a process started, "" when there is none (any more): in ticks of the machine on Linux, else in seconds."""
    if _LINUX:
        try:
            with open(f"/proc/{number}/stat", "rb") as file:
                # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: the name may hold anything, brackets too.
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            os_error = _signalled(number)
            if os_error is None:
                return ""
            raise os_error from None  # it is there, and hidden: proc may be mounted with `hidepid`
        gone = fields[0] in (b"Z", b"X") or int(fields[6]) & _EXITING or int(fields[28]) & _KILLED
        return "" if gone else fields[19].decode()
    import psutil

    try:
        process = psutil.Process(number)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return ""
    except psutil.Error as error:
        raise OSError(str(error)) from error


def _signalled(number: int) -> OSError | None:
    """The error for a process that cannot be looked at; None when there is none of that number."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except OSError as error:
        return error
    return PermissionError(f"process {number} is there, and cannot be looked at")


def _runs(number: int, start: str) -> bool:
    found = _started(number)
    if _LINUX:
        return found == start
    return bool(found) and abs(float(found) - float(start)) < SAME_START
