"""How a stand-in fails on purpose, so that tests can see what its caller does then."""

from goalsvc.errors import ExternalServiceError


class Refusals:
    """A number of calls to come that fail as the real service would. Stand-ins inherit from it."""

    service = "stand-in"

    def __init__(self) -> None:
        self._refusals_left = 0

    def refuse(self, times: int = 1) -> None:
        """Makes the next `times` calls raise ExternalServiceError; later ones succeed again."""
        self._refusals_left = times

    def _refuse_if_told(self) -> None:
        if self._refusals_left > 0:
            self._refusals_left -= 1
            raise ExternalServiceError(self.service, "refused, as it was told to")
