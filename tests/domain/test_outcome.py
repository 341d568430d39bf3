"""What is answered, as values."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from goalsvc.domain.outcome import Done, Failed, FollowUp, Reason, ReceiverReport, Report, Returned
from tests.receivers.fakes import NOW

DEBT = FollowUp("escrow_out", "escrow_out", {"escrow_id": "e"})


def report(*answers: Any) -> Report:
    receivers = [ReceiverReport(f"r{number}", answer, NOW, 1.0) for number, answer in enumerate(answers)]
    return Report("s", "t", NOW, 1.0, tuple(receivers))


class TestDebt:
    def test_under_an_id_of_its_own(self) -> None:
        renamed = DEBT.called("other")
        assert (renamed.id, renamed.task, renamed.arguments) == ("other", "escrow_out", DEBT.arguments)
        assert DEBT.id == "escrow_out"

    def test_not_before(self) -> None:
        assert DEBT.due_at is None
        assert DEBT.not_before(NOW).due_at == NOW


class TestReport:
    def test_without_failures(self) -> None:
        assert report(Done(), Returned(Reason.NO_SESSION)).failures == ()

    def test_failures_are_told_with_who_failed(self) -> None:
        assert report(Done(), Failed("x"), Failed("y")).failures == ("r1: x", "r2: y")

    def test_also_of_what_was_announced_meanwhile(self) -> None:
        inner = report(Failed("deep"))
        assert report(Done(reports=(report(Done(reports=(inner,))),))).failures == ("r0: deep",)


class TestValues:
    @pytest.mark.parametrize(
        ("value", "field"),
        [
            (Done(), "what"),
            (Returned(Reason.NO_SESSION), "reason"),
            (Failed("x"), "error"),
            (DEBT, "id"),
            (report(), "sender"),
        ],
    )
    def test_they_are_frozen(self, value: Any, field: str) -> None:
        with pytest.raises(FrozenInstanceError):
            setattr(value, field, "other")

    def test_reasons_are_words_of_the_contract(self) -> None:
        assert all(reason.value == reason.name.lower() for reason in Reason)
