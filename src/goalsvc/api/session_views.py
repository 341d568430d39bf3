"""Sessions as the API shows them."""

from datetime import datetime

from pydantic import Field

from goalsvc.api.views import LevelView, Part, Text, Time, View, Whole, absent, born, latest, part_of
from goalsvc.models.session import Session

_GOAL = "68143584d6945d32e732cc21"


class StatusesView(Part):
    """When the livestream began and ended."""

    started: Time = absent("When it began.")
    ended: Time = absent("When it ended.")


class StatusView(Part):
    """What holds at this moment."""

    exclusive_to: Text = absent("The viewer for whom alone the stream is.", examples=["u-bob-2"])


class ShowPairView(Part):
    """A FundingGoal and the ShowGoal that it paid for."""

    funding_goal: Text = absent("The FundingGoal.", examples=["68143584d6945d32e732cc1f"])
    show_goal: Text = absent("The ShowGoal.", examples=[_GOAL])
    show_started: Time = absent("When the show started first.")
    show_ended: Time = absent("When the show ended.")


class ExclusivePairView(Part):
    """A viewer's request and the ExclusiveGoal that came of it."""

    trigger_goal: Text = absent("The TriggerGoal.", examples=["68143584d6945d32e732cc1f"])
    exclusive_goal: Text = absent("The ExclusiveGoal.", examples=[_GOAL])
    exclusive_goal_started: Time = absent("When the exclusive started first.")
    exclusive_goal_ended: Time = absent("When the exclusive ended.")


class ViewerWindowView(Part):
    """From when until when a viewer may watch, and for how many seconds."""

    nbf: Time = absent("From when on.")
    exp: Time = absent("Until when.")
    duration: Whole = absent("Seconds.", examples=[360])


class SessionKaraokeView(Part):
    """The karaoke score."""

    id: Text = absent("The KaraokeGoal.", examples=[_GOAL])
    progress: int = Field(default=0, description="Whole performed seconds.")
    levels: list[LevelView] = Field(default=[], description="Its thresholds.")
    active: bool = Field(default=True, description="Whether it goes on.")


class RtcView(Part):
    """The room of the livestream."""

    room_id: Text = absent("BytePlus RTC's room.", examples=["room-1"])
    record_task_id: Text = absent("The recording task, if the platform named one.")


class SessionView(View):
    """A session."""

    id: str = Field(description="Its id.", examples=["68143584d6945d32e732cc20"])
    user_id: str = Field(description="The streamer.", examples=["u-alice-1"])
    statuses: StatusesView = Field(description="When the livestream began and ended.")
    status: StatusView = Field(description="What holds at this moment.")
    show_goal_pairs: list[ShowPairView] = Field(description="Shows with what funded them.")
    exclusive_goal_pairs: dict[str, ExclusivePairView] = Field(description="Exclusives with their requests, by viewer.")
    viewers: dict[str, ViewerWindowView] = Field(description="Who may watch an exclusive, and when, by viewer.")
    karaoke_goal: SessionKaraokeView | None = Field(default=None, description="The karaoke score.")
    rtc: RtcView = Field(description="The room of the livestream.")
    created_at: datetime | None = Field(default=None, description="When it was created.")
    updated_at: datetime | None = Field(default=None, description="When it began, ended, or a pair of it changed last.")

    @classmethod
    def of(cls, session: Session) -> "SessionView":
        """The view of that session."""
        shows, exclusives = session.show_goal_pairs, session.exclusive_goal_pairs.values()
        created = session.statuses.started or born(session.id)
        return cls(
            id=str(session.id),
            user_id=session.user_id,
            statuses=part_of(StatusesView, session.statuses),
            status=part_of(StatusView, session.status),
            show_goal_pairs=[part_of(ShowPairView, pair) for pair in shows],
            exclusive_goal_pairs={
                viewer: part_of(ExclusivePairView, pair) for viewer, pair in session.exclusive_goal_pairs.items()
            },
            viewers={viewer: part_of(ViewerWindowView, window) for viewer, window in session.viewers.items()},
            karaoke_goal=part_of(SessionKaraokeView, session.karaoke_goal) if session.karaoke_goal else None,
            rtc=part_of(RtcView, session.rtc),
            created_at=created,
            updated_at=latest(
                created,
                session.statuses.ended,
                *(time for pair in shows for time in (pair.show_started, pair.show_ended)),
                *(time for pair in exclusives for time in (pair.exclusive_goal_started, pair.exclusive_goal_ended)),
            ),
        )
