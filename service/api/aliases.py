"""Synchronises the registry's aliases with the database, where any worker may change them."""

import asyncio
import logging

from service.api.service import Service
from service.errors import StoreUnavailable
from service.models.aliases import Aliases

log = logging.getLogger(__name__)


async def read_aliases(service: Service) -> None:
    """Update the aliases from the database, and load the versions that they name.

    If the database does not answer, known aliases stay valid.
    """
    async with service.alias_lock:  # so that what was read first is not known last
        try:
            found = await service.store.run(lambda store: store.aliases.all()) if service.has_store else []
        except StoreUnavailable as error:
            log.warning("aliases cannot be read: %s", error)
            return
        service.registry.aliases = Aliases.of(found)
    await service.registry.load_aliased()


async def watch_aliases(service: Service) -> None:
    """Read them every `watch_interval_s` seconds until cancelled."""
    while True:
        await asyncio.sleep(service.settings.watch_interval_s)
        try:
            await read_aliases(service)
        except Exception:  # the watch must outlive whatever happens once
            log.exception("aliases cannot be read; going on with those that are known")
