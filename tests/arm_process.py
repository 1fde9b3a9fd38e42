"""Azure Resource Manager as a process of its own, which has faults at random and whose resources change when a test says so."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import IO

from libs.demo.arm.server import IDENTITY_HEADER, ArmWorld, BrokenReply, Fault, error, serving_arm, throttled

_FAULTS: tuple[Fault, ...] = (
    throttled("1"),  # rarely, since each makes the collector slower for a while
    error(500, "InternalServerError"),
    error(500, "InternalServerError"),
    error(503, "ServiceUnavailable"),
    BrokenReply(),
    BrokenReply(in_body=True),
)
_EXPIRES = 0.002  # of the faults, because a list is given up after a few


class ArmProcess:
    """The process, as a test sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._commands = _pipe(process.stdin)
        self._answers = _pipe(process.stdout)
        self.url = self._answers.readline().decode().strip()

    @property
    def environ(self) -> dict[str, str]:
        """Variables with which a collector signs in."""
        return {"IDENTITY_ENDPOINT": f"{self.url}/msi/token", "IDENTITY_HEADER": IDENTITY_HEADER}

    def change(self, *, gone: list[int], size: str) -> None:
        """Take machines away and give the others another size; from then on there are no faults."""
        self._commands.write(json.dumps({"gone": gone, "size": size}).encode() + b"\n")
        self._commands.flush()
        assert self._answers.readline() == b"changed\n"


@contextlib.contextmanager
def arm_process(machines: int, page_size: int, faults: float, seed: int) -> Iterator[ArmProcess]:
    """Run Azure Resource Manager; `faults` is the share of requests that it does not answer well."""
    options = {"machines": machines, "page-size": page_size, "faults": faults, "seed": seed}
    argv = [sys.executable, "-m", "tests.arm_process", *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield ArmProcess(process)
        finally:
            process.kill()


class _RandomFaults(deque["Fault | None"]):
    """Faults without end, most of which are none; now and then, all links to next pages expire."""

    def __init__(self, world: ArmWorld, share: float, dice: random.Random) -> None:
        super().__init__()
        self._world = world
        self._dice = dice
        self.share = share

    def __bool__(self) -> bool:
        return True

    def popleft(self) -> Fault | None:
        """Return the next one."""
        chance = self._dice.random()
        if chance < self.share * _EXPIRES:
            self._world.epoch += 1
        return self._dice.choice(_FAULTS) if chance < self.share else None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def main() -> None:
    """Serve, and do what the standard input says, until that ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--machines", type=int)
    parser.add_argument("--page-size", type=int)
    parser.add_argument("--faults", type=float)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    world = ArmWorld(machines=options.machines, page_size=options.page_size, asked=deque(maxlen=1))
    faults = _RandomFaults(world, options.faults, random.Random(options.seed))
    world.faults = faults
    with serving_arm(world) as url:
        print(url, flush=True)  # noqa: T201 - read by the test
        for line in sys.stdin:
            wanted = json.loads(line)
            world.gone, world.size, faults.share = frozenset(wanted["gone"]), wanted["size"], 0.0
            print("changed", flush=True)  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()
