"""Histories: what streamer and viewers do during one livestream, chosen at random, and what the world does meanwhile.

Time is the simulation's: to sleep is to let so much of it pass, and nobody waits.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

from goalsvc.domain.escrow import escrow_account, exclusive_escrow, user_account
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.ids import derived_id
from goalsvc.domain.orders import Order

from .crowd import crowd
from .money import Business
from .restore import WORLD, restored_later
from .simulation import STREAMER, Simulation, run
from .trouble import trouble

Story = Callable[[Simulation, int], Coroutine[Any, Any, None]]

#: What a viewer has in the beginning.
WEALTH = 10_000
#: Performers join and leave so often at most in one goal.
MOST_TURNS = 9
#: Where a livestream is said to be.
HLS_URL = "https://live.invalid/playlist.m3u8"


async def play_history(simulation: Simulation) -> None:
    """A livestream from its beginning until long after its end."""
    random = simulation.random
    simulation.inside["users"].insert_one(
        {
            "_id": STREAMER,
            "username": "Alice",
            "tags": ["banned:livestream:create_clip"] if random.random() < 0.1 else ["verified"],
            "byteplus": {"hls_url": HLS_URL},
        }
    )
    keepers = [asyncio.create_task(simulation.keep(name)) for name in ("api", "api-2", "worker", "worker-2")]
    keepers.append(asyncio.create_task(simulation.cron()))
    await asyncio.sleep(0)
    await simulation.begin_session("room-1" if random.random() < 0.9 else None)
    world, meddler = asyncio.create_task(trouble(simulation)), asyncio.create_task(meddle(simulation))
    stories = random.choices(STORIES, weights=[3, 2, 1, 3, 1, 1, 0.5], k=random.choice([1, 1, 2, 2, 3]))
    playing = asyncio.gather(
        *(story(simulation, number) for number, story in enumerate(stories)), ends_early(simulation)
    )
    if simulation.faults.restored:
        await restored_later(simulation, playing)
        simulation.figures.restores += 1
        WORLD.set(simulation.world)
    else:
        await playing
    world.cancel()
    meddler.cancel()
    await simulation.heal()
    if random.random() < 0.5:
        await simulation.settle()
    if simulation.ended_at is None:
        await simulation.end_session()
    await simulation.settle()
    await simulation.seal_and_audit()
    for keeper in keepers:
        keeper.cancel()


async def ends_early(simulation: Simulation) -> None:
    """Ends the livestream in the middle of it all, now and then, while the last goal is being made in it."""
    if simulation.random.random() < 0.2:
        await asyncio.sleep(simulation.random.uniform(1.0, 120.0))
        await asyncio.gather(simulation.end_session(), _the_last_goal(simulation))


async def _the_last_goal(simulation: Simulation) -> None:
    await asyncio.sleep(simulation.random.uniform(0.0, 0.1))
    await simulation.make_goal(GoalKind.KARAOKE, levels=[{"title": "One more song", "target": 60}])


async def meddle(simulation: Simulation) -> None:
    """Does what comes too early or too late.

    Dead letters are tried again while their cause lasts; another level is asked for of each goal that has reached its last
    one and has not ended yet.
    """
    while True:
        await asyncio.sleep(simulation.random.uniform(0.05, 2.0))
        if simulation.random.random() < 0.02:
            simulation.redrive_together()
        for goal_id, goal in list(simulation.inside.peek("goals").items()):
            levels = goal.get("levels", [])
            if goal.get("active") and levels and goal["progress"] >= levels[-1]["target"]:
                more = [*levels, {"title": "More", "target": goal["progress"] + 100}]
                await simulation.change_levels(str(goal_id), more)


# -- performing ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stage:
    """The channel of a goal, and whoever comes and goes there."""

    simulation: Simulation
    goal_id: str
    user: str
    webhooks: list[asyncio.Task[None]]

    @property
    def active(self) -> bool:
        return bool(self.simulation.inside.peek("goals").get(ObjectId(self.goal_id), {}).get("active"))

    @property
    def channel(self) -> str:
        return f"presence-enc-goal@{self.goal_id}"

    async def perform(self, seconds: float) -> None:
        """Joins, performs, leaves; now and then nobody is ever told of the leave."""
        present = self.simulation.pusher.present.setdefault(self.channel, set())
        self._announce("member_added", "channel_occupied" if not present else None)
        present.add(self.user)
        await asyncio.sleep(seconds)
        present.discard(self.user)
        if self.simulation.random.random() < 0.97:
            self._announce("member_removed", "channel_vacated" if not present else None)

    def _announce(self, of_member: str, of_channel: str | None) -> None:
        """One join or leave: told by two events, in either order, in one webhook or two, sometimes by one of them only.

        Of the channel only the first that joins and the last that leaves are told.
        """
        simulation, random = self.simulation, self.simulation.random
        channel, user = self.channel, self.user
        events: list[dict[str, Any]] = [
            {"name": of_member, "channel": channel, "user_id": user},
            *([{"name": of_channel, "channel": channel}] if of_channel is not None else []),
        ]
        random.shuffle(events)
        at = simulation.clock.now()
        if random.random() < simulation.faults.batched:
            others = [{"name": "cache_miss", "channel": channel}] * random.randrange(0, 19)
            self._send(at, [*events, *others])
            return
        if random.random() < 0.5:
            events = events[:1]
        for event in events:
            self._send(at, [event])
            at += timedelta(milliseconds=random.choice([0, 0, 1, 7, 400]))

    def _send(self, at: datetime, events: list[dict[str, Any]]) -> None:
        self.webhooks.append(asyncio.create_task(self._tell(at, events)))

    async def _tell(self, at: datetime, events: list[dict[str, Any]]) -> None:
        wait = (at - self.simulation.clock.now()).total_seconds()
        await asyncio.sleep(max(0.0, wait))
        await self.simulation.announce(at, events)

    def heckle(self) -> None:
        """Somebody comes and goes whose business it is not."""
        name = self.simulation.random.choice(["member_added", "member_removed"])
        self._send(self.simulation.clock.now(), [{"name": name, "channel": self.channel, "user_id": "u-passer-by"}])


async def perform(simulation: Simulation, goal_id: str, seconds: float, user: str = STREAMER) -> None:
    """Performs for about that long, in several turns, for as long as the goal is active; all is announced in the end."""
    random = simulation.random
    stage = Stage(simulation, goal_id, user, [])
    turns = random.randrange(1, MOST_TURNS + 1)
    if random.random() < 0.05:
        turns = 40  # so many that the clock folds them
    for _ in range(turns):
        if not stage.active:
            break
        await asyncio.sleep(random.choice([0.0, random.uniform(0.0, 1.0), random.uniform(0.0, 50.0)]))
        share = seconds / turns
        await stage.perform(random.choice([share, random.uniform(0.0, 2 * share), random.uniform(0.0, 0.9)]))
        if random.random() < 0.1:
            stage.heckle()
        if random.random() < 0.15:
            await asyncio.sleep(random.uniform(60.0, 400.0))
    await asyncio.gather(*stage.webhooks)


# -- stories ------------------------------------------------------------------------------------------------------------


async def funded_show(simulation: Simulation, number: int) -> None:
    """Viewers pay for a show; if they do, it is performed, more or less of it. Their other money goes on moving meanwhile."""
    random = simulation.random
    sure = random.random() < 0.5  # it is paid for, and performed
    target, seconds = random.randrange(10, 2000), random.choice([1, random.randrange(2, 400)])
    viewers = [f"u-{number}-{i}" for i in range(random.randrange(1, 5))]
    for viewer in viewers:
        await simulation.deposit(viewer, WEALTH)
    goal_id = await simulation.make_goal(
        GoalKind.FUNDING,
        levels=[{"title": "Fund it", "target": target}],
        exp=simulation.instant_in(random.randrange(20, 900)) if random.random() < 0.3 and not sure else None,
        metadata={"show": {"title": f"Show {number}", "target": seconds}},
        fee_bps=_fee(simulation),
    )
    if goal_id is None:
        return  # the livestream is over
    gifts = [asyncio.create_task(_business(simulation, f"{number}-early", viewers))]
    for gift in range(random.randrange(3 if sure else 1, 9)):
        await asyncio.sleep(random.choice([0.0, random.uniform(0.0, 20.0)]))
        amount = max(1, int(target * random.choice([0.3, 0.34, 0.5, 0.5] if sure else [0.1, 0.3, 0.5, 1.0])))
        gifts.append(asyncio.create_task(_give(simulation, goal_id, random.choice(viewers), amount, gift)))
    await asyncio.gather(*gifts)
    if random.random() < 0.3:
        await simulation.connection.until_no_transaction()
        _redate_earnings(simulation, ObjectId(goal_id))
    show_id = str(derived_id(ObjectId(goal_id), "show"))
    for _ in range(60):
        if ObjectId(show_id) in simulation.inside.peek("goals"):
            await perform(simulation, show_id, seconds * (3.0 if sure else random.choice([0.5, 1.2, 2.0])))
            break
        await asyncio.sleep(1.0)
    afterwards = asyncio.create_task(_afterwards(simulation, f"{number}-late", viewers, [goal_id, show_id]))
    if random.random() < 0.3 and not sure:
        await simulation.end_goal(random.choice([goal_id, show_id]) if random.random() < 0.5 else goal_id)
    await afterwards


def _redate_earnings(simulation: Simulation, goal_id: ObjectId) -> None:
    """Another service changes when tokens are said to have been given: long ago, in time to come, at no time."""
    random = simulation.random
    for earning_id in [
        each for each, found in simulation.inside.peek("earnings").items() if found["goal_id"] == goal_id
    ]:
        at = random.choice([datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC), None, "long ago"])
        simulation.inside["earnings"].update_one({"_id": earning_id}, {"$set": {"created_at": at}})


def _owe_much(simulation: Simulation, goal_id: ObjectId) -> None:
    """The goal owes hundreds of notices, as one of an earlier version may."""
    now, many = simulation.clock.now(), simulation.random.randrange(100, 400)
    promises = []
    for number in range(many):
        event_id = f"owed-{goal_id}-{number}"
        simulation.known.owed_notices.add(event_id)
        notice = {"channels": [f"private-user@{STREAMER}"], "event": "wallet.updated", "data": {"event_id": event_id}}
        owed = {"id": event_id, "task": "deliver_notice", "arguments": notice, "at": now, "parent": ""}
        promises.append(owed)
    simulation.inside["goals"].update_one({"_id": goal_id}, {"$push": {"promises": {"$each": promises}}})


async def _give(simulation: Simulation, goal_id: str, viewer: str, amount: int, gift: int) -> None:
    await simulation.contribute(goal_id, viewer, min(amount, WEALTH // 3), f"gift-{gift}")


async def _business(simulation: Simulation, name: str, users: Sequence[str], goals: Sequence[str] = ()) -> None:
    """Moves money of these users, in half of the cases; more of it where a goal's payout can be refunded."""
    random = simulation.random
    if random.random() < (0.9 if goals else 0.5):
        times = random.randrange(3, 10) if goals else random.randrange(1, 5)
        await Business(simulation, name, users, goals).go_on(
            times, random.choice([20.0, 60.0] if goals else [2.0, 60.0])
        )


