"""What programs say: log4j2 events as JSON, printed lines, and stack traces that are printed line by line."""

from __future__ import annotations

from typing import Any, Final

from libs.demo.applogs.pods import LineShape
from libs.demo.applogs.scene import NS_PER_SECOND, LogLine, Scene, milliseconds, rfc3339
from libs.demo.applogs.truth import LineKind, SkipReason

_LEVELS: Final = ("INFO",) * 14 + ("DEBUG",) * 3 + ("WARN",) * 3 + ("ERROR", "TRACE", "FATAL")
_LOGGERS: Final = (
    "de.hybris.platform.servicelayer.impex.ImpExImportCronJob",
    "de.hybris.platform.jalo.order.Cart",
    "com.shop.checkout.PaymentService",
    "org.springframework.web.servlet.DispatcherServlet",
    "hybrisserver",
)
_MESSAGES: Final = (
    "cart {n} recalculated in {m} ms",
    "starting cron job update-index-{n}",
    "indexed {n} documents, {m} were skipped",
    'payment {n} was refused: "insufficient funds"',
    "Größe des Warenkorbs: {n} Stück — 注文 {m}",
    "line one of {n}\nline two of {m}",
    "queue\\orders\t{n}",
)
_THREADS: Final = ("hybrisHTTP{n}", "CronJob-{n} [master]", "main", "Task-master-poll [master]")
_EXCEPTIONS: Final = (
    ("java.lang.IllegalStateException", "no stock for {n}"),
    ("de.hybris.platform.servicelayer.exceptions.ModelSavingException", "[Order@{n}]: not unique"),
    ("java.net.SocketTimeoutException", "Read timed out"),
    ("java.lang.NullPointerException", None),
)
_FRAMES: Final = (
    ("com.shop.checkout.PaymentService", "pay", "PaymentService.java"),
    ("de.hybris.platform.jalo.order.Cart", "recalculate", "Cart.java"),
    ("de.hybris.platform.cronjob.jalo.CronJob$Run", "lambda$run$0", "CronJob.java"),
    ("java.lang.Thread", "run", "Thread.java"),
)
# The first word that is a level counts; without one, it is INFO.
_PRINTED: Final = (
    ("{clock} [myid:1] - {level}  [QuorumPeer:QuorumPeer@{n}] - notification from {m}", True),
    ("[{level}] worker {n}: resized image {m}.jpg", True),
    ("{level}: listening on port {n}", True),
    ("Server startup in [{n}] milliseconds", False),
    ("[proxy_http:notice] [pid {n}] AH01114: backend {m} is back", False),
)
_TRACES: Final = (
    ("ERROR", "ERROR [CronJob-{n}] index job failed: {said}"),
    ("INFO", 'Exception in thread "Thread-{n}" {said}'),
)
_CAUSE: Final = (
    "Caused by: java.net.ConnectException: Connection refused",
    "\tat java.net.Socket.connect(Socket.java:601)",
    "\t... 3 more",
)
_THROWN_SHARE: Final = 0.5  # of errors
_BLANK_SHARE: Final = 0.01
_BRIDGED_SHARE: Final = 0.05


