"""The trace: from answers to nodes, from segments to trees."""

from datetime import timedelta
from typing import Any

from goalsvc.context import Context
from goalsvc.domain.goals import GoalKind
from goalsvc.domain.origin import NOWHERE, Cause, Origin
from goalsvc.domain.outcome import Done, Failed, FollowUp, Outcome, Reason, ReceiverReport, Report, Returned
from goalsvc.domain.trace import (
    assemble,
    failures_of,
    follow_ups_of,
    node_of,
    segment_document,
    signal_node,
)
from goalsvc.signals.bus import SignalBus
from goalsvc.signals.events import GoalCompleted, GoalEnded, GoalProgressed
from goalsvc.signals.receiver import on, receiver
from tests.receivers.fakes import NOW, Stage
from tests.receivers.scenes import goal_event, set_up


def leaf(kind: str, name: str, seconds: float = 0, **more: Any) -> dict[str, Any]:
    return node_of(kind, name, Done(), NOW + timedelta(seconds=seconds), 1.0) | more


def segment(identity: str, node: dict[str, Any], parent: str | None = None) -> dict[str, Any]:
    return dict(segment_document(Origin(identity, cause=Cause(root=identity)), "g", parent, node["at"], node))


def shape(nodes: list[dict[str, Any]]) -> list[Any]:
    """Only names, as nested lists."""
    return [[node["name"], *shape(node["children"])] if node["children"] else node["name"] for node in nodes]


class TestNode:
    def test_done(self) -> None:
        node = node_of("task", "transfer", Done("7 tokens"), NOW, 1.23456)
        assert node == {
            "kind": "task",
            "name": "transfer",
            "outcome": "done",
            "reason": "7 tokens",
            "at": NOW,
            "ms": 1.235,
            "children": [],
        }

    def test_done_without_a_word(self) -> None:
        assert "reason" not in node_of("task", "transfer", Done(), NOW, 0)

    def test_returned_with_its_reason(self) -> None:
        node = node_of("receiver", "x", Returned(Reason.NO_SESSION), NOW, 0)
        assert (node["outcome"], node["reason"]) == ("returned", "no_session")

    def test_failed_with_its_error(self) -> None:
        node = node_of("receiver", "x", Failed("ValueError: y"), NOW, 0)
        assert (node["outcome"], node["reason"]) == ("failed", "ValueError: y")

    async def test_of_a_signal_with_what_its_receivers_sent_in_their_turn(self, stage: Stage) -> None:
        await set_up(GoalKind.SHOW)
        report = await stage.bus.send(stage.context, goal_event(GoalProgressed, GoalKind.SHOW))
        node = signal_node(report)
        assert (node["kind"], node["name"], node["sender"]) == ("signal", "features.leaderboards", "goal.progressed")
        by_name = {child["name"]: child for child in node["children"]}
        (completed,) = by_name["trigger_goal_complete"]["children"]
        assert completed["sender"] == "goal.completed"
        assert {child["name"] for child in completed["children"]} >= {"deactivate_goal", "set_embedded_goal_ended"}

    def test_of_a_signal_that_failed_somewhere(self) -> None:
        report = Report("s", "t", NOW, 1.0, (ReceiverReport("r", Failed("x"), NOW, 1.0),))
        node = signal_node(report)
        assert (node["outcome"], node["reason"]) == ("failed", "r: x")


class TestSegments:
    def test_what_is_absent_is_not_stored_as_null(self) -> None:
        document = segment_document(Origin.new(), None, None, NOW, leaf("webhook", "member_added"))
        assert set(document) == {"_id", "root", "at", "node", "counts"}