async def _afterwards(simulation: Simulation, name: str, users: Sequence[str], goals: Sequence[str]) -> None:
    """Moves money once the last of these goals has ended, if it ever began; what it has paid may be refunded."""
    known = simulation.inside.peek("goals")
    goal_id, until = ObjectId(goals[-1]), asyncio.get_running_loop().time() + 180.0
    while known.get(goal_id, {}).get("active", False) and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(2.0)
        known = simulation.inside.peek("goals")
    if known.get(goal_id, {}).get("progress", 0) > 0:
        await asyncio.sleep(simulation.random.choice([0.0, simulation.random.uniform(0.0, 10.0)]))
        await _business(simulation, name, users, goals)


def _fee(simulation: Simulation) -> int | None:
    return simulation.random.choice([None, None, 1, 250, simulation.random.randrange(10_001), 10_000])


async def direct(simulation: Simulation, number: int) -> None:
    """A show or songs without money behind them."""
    random = simulation.random
    targets = sorted({random.randrange(1, 300) for _ in range(random.randrange(1, 4))})
    goal_id = await simulation.make_goal(
        random.choice([GoalKind.SHOW, GoalKind.KARAOKE, GoalKind.KARAOKE]),
        levels=[{"title": f"Level {target}", "target": target} for target in targets],
        exp=simulation.instant_in(random.randrange(5, 600)) if random.random() < 0.3 else None,
    )
    if goal_id is None:
        return  # the livestream is over
    if random.random() < 0.1:
        await simulation.connection.until_no_transaction()
        if ObjectId(goal_id) in simulation.inside.peek("goals"):
            _owe_much(simulation, ObjectId(goal_id))
    await perform(simulation, goal_id, targets[-1] * random.choice([0.3, 0.9, 1.3]))
    if random.random() < 0.3:
        await simulation.end_goal(goal_id)


