"""`goalsvc migrate`: the indexes that are missing are made, once for all processes."""

import asyncio
import json
import sys

from pymongo.errors import PyMongoError

from goalsvc.commands.preflight import mongodb_complaint
from goalsvc.commands.words import counted
from goalsvc.errors import SettingsError
from goalsvc.models.migration import Keeping, make_indexes
from goalsvc.settings import Settings


def run_migrate(settings: Settings, *, as_json: bool = False) -> None:
    """Makes what is missing and prints a line for each index, or one JSON object.

    Raises SettingsError when MongoDB cannot be worked with.
    """
    if complaint := mongodb_complaint(settings.mongodb_url):
        raise SettingsError(complaint.text)
    try:
        made = asyncio.run(make_indexes(settings.mongodb_url, Keeping.of(settings)))
    except PyMongoError as error:
        raise SettingsError(f"GOALSVC_MONGODB_URL: {str(error).splitlines()[0][:200]}") from error
    if as_json:
        sys.stdout.write(json.dumps({"made": list(made.names)}) + "\n")
        return
    for name in made.names:
        sys.stdout.write(f"made {name}\n")
    sys.stdout.write(f"{counted(len(made.names), 'index')} made; the database has all that this version needs\n")
