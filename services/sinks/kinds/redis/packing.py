"""How commands become bytes for Redis: what a command refers to as memory is sent from where it lies.

The client's own way copies every argument twice. Documents are megabytes, and copies of such a size are memory that is mapped
anew each time.
"""

from __future__ import annotations

import hiredis


class Packer:
    """What the client's connections pack commands with."""

    def pack(self, *words: str | bytes | float | memoryview) -> list[bytes | memoryview]:
        """Return a command in the protocol's form, as buffers that go one after the other."""
        name, *arguments = words
        # The client gives commands of two words, such as CONFIG GET, as one.
        command = [*str(name).split(), *arguments] if isinstance(name, str) else list(words)
        if not any(isinstance(word, memoryview) for word in command):
            # Its stub knows commands of one word only.
            return [hiredis.pack_command(tuple(command))]  # type: ignore[arg-type]
        buffers: list[bytes | memoryview] = []
        between = [b"*%d\r\n" % len(command)]
        for word in command:
            if isinstance(word, memoryview):
                between.append(b"$%d\r\n" % word.nbytes)
                buffers += [b"".join(between), word]
                between = [b"\r\n"]
            else:
                text = word if isinstance(word, bytes) else str(word).encode()
                between.append(b"$%d\r\n%b\r\n" % (len(text), text))
        return [*buffers, b"".join(between)]
