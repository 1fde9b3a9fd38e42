"""The API of the collector: what it accepts, refuses, and says about requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from libs.common.azure.arm.pages import ListCursor
from libs.common.errors import BlobtideError, ConfigError, Retry
from libs.common.settings import Settings
from services.collector.api import directory as directory_module
from services.collector.api.places import REQUEST, STATE, RequestPlaces
from services.collector.main import build
from services.collector.progress import CallOutcome, CallPlace, CallProblem, RequestProgress
from tests.collection_api import TOKEN, ApiWorld, serving_api
from tests.collector_world import LIST, one, request
from tests.http_wire import WireAnswer, ask
from tests.metric_values import since_now
from tests.running import until

DEEP = msgspec.json.decode(b"[" * 102 + b"]" * 102)


@pytest.fixture
def world() -> Iterator[ApiWorld]:
    """An API over two empty topics."""
    with serving_api(ApiWorld()) as world:
        yield world


def test_a_request_is_accepted_once_kafka_has_acknowledged_it(world: ApiWorld) -> None:
    """Not earlier; and is then found, with its place in the answer."""
    world.publisher.may_write.clear()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(world.ask, "POST", "/collections", request("m-1", LIST, one("vm-1")))
        until(lambda: world.ask("GET", "/collections/m-1").status == 404, "it is not found")
        assert not asked.done()
        world.publisher.may_write.set()
        answer = asked.result()
    assert (answer.status, answer.json) == (202, {"id": "m-1", "repeated": False})
    assert answer.headers["location"] == "/collections/m-1"
    (record,) = world.requests.records
    assert record.key == b"m-1"
    assert [call["resource_path"] for call in msgspec.json.decode(record.value or b"")["api_requests"]] == [
        LIST["resource_path"], one("vm-1")["resource_path"]
    ]  # fmt: skip
    found = world.progress("m-1")
    assert (found["state"], found["calls_total"], [call["state"] for call in found["calls"]]) == ("waiting", 2, ["waiting"] * 2)


def test_a_repeated_id_does_nothing_and_is_told_so(world: ApiWorld) -> None:
    """Also one that another collector has taken in, and several at the same moment."""
    world.put_state("m-2", RequestProgress(1, (0,), {}, {0: CallOutcome("success")}))
    repeated = world.ask("POST", "/collections", request("m-2", LIST))
    assert (repeated.status, repeated.json, repeated.headers["location"]) == (
        200, {"id": "m-2", "repeated": True}, "/collections/m-2"
    )  # fmt: skip
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: world.ask("POST", "/collections", request("m-1", LIST)), range(6)))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [202]
    assert [record.key for record in world.requests.records] == [b"m-1"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b"{}", 422, "missing required field `message_id`"),
        (request("a/b", LIST), 422, "`message_id`"),
        (request("m-1"), 422, "`api_requests`"),
        (request("m-1", LIST, LIST | {"service": 1}), 422, "`api_requests[1].service`"),
        (request("m-1", LIST | {"color": "red"}), 422, "unknown field `color`"),
        (request("m-1", LIST, LIST | {"method": "DELETE"}), 422, "api_requests[1].method: DELETE is not permitted"),
        (request("m-1", one("../x")), 422, "api_requests[0].parameters.name: "),
        (request("m-1", LIST, metadata={"x": "y" * 10_001}), 422, "metadata: has more than 10000 bytes"),
        (
            request("m-1", LIST, LIST | {"method": "PUT", "body": DEEP}),
            422,
            "api_requests[1].body: is nested more than 100 levels",
        ),
        (request("m-1", LIST, metadata={"x": DEEP}), 422, "metadata: is nested more than 100 levels"),
        (request("m-1", LIST, timestamp="0001-01-01T00:00:00+00:01"), 422, "timestamp: is not within the years 1 to 9999"),
        (b'{"message_id": "' + b"x" * 1_000_000, 413, "at most 1000000 bytes"),
        (
            request("m-1", LIST | {"method": "PUT", "body": "NUMBERS"}).replace(
                b'"NUMBERS"', b"[1e15%s]" % (b",1e15" * 100_000)
            ),
            413,
            "at most 1000000 bytes",
        ),
    ],
)
def test_what_is_no_request_is_refused_with_the_member_that_is_wrong(
    world: ApiWorld, body: bytes, status: int, said: str
) -> None:
    """As `blobtide collect` refuses it; nothing is written."""
    answer = world.ask("POST", "/collections", body)
    assert (answer.status, answer.json["status"]) == (status, status)
    assert said in answer.json["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert world.requests.records == []


def test_an_id_may_be_escaped_in_the_path(world: ApiWorld) -> None:
    """As clients do that are generated from the document: ids of schedules have colons. Escaped or not, it is the same."""
    world.put_state("hourly:2026-05-01T02:00:00Z", RequestProgress(1, (0,), {}, {0: CallOutcome("success")}))
    for path in ("hourly%3A2026-05-01T02%3a00%3A00Z", "%68ourly:2026-05-01T02:00:00Z", "hourly:2026-05-01T02:00:00Z"):
        assert world.progress(path)["id"] == "hourly:2026-05-01T02:00:00Z"
    for path in ("hourly%253A2026-05-01T02:00:00Z", "%ff", "%00", "%", "hourly%2Fx"):
        assert world.ask("GET", f"/collections/{path}").status == 404


def test_methods_that_the_settings_allow_are_accepted(world: ApiWorld) -> None:
    """Others are not."""
    assert world.ask("POST", "/collections", request("m-1", LIST | {"method": "PUT", "body": {}})).status == 202


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "header"),
    [
        ("POST", "/collections", {"Content_Type": ""}, 415, None),
        ("POST", "/collections", {"Content_Type": "text/plain"}, 415, None),
        ("POST", "/collections", {"Content_Encoding": "gzip"}, 415, None),
        ("POST", "/collections", {"Content_Type": "Application/JSON; charset=utf-8"}, 202, None),
        ("POST", "/collections/m-1", {}, 405, ("allow", "GET, HEAD")),
        ("GET", "/collections", {}, 405, ("allow", "POST")),
        ("DELETE", "/collections/m-1", {}, 405, ("allow", "GET, HEAD")),
        ("GET", "/collections/", {}, 404, None),
        ("GET", "/collections/a/b", {}, 404, None),
        ("GET", "/collections/%2e%2e", {}, 404, None),
        ("GET", "/", {}, 404, None),
        ("POST", "/collections", {"Authorization": ""}, 401, ("www-authenticate", 'Bearer realm="blobtide"')),
        ("GET", "/collections/m-1", {"Authorization": "Bearer "}, 401, ("www-authenticate", ", error=")),
        ("GET", "/collections/m-1", {"Authorization": f"Bearer {TOKEN}x"}, 401, ("www-authenticate", ", error=")),
        ("GET", "/collections/m-1", {"Authorization": f"Basic {TOKEN}"}, 401, ("www-authenticate", ", error=")),
        ("GET", "/collections/m-1", {"Authorization": "Bearer \xe9\xff"}, 401, ("www-authenticate", ", error=")),
        ("GET", "/anything", {"Authorization": ""}, 401, None),
        ("GET", "/openapi.json", {"Authorization": ""}, 200, None),
    ],
)
def test_requests_are_judged_by_their_heads(
    world: ApiWorld, method: str, path: str, headers: dict[str, str], status: int, header: tuple[str, str] | None
) -> None:
    """Without a token, nothing but the document is told; no answer has the token."""
    answer = world.ask(method, path, request("m-1", LIST) if method == "POST" else None, **headers)
    assert answer.status == status
    if header is not None:
        assert header[1] in answer.headers[header[0]]
    assert TOKEN not in f"{answer.headers} {answer.body!r}"


def test_progress_says_how_each_call_is(world: ApiWorld) -> None:
    """Waiting, running, kept waiting by Azure, ended well, and ended with an error."""
    problem = CallProblem("AuthorizationFailed", "refused", 403, "r-1")
    places = {
        0: CallPlace(ListCursor(pages=3, received=12, expected=20), 1.5),
        1: CallPlace(ListCursor(), 2.0, 1_777_636_000.0),
    }
    outcomes = {2: CallOutcome("success", 2, 5, 5), 3: CallOutcome("partial_failure", 1, 4, problem=problem)}
    world.put_state("m-1", RequestProgress(5, (2, 3), places, outcomes))
    found = world.progress("m-1")
    shown = {name: value for name, value in found.items() if name != "calls"}
    assert shown == {
        "id": "m-1", "state": "running", "status": None, "updated_at": "2026-05-01T12:00:00Z",
        "calls_total": 5, "calls_done": 2, "calls_failed": 1,
    }  # fmt: skip
    assert [(call["index"], call["state"], call["status"], call["pages"], call["received"]) for call in found["calls"]] == [
        (0, "running", None, 3, 12), (1, "running", None, 0, 0), (2, "done", "success", 2, 5),
        (3, "done", "partial_failure", 1, 4), (4, "waiting", None, 0, 0),
    ]  # fmt: skip
    assert [call["expected"] for call in found["calls"]] == [20, None, 5, None, None]
    assert (found["calls"][0]["waited_seconds"], found["calls"][1]["unanswered_since"]) == (1.5, "2026-05-01T11:46:40Z")
    assert found["calls"][3]["error"] == {
        "code": "AuthorizationFailed", "message": "refused", "status": 403, "request_id": "r-1"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        (["success", "success"], "success"),
        (["error", "error"], "error"),
        (["success", "error"], "partial_failure"),
        (["partial_failure"], "partial_failure"),
        (["success", ""], None),
    ],
)
def test_a_request_that_is_over_has_a_status(world: ApiWorld, statuses: list[str], status: str | None) -> None:
    """That follows from its calls, as far as how they ended was recorded."""
    outcomes = {index: CallOutcome(one) for index, one in enumerate(statuses) if one}
    world.put_state("m-1", RequestProgress(len(statuses), tuple(range(len(statuses))), {}, outcomes))
    found = world.progress("m-1")
    assert (found["state"], found["status"]) == ("done", status)


def test_newer_records_count_whichever_is_read_first(world: ApiWorld) -> None:
    """State is newer than a request; what the collectors have finished is not looked for among requests."""
    world.requests.put(b"m-1", request("m-1", LIST))
    assert world.progress("m-1")["state"] == "waiting"
    world.put_state("m-1", RequestProgress(1))
    assert world.progress("m-1")["state"] == "running"
    world.requests.put(b"m-1", request("m-1", LIST))
    world.put_state("m-1", RequestProgress(1, (0,), {}, {0: CallOutcome("success")}))
    assert world.progress("m-1")["state"] == "done"
    world.requests.put(b"no-request", b"{}")
    assert world.progress("no-request")["state"] == "refused"
    world.state.put(b"m-1", None)
    assert world.ask("GET", "/collections/m-1").status == 404


def test_what_kafka_no_longer_has_is_not_found() -> None:
    """Whether it was compacted away, which a newer record replaces, or expired; nor what lies before the committed offsets."""
    world = ApiWorld()
    world.requests.put(b"old", request("old", LIST))
    world.starts = dict.fromkeys(world.starts, 1)
    with serving_api(world):
        world.put_state("m-1", RequestProgress(1))
        assert world.progress("m-1")["state"] == "running"
        (record,) = world.state.records
        world.state.gone.add((record.partition, record.offset))
        assert world.ask("GET", "/collections/m-1").status == 404
        world.put_state("m-1", RequestProgress(1, (0,)))
        assert world.progress("m-1")["state"] == "done"
        assert world.ask("GET", "/collections/old").status == 404


def test_places_are_forgotten_with_what_the_topics_delete() -> None:
    """So memory does not grow with requests of the past."""
    world, places = ApiWorld(), RequestPlaces()
    for number in range(100):
        world.put_state(f"m-{number}", RequestProgress(1))
        world.requests.put(f"r-{number}".encode(), b"{}")
    for record in world.state.records:
        places.note_state(record)
    for record in world.requests.records:
        places.note_request(record)
    assert len(places) == 200
    first = {number: sum(record.partition == number for record in world.state.records) - 1 for number in range(3)}
    places.forget_before(STATE, first)
    left = [record.key for record in world.state.records if places.get(record.key or b"") is not None]
    assert len(left) == 3 + sum(record.partition == 3 for record in world.state.records)
    places.forget_before(REQUEST, dict.fromkeys(range(4), 1_000))
    assert len(places) == len(left)


def test_while_kafka_is_away_clients_are_told_to_come_again(world: ApiWorld) -> None:
    """With 503 and Retry-After; a request whose id cannot be checked is written all the same, as its id is checked later."""
    world.state.down = True
    answer = world.ask("GET", "/collections/m-1")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert "state is down" in answer.json["detail"]
    assert world.ask("POST", "/collections", request("m-1", LIST)).status == 202
    world.publisher.failures = [Retry("Kafka is away"), BlobtideError("the rights are missing")]
    away, denied = (world.ask("POST", "/collections", request("m-2", LIST)) for _ in range(2))
    assert (away.status, away.headers["retry-after"], denied.status) == (503, "5", 500)
    world.publisher.refuses = True
    refused = world.ask("POST", "/collections", request("m-2", LIST))
    assert (refused.status, refused.json["detail"]) == (500, "too large")
    world.publisher.refuses = world.state.down = False
    assert world.ask("POST", "/collections", request("m-1", LIST)).json["repeated"]
    assert world.progress("m-1")["state"] == "waiting"


def test_an_open_transaction_does_not_hold_up_answers(world: ApiWorld) -> None:
    """What was committed before, or is in the other topic, is told; of what may be behind it, that this cannot be told."""
    world.put_state("m-1", RequestProgress(1))
    assert world.progress("m-1")["state"] == "running"

    def pass_time() -> None:
        world.clock.now += 10

    world.state.held_up = pass_time
    world.put_state("m-2", RequestProgress(1))
    world.requests.put(b"m-3", request("m-3", LIST))
    assert [world.progress(message_id)["state"] for message_id in ("m-1", "m-3")] == ["running", "waiting"]
    hidden = world.ask("GET", "/collections/m-2")
    assert (hidden.status, "can be read yet" in hidden.json["detail"]) == (503, True)
    world.state.held_up = lambda: None
    assert world.progress("m-2")["state"] == "running"

    def pass_time_once() -> None:
        world.clock.now += 2
        world.state.held_up = lambda: None

    world.state.held_up = pass_time_once
    world.put_state("m-4", RequestProgress(1))
    assert world.progress("m-4")["state"] == "running", "a question waits a little for the end of the transaction"


def test_partitions_that_are_added_are_followed() -> None:
    """Within a minute."""
    world = ApiWorld(partitions=1)
    with serving_api(world):
        for number in range(8):
            world.put_state(f"m-{number}", RequestProgress(1))
        found = [world.ask("GET", f"/collections/m-{number}").status for number in range(8)]
        assert set(found) == {200, 404}
        world.partitions = 4
        world.clock.now += 100
        assert [world.ask("GET", f"/collections/m-{number}").status for number in range(8)] == [200] * 8


def test_too_many_at_once_are_told_to_slow_down(world: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 429 and Retry-After, before anything is written."""
    held, asked = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        held.wait()

    world.state.held_up = hold
    with ThreadPoolExecutor(300) as pool:
        first = pool.submit(world.ask, "GET", "/collections/m-0")
        assert asked.wait(20)
        questions = [_question(world, number) for number in range(directory_module.MOST_QUESTIONS)]
        busy = world.ask("GET", "/collections/m-1")
        held.set()
        assert first.result().status == 404
        assert [question.result(20) for question in questions] == [None] * directory_module.MOST_QUESTIONS
    assert (busy.status, busy.headers["retry-after"]) == (429, "1")