class TestDebts:
    async def test_each_belongs_under_the_receiver_that_owes_it(self, context: Context) -> None:
        follow_up = FollowUp("d", "transfer", {})

        @receiver(on(GoalCompleted))
        async def inner(context: Context, event: GoalCompleted) -> Outcome:
            return Done(follow_ups=(follow_up.called("inner follow_up"),))

        @receiver(on(GoalEnded))
        async def outer(context: Context, event: GoalEnded) -> Outcome:
            nested = await bus.send(context, goal_event(GoalCompleted, GoalKind.SHOW))
            return Done(follow_ups=(follow_up,), reports=(nested,))

        bus = SignalBus([inner, outer])
        origin = Origin.new(Cause(event_id="e"))
        answer = Done(reports=(await bus.send(context, goal_event(GoalEnded, GoalKind.SHOW)),))
        owed = {item.follow_up.id: item.origin for item in follow_ups_of(answer, origin)}
        assert owed == {
            "d": origin.at("goal.ended", "outer"),
            "inner follow_up": origin.at("goal.completed", "inner"),
        }

    def test_nothing_is_owed_by_who_returned_or_failed(self) -> None:
        assert list(follow_ups_of(Returned(Reason.NO_SESSION), NOWHERE)) == []
        assert list(follow_ups_of(Failed("x"), NOWHERE)) == []
        assert failures_of(Returned(Reason.NO_SESSION)) == []

    def test_a_siblings_failure_does_not_take_what_others_owe(self) -> None:
        receivers = (
            ReceiverReport("good", Done(follow_ups=(FollowUp("d", "t", {}),)), NOW, 1.0),
            ReceiverReport("bad", Failed("x"), NOW, 1.0),
        )
        answer = Done(reports=(Report("s", "sender", NOW, 1.0, receivers),))
        assert [item.follow_up.id for item in follow_ups_of(answer, NOWHERE)] == ["d"]
        assert failures_of(answer) == ["bad: x"]


class TestAssemble:
    def test_a_job_hangs_under_the_receiver_that_owed_it(self) -> None:
        control = leaf("receiver", "karaoke_control", place="channel_vacated/karaoke_control")
        webhook = leaf("webhook", "member_removed") | {
            "children": [leaf("signal", "ext.pusher") | {"children": [control]}]
        }
        job = leaf("task", "increment_goal_progress", 1)
        roots = assemble([segment("s2", job, "s1#channel_vacated/karaoke_control"), segment("s1", webhook)])
        assert shape(roots) == [
            ["member_removed", ["ext.pusher", ["karaoke_control", "increment_goal_progress"]]],
        ]

    def test_a_step_of_a_chain_hangs_under_the_step_before_it(self) -> None:
        roots = assemble(
            [
                segment("a", leaf("task", "update_bi_escrow", 0, place="task/update_bi_escrow"), None),
                segment(
                    "b", leaf("task", "transfer_escrow", 1, place="task/transfer_escrow"), "a#task/update_bi_escrow"
                ),
                segment("c", leaf("task", "transfer", 2, place="task/transfer"), "b#task/transfer_escrow"),
            ]
        )
        assert shape(roots) == [["update_bi_escrow", ["transfer_escrow", "transfer"]]]

    def test_what_names_only_a_segment_hangs_under_its_root(self) -> None:
        roots = assemble([segment("a", leaf("task", "one")), segment("b", leaf("task", "two", 1), "a#")])
        assert shape(roots) == [["one", "two"]]

    def test_roots_and_children_are_in_order_of_time(self) -> None:
        segments = [
            segment("c", leaf("webhook", "third", 3)),
            segment("a", leaf("webhook", "first", 1)),
            segment("z", leaf("task", "later", 9), "a#"),
            segment("y", leaf("task", "sooner", 5), "a#"),
            segment("b", leaf("webhook", "second", 2)),
        ]
        assert shape(assemble(segments)) == [["first", "sooner", "later"], "second", "third"]

    def test_what_hung_under_a_segment_that_is_gone_is_shown_all_the_same(self) -> None:
        """Traces end after a while, and a recorder may have dropped one."""
        assert shape(assemble([segment("b", leaf("task", "orphan"), "gone#x/y")])) == ["orphan"]

    def test_nothing(self) -> None:
        assert assemble([]) == []

    def test_how_it_is_stored_does_not_show(self) -> None:
        (root,) = assemble([segment("a", leaf("task", "one", place="task/one"))])
        assert set(root) == {"id", "kind", "name", "outcome", "at", "ms", "children"}

    def test_each_try_of_a_job_is_a_node(self) -> None:
        root = segment("a", leaf("webhook", "member_removed"))
        tries = [segment(f"t{number}", leaf("task", "transfer", number), "a#") for number in range(3)]
        assert shape(assemble([root, *tries])) == [["member_removed", "transfer", "transfer", "transfer"]]