def log4j2_line(scene: Scene) -> LogLine:
    """Return an event of log4j2's JSON layout, with its time as an instant or in milliseconds."""
    level = scene.one_of(_LEVELS)
    message = " " if scene.chance(_BLANK_SHARE) else _filled(scene, scene.one_of(_MESSAGES))
    logger, thread = scene.one_of(_LOGGERS), _filled(scene, scene.one_of(_THREADS))
    logs: dict[str, Any] = {"thread": thread, "level": level, "loggerName": logger, "message": message, "endOfBatch": False}
    logs |= {
        "loggerFqcn": "org.apache.logging.slf4j.Log4jLogger",
        "threadId": scene.dice.randrange(1, 400),
        "threadPriority": 5,
    }
    if scene.chance(_BRIDGED_SHARE):  # by java.util.logging: a context map does not make it a request
        logs |= {"timeMillis": milliseconds(scene.time)}
        logs |= {"contextMap": {"sourceClassName": logger, "sourceMethodName": "execute"}}
        time = milliseconds(scene.time) * 1_000_000
        request_id = None
    else:
        time, request_id = scene.time, scene.request_id()
        logs |= {} if request_id is None else {"contextMap": {"requestId": request_id}}
        logs = {"instant": {"epochSecond": time // NS_PER_SECOND, "nanoOfSecond": time % NS_PER_SECOND}} | logs
    may_throw = level in {"ERROR", "FATAL"} and not message.isspace()  # an exception would say something
    thrown = _thrown(scene) if may_throw and scene.chance(_THROWN_SHARE) else None
    if thrown is not None:
        logs["thrown"] = thrown
    truth = {
        **_row(scene, level, message),
        "time": time,
        "logger": logger,
        "thread": thread,
        "correlation_id": request_id,
        "exception_type": thrown and thrown["name"],
        "exception_message": thrown and thrown.get("message"),
    }
    return LogLine(scene.logged(logs), LineShape.LOG4J2, truth)


def container_line(scene: Scene) -> LogLine:
    """Return a line that the container printed."""
    form, has_level = scene.one_of(_PRINTED)
    level = scene.one_of(_LEVELS)
    clock = rfc3339(scene.time).replace("T", " ").replace(".", ",").removesuffix("Z")
    text = " " if scene.chance(_BLANK_SHARE) else _filled(scene, form.replace("{clock}", clock).replace("{level}", level))
    return _printed(scene, text, level if has_level else "INFO")


def stack_trace(scene: Scene) -> list[LogLine]:
    """Return the lines of a stack trace, each of which is an object of its own; together they are one row."""
    kind, message = _exception(scene)
    said = f"{kind}: {message}" if message else kind
    level, form = scene.one_of(_TRACES)
    texts = [_filled(scene, form).replace("{said}", said)]
    texts += [f"\tat {owner}.{method}({file}:{scene.dice.randrange(20, 900)})" for owner, method, file in _FRAMES]
    texts += _CAUSE if scene.chance(0.5) else ()
    rest = {"row_type": LineKind.APPLICATION, "observed_time": scene.collected, "time": scene.collected, "stream": "stderr"}
    head = rest | _row(scene, level, "\n".join(texts)) | {"logger": scene.pod.name}
    lines = [scene.printed(text, "stderr") for text in texts]
    return [LogLine(line, LineShape.TRACE, rest if index else head, continues=index > 0) for index, line in enumerate(lines)]


def _printed(scene: Scene, text: str, level: str) -> LogLine:
    stream = "stderr" if level in {"ERROR", "FATAL"} else "stdout"
    truth = _row(scene, level, text) | {"time": scene.collected, "stream": stream, "logger": scene.pod.name}
    return LogLine(scene.printed(text, stream), LineShape.CONTAINER, truth)


def _row(scene: Scene, level: str, message: str) -> dict[str, Any]:
    if not message.strip():
        return {"skipped": SkipReason.BLANK_MESSAGE, "observed_time": scene.collected}
    return {
        "row_type": LineKind.APPLICATION,
        "observed_time": scene.collected,
        "severity_text": level,
        "body": message,
    }


def _thrown(scene: Scene) -> dict[str, Any]:
    kind, message = _exception(scene)
    frames = [
        {"class": owner, "method": method, "file": file, "line": scene.dice.randrange(20, 900), "exact": True}
        for owner, method, file in _FRAMES
    ]
    said = {"message": message, "localizedMessage": message} if message else {}
    return {"commonElementCount": 0, "name": kind, **said, "extendedStackTrace": frames}


def _exception(scene: Scene) -> tuple[str, str | None]:
    kind, message = scene.one_of(_EXCEPTIONS)
    return kind, message and _filled(scene, message)


def _filled(scene: Scene, form: str) -> str:
    return form.replace("{n}", str(scene.dice.randrange(1, 9000))).replace("{m}", str(scene.dice.randrange(1, 900)))