def _question(world: ApiWorld, number: int) -> Any:
    assert world.api is not None
    return world.api.directory.progress(f"q-{number}")


def test_a_broken_thread_ends_the_process(world: ApiWorld) -> None:
    """The main loop raises what has happened in it."""
    world.state.held_up = lambda: 1 / 0  # type: ignore[assignment]
    _question(world, 1)
    assert world.api is not None
    until(lambda: world.api is not None and world.api.directory.broken is not None, "the thread ends")
    with pytest.raises(ZeroDivisionError):
        world.api.check()
    world.api.directory.broken = None


def test_the_document_is_valid_and_answers_are_as_it_says(world: ApiWorld) -> None:
    """OpenAPI 3.1, by its own validator; schemas as in the answers."""
    document = ask(world.port, "GET", "/openapi.json").json
    validate(document)

    def check(answer: WireAnswer, path: str, method: str) -> None:
        content = document["paths"][path][method]["responses"][str(answer.status)]["content"]
        schema = content[answer.headers["content-type"]]["schema"]
        OAS31Validator({**schema, "components": document["components"]}).validate(answer.json)

    outcome = CallOutcome("error", problem=CallProblem("NotFound", "gone", 404))
    world.put_state("m-1", RequestProgress(3, (0,), {1: CallPlace(ListCursor(1, 2), 1.0, 5.0)}, {0: outcome}))
    body = request("m-2", LIST)
    check(world.ask("POST", "/collections", body), "/collections", "post")
    check(world.ask("POST", "/collections", body), "/collections", "post")
    for refused in (b"{", b"{}", b"x" * 1_000_001):
        check(world.ask("POST", "/collections", refused), "/collections", "post")
    check(world.ask("POST", "/collections", body, Authorization=""), "/collections", "post")
    check(world.ask("POST", "/collections", body, Content_Type="text/plain"), "/collections", "post")
    for key in ("m-1", "m-2", "unknown"):
        check(world.ask("GET", f"/collections/{key}"), "/collections/{id}", "get")
    schema = {**document["components"]["schemas"]["CollectionRequest"], "components": document["components"]}
    OAS31Validator(schema).validate(msgspec.json.decode(body))
    assert not OAS31Validator(schema).is_valid({"message_id": "m-1", "api_requests": []})


