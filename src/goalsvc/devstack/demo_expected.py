"""What the trace of a completed show must look like: the outline as data, and the comparison with a trace.

A name that ends in `*` is one that the seed does not have, and that the specification adds.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answers:
    """Which receivers of a sender must be done, and which must have **returned**; and how often the signal is sent."""

    done: str
    returned: str = ""
    times: int = 1

    def by_receiver(self) -> dict[str, str]:
        """`done` or `returned`, by the receiver's name."""
        done = dict.fromkeys(self.done.replace("*", "").split(), "done")
        return done | dict.fromkeys(self.returned.replace("*", "").split(), "returned")


def receivers(shares: int) -> Mapping[str, Answers]:
    """By sender: the receivers of a ShowGoal's signals, paid for in so many shares."""
    return {
        "goal.started": Answers("record_show_with_rtc* set_embedded_goal_started* track_goals*"),
        "goal.progressed": Answers(
            """track_goals notify_goal_progress_updated invalidate_cached_pusher_channel_data trigger_goal_complete""",
            """update_and_notify_session_karaoke_goal notify_viewer_change_stream_for_show
            trigger_exclusive_goal_escrow_refund""",
        ),
        "goal.completed": Answers(
            """track_goals set_embedded_goal_ended deactivate_goal produce_livestream_clip_from_goal record_show_with_rtc
            trigger_show_escrow_transfer""",
            """trigger_exclusive_escrow_transfer notify_livestream_mvps start_funded_show*""",
        ),
        "goal.ended": Answers(
            """track_goals invalidate_cached_pusher_channel_data""",
            """trigger_exclusive_on_close_notification notify_stream_authorized_for_agreed_trigger_goal
            notify_stream_authorized_for_ended_exclusive_goal trigger_exclusive_goal_escrow_refund
            handle_trigger_private_goal_escrow cleanup_expired_exclusive_goal_pairs sync_trigger_goal_session_viewer
            snapshot_rtc_sources set_embedded_goal_ended notify_goal_ended trigger_show_escrow_refund
            settle_exclusive_escrow* start_agreed_exclusive*""",
        ),
        "escrow.completed.individual": Answers("track_escrow*", "notify_wallet_updated*", times=shares),
        "escrow.completed": Answers("notify_wallet_updated* track_escrow*"),
    }


#: A join or leave comes as two webhook events; by whichever is first the clock is moved, the other one's receiver returns.
PRESENCE = Answers("track_channel_presence karaoke_control", "trigger_user_enter trigger_online")
PRESENCE_OF_TWIN = Answers("track_channel_presence", "trigger_user_enter trigger_online karaoke_control")


def tasks(shares: int) -> Mapping[tuple[str, str], int]:
    """How often each task follows from what (a receiver, or the task before it)."""
    return {
        ("karaoke_control", "announce_goal_started*"): 1,
        ("record_show_with_rtc", "StartRecord*"): 1,
        ("karaoke_control", "increment_goal_progress"): 1,
        ("deactivate_goal", "deactivate_goal"): 1,
        ("produce_livestream_clip_from_goal", "create_post_from_livestream"): 1,
        ("create_post_from_livestream", "clip_livestream_as_asset"): 1,
        ("record_show_with_rtc", "StopRecord"): 1,
        ("trigger_show_escrow_transfer", "escrow_out"): 1,
        ("escrow_out", "update_bi_escrow"): shares,
        ("update_bi_escrow", "transfer_escrow"): shares,
        ("transfer_escrow", "transfer"): shares,
        ("transfer", "announce_escrow_share*"): shares,
    }


def differences(events: Sequence[Node], shares: int) -> list[str]:
    """In what the trace differs from what is expected, in plain words; nothing when it is exactly that."""
    found = list(_walk(events, ""))
    return [*_in_presence(found), *_in_signals(found, receivers(shares)), *_in_tasks(found, tasks(shares))]


def _walk(nodes: Sequence[Node], parent: str) -> Iterator[tuple[str, Node]]:
    for node in nodes:
        yield parent, node
        yield from _walk(node["children"], node["name"])


def _answers_to(signal: Node) -> dict[str, str]:
    return {child["name"]: child["outcome"] for child in signal["children"] if child["kind"] == "receiver"}


def _in_presence(found: Sequence[tuple[str, Node]]) -> Iterator[str]:
    for sender in ("channel_occupied", "channel_vacated"):
        answers = [_answers_to(node) for _, node in found if node["kind"] == "signal" and node["sender"] == sender]
        both = [PRESENCE.by_receiver(), PRESENCE_OF_TWIN.by_receiver()]
        if len(answers) != len(both):
            yield f"{sender} was sent {len(answers)} times, not {len(both)}"
            continue
        answers.sort(key=lambda by_receiver: by_receiver.get("karaoke_control", ""))
        for was, should in zip(answers, both, strict=True):
            yield from _in_answers(sender, was, should)


def _in_signals(found: Sequence[tuple[str, Node]], expected: Mapping[str, Answers]) -> Iterator[str]:
    signals = [node for _, node in found if node["kind"] == "signal" and node["name"] != "ext.pusher"]
    for sender in sorted({node["sender"] for node in signals} - set(expected)):
        yield f"{sender} was sent, which it should not have been"
    for sender, answers in expected.items():
        sent = [node for node in signals if node["sender"] == sender]
        if len(sent) != answers.times:
            yield f"{sender} was sent {len(sent)} times, not {answers.times}"
        for node in sent:
            yield from _in_answers(sender, _answers_to(node), answers.by_receiver())


def _in_answers(sender: str, was: Mapping[str, str], should: Mapping[str, str]) -> Iterator[str]:
    for receiver in sorted({*was, *should}):
        if was.get(receiver) != should.get(receiver):
            did, due = was.get(receiver, "not called"), should.get(receiver, "not called")
            yield f"{sender} -> {receiver}: {did}, should be {due}"


def _in_tasks(found: Sequence[tuple[str, Node]], expected: Mapping[tuple[str, str], int]) -> Iterator[str]:
    should = {(cause, task.rstrip("*")): times for (cause, task), times in expected.items()}
    was = Counter((cause, node["name"]) for cause, node in found if node["kind"] == "task")
    for cause, task in sorted({*was, *should}):
        if was[cause, task] != should.get((cause, task), 0):
            yield f"{cause} -> task {task}: {was[cause, task]} times, not {should.get((cause, task), 0)}"
    for _, node in found:
        if node["kind"] == "task" and node["outcome"] != "done":
            yield f"task {node['name']}: {node['outcome']} {node.get('reason', '')}".rstrip()
