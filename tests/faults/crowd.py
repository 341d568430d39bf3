"""A crowd: fifty to two hundred contributions to one goal within two seconds, at two API processes.

In the middle the goal is ended, its time passes, or its level is reached. Among the viewers are some without tokens; some keys
are sent twice at once, some with another body. Each caller must get its own true answer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from goalsvc.domain.goals import GoalKind

from .machine import MOST_SKEW_SECONDS
from .simulation import Contribution, Simulation

#: What a viewer of the crowd has: more than all that one of them offers.
WEALTH = 10_000
MOST_OFFERED = 40
#: After how long the time of a goal passes, if it does in the middle: later than any process's clock says now.
EXPIRES_SECONDS = 2 * MOST_SKEW_SECONDS
#: Processes live at least so long meanwhile: an API that dies with every batch serves no crowd.
LEAST_STEPS = 1500


@dataclass(slots=True)
class Crowd:
    """Those who pay, those who have nothing, and what was answered to their contributions."""

    simulation: Simulation
    goal_id: str
    able: Sequence[str]
    unable: Sequence[str]
    wrong: list[str] = field(default_factory=list)

    async def offer(self, number: int, within_seconds: float) -> None:
        """One contribution, at any time within that; now and then sent twice, or under the key of another one."""
        simulation, random = self.simulation, self.simulation.random
        poor = bool(self.unable) and random.random() < 0.1
        user = random.choice(self.unable if poor else self.able)
        amount, key = random.randrange(1, MOST_OFFERED + 1), f"crowd-{number}"
        await asyncio.sleep(random.uniform(0.0, within_seconds))
        fate = random.random()
        if fate < 0.1:
            await asyncio.gather(self._send(user, amount, key, again=False), self._send(user, amount, key, again=True))
        elif fate < 0.15 and not poor:
            await self._quarrel(user, amount, key)
        else:
            simulation.figures.crowd += 1
            await simulation.contribute(self.goal_id, user, amount, key)
            known = simulation.known.contributions
            if poor and any(each.taken for each in known if each.user == user):
                self.wrong.append(f"{user}, who has no tokens, has contributed")

    async def _send(self, user: str, amount: int, key: str, *, again: bool) -> None:
        """Sends a contribution whose twin is on its way; they are one."""
        status = await self._status(user, amount, key)
        known = self.simulation.known.contributions
        mine = next((each for each in known if (each.user, each.key) == (user, key)), None)
        if mine is None:
            mine = Contribution(self.goal_id, user, amount, key=key)
            known.append(mine)
        mine.taken = bool(mine.taken) or status == 201
        self._look_at(user, status)

    async def _quarrel(self, user: str, amount: int, key: str) -> None:
        """Sends two bodies under one key at once; one of them at most is taken."""
        bodies = [amount, amount + 1]
        statuses = await asyncio.gather(*(self._status(user, each, key) for each in bodies))
        taken = [each for each, status in zip(bodies, statuses, strict=True) if status == 201]
        if len(taken) > 1:
            self.wrong.append(f"{user} has contributed {taken} under one key")
        self.simulation.known.contributions += [Contribution(self.goal_id, user, each, taken=True) for each in taken]
        for status in statuses:
            self._look_at(user, status)

    async def _status(self, user: str, amount: int, key: str) -> int:
        self.simulation.figures.crowd += 1
        path, body = f"/v1/goals/{self.goal_id}/contributions", {"user_id": user, "amount": amount}
        return (await self.simulation.insist("POST", path, body, key)).status

    def _look_at(self, user: str, status: int) -> None:
        if status not in (201, 402, 409) or (user in self.unable and status == 201):
            self.wrong.append(f"a contribution of {user} was answered with {status}")

    def untrue(self) -> list[str]:
        """What was answered and is not so: nobody who can pay was refused for that, nobody was refused without reason."""
        goal = self.simulation.goal(self.goal_id)
        refused = [
            each for each in self.simulation.known.contributions if each.goal_id == self.goal_id and not each.taken
        ]
        over = not goal.get("active", True) or goal["progress"] >= goal["levels"][-1]["target"]
        over = over or ("exp" in goal and goal["exp"] <= self.simulation.latest_now())
        able = set(self.able) - self._charged_back()
        wrong = [f"{each} was refused while the goal is open" for each in refused if each.user in able and not over]
        return self.wrong + wrong

    def _charged_back(self) -> set[str]:
        """Those whose deposit somebody wanted reversed by now: they may be unable to pay."""
        known = self.simulation.known
        reversed_ids = {intent.path.split("/")[3] for intent in known.intents if intent.verb == "reversal"}
        return {user for deposit_id, (user, _) in known.deposit_ids().items() if deposit_id in reversed_ids}


async def crowd(simulation: Simulation, number: int) -> str | None:
    """A crowd funds a show, more or less of it; the goal that it paid for, if there is one."""
    random, faults = simulation.random, simulation.faults
    faults.api_steps = max(faults.api_steps, LEAST_STEPS) if faults.api_steps else 0
    size = random.choice([50, 64, 65, random.randrange(50, 201)])
    able = [f"u-{number}-{i}-c" for i in range(max(5, size // 6))]
    unable = [f"u-{number}-{i}-p" for i in range(random.randrange(4))]
    await asyncio.gather(*(simulation.deposit(viewer, WEALTH) for viewer in able))
    offered, end = size * MOST_OFFERED // 2, random.choice(["level", "level", "ended", "exp", "never"])
    within_seconds = random.choice([0.0, 0.5, 2.0])
    goal_id = await simulation.make_goal(
        GoalKind.FUNDING,
        levels=[{"title": "Fund it", "target": offered // 2 if end == "level" else offered * 10}],
        exp=simulation.instant_in(EXPIRES_SECONDS) if end == "exp" else None,
        metadata={"show": {"title": f"Show {number}", "target": random.randrange(2, 100)}},
    )
    if goal_id is None:
        return None  # the livestream is over
    if end == "exp":
        await asyncio.sleep(EXPIRES_SECONDS - random.uniform(0.0, MOST_SKEW_SECONDS))
    there = Crowd(simulation, goal_id, able, unable)
    offers = [asyncio.create_task(there.offer(each, within_seconds)) for each in range(size)]
    if end == "ended":
        await asyncio.sleep(random.uniform(0.0, 1.0))
        await simulation.end_goal(goal_id)
    await asyncio.gather(*offers)
    simulation.violations += there.untrue()
    return goal_id
