"""Put image files into a collection: read, encode, write, a batch at a time."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import JsonValue
from tqdm import tqdm

from service.collections.embedding import Embed, Vectors, encoder_of
from service.collections.names import check_label, check_metadata, is_item_id
from service.collections.store import Bounds, Collection, Item, Store
from service.collections.store.rows import write_metadata
from service.errors import RequestError
from service.images.inspect import ImageFile
from service.limits import InputLimits
from service.models.model import Model
from service.models.registry import Registry
from service.settings import Settings

_BATCH = 64  # files read, encoded and written together: one commit to disk for all of them
_SILENT_S = 2.0  # a progress bar is for what takes longer


@dataclass(frozen=True)
class Source:
    """One item to create: its id, file, label and metadata."""

    id: str
    file: Path
    label: str | None = None
    metadata: dict[str, JsonValue] | None = None


class Indexing:
    """The models and the database, opened for one command.

    Args:
        settings: Settings of the service: the same models, database and limits.
        registry: Registry with loaded models.
        store: The database.
    """

    def __init__(self, settings: Settings, registry: Registry, store: Store) -> None:
        self.registry = registry
        self.store = store
        self.bounds = Bounds(settings.max_collections, settings.max_items, settings.max_collections_bytes)
        self._limits = InputLimits(settings.max_pixels, settings.max_images, settings.max_frames)
        self._max_bytes = settings.max_body_bytes

    async def model_for(self, found: Collection | None, name: str | None) -> Model:
        """Return the model for the vectors: for an existing collection, the version of its other vectors."""
        if found is None or name not in {None, found.encoder.model}:
            return await self.registry.find("encode", name, None)
        return await self.registry.find("encode", found.encoder.model, found.encoder.version)

    async def fill(
        self, name: str, model: Model, sources: Iterable[Source], *, total: int, bounds: Bounds, what: str
    ) -> tuple[int, int, int]:
        """Store missing items. Return the numbers of new items, existing items and problems, which are printed."""
        put = there = failed = 0
        remaining = iter(sources)
        with tqdm(total=total, desc=what, unit=" images", delay=_SILENT_S, disable=None) as bar:
            while batch := list(islice(remaining, _BATCH)):
                known = await asyncio.to_thread(self.store.known, name, [source.id for source in batch])
                todo = [source for source in batch if source.id not in known]
                items = _sound(await self._encode(model, todo))
                if items:
                    await asyncio.to_thread(self.store.put, name, encoder_of(model), items, bounds)
                put, there, failed = put + len(items), there + len(known), failed + len(todo) - len(items)
                bar.update(len(batch))
        return put, there, failed

    async def _encode(self, model: Model, sources: Sequence[Source]) -> list[tuple[Source, Item | Exception]]:
        contents = await asyncio.to_thread(lambda: [self._read(source) for source in sources])
        jobs = [Embed(ImageFile.of(c), model.manifest, self._limits, None) for c in contents if isinstance(c, bytes)]
        vectors = iter(await model.batcher_by_task["encode"].submit(jobs) if jobs else [])
        return [
            (source, _item(source, next(vectors) if isinstance(content, bytes) else content))
            for source, content in zip(sources, contents, strict=True)
        ]

    def _read(self, source: Source) -> bytes | Exception:
        if not is_item_id(source.id):
            return ValueError(f"{source.id!r} cannot be an id; name the file with letters, digits and _ .,+=@()~-")
        try:
            if (size := source.file.stat().st_size) > self._max_bytes:
                return ValueError(f"it has {size} bytes, the limit is {self._max_bytes} (setting max_body_bytes)")
            check_label(source.label)
            if source.metadata is not None:
                check_metadata(source.metadata, len(write_metadata(source.metadata) or ""), "the rest of its line")
            return source.file.read_bytes()
        except (OSError, ValueError, RequestError) as error:
            return error


def _item(source: Source, made: Vectors | Exception) -> Item | Exception:
    if isinstance(made, Exception):
        return made
    if len(made.z) != 1:
        return ValueError(f"it holds {len(made.z)} images; an item is one")
    return Item(source.id, made.z[0], source.label, source.metadata)


def _sound(made: Sequence[tuple[Source, Item | Exception]]) -> list[Item]:
    """Return the valid items, and print the problems of the others."""
    items: list[Item] = []
    for source, item in made:
        if isinstance(item, Item):
            items.append(item)
        else:
            tqdm.write(f"{source.file}: {item}", file=sys.stderr)
    return items
