"""The Postman collection: of the format's form, complete, and its requests are answered as they stand."""

import json
import re
import shutil
import subprocess
import uuid
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from goalsvc.app import create_app
from tests.cli.command_line import run_cli

Json = dict[str, Any]

#: What format v2.1 asks of the parts that the collection uses; nothing else may be in it.
FORM: Json = {
    "$ref": "#/$defs/collection",
    "$defs": {
        "text": {"type": "string"},
        "pair": {
            "type": "object",
            "required": ["key", "value"],
            "properties": {
                "key": {"type": "string", "minLength": 1},
                "value": {"type": "string"},
                "type": {"const": "string"},
                "description": {"type": "string"},
                "disabled": {"const": True},
            },
            "additionalProperties": False,
        },
        "auth": {
            "oneOf": [
                {"properties": {"type": {"const": "noauth"}}, "required": ["type"], "additionalProperties": False},
                {
                    "properties": {
                        "type": {"const": "bearer"},
                        "bearer": {"type": "array", "items": {"$ref": "#/$defs/pair"}},
                    },
                    "required": ["type", "bearer"],
                    "additionalProperties": False,
                },
            ]
        },
        "url": {
            "required": ["raw", "host", "path"],
            "properties": {
                "raw": {"type": "string", "pattern": "^\\{\\{base_url\\}\\}/"},
                "host": {"const": ["{{base_url}}"]},
                "path": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
                "query": {"type": "array", "items": {"$ref": "#/$defs/pair"}, "minItems": 1},
            },
            "additionalProperties": False,
        },
        "request": {
            "required": ["method", "url", "header"],
            "properties": {
                "method": {"enum": ["GET", "PUT", "POST", "PATCH", "DELETE"]},
                "description": {"type": "string"},
                "url": {"$ref": "#/$defs/url"},
                "auth": {"$ref": "#/$defs/auth"},
                "header": {"type": "array", "items": {"$ref": "#/$defs/pair"}},
                "body": {
                    "required": ["mode", "raw"],
                    "properties": {"mode": {"const": "raw"}, "raw": {"type": "string"}, "options": {"type": "object"}},
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        },
        "item": {
            "required": ["name", "request"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "request": {"$ref": "#/$defs/request"},
                "response": {"const": []},
                "event": {
                    "type": "array",
                    "items": {
                        "required": ["listen", "script"],
                        "properties": {
                            "listen": {"const": "prerequest"},
                            "script": {
                                "properties": {
                                    "type": {"const": "text/javascript"},
                                    "exec": {"type": "array", "items": {"type": "string"}},
                                },
                                "additionalProperties": False,
                            },
                        },
                        "additionalProperties": False,
                    },
                },
            },
            "additionalProperties": False,
        },
        "collection": {
            "required": ["info", "item"],
            "properties": {
                "info": {
                    "required": ["name", "schema"],
                    "properties": {
                        "name": {"$ref": "#/$defs/text"},
                        "version": {"$ref": "#/$defs/text"},
                        "description": {"$ref": "#/$defs/text"},
                        "schema": {"const": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"},
                    },
                    "additionalProperties": False,
                },
                "auth": {"$ref": "#/$defs/auth"},
                "variable": {"type": "array", "items": {"$ref": "#/$defs/pair"}},
                "item": {
                    "type": "array",
                    "items": {
                        "required": ["name", "item"],
                        "properties": {
                            "name": {"$ref": "#/$defs/text"},
                            "description": {"$ref": "#/$defs/text"},
                            "item": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1},
                        },
                        "additionalProperties": False,
                    },
                },
            },
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def collection() -> Json:
    ran = run_cli("openapi", "--postman")
    assert ran.status == 0, ran.err
    made: Json = json.loads(ran.out)
    return made


def requests_of(collection: Json, folder: str) -> dict[str, Json]:
    """The items of a folder, by name."""
    (found,) = [each for each in collection["item"] if each["name"] == folder]
    return {item["name"]: item for item in found["item"]}


class Postman:
    """Sends requests of the collection as Postman does: with its variables, and with what those are set to here."""

    def __init__(self, collection: Json, **variables: str) -> None:
        own = {each["key"]: each["value"] for each in collection["variable"]}
        self._variables, self._auth = own | variables, collection["auth"]

    def filled(self, text: str) -> str:
        def value(name: re.Match[str]) -> str:
            return str(uuid.uuid4()) if name[1] == "$guid" else self._variables[name[1]]

        return re.sub(r"\{\{([$\w]+)\}\}", value, text)

    def send(self, item: Json, **more: str) -> httpx.Response:
        request = item["request"]
        auth = request.get("auth", self._auth)
        headers = {each["key"]: self.filled(each["value"]) for each in request["header"] if not each.get("disabled")}
        if auth["type"] == "bearer":
            headers["Authorization"] = "Bearer " + self.filled(auth["bearer"][0]["value"])
        content = more.pop("body", self.filled(request["body"]["raw"])) if "body" in request else None
        url = self.filled(request["url"]["raw"])
        return httpx.request(request["method"], url, headers=headers | more, content=content, trust_env=False)


@pytest.fixture
def postman(stack: Json, collection: Json) -> Postman:
    return Postman(collection, base_url=stack["api_url"], user_id="pm-bob")


def test_it_is_of_the_form_of_the_format(collection: Json) -> None:
    Draft202012Validator.check_schema(FORM)
    assert [error.message for error in Draft202012Validator(FORM).iter_errors(collection)] == []


def test_every_operation_is_in_it_once(collection: Json) -> None:
    paths = create_app().openapi()["paths"]
    operations = {(method.upper(), re.sub(r"\{(\w+)\}", r"{{\1}}", path)) for path in paths for method in paths[path]}
    sent = [item["request"] for folder in collection["item"] for item in folder["item"]]
    assert sorted((one["method"], "/" + "/".join(one["url"]["path"])) for one in sent) == sorted(operations)


def test_every_variable_is_one_of_the_collection(collection: Json) -> None:
    known = {each["key"] for each in collection["variable"]} | {"$guid"}
    assert set(re.findall(r"\{\{([$\w]+)\}\}", json.dumps(collection))) <= known
    assert "text" not in {each["value"] for each in collection["variable"]}


@pytest.mark.real
def test_the_requests_of_the_folder_health_are_answered(postman: Postman, collection: Json) -> None:
    answers = {name: postman.send(item).status_code for name, item in requests_of(collection, "Health").items()}
    assert len(answers) >= 2
    assert set(answers.values()) == {200}, answers


@pytest.mark.real
def test_a_deposit_as_it_stands_moves_tokens_once(postman: Postman, collection: Json) -> None:
    wallet = requests_of(collection, "Wallet")
    answer = postman.send(wallet["Deposit tokens"])
    assert answer.status_code == 201, answer.text
    assert postman.send(wallet["Read a wallet"]).json()["balance"] == answer.json()["amount"]


#: Postman's sandbox, as far as the script needs it: variables, the request, HMAC.
SANDBOX = """
const {createHmac} = require("node:crypto");
const [raw, script] = JSON.parse(require("node:fs").readFileSync(0, "utf-8"));
const values = {pusher_key: "goalsvc-key", pusher_secret: "goalsvc-secret"}, headers = {};
const CryptoJS = {HmacSHA256: (text, key) => createHmac("sha256", key).update(text).digest("hex")};
const pm = {
  variables: {get: name => values[name], replaceIn: text => text},
  request: {body: {raw}, headers: {upsert: ({key, value}) => { headers[key] = value; }}},
};
new Function("pm", "CryptoJS", script)(pm, CryptoJS);
console.log(JSON.stringify({body: pm.request.body.raw, ...headers}));
"""


@pytest.mark.real
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the script of the request")
def test_the_webhook_signs_itself(postman: Postman, collection: Json) -> None:
    (item,) = [each for each in requests_of(collection, "Webhook").values() if "event" in each]
    given = json.dumps([item["request"]["body"]["raw"], "\n".join(item["event"][0]["script"]["exec"])])
    ran = subprocess.run(["node", "-e", SANDBOX], input=given, capture_output=True, text=True, check=True)
    answer = postman.send(item, **json.loads(ran.stdout))
    assert answer.status_code == 200, answer.text
