"""The type of the database's session in which a transaction runs. A livestream's session is `goalsvc.models.session`."""

from motor.motor_asyncio import AsyncIOMotorClientSession

DatabaseSession = AsyncIOMotorClientSession
"""Handed to every read and write of one transaction."""
