"""Documents that another service wrote straight into MongoDB go the same way (docs/specification.md#documents)."""

from datetime import timedelta
from typing import Any

import pytest
from bson import Int64, ObjectId

from goalsvc.domain.escrow import ISSUER, escrow_account
from goalsvc.domain.orders import Order
from tests.world import World

from .outline import outline_of

pytestmark = pytest.mark.real

STREAMER = "alice"
SOURCE = "https://pull.example.com/live/alice/playlist.m3u8"


async def begun_show(world: World, *, hexadecimal: bool, long: bool = False) -> tuple[ObjectId, str]:
    """A funded show that is being performed; its goal, and its escrow. References are ObjectIds or hex strings."""

    def reference(identity: ObjectId) -> Any:
        return str(identity) if hexadecimal else identity

    def number(value: int) -> Any:
        return Int64(value) if long else value

    session_id, funding_id, show_id = ObjectId(), ObjectId(), ObjectId()
    escrow_id, now = f"show_funding:{funding_id}", world.clock.now()
    world.database.users.insert_one(
        {"_id": STREAMER, "username": "Alice", "tags": ["verified"], "byteplus": {"hls_url": SOURCE}}
    )
    world.database.sessions.insert_one(
        {
            "_id": session_id,
            "user_id": STREAMER,
            "statuses": {"started": now - timedelta(minutes=20)},
            "show_goal_pairs": [{"funding_goal": reference(funding_id), "show_goal": reference(show_id)}],
            "exclusive_goal_pairs": {},
            "viewers": {},
            "status": {},
            "rtc": {"room_id": "room-9", "record_task_id": "their-task"},
            "theirs": "is kept",
        }
    )
    world.database.goals.insert_one(
        {
            "_id": show_id,
            "_cls": "Goal.ShowGoal",
            "active": True,
            "progress": number(0),
            "levels": [{"title": "Their show", "target": number(360)}],
            "conditions": {"session_id": reference(session_id)},
            "context": {"started": now},
            "metadata": {"user_id": STREAMER, "theirs": {"deep": [1, 2]}},
        }
    )
    amounts = [2**40 if long else 40, 60]
    for amount in amounts:
        world.database.earnings.insert_one(
            {
                "_id": ObjectId(),
                "user_id": STREAMER,
                "from_user_id": "bob",
                "amount": number(amount),
                "created_at": now - timedelta(minutes=1),
                f"_{escrow_id}": True,
            }
        )
    order = Order(transfer_id="theirs", debit=ISSUER, credit=escrow_account(escrow_id), amount=sum(amounts))
    await world.context.ledger.post(order, now)
    return show_id, escrow_id


async def leaves(world: World, goal_id: ObjectId, **body: Any) -> None:
    event = {"name": "member_removed", "channel": f"presence-enc-goal@{goal_id}", "user_id": STREAMER}
    response = await world.webhook({"events": [event], **body})
    assert response.status_code == 200


@pytest.mark.parametrize("hexadecimal", [False, True])
async def test_a_show_that_others_began(world: World, hexadecimal: bool) -> None:
    world.has_dead_letters = True  # there is no stream to cut a clip from
    goal_id, escrow_id = await begun_show(world, hexadecimal=hexadecimal)
    await world.after(seconds=400)
    over = world.clock.now()
    await leaves(world, goal_id, timestamp="")
    await world.settle()
    goal = world.goal(str(goal_id))
    assert (goal["active"], goal["progress"], goal["exp"]) == (False, 400, over)
    assert goal["context"]["paused"] == goal["context"]["last_updated"] == over
    assert goal["metadata"]["theirs"] == {"deep": [1, 2]}
    assert (world.balance(STREAMER), world.escrow(escrow_id)) == (100, 0)
    (session,) = world.all("sessions")
    assert (session["show_goal_pairs"][0]["show_ended"], session["theirs"]) == (over, "is kept")
    assert [(call.action, call.task_id) for call in world.rtc.calls] == [("StopRecord", "their-task")]
    assert {type(asset["metadata"]["source"]["id"]) for asset in world.all("assets")} == {ObjectId}
    assert not [line for line in outline_of(await world.trace(str(goal_id))) if "failed" in line]


async def test_numbers_of_64_bits(world: World) -> None:
    world.has_dead_letters = True
    goal_id, escrow_id = await begun_show(world, hexadecimal=False, long=True)
    await world.after(seconds=400)
    await leaves(world, goal_id, timestamp="")
    await world.settle()
    assert (world.balance(STREAMER), world.escrow(escrow_id)) == (2**40 + 60, 0)
    # The streamer hears of a payout once, with the sum of its shares.
    assert [(told["amount"], told["shares"]) for told in world.told("wallet.updated")] == [(2**40 + 60, 2)]


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "digits", "ISO 8601"])
async def test_timestamps_of_every_form(world: World, form: str) -> None:
    world.has_dead_letters = True
    goal_id, _ = await begun_show(world, hexadecimal=True)
    await world.after(seconds=120)
    over = world.clock.now()
    await world.after(seconds=5)
    timestamp = {
        "seconds": over.timestamp(),
        "milliseconds": int(over.timestamp() * 1000),
        "digits": str(int(over.timestamp())),
        "ISO 8601": over.isoformat(),
    }[form]
    await leaves(world, goal_id, timestamp=timestamp)
    await world.settle()
    assert world.goal(str(goal_id))["progress"] == 120


async def test_a_clock_that_others_paused_goes_on_from_there(world: World) -> None:
    goal_id, now = ObjectId(), world.clock.now()
    world.database.goals.insert_one(
        {
            "_id": goal_id,
            "_cls": "Goal.KaraokeGoal",
            "active": True,
            "progress": 70,
            "levels": [{"title": "Song", "target": 100}],
            "conditions": {},
            "context": {"started": now - timedelta(seconds=90), "paused": now - timedelta(seconds=20)},
            "metadata": {"user_id": STREAMER},
        }
    )
    late = {"name": "member_removed", "channel": f"presence-enc-goal@{goal_id}", "user_id": STREAMER}
    await world.webhook({"time_ms": int((now - timedelta(seconds=50)).timestamp() * 1000), "events": [late]})
    await world.settle()
    assert world.goal(str(goal_id))["progress"] == 70  # what they counted is theirs
    world.database.goals.update_one({"_id": goal_id}, {"$set": {"context.started": now}})
    await world.after(seconds=10)
    await leaves(world, goal_id, timestamp="")
    await world.settle()
    assert world.goal(str(goal_id))["progress"] == 80


async def test_a_goal_that_others_ended_while_its_clock_ran(world: World) -> None:
    world.expected_findings = {"escrow_without_goal", "escrow_stuck"}  # the audit names what another service left
    goal_id, _ = await begun_show(world, hexadecimal=False)
    await world.after(seconds=100)
    world.database.goals.update_one({"_id": goal_id}, {"$set": {"active": False, "exp": world.clock.now()}})
    await world.after(seconds=2)
    await leaves(world, goal_id, timestamp="")
    await world.settle()
    assert world.goal(str(goal_id))["progress"] == 100  # no longer than until its end
    # Whoever ended it settles it, and announces it.
    world.database.goals.delete_one({"_id": goal_id})
    world.database.earnings.delete_many({})
