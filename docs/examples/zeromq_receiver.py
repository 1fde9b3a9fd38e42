"""Receive the messages of blobtide's zeromq sink and append them to a file, one JSON object per line.

    python zeromq_receiver.py router tcp://*:5555 rows.ndjson    for `mode: dealer`; acknowledges what is in the file
    python zeromq_receiver.py pull   tcp://*:5555 rows.ndjson    for `mode: push`
    python zeromq_receiver.py sub    tcp://*:5555 rows.ndjson    for `mode: pub`; reports messages that it has missed

With ``--connect`` it connects to a sink with ``bind: true``. It needs only pyzmq. The protocol is described in
docs/how-to/destinations/zeromq.md; this program is its reference, and blobtide's tests run it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import zmq
import zmq.auth
from zmq.auth.thread import ThreadAuthenticator

SOCKETS = {"router": zmq.ROUTER, "pull": zmq.PULL, "sub": zmq.SUB}
BATCH = 1_000  # messages for which the file is written and synced once


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Receive the messages of blobtide's zeromq sink.")
    parser.add_argument("mode", choices=SOCKETS)
    parser.add_argument("endpoint")
    parser.add_argument("file", type=Path)
    parser.add_argument("--connect", action="store_true", help="connect to a sink that listens")
    parser.add_argument("--topic", action="append", help="sub: beginning of the topics to subscribe to (default: all)")
    parser.add_argument("--largest", type=int, help="router: refuse larger payloads, in bytes")
    parser.add_argument("--high-water-mark", type=int, default=1_000, help="messages queued in this process")
    parser.add_argument("--key", type=Path, help="CURVE: own certificate (.key_secret)")
    parser.add_argument("--sink-key", type=Path, help="CURVE, with --connect: certificate of the sink (.key)")
    parser.add_argument("--sinks", type=Path, help="CURVE: directory with the certificates of sinks that may connect")
    return parser.parse_args()


def opened(given: argparse.Namespace, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """Open the socket."""
    socket = context.socket(SOCKETS[given.mode])
    socket.setsockopt(zmq.RCVHWM, given.high_water_mark)
    if given.key is not None:
        socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(given.key)
        if given.connect:
            socket.curve_serverkey, _ = zmq.auth.load_certificate(given.sink_key)
        else:
            guard = ThreadAuthenticator(context)
            guard.configure_curve(location=given.sinks)
            guard.start()
            socket.curve_server = True
    for topic in (given.topic or [""]) if given.mode == "sub" else ():
        socket.subscribe(topic)
    if given.connect:
        socket.connect(given.endpoint)
    else:
        socket.bind(given.endpoint)
    return socket


def batch_of(socket: zmq.Socket[bytes]) -> list[list[bytes]]:
    """Wait for a message, and return it with those that have come as well."""
    batch = [socket.recv_multipart()]
    while len(batch) < BATCH:
        try:
            batch.append(socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            break
    return batch


def store(file: Path, messages: list[list[bytes]]) -> None:
    """Append messages to the file, and return when they are on the disk. Raises OSError."""
    lines = [
        json.dumps({"topic": topic.decode(), "header": json.loads(header), "payload": payload.decode(errors="replace")})
        for topic, header, payload in messages
    ]
    size = file.stat().st_size
    try:
        with file.open("a") as text:
            text.write("".join(f"{line}\n" for line in lines))
            text.flush()
            os.fsync(text.fileno())
    except OSError:
        os.truncate(file, size)  # no half of a line, to which the next one would be appended
        raise


def mend(file: Path) -> None:
    """Cut off what an earlier process, killed while it wrote, has left of a line: it acknowledged none of it."""
    with file.open("a+b") as text:
        text.seek(0)
        text.truncate(text.read().rfind(b"\n") + 1)


def route(socket: zmq.Socket[bytes], file: Path, largest: int | None) -> None:
    """Store messages and acknowledge them to the sinks that they came from."""
    while True:
        kept, refused = [], []
        for sender, *message in batch_of(socket):
            fits = largest is None or len(message[2]) <= largest
            (kept if fits else refused).append((sender, message))
        try:
            store(file, [message for _, message in kept])
        except OSError as error:
            reply(socket, b"LATER", kept, str(error.strerror))
        else:
            reply(socket, b"ACK", kept)
        reply(socket, b"REFUSE", refused, f"the payload has more than {largest} bytes")


def reply(socket: zmq.Socket[bytes], answer: bytes, messages: list[tuple[bytes, list[bytes]]], reason: str = "") -> None:
    """Send one reply to each session of each sender, about all its messages."""
    numbers: dict[tuple[bytes, str], list[int]] = {}
    for sender, (_, header, _) in messages:
        about = json.loads(header)
        numbers.setdefault((sender, about["session"]), []).append(about["sequence"])
    for (sender, session), sequences in numbers.items():
        frames = [sender, answer, session.encode(), ranges(sequences).encode()]
        socket.send_multipart([*frames, reason.encode()] if reason else frames)


def ranges(numbers: list[int]) -> str:
    """Return ascending numbers as text, such as 1-100,103."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}-{last}" for first, last in found)


def take(socket: zmq.Socket[bytes], file: Path) -> None:
    """Store messages that nobody waits for, and report what was missed of each topic."""
    last: dict[tuple[str, str], int] = {}
    while True:
        messages = batch_of(socket)
        store(file, messages)
        if socket.socket_type != zmq.SUB:
            continue  # with several PULL peers, each gets only a part of a topic
        for topic, header, _ in messages:
            about = json.loads(header)
            place = about["session"], topic.decode()
            missed = about["topic_sequence"] - last.get(place, about["topic_sequence"] - 1) - 1
            last[place] = about["topic_sequence"]
            if missed:
                sys.stderr.write(f"missed {missed} messages of topic {topic.decode()} before {about['topic_sequence']}\n")


def main() -> None:
    """Receive until the process is ended."""
    given = arguments()
    mend(given.file)
    socket = opened(given, zmq.Context())
    if given.mode == "router":
        route(socket, given.file, given.largest)
    else:
        take(socket, given.file)


if __name__ == "__main__":
    main()
