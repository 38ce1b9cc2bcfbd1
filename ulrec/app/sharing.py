"""What visitors share: a queue, so that they do not exhaust the machine, and what was drawn."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Busy", "Kept", "Queue", "Waiting"]

PATIENCE_S = 90.0
LONGEST = 64
LOOK_AGAIN_S = 1.0

Waiting = Callable[[int], Any]


class Busy(Exception):
    """Too many visitors are before this one."""


class Queue:
    """Lets a few visitors draw at a time; the others wait their turn, first come, first served.

    Parameters
    ----------
    slots
        How many at a time.
    patience_s
        How long one waits in a line that does not move before :class:`Busy`.
    longest
        How many wait; who comes then is told :class:`Busy` at once.
    """

    def __init__(
        self, slots: int, *, patience_s: float = PATIENCE_S, longest: int = LONGEST
    ) -> None:
        self._free = slots
        self._line: deque[object] = deque()
        self._changed = threading.Condition()
        self._patience_s = patience_s
        self._longest = longest

    @contextmanager
    def turn(self, waiting: Waiting) -> Iterator[None]:
        """Hold a slot; until there is one, ``waiting`` is told now and then how many are before.

        Raises
        ------
        Busy
            If patience ends, or the line is too long.
        """
        self._wait(waiting)
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _wait(self, waiting: Waiting) -> None:
        ticket, moved = object(), time.monotonic()
        with self._changed:
            place = len(self._line)
            if place >= self._longest:
                raise Busy
            self._line.append(ticket)
        try:
            while not self._taken(ticket):
                before, place = place, self._line.index(ticket)
                if place < before:
                    moved = time.monotonic()
                elif time.monotonic() >= moved + self._patience_s:
                    raise Busy
                waiting(place)  # may raise: the visitor has gone
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _taken(self, ticket: object) -> bool:
        """Wait a little, and take a slot if it is this one's turn."""
        with self._changed:
            mine = self._changed.wait_for(
                lambda: self._free > 0 and self._line[0] is ticket, timeout=LOOK_AGAIN_S
            )
            self._free -= mine
        return mine


class Kept:
    """The last results by what they were made from; safe among threads.

    Parameters
    ----------
    size
        How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._results: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """Return a result, or None."""
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def put(self, key: Hashable, result: Any) -> None:
        """Keep a result; the one not asked for the longest makes room."""
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._size:
                self._results.popitem(last=False)
