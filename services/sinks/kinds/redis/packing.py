"""Pack commands for Redis: arguments that are memory views are sent without copying.

The client itself copies every argument twice. Documents take megabytes, and copies of that size use memory that is mapped anew
each time.
"""

from __future__ import annotations

import hiredis


class Packer:
    """The command packer of the client's connections."""

    def pack(self, *words: str | bytes | float | memoryview) -> list[bytes | memoryview]:
        """Return a command in protocol form, as buffers to be sent one after the other."""
        name, *arguments = words
        # The client passes two-word commands such as CONFIG GET as one word.
        command = [*str(name).split(), *arguments] if isinstance(name, str) else list(words)
        if not any(isinstance(word, memoryview) for word in command):
            # Its type stub allows only commands of one word.
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
