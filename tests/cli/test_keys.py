"""`goalsvc keys`, against a running API."""

import json
from typing import Any

import httpx

from .command_line import Cli, assert_one_sentence


def goals_with(stack: dict[str, Any], key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{stack['api_url']}/v1/goals", headers=headers, trust_env=False).status_code


def test_a_key_is_created_listed_rolled_and_revoked(stack: dict[str, Any], cli: Cli) -> None:
    created = json.loads(cli("keys", "create", "backend", "--scope", "read", "--scope", "write", "--json").out)
    assert (created["name"], created["scopes"]) == ("backend", ["read", "write"])
    assert goals_with(stack, created["key"]) == 200
    listed = cli("keys", "list").out
    assert created["prefix"] in listed
    assert created["key"] not in listed

    rolled = json.loads(cli("keys", "roll", created["id"], "--grace", "0", "--json").out)
    assert (goals_with(stack, created["key"]), goals_with(stack, rolled["key"])) == (401, 200)
    assert cli("keys", "revoke", rolled["id"]).out == f"{rolled['id']} is revoked\n"
    assert goals_with(stack, rolled["key"]) == 401


def test_what_it_does_is_in_the_audit_as_the_command_lines(api: httpx.Client, cli: Cli) -> None:
    created = json.loads(cli("keys", "create", "audited", "--scope", "read", "--json").out)
    (event,) = api.get("/v1/audit", params={"target": created["id"]}).json()["items"]
    assert (event["operation"], event["via"], event["key"]) == ("create_api_key", "cli", "env")


def test_mistakes(cli: Cli) -> None:
    assert_one_sentence(cli("keys", "create", "x", "--scope", "everything"), "scopes.0")
    assert_one_sentence(cli("keys", "create", "env", "--scope", "read"), "name: must not be `env`")
    assert_one_sentence(cli("keys", "revoke", "key_68143584d6945d32e732cc30"), "there is no API key")
