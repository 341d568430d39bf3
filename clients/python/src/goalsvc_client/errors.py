"""What the client raises.

GoalsvcError
├── ApiError              goalsvc answered with an error; its fields are those of the problem document
└── UnreachableError      there was no answer, or none of goalsvc's, within the policy of retries
"""

from collections.abc import Mapping
from typing import Any

import httpx


class GoalsvcError(Exception):
    """Any error of this client."""


class ApiError(GoalsvcError):
    """goalsvc refused a call, or could not answer it."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        """The HTTP status."""
        self.code = str(problem.get("code", "unknown"))
        """The stable code, as in the error catalogue (`insufficient_funds`, `reference_used`, …)."""
        self.detail = str(problem.get("detail", ""))
        """What is wrong, for people."""
        self.request_id = str(problem.get("request_id", ""))
        """Under which id goalsvc's logs and trace know this call."""
        self.problem = problem
        """The whole problem document."""
        super().__init__(f"{status} {self.code}: {self.detail} (request {self.request_id or 'unknown'})")

    @classmethod
    def of(cls, answer: httpx.Response) -> "ApiError":
        """The error that this answer tells of; what stands between may have made it, so any body is read."""
        try:
            problem = answer.json()
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {"detail": answer.reason_phrase}
        return cls(answer.status_code, {"request_id": answer.headers.get("x-request-id", ""), **problem})


class UnreachableError(GoalsvcError):
    """goalsvc could not be reached, or did not answer in time."""
