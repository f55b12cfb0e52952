"""Which questions are being asked at this moment, by any thread of any process, so that each is asked once.

A claim locks one byte of an empty file, at a place made from the question's key. The kernel frees it when its owner
dies, however it dies, and shows it to every process at once: there is no heartbeat, no clock and no process id in it,
and it costs two system calls, not a transaction. (Locks of an open file: `F_OFD_SETLK`, Linux.)

Invariant: whoever holds a claim is alive.
"""

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE = 0.02
"""Seconds between two looks at a claim that another process holds."""
POOLED = 3
"""Waiting threads of a pool that may have five: those that are left must be able to bring the answer."""
_DIGITS = 15
_MAKING, _USING = 16**_DIGITS, 16**_DIGITS + 1
"""Places above those of keys: held while the ledger's file is made, and shared by all who have it open."""
_pack = struct.Struct("hhqqi").pack


class Claims:
    """Claims of one process on the questions of one ledger.

    Args:
        path: of the file to lock; it is made and stays empty.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine: dict[str, threading.Event | None] = {}
        self._lock = threading.Lock()
        self._pooled = threading.BoundedSemaphore(POOLED)
        self._file = -1

    @classmethod
    def of(cls, ledger: Path) -> "Claims":
        """Those on the questions of the ledger in this file."""
        return cls(ledger.with_name(f"{ledger.name}-claims"))

    def open(self) -> None:
        """Open the file, and say that this process uses the ledger."""
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._set(fcntl.F_OFD_SETLKW, fcntl.F_RDLCK, _USING)  # waits while a damaged ledger is being repaired

    def close(self) -> None:
        """Give every claim back."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def take(self, key: str) -> bool:
        """Claim a question; False if somebody is asking it."""
        with self._lock:
            if key in self._mine:
                return False
            self._mine[key] = None
        if self._locked(int(key[:_DIGITS], 16)):
            return True
        self._forget(key)
        return False

    def free(self, key: str) -> None:
        """Give a claim back, and wake who waits for it."""
        self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, int(key[:_DIGITS], 16))
        self._forget(key)

    def wait(self, key: str, seconds: float, *, pooled: bool = False) -> bool:
        """Wait until a claim may be free, at most `seconds`; False if it is of no use to wait.

        Args:
            pooled: the calling thread belongs to a pool that also brings the answers, as that of an event loop does.
        """
        if seconds <= 0 or (pooled and not self._pooled.acquire(blocking=False)):
            return False
        try:
            with self._lock:
                here = key in self._mine
                if here:
                    freed = self._mine[key] = self._mine[key] or threading.Event()
            if here:
                freed.wait(seconds)
            else:
                time.sleep(min(PAUSE, seconds))
        finally:
            if pooled:
                self._pooled.release()
        return True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What one process does at a time: making the ledger's file."""
        self._set(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, _MAKING)
        try:
            yield
        finally:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, _MAKING)

    def only_user(self) -> bool:
        """Whether no other process has the ledger open; none can open it then until this one closes it."""
        return self._locked(_USING)

    def _forget(self, key: str) -> None:
        with self._lock:
            freed = self._mine.pop(key, None)
        if freed:
            freed.set()

    def _locked(self, place: int) -> bool:
        try:
            self._set(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, place)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a file system without locks: the question may be asked twice, but it is asked
            return True
        return True

    def _set(self, how: int, lock: int, place: int) -> None:
        if self._file >= 0:
            fcntl.fcntl(self._file, how, _pack(lock, os.SEEK_SET, place, 1, 0))
