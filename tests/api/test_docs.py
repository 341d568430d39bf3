"""`/docs`: the documents to try and to read, whole, from our own server, also below a path of a proxy."""

import re
from html.parser import HTMLParser

import pytest

from goalsvc.api.asyncapi import asyncapi_document
from goalsvc.api.docs.messages import Type, reading_of
from tests.api.app import Service

PAGES = ("/docs", "/docs/reading", "/docs/events")


class Page(HTMLParser):
    """What a page links to, loads and can be linked to, and its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href" and tag == "a":
                self.links.append(value or "")
            elif name in ("src", "href", "spec-url", "data-document"):
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


async def page_of(service: Service, path: str) -> Page:
    answer = await service.stranger.get(path)
    assert answer.status_code == 200
    return Page(answer.text)


@pytest.mark.parametrize("path", PAGES)
async def test_all_that_a_page_loads_and_links_to_is_there(service: Service, path: str) -> None:
    page = await page_of(service, path)
    wanted = [*page.loads, *(link for link in page.links if not link.startswith("#"))]
    assert len(page.loads) >= 2
    for one in wanted:
        assert (await service.stranger.get(one)).status_code == 200


@pytest.mark.parametrize("path", PAGES)
async def test_below_a_path_of_a_proxy_everything_is_below_it(service: Service, path: str) -> None:
    service.app.root_path = "/goals"
    try:
        page = await page_of(service, f"/goals{path}")
    finally:
        service.app.root_path = ""
    assert all(one.startswith(("/goals/", "#")) for one in [*page.loads, *page.links])


@pytest.mark.parametrize("path", PAGES)
async def test_a_browser_refuses_all_that_another_server_would_serve(service: Service, path: str) -> None:
    policy = (await service.stranger.get(path)).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


async def test_the_script_for_reading_asks_no_other_server(service: Service) -> None:
    script = (await service.stranger.get("/docs/redoc.js")).text
    assert len(script) > 500_000
    assert not re.findall(r'src:"https?://', script)


class TestMessages:
    async def test_all_are_shown_with_their_examples_and_all_links_lead_somewhere(self, service: Service) -> None:
        page = await page_of(service, "/docs/events")
        document = asyncapi_document()
        told = document["components"]["messages"].values()
        assert {message["name"] for message in told} <= set(page.words)
        assert sum('"event_id"' in words or '"created_at"' in words for words in page.words) >= len(told) - 10
        inside = [link.removeprefix("#") for link in page.links if link.startswith("#")]
        assert set(inside) <= set(page.ids)
        assert len(set(page.ids)) == len(page.ids)

    def test_fields_that_all_messages_of_a_channel_have_are_shown_once(self) -> None:
        channels = {channel.key: channel for channel in reading_of(asyncapi_document()).channels}
        events, user = channels["events"], channels["user"]
        assert events.schema is not None
        assert [field.name for field in events.schema.fields][:2] == ["id", "type"]
        assert {message.schema for message in events.messages} == {None}
        assert user.schema is None
        assert all(message.schema is not None for message in user.messages)

    def test_say_what_may_be_absent_and_name_what_is_described_further_down(self) -> None:
        reading = reading_of(asyncapi_document())
        messages = {message.anchor: message for channel in reading.channels for message in channel.messages}
        progress = messages["stream/GoalProgressUpdated"].schema
        assert progress is not None
        fields = {field.name: field for field in progress.fields}
        assert fields["progress"].required
        assert not fields["contributions"].required
        assert fields["levels"].type == Type("list of {}", "LevelNotice")
        assert fields["at"].type == Type("string (date-time)")
        schemas = {schema.name: schema for schema in reading.schemas}
        assert [field.name for field in schemas["LevelNotice"].fields] == ["title", "target"]
        assert "ShowGoal" in schemas["GoalKind"].values
