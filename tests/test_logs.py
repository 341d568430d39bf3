"""Lines of the log: one for each record, with what it is about, and without secrets."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from goalsvc import logs, request_id
from goalsvc.api.webhook import Refusals
from goalsvc.commands.preflight import mongodb_complaint, redis_complaint
from goalsvc.devstack.ports import free_port
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.origin import Cause, Origin
from goalsvc.domain.promises import Job, Promise
from goalsvc.errors import GoalsvcError
from goalsvc.integrations.pusher import open_notifier
from goalsvc.integrations.rtc import open_rtc
from goalsvc.models.database import WITH_PROMISES
from goalsvc.settings import Settings
from goalsvc.tasks.runner import Runner, about
from goalsvc.tasks.task import task
from tests.api.app import open_service
from tests.api.test_webhook import body_of
from tests.receivers.fakes import NOW, FakeClock, open_stage
from tests.receivers.scenes import GOAL, a_goal

LIBRARIES = ("uvicorn", "uvicorn.error", "uvicorn.access", "arq", "httpx", "httpcore", "py.warnings")


def settings_with(**values: Any) -> Settings:
    return Settings(mongodb_url="mongodb://127.0.0.1/unused", redis_url="redis://127.0.0.1", **values)


@pytest.fixture(autouse=True)
def loggers_stay() -> Iterator[None]:
    """What `logs.configure` changes is put back."""
    root = logging.getLogger()
    known = {name: logging.getLogger(name) for name in LIBRARIES}
    before = {name: (one.level, one.propagate, list(one.handlers)) for name, one in known.items()}
    level = root.level
    yield
    logging.captureWarnings(False)
    root.setLevel(level)
    for handler in [one for one in root.handlers if isinstance(one, logs.OwnHandler)]:
        root.removeHandler(handler)
    for name, (own, propagate, handlers) in before.items():
        known[name].setLevel(own)
        known[name].propagate = propagate
        known[name].handlers[:] = handlers


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the log, without those of PyMongo: its threads of earlier tests may not have ended yet."""
    return [line for line in capsys.readouterr().err.splitlines() if "pymongo." not in line]


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(capsys)]


