"""Limits on what is open at the same time: requests under way and streams, of each caller, each address and the gateway.

Rates are limited elsewhere (`rate_limit.py`): a client that opens few requests and keeps them open passes any rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from emotivetalk.actors.errors import OverloadError
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.intake.submission import Caller

Kind = Literal["requests", "streams"]
RETRY_AFTER_S: dict[Kind, float] = {"requests": 1.0, "streams": 5.0}


@dataclass(frozen=True)
class _Party:
    """A party whose open requests and streams are counted."""

    kind: Literal["gateway", "address", "caller"]
    name: str


class Admission:
    """The counts of one gateway process. An instance belongs to one event loop."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._open: Counter[tuple[_Party, Kind]] = Counter()

    @contextmanager
    def enter(self, address: str | None) -> Iterator[OpenRequest]:
        """Count a request from this address while the context lasts. Unknown addresses count as one.

        Raises:
            OverloadError: codes "gateway_busy", "address_busy".
        """
        settings = self._settings
        request = OpenRequest(self)
        try:
            request.count(
                _Party("gateway", ""),
                "gateway_busy",
                {"requests": settings.max_requests, "streams": settings.max_streams},
                "{limit} {kind} of all callers are open, which is the limit gateway.max_{kind}",
            )
            request.count(
                _Party("address", address or ""),
                "address_busy",
                {"requests": settings.max_requests_per_address, "streams": settings.max_streams_per_address},
                "{limit} {kind} from your address are open, which is the limit gateway.max_{kind}_per_address",
            )
            yield request
        finally:
            request.leave()

    def num_open(self, kind: Kind) -> int:
        """Number of open requests or streams of all callers."""
        return self._open[_Party("gateway", ""), kind]

    def add(self, party: _Party, kind: Kind, number: int) -> int:
        """Change a count and return it. Counts of 0 are removed."""
        self._open[party, kind] += number
        count = self._open[party, kind]
        if count == 0:
            del self._open[party, kind]
        return count


class OpenRequest:
    """One request that is being answered; made by `Admission.enter`."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._kind: Kind = "requests"
        self._counted: list[tuple[_Party, str, dict[Kind, int], str]] = []

    def identify(self, caller: Caller) -> None:
        """Count the request for its caller too.

        Raises:
            OverloadError: codes "too_many_requests", "too_many_streams".
        """
        limits: dict[Kind, int] = {"requests": caller.limits.max_requests, "streams": caller.limits.max_streams}
        message = "you have {limit} {kind} open, which is the limit limits.max_{kind}"
        self.count(_Party("caller", caller.name), "too_many_{kind}", limits, message)

    def become_stream(self) -> None:
        """Count the request as a stream from now on.

        Raises:
            OverloadError: as for `Admission.enter` and `identify`.
        """
        counted = self._counted
        self.leave()
        self._kind = "streams"
        for party in counted:
            self.count(*party)

    def count(self, party: _Party, code: str, limits: dict[Kind, int], message: str) -> None:
        """Count the request for a party. `code` and `message` describe the refusal; they may name the kind."""
        kind, limit = self._kind, limits[self._kind]
        if self._admission.add(party, kind, 1) > limit:
            self._admission.add(party, kind, -1)
            raise OverloadError(code.format(kind=kind), message.format(limit=limit, kind=kind), RETRY_AFTER_S[kind])
        self._counted.append((party, code, limits, message))

    def leave(self) -> None:
        """Take the request out of all counts."""
        for party, *_ in self._counted:
            self._admission.add(party, self._kind, -1)
        self._counted = []
