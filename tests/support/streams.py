"""What stands between a client and a server hands on."""

import asyncio


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Hands on all that comes, until either side closes."""
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except OSError:
        pass
    finally:
        target.close()
