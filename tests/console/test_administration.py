"""Pages of deliveries and clips."""

import httpx
from bson import ObjectId

from goalsvc.models.clip import Asset
from tests.world import World

from .conftest import FROM_HERE, a_key, log_in


async def test_an_endpoint_shows_its_deliveries_and_delivers_again(world: World, operator: httpx.AsyncClient) -> None:
    body = {"url": "https://backend.example.com/<b>", "types": ["*"], "description": "<i>the shop</i>"}
    endpoint = await world.post("/v1/webhook-endpoints", body)
    await world.post("/v1/sessions", {"user_id": "alice"})
    listed = (await operator.get("/console/deliveries")).text
    assert endpoint["id"] in listed
    assert "<i>" not in listed
    page = await operator.get(f"/console/deliveries/{endpoint['id']}")
    assert (page.status_code, "Deliver events again" in page.text) == (200, True)
    fields = {"id": endpoint["id"], "since": world.clock.now().isoformat(), "reason": "the shop was away"}
    again = await operator.post("/console/act/replay-events", data=fields, headers=FROM_HERE)
    assert again.headers["location"] == f"/console/deliveries/{endpoint['id']}?did=replay-events"
    wrong = await operator.post("/console/act/replay-events", data={**fields, "since": "soon"}, headers=FROM_HERE)
    assert wrong.status_code == 422
    await world.call("DELETE", f"/v1/webhook-endpoints/{endpoint['id']}")


async def test_a_goal_and_its_events_say_what_became_of_them_at_the_endpoints(
    world: World, operator: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    session = await world.post("/v1/sessions", {"user_id": "alice"})
    levels = [{"title": "Ukulele", "target": 60}]
    show = await world.post("/v1/goals", {"kind": "ShowGoal", "session_id": session["id"], "levels": levels})
    await world.settle()
    assert "no endpoint selects it" in (await operator.get(f"/console/goals/{show['id']}")).text
    endpoint = await world.post("/v1/webhook-endpoints", {"url": "https://backend.example.com/", "types": ["goal.*"]})
    (event,) = (await world.get(f"/v1/events?goal_id={show['id']}"))["items"]
    await world.post(f"/v1/events/{event['id']}/resend", {})
    world.database.deliveries.update_one(
        {}, {"$set": {"attempts": [{"at": world.clock.now(), "status": 503, "ms": 5.0}]}}
    )
    goal = (await operator.get(f"/console/goals/{show['id']}")).text
    assert f"/console/events/{event['id']}" in goal
    for text in (goal, (await operator.get(f"/console/events/{event['id']}")).text):
        assert f"/console/deliveries/{endpoint['id']}" in text
        assert "pending, 503" in text
    await log_in(browser, (await a_key(world, "read"))["key"])
    for path in (f"/goals/{show['id']}", f"/events/{event['id']}"):
        text = (await browser.get(f"/console{path}")).text
        assert "goal.created" in text
        assert endpoint["id"] not in text, "deliveries need the scope admin, as in the API"
    await world.call("DELETE", f"/v1/webhook-endpoints/{endpoint['id']}")


async def test_a_clip_says_what_it_shows_or_why_there_is_none(world: World, operator: httpx.AsyncClient) -> None:
    now = world.clock.now()
    stored, failed = ObjectId(), ObjectId()
    wanted = {"begins_at": now, "duration": 30.0}
    common = {"user_id": "alice", "wanted": wanted, "created_at": now, "content_type": "video/mp4", "metadata": {}}
    assets = Asset.get_motor_collection()
    await assets.insert_one(
        {"_id": stored, "state": "quarantined", "duration": 29.5, "begins_at": now, "size": 1000, **common}
    )
    await assets.insert_one({"_id": failed, "state": "failed", "duration": 30.0, "reason": "gone: <b>", **common})
    found = await operator.get(f"/console/search?q={stored}")
    page = await operator.get(found.headers["location"])
    assert "The clip shows 29.5 s from" in page.text
    assert "<video" in page.text
    assert "media-src" in page.headers["content-security-policy"]
    none = await operator.get(f"/console/clips/{failed}")
    assert "There is no clip because gone: &lt;b&gt;." in none.text
    assert "media-src" not in none.headers["content-security-policy"]
    assert "Cut again" in none.text
    await assets.delete_many({})
