"""What the collector and the recorder can ask without Azure: the Azure and the network of an estate, in one HTTP server.

As a program (``python -m libs.demo.mock --port 20001``) it serves until it is killed.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from libs.demo.arm.estate_world import EstateWorld
from libs.demo.arm.server import ReceivedRequest, Reply, serving_arm
from libs.demo.inventory import Nic, make_nics
from libs.demo.ndtwin import FLOWS_PATH, GRAPH_PATH, flow_data, graph_data
from libs.demo.spec import EstateSpec

MOST_HOSTS: Final = 20  # of the network
_OF_NETWORK: Final[Mapping[str, Callable[[Sequence[Nic], int], Any]]] = {FLOWS_PATH: flow_data, GRAPH_PATH: graph_data}


class MockWorld(EstateWorld):
    """The Azure of an estate, and beside it the API of its network, which asks for no token."""

    def __init__(self, spec: EstateSpec, clock: Callable[[], float] = time.time) -> None:
        super().__init__(spec, clock)
        self._hosts = make_nics(spec)[:MOST_HOSTS]
        self._network_clock = clock

    def answer(self, asked: ReceivedRequest) -> Reply:
        """Return the response to a request."""
        show = _OF_NETWORK.get(asked.path)
        return super().answer(asked) if show is None else Reply(200, show(self._hosts, int(self._network_clock())))


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--nics", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with serving_arm(MockWorld(EstateSpec(seed=arguments.seed, nics=arguments.nics)), arguments.port) as url:
        print(f"serving at {url}", flush=True)  # noqa: T201 - goes to its log
        threading.Event().wait()


if __name__ == "__main__":
    main()
