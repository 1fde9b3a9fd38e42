"""Room in memory that threads share: whoever needs more than there is waits, and nobody fails or takes more.

Who waits longest is served first, so that a large need is not passed by small ones for ever. A share is taken in one piece: who
has one and needs more gives it back first. So nobody waits for somebody who waits.
"""

from __future__ import annotations

import threading
from collections import deque


class SharedRoom:
    """So many bytes, of which each taker has a share. Thread-safe."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._is_closed = False

    @property
    def free(self) -> int:
        """Bytes that nobody has."""
        return self._free

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    def share(self) -> RoomShare:
        """Return a share without any bytes yet."""
        return RoomShare(self)

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def take(self, size: int) -> bool:
        """Wait until there are `size` bytes, at most all, and take them; False if the room is closed before."""
        me = object()
        with self._changed:
            self._waiting.append(me)
            self._changed.wait_for(lambda: self._is_closed or (self._waiting[0] is me and self._free >= size))
            self._waiting.remove(me)
            is_there = self._free >= size and not self._is_closed
            self._free -= size if is_there else 0
            self._changed.notify_all()  # the next one may be content with the rest
            return is_there

    def give_back(self, size: int) -> None:
        """Return bytes."""
        with self._changed:
            self._free += size
            self._changed.notify_all()


class RoomShare:
    """What one taker has of a room. Belongs to one thread at a time."""

    def __init__(self, room: SharedRoom) -> None:
        self._room = room
        self.size = 0

    def change(self, size: int) -> bool:
        """Have `size` bytes instead of what it had; if that is more, wait for them. False if the room is closed before."""
        wanted = min(size, self._room.size)
        if wanted < self.size:
            self._room.give_back(self.size - wanted)
        elif wanted > self.size:
            self._room.give_back(self.size)
            self.size = 0
            if not self._room.take(wanted):
                return False
        self.size = wanted
        return True
