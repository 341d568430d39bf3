"""A platform's evening in thirty lines, by the typed client: a show that two viewers fund, and what is left when it is over.

    make client && pip install dist/goalsvc_client-*.whl
    goalsvc dev                       # in another terminal
    python examples/integrate.py

`GOALSVC_API_URL` and `GOALSVC_API_KEY` say where goalsvc is; without them it is that of `goalsvc dev`.
"""

import sys
from pathlib import Path

# `platform.py` beside this file has the name of a module of the standard library, which other modules import.
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).resolve().parent]

import os
import uuid

from goalsvc_client import ApiError, GoalsvcClient
from goalsvc_client.generated.models import ContributionBody, DepositBody, NewFundingGoal, SessionBody


def main() -> None:
    """Plays it and prints what happened; raises ApiError for what goalsvc refuses."""
    url = os.environ.get("GOALSVC_API_URL", "http://127.0.0.1:8000")
    evening = uuid.uuid4().hex[:8]  # so that the program can be run again
    alice, bob, carol = (f"{name}-{evening}" for name in ("alice", "bob", "carol"))
    with GoalsvcClient(url, os.environ.get("GOALSVC_API_KEY", "goalsvc-api-key")) as goalsvc:
        session = goalsvc.sessions.begin_session(body=SessionBody(user_id=alice))
        plan = {
            "kind": "FundingGoal",
            "session_id": session.id,
            "levels": [{"title": "Fund it", "target": 150}],
            "metadata": {"show": {"title": "Ukulele", "target": 360}},
        }
        goal = goalsvc.goals.create_goal(body=NewFundingGoal.from_dict(plan))
        for viewer in (bob, carol):
            goalsvc.wallet.deposit(viewer, body=DepositBody(amount=100), idempotency_key=f"payment of {viewer}")
            share = ContributionBody(user_id=viewer, amount=100, cap=True)
            made = goalsvc.goals.create_contribution(goal.id, body=share)
            print(f"{viewer} gave {made.amount}; {made.progress} of 150")
        try:
            goalsvc.goals.create_contribution(goal.id, body=ContributionBody(user_id=bob, amount=1))
        except ApiError as error:
            print(f"one more token is refused: {error.code}")
        completed = next(goalsvc.follow_events(types=["goal.completed"], goal_id=goal.id))
        print(f"funded: the show is {completed.data['show_goal_id']}")
        goalsvc.sessions.end_session(session.id)
        for event in goalsvc.follow_events(types=["escrow.refunded"]):
            if event.data["escrow_id"] == f"show_funding:{goal.id}":
                break
        left = goalsvc.wallet.read_wallet(bob).balance + goalsvc.wallet.read_wallet(carol).balance
        print(f"no one performed: {left} of 200 tokens are back")


if __name__ == "__main__":
    main()