class TestJson:
    def test_a_record_is_one_object_on_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.configure(settings_with(log_format="json"))
        logging.getLogger("goalsvc.test").warning("two\nlines\u2028and %d more", 1)
        (one,) = objects(capsys)
        assert one.pop("time").startswith("20")
        assert one == {"level": "WARNING", "logger": "goalsvc.test", "message": "two\nlines\u2028and 1 more"}

    def test_an_exception_is_a_field(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.configure(settings_with(log_format="json"))
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            logging.getLogger("goalsvc.test").exception("failed")
        (one,) = objects(capsys)
        assert one["exception"].startswith("Traceback")
        assert one["exception"].endswith("ZeroDivisionError: by zero")

    @pytest.mark.parametrize("name", ["uvicorn.error", "arq.worker"])
    def test_libraries_with_handlers_of_their_own_log_so_too(
        self, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        logging.getLogger(name.split(".")[0]).addHandler(logging.StreamHandler())
        logs.configure(settings_with(log_format="json"))
        logging.getLogger(name).warning("told")
        assert [(one["logger"], one["message"]) for one in objects(capsys)] == [(name, "told")]

    def test_what_it_is_about_are_fields(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.configure(settings_with(log_format="json"))
        root = "68143584d6945d32e732cc21"
        cause = Cause(goal_id="g1", key="backend", request_id="req_1", root=root)
        job = Job("j1", "transfer", {}, origin=Origin(root, "", cause))
        with about(job):
            logging.getLogger("goalsvc.test").info("inside")
        logging.getLogger("goalsvc.test").info("outside")
        inside, outside = objects(capsys)
        assert {name: inside[name] for name in logs.FIELDS} == {
            "request_id": "req_1",
            "key": "backend",
            "goal_id": "g1",
            "job_id": "j1",
            "task": "transfer",
            "trace_id": f"00000000{root}",
        }
        assert not set(logs.FIELDS) & set(outside)

    async def test_jobs_side_by_side_do_not_mix(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.configure(settings_with(log_format="json"))
        both = asyncio.Barrier(2)

        async def run(name: str) -> None:
            about(Job(name, "transfer", {})).stay()
            await both.wait()
            logging.getLogger("goalsvc.test").info(name)

        await asyncio.gather(asyncio.create_task(run("a")), asyncio.create_task(run("b")))
        told = objects(capsys)
        assert sorted((one["message"], one["job_id"]) for one in told) == [("a", "a"), ("b", "b")]


class TestText:
    def test_is_the_default_and_names_what_it_is_about(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.configure(settings_with())
        with logs.About(goal_id="g1", key=None), logs.About(task="transfer"):
            logging.getLogger("goalsvc.test").info("inside")
        logging.getLogger("goalsvc.test").info("outside")
        inside, outside = lines(capsys)
        assert inside.endswith(" INFO goalsvc.test: inside [goal_id=g1 task=transfer]")
        assert outside.endswith(" INFO goalsvc.test: outside")

    def test_configuring_twice_logs_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.configure(settings_with())
        logs.configure(settings_with())
        logging.getLogger("goalsvc.test").info("once")
        assert len(lines(capsys)) == 1


class TestDoors:
    async def test_of_a_request_say_key_goal_and_request(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with open_service() as service:
            await a_goal(GoalKind.SHOW)
            logs.configure(settings_with(log_format="json"))
            answer = await service.client.post(f"/v1/goals/{GOAL}/end", headers={"X-Request-ID": "mine"})
        assert answer.status_code == 200
        (audited,) = [one for one in objects(capsys) if one["logger"] == "goalsvc.audit"]
        assert (audited["request_id"], audited["key"], audited["goal_id"]) == ("mine", "env", str(GOAL))
        assert len(audited["trace_id"]) == 32
        assert request_id.CURRENT.get() == ""
        assert logs.fields() == {}

    async def test_of_a_job_name_its_goal_when_it_dies(self, capsys: pytest.CaptureFixture[str]) -> None:
        @task()
        async def example(context: object, *, goal_id: str) -> Any:
            raise GoalsvcError("cannot be done")

        async with open_stage() as stage:
            owed = Promise(id="example", task="example", arguments={"goal_id": str(GOAL)}, at=NOW)
            await a_goal(GoalKind.SHOW, promises=[owed])
            logs.configure(settings_with(log_format="json"))
            job = Job("j1", "example", {"goal_id": str(GOAL)}, promise=f"goals/{GOAL}/example")
            await Runner([example], WITH_PROMISES).run(stage.context, job, 1)
        (dead,) = [one for one in objects(capsys) if one["level"] == "ERROR"]
        assert dead["message"] == f"example of goal {GOAL} failed for the last time (try 1): error: cannot be done"
        assert (dead["goal_id"], dead["job_id"], dead["task"]) == (str(GOAL), "j1", "example")
        assert "GoalsvcError" in dead["exception"]


class TestRefusedWebhooks:
    async def test_are_one_line_a_minute_for_each_kind(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with open_service() as service:
            moments = iter([*(float(n) for n in range(7)), 61.0, 61.5])
            usual, refusals = service.app.state.refusals, Refusals(10)
            service.app.state.refusals = refusals
            refusals.lines = logs.Throttle(lambda: next(moments))
            logs.configure(settings_with(log_format="json"))
            for _ in range(5):
                await service.webhook(body_of(), secret="wrong")
            await service.webhook(b"no JSON")
            await service.webhook(b"no JSON either")
            await service.webhook(body_of(), secret="wrong")
            await service.webhook(body_of(), secret="wrong")
            service.app.state.refusals = usual
        told = [one["message"].split(" (")[0] for one in objects(capsys)]
        assert told == [
            "1 webhook refused: bad_signature",
            "1 webhook refused: malformed_webhook",
            "5 webhooks refused: bad_signature",
        ]


async def test_a_client_that_goes_away_is_no_exception(caplog: pytest.LogCaptureFixture) -> None:
    parts = iter([{"type": "http.request", "body": b'{"time_ms', "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/notify/pusher", "headers": [], "query_string": b""}
    async with open_service() as service:
        await service.app(scope, receive, send)
    assert (sent, caplog.records) == ([], [])


#: Every setting that is a secret, and what stands for it; the URLs contain a password each.
PLANTED = {
    name: f"planted-{name.replace('_', '-')}"
    for name, field in Settings.model_fields.items()
    if field.annotation is SecretStr
}


async def failing_calls(values: dict[str, Any], mongodb_url: str, redis_url: str) -> None:
    """Makes calls of every kind that fail, with these secrets."""
    async with open_service(**values) as service:
        secret = values["pusher_secret"]
        await service.webhook(body_of(), secret=secret)
        await service.webhook(b"{", secret=secret)
        await service.webhook(body_of(), secret="wrong")
        for key in (values["api_key"], "wrong"):
            headers = {"Authorization": f"Bearer {key}"}
            for path in ("/v1/goals/none", "/v1/events", "/metrics"):
                await service.stranger.get(path, headers=headers)
        await service.client.post("/pusher/auth", data={"socket_id": "1.1", "channel_name": "x"})
        settings = service.stage.settings
    async with open_notifier(settings) as notifier, open_rtc(settings, FakeClock()) as rtc:
        for call in (
            notifier.trigger(["private-user@alice"], "goal.ended", {}),
            rtc.stop_record("room", "task"),
        ):
            with pytest.raises(GoalsvcError):
                await call
    assert mongodb_complaint(mongodb_url, 0.2)
    assert redis_complaint(redis_url, 0.2)


class TestSecrets:
    async def test_are_in_no_line_of_calls_that_fail(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        port = free_port()
        values: dict[str, Any] = {
            **PLANTED,
            "pusher_keys": {"old": "planted-old"},
            "pusher_host": "127.0.0.1",
            "pusher_port": port,
            "pusher_ssl": False,
            "byteplus_access_key": "access",
            "byteplus_app_id": "app",
            "byteplus_endpoint": f"http://127.0.0.1:{port}",
        }
        mongodb_url = f"mongodb://user:planted-mongo@127.0.0.1:{port}/x"  # repository: allowed, a made-up one
        redis_url = f"redis://user:planted-redis@127.0.0.1:{port}"  # repository: allowed, a made-up one
        await failing_calls(values, mongodb_url, redis_url)
        assert len(caplog.records) > 5
        assert "planted-" not in caplog.text

    def test_that_would_be_in_one_are_hidden(self, capsys: pytest.CaptureFixture[str]) -> None:
        settings = Settings(
            mongodb_url="mongodb://user:planted%2Fmongo@127.0.0.1/x",  # repository: allowed, a made-up one
            redis_url="redis://:planted-redis@127.0.0.1",  # repository: allowed, a made-up one
            pusher_keys={"old": SecretStr("planted-old")},
            **{name: SecretStr(value) for name, value in PLANTED.items()},  # type: ignore[arg-type]
        )
        for log_format in ("text", "json"):
            logs.configure(settings.model_copy(update={"log_format": log_format}))
            for secret in (*PLANTED.values(), "planted/mongo", "planted%2Fmongo", "planted-redis", "planted-old"):
                logging.getLogger("goalsvc.test").warning("shows %s", secret)
        told = lines(capsys)
        assert len(told) == 2 * (len(PLANTED) + 4)
        assert not any("planted" in line for line in told)

    def test_of_which_there_are_these(self) -> None:
        assert set(PLANTED) >= {"pusher_secret", "api_key", "jwt_key", "job_key", "seal_key", "byteplus_secret_key"}
