"""The client for asyncio: the methods of `Hourglass`, to be awaited."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from numpy.typing import ArrayLike

from hourglass_client import calls
from hourglass_client.answers import Classification, Latent, Model, Neighbour, Picture, Verdict
from hourglass_client.calls import Call, ImageLike
from hourglass_client.errors import ClientError, problem_of
from hourglass_client.retry import Retry
from hourglass_client.sync import options, unreachable

T = TypeVar("T")

_PATIENCE = Retry()


class AsyncHourglass:
    """A service, as coroutines. Arguments and answers are those of `Hourglass`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry = _PATIENCE,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry = retry
        self._http = httpx.AsyncClient(**options(url, key, timeout_s), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def denoise(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        sigma: float | None = None,
        strength: float | None = None,
        thorough: bool | None = None,
        accept: str | None = None,
    ) -> Picture:
        """The clean image; `accept` chooses its form, such as "image/webp".

        `sigma` is the noise level, 0-255 units, estimated if left out; `strength` blends with what is sent;
        `thorough` averages over eight orientations: a little better, in eight times the time.
        """
        query = {"model": model, "version": version, "sigma": sigma, "strength": strength, "thorough": thorough}
        return await self.picture("/denoise", image, accept=accept, **query)

    async def enhance(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        thorough: bool | None = None,
        accept: str | None = None,
    ) -> Picture:
        """The image, enlarged; `thorough` as of `denoise`."""
        query = {"model": model, "version": version, "thorough": thorough}
        return await self.picture("/enhance", image, accept=accept, **query)

    async def encode(self, image: ImageLike, *, model: str | None = None, version: int | None = None) -> Latent:
        """The image's latent."""
        return await self.send(calls.encode(image, query={"model": model, "version": version}))

    async def decode(
        self,
        latent: Latent | ArrayLike,
        *,
        model: str | None = None,
        version: int | None = None,
        accept: str | None = None,
    ) -> Picture:
        """The image of a latent."""
        return await self.send(calls.decode(latent, accept=accept, query={"model": model, "version": version}))

    async def generate(
        self,
        count: int = 1,
        *,
        seed: int | None = None,
        temperature: float = 1.0,
        label: str | None = None,
        model: str | None = None,
        version: int | None = None,
        view: str | None = None,
        accept: str | None = None,
    ) -> Picture:
        """New images; several give a ZIP, an array, or one picture (view="sheet")."""
        body = {"count": count, "seed": seed, "temperature": temperature, "label": label}
        query = {"model": model, "version": version, "view": view}
        return await self.send(calls.generate(body, accept=accept, query=query))

    async def interpolate(
        self,
        first: ImageLike | Latent,
        last: ImageLike | Latent,
        *,
        steps: int = 9,
        path: str = "linear",
        model: str | None = None,
        version: int | None = None,
        view: str | None = None,
        accept: str | None = None,
    ) -> Picture:
        """The images between two images or two latents, with both ends, as a strip."""
        query = {"model": model, "version": version, "steps": steps, "path": path, "view": view}
        return await self.send(calls.interpolate(first, last, accept=accept, query=query))

    async def compress(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        rate: int | None = None,
        model: str | None = None,
        version: int | None = None,
    ) -> Picture:
        """One small file of one image or several; `rate` trades bytes for likeness, 0 is the smallest."""
        return await self.send(calls.compress(images, query={"model": model, "version": version, "rate": rate}))

    async def decompress(
        self, file: Picture | str | Path | bytes, *, quality: int | None = None, accept: str | None = None
    ) -> Picture:
        """The images of a file of `compress`; several give a ZIP, or an array if `accept` says so."""
        return await self.send(calls.decompress(file, accept=accept, query={"quality": quality}))

    async def anomaly(
        self, image: ImageLike, *, model: str | None = None, version: int | None = None, max_fpr: float | None = None
    ) -> Verdict:
        """How unusual the image is, and where."""
        return await self.send(calls.anomaly(image, query={"model": model, "version": version, "max_fpr": max_fpr}))

    async def heatmap(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        max_fpr: float | None = None,
        accept: str = "image/png",
    ) -> Picture:
        """Where the image is unusual, in colour over the image."""
        query = {"model": model, "version": version, "max_fpr": max_fpr, "view": "heatmap"}
        return await self.picture("/anomaly", image, accept=accept, **query)

    async def mask(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        max_fpr: float | None = None,
        accept: str = "image/png",
    ) -> Picture:
        """Where the image is anomalous, in white."""
        query = {"model": model, "version": version, "max_fpr": max_fpr, "view": "mask"}
        return await self.picture("/anomaly", image, accept=accept, **query)

    async def put_item(
        self,
        collection: str,
        item_id: str,
        image: ImageLike | Latent,
        *,
        label: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        model: str | None = None,
        version: int | None = None,
    ) -> dict[str, Any]:  # Any: JSON
        """Keeps an image's latent in a collection, which the first item makes; an item of that id is replaced."""
        query = {"label": label, "model": model, "version": version}
        return await self.send(calls.put_item(collection, item_id, image, metadata=metadata, query=query))

    async def item(self, collection: str, item_id: str) -> dict[str, Any]:  # Any: JSON
        """An item: its latent, label and metadata."""
        return await self.send(calls.document(calls.item_path(collection, item_id), {}))

    async def delete_item(self, collection: str, item_id: str) -> None:
        """Deletes an item."""
        await self.send(calls.delete(calls.item_path(collection, item_id)))

    async def search(self, collection: str, image: ImageLike | Latent, *, k: int = 10) -> tuple[Neighbour, ...]:
        """The items of a collection that are nearest to one image or latent, nearest first."""
        return await self.send(calls.search(collection, image, k=k))

    async def classify(self, collection: str, image: ImageLike | Latent, *, k: int = 5) -> Classification:
        """What one image or latent shows, by the labels of what is nearest."""
        return await self.send(calls.classify(collection, image, k=k))

    async def collections(self) -> list[dict[str, Any]]:  # Any: JSON
        """All collections."""
        return await self.send(calls.collections())

    async def delete_collection(self, collection: str) -> None:
        """Deletes a collection with all its items."""
        await self.send(calls.delete(calls.collection_path(collection)))

    async def picture(self, path: str, image: ImageLike, *, accept: str | None = None, **query: object) -> Picture:
        """Any endpoint that takes an image and gives one."""
        return await self.send(calls.picture(path, image, accept=accept, query=query))

    async def models(self) -> list[Model]:
        """The live models."""
        return await self.send(calls.models())

    async def model(self, name: str, *, version: int | None = None) -> dict[str, Any]:  # Any: JSON
        """Everything that is known about a model."""
        return await self.send(calls.document(f"/models/{name}", {"version": version}))

    async def ready(self) -> dict[str, Any]:  # Any: JSON
        """What is live, and where it runs."""
        return await self.send(calls.document("/health/ready", {}))

    async def send(self, call: Call[T]) -> T:
        """The answer to a call; see `Hourglass.send`."""
        attempt = 0
        while True:
            try:
                response = await self._http.request(
                    call.method, call.path, params=call.query, headers=call.headers, content=call.content
                )
            except httpx.TransportError as error:
                failure: ClientError = unreachable(self._http.base_url, error)
                pause_s = self._retry.pause_s(attempt, None, {})
            else:
                if response.is_success:
                    return call.read(response.headers, response.content)
                failure = problem_of(response.status_code, response.headers, response.content)
                pause_s = self._retry.pause_s(attempt, response.status_code, response.headers)
            if pause_s is None:
                raise failure
            await asyncio.sleep(pause_s)
            attempt += 1