async def presence(simulation: Simulation, number: int) -> None:
    """Viewers come to the stream and go; a user goes online."""
    stage = Stage(simulation, "", "", [])
    for turn in range(simulation.random.randrange(1, 6)):
        channel = simulation.random.choice([f"presence-stream@{STREAMER}", f"private-user@u-{number}"])
        name = simulation.random.choice(["member_added", "member_removed", "channel_occupied"])
        stage._send(simulation.clock.now(), [{"name": name, "channel": channel, "user_id": f"u-{number}-{turn}"}])
        await asyncio.sleep(simulation.random.uniform(0.0, 5.0))
    await asyncio.gather(*stage.webhooks)


async def requested_exclusive(simulation: Simulation, number: int) -> None:
    """A viewer asks for a private minute and pays; it is agreed to or not, and performed or not."""
    random = simulation.random
    viewer, price = f"u-{number}-x", random.randrange(1, 3000)
    await simulation.deposit(viewer, WEALTH)
    goal_id = await simulation.make_goal(
        GoalKind.TRIGGER,
        exp=simulation.instant_in(random.randrange(5, 120)),
        metadata={
            "viewer_id": viewer,
            "private": True,
            "price": price,
            "exclusive": {"title": "A private minute", "target": (seconds := random.randrange(1, 200))},
        },
        fee_bps=_fee(simulation),
    )
    if goal_id is None:
        return  # the livestream is over
    await asyncio.sleep(random.uniform(0.0, 30.0))
    fate = random.random()
    if fate < 0.15:
        await simulation.decline(goal_id)
    if fate < 0.25 or not await simulation.agree(goal_id):
        return
    exclusive_id = str(derived_id(ObjectId(goal_id), "exclusive"))
    meanwhile = asyncio.create_task(_business(simulation, f"{number}-early", [viewer]))
    for _ in range(60):
        if ObjectId(exclusive_id) in simulation.inside.peek("goals"):
            if random.random() < 0.85:
                users = random.choice([[STREAMER], [viewer], [STREAMER, viewer], [STREAMER, viewer]])
                lengths = (seconds * random.choice([0.4, 1.0, 1.5]) for _ in users)
                performing = (perform(simulation, exclusive_id, *each) for each in zip(lengths, users, strict=True))
                await asyncio.gather(*performing)
            break
        await asyncio.sleep(1.0)
    if random.random() < 0.2:
        await simulation.end_goal(exclusive_id)
    await meanwhile
    await _afterwards(simulation, f"{number}-late", [viewer], [exclusive_id])


