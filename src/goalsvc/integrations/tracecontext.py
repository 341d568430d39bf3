"""W3C Trace Context on outgoing calls, and whether spans are exported. Imports nothing of OpenTelemetry until they are."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from goalsvc.domain.origin import CURRENT

if TYPE_CHECKING:  # needs the extra `otel`
    from goalsvc.integrations.spans import SpanExport

#: Variables of OpenTelemetry, any of which switches the export on.
_SWITCHES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def exporting(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether OpenTelemetry's own variables ask for spans."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _SWITCHES)


def outgoing(exported: bool) -> dict[str, str]:
    """Returns the headers that tell a service which span calls it.

    There are none outside of a task, and none where spans are not exported, unless the trace was begun by a caller who named
    a span.
    """
    origin = CURRENT.get()
    if not (exported or origin.cause.traceparent) or not (text := origin.traceparent):
        return {}
    return {"traceparent": text}


def open_spans(warn: Callable[[str], None]) -> "SpanExport | None":
    """Returns what exports spans, if that is asked for; warns where the extra is missing."""
    if not exporting():
        return None
    try:
        from goalsvc.integrations.spans import SpanExport
    except ImportError:
        warn("OTEL_… is set, but no spans are exported: install goalsvc[otel]")
        return None
    return SpanExport.from_environment()
