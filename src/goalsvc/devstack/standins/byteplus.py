"""An emulator for BytePlus's OpenAPI: verifies the signature, answers in its form, records the calls.

The signature is computed here once more and by itself, not by goalsvc's own signing code, so that a mistake there is
found out here.
"""

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from goalsvc.devstack.standins.recording import StandIn
from goalsvc.domain.documents import RawDocument

_ALGORITHM = "HMAC-SHA256"
_VALID_SECONDS = 15 * 60
_MUST_BE_SIGNED = {"host", "x-date"}
_AUTHORIZATION = re.compile(
    r"HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/request,"
    r"\s*SignedHeaders=(?P<headers>[a-z0-9;-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class BytePlusStandIn(StandIn):
    """Records `{"at", "action", "body"}` of each call that it accepts; `GET /recorded` filters by `action=`.

    `POST /trouble` also takes `"error"`, the code in the answer: `{"status": 400, "error": "QPSOverLimit"}`.
    """

    def __init__(self, access_key: str, secret_key: str) -> None:
        super().__init__()
        self._access_key = access_key
        self._secret_key = secret_key
        self.app = Starlette(routes=[*self.own_routes(), Route("/", self._call, methods=["GET", "POST"])])

    async def _call(self, request: Request) -> Response:
        raw = await request.body()
        if trouble := await self.meet_trouble():
            code = trouble.error or "InternalError"
            return _answer(request, trouble.status or 503, code, "the emulator was told to refuse")
        if wrong := self._what_is_wrong_with_the_signature(request, raw):
            return _answer(request, 401, wrong, "the emulator cannot accept the signature")
        action = request.query_params.get("Action", "")
        if not action or "Version" not in request.query_params:
            return _answer(request, 400, "MissingParameter", "Action and Version are required")
        try:
            body: object = json.loads(raw) if raw else {}
        except ValueError:
            return _answer(request, 400, "InvalidParameter", "the body is not JSON")
        self.recording.add(action=action, body=body)
        return _answer(request, 200)

    def _what_is_wrong_with_the_signature(self, request: Request, body: bytes) -> str | None:
        parts = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if parts is None:
            return "InvalidAuthorization"
        if parts["key"] != self._access_key:
            return "InvalidAccessKey"
        at = request.headers.get("x-date", "")
        try:
            signed_at = datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return "InvalidTimestamp"
        if abs((datetime.now(UTC) - signed_at).total_seconds()) > _VALID_SECONDS or parts["date"] != at[:8]:
            return "InvalidTimestamp"
        names = parts["headers"].split(";")
        digest = request.headers.get("x-content-sha256")
        if not set(names) >= _MUST_BE_SIGNED or digest not in (None, hashlib.sha256(body).hexdigest()):
            return "SignatureDoesNotMatch"
        expected = signature(
            self._secret_key,
            method=request.method,
            path=request.url.path,
            query=list(request.query_params.multi_items()),
            headers={name: request.headers.get(name, "") for name in names},
            body=body,
            at=at,
            region=parts["region"],
            service=parts["service"],
        )
        return None if hmac.compare_digest(parts["signature"], expected) else "SignatureDoesNotMatch"


def signature(
    secret_key: str,
    *,
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    at: str,
    region: str,
    service: str,
) -> str:
    """The signature (hex) of a call with these signed headers (lower-case names) at that `X-Date`."""
    names = sorted(headers)
    canonical_query = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query))
    canonical_headers = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    request = "\n".join(
        [
            method,
            path,
            canonical_query,
            canonical_headers,
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{at[:8]}/{region}/{service}/request"
    to_sign = "\n".join([_ALGORITHM, at, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = secret_key.encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _answer(request: Request, status: int, code: str = "", message: str = "") -> Response:
    """An answer in the form that all of BytePlus's OpenAPIs share."""
    metadata: RawDocument = {
        "RequestId": datetime.now(UTC).strftime("%Y%m%d%H%M%S%f"),
        "Action": request.query_params.get("Action", ""),
        "Version": request.query_params.get("Version", ""),
        "Service": "rtc",
        "Region": "ap-singapore-1",
    }
    if code:
        return JSONResponse({"ResponseMetadata": {**metadata, "Error": {"Code": code, "Message": message}}}, status)
    return JSONResponse({"ResponseMetadata": metadata, "Result": "ok"}, status)