async def untimed_exclusive(simulation: Simulation, number: int) -> None:
    """Another service sells an exclusive without a target: any performance at all earns the whole price."""
    random = simulation.random
    viewer, price, goal_id = f"u-{number}-y", random.randrange(1, 3000), ObjectId()
    await simulation.deposit(viewer, WEALTH)
    escrow = exclusive_escrow(goal_id)
    hold = Order(
        transfer_id=f"hold-{escrow}",
        debit=user_account(viewer),
        credit=escrow_account(escrow),
        amount=price,
        tags=[f"escrow::{escrow}"],
        from_user_id=viewer,
    )
    # No backup falls between its two writes: a hold without its goal would be that service's to mend, as the audit says.
    simulation.selling += 1
    try:
        if not await simulation.fill_escrow(hold):
            return
    finally:
        simulation.selling -= 1
    simulation.known.untimed[str(goal_id)] = price
    simulation.inside["goals"].insert_one(
        {
            "_id": goal_id,
            "_cls": "Goal.ExclusiveGoal",
            "active": True,
            "progress": 0,
            "levels": [],
            "conditions": {"session_id": str(simulation.session_id), "exclusive_to": viewer},
            "context": {},
            "metadata": {"user_id": STREAMER, "viewer_id": viewer},
            "exp": simulation.clock.now() + timedelta(seconds=random.randrange(60, 600)),
        }
    )
    if random.random() < 0.7:
        users = random.choice([[STREAMER], [STREAMER, viewer]])
        await asyncio.gather(*(perform(simulation, str(goal_id), random.uniform(0.1, 60.0), user) for user in users))


async def money(simulation: Simulation, number: int) -> None:
    """Nothing but money, of users who watch: whoever has little soon owes something."""
    users = [f"u-{number}-{i}-m" for i in range(3)]
    for user in users[:2]:
        await simulation.deposit(user, WEALTH // 5)
    await Business(simulation, f"{number}-money", users).go_on(simulation.random.randrange(4, 16), 30.0)


async def crowded_show(simulation: Simulation, number: int) -> None:
    """A crowd pays for a show, which is performed if it is paid for."""
    goal_id = await crowd(simulation, number)
    if goal_id is None:
        return
    show_id = derived_id(ObjectId(goal_id), "show")
    for _ in range(60):
        if (show := simulation.inside.peek("goals").get(show_id)) is not None:
            seconds = show["levels"][-1]["target"]
            await perform(simulation, str(show_id), seconds * simulation.random.choice([0.5, 1.5]))
            break
        await asyncio.sleep(1.0)


STORIES: list[Story] = [funded_show, direct, presence, requested_exclusive, untimed_exclusive, money, crowded_show]


def play(simulation: Simulation) -> None:
    """Plays a history on that machine."""
    run(simulation, play_history)