def test_answers_are_counted(world: ApiWorld) -> None:
    """By what was asked and the status; names that clients choose are no labels."""
    name = "blobtide_collector_api_requests_total"
    labels = [("collect", "202"), ("progress", "404"), ("document", "200"), ("unknown", "404"), ("collect", "401")]
    moved = [since_now(name, operation=operation, status=status) for operation, status in labels]
    world.ask("POST", "/collections", request("m-1", LIST))
    world.ask("GET", "/collections/unknown")
    world.ask("GET", "/openapi.json")
    world.ask("GET", "/nothing")
    world.ask("POST", "/collections", b"{}", Authorization="Bearer x")
    until(lambda: [count() for count in moved] == [1.0] * 5, "each is counted")


@pytest.mark.parametrize(
    ("api", "said"),
    [
        ({"token": "short"}, "fewer than 16 characters"),
        ({"token": "with spaces, and commas"}, "cannot be sent as a bearer token"),
        ({"token": TOKEN, "host": "0.0.0.0"}, "credentials would go to 0.0.0.0:9480 unencrypted; use TLS"),  # noqa: S104
        ({"token": TOKEN, "cert_file": "/no/cert.pem", "key_file": "/no/key.pem"}, "cannot use certificate /no/cert.pem"),
        ({"token": TOKEN, "token_file": "/no/token"}, "give token or token_file, not both"),
    ],
)
def test_an_api_that_would_be_open_to_others_is_refused(api: dict[str, Any], said: str) -> None:
    """When the collector is built, and so by `config check`."""
    settings = Settings.model_validate({"collector": {"api": api}})
    with pytest.raises(ConfigError) as refused:
        build(settings)
    assert said in str(refused.value)


def test_an_api_without_a_token_is_an_error_of_the_settings() -> None:
    """There is no way to have one that everybody may use."""
    with pytest.raises(ValueError, match="token or token_file is required"):
        Settings.model_validate({"collector": {"api": {}}})
    build(Settings.model_validate({"collector": {"api": {"token": TOKEN}}}))
    insecure = {"token": TOKEN, "host": "0.0.0.0", "allow_plaintext_credentials": True}  # noqa: S104
    build(Settings.model_validate({"collector": {"api": insecure}}))
