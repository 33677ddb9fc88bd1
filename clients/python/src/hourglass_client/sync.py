"""The client that waits."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from numpy.typing import ArrayLike
from tqdm import tqdm

from hourglass_client import calls
from hourglass_client.answers import Classification, Latent, Model, Neighbour, Picture, Verdict
from hourglass_client.calls import Call, ImageLike
from hourglass_client.errors import ClientError, Unreachable, problem_of
from hourglass_client.folders import find_images
from hourglass_client.retry import Retry

T = TypeVar("T")

_PATIENCE = Retry()
_SILENT_S = 2.0  # a progress bar is for what takes longer


class Hourglass:
    """A service, as methods. Safe to share between threads.

    Args:
        url: Where it is.
        key: Of the API, where the service wants one.
        timeout_s: For connecting, and for each pause between bytes of an answer.
        retry: How often to ask again when the service is busy or the connection fails.
        transport: Instead of the network, for tests.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry = _PATIENCE,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = retry
        self._http = httpx.Client(**options(url, key, timeout_s), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def denoise(
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
        return self.picture("/denoise", image, accept=accept, **query)

    def enhance(
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
        return self.picture("/enhance", image, accept=accept, **query)

    def encode(self, image: ImageLike, *, model: str | None = None, version: int | None = None) -> Latent:
        """The image's latent."""
        return self.send(calls.encode(image, query={"model": model, "version": version}))

    def decode(
        self,
        latent: Latent | ArrayLike,
        *,
        model: str | None = None,
        version: int | None = None,
        accept: str | None = None,
    ) -> Picture:
        """The image of a latent, by the model that made it; several give a ZIP, or an array if `accept` says so."""
        return self.send(calls.decode(latent, accept=accept, query={"model": model, "version": version}))

    def generate(
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
        """New images, and in `seed` what draws them again; several give a ZIP, an array, or with view="sheet" one."""
        body = {"count": count, "seed": seed, "temperature": temperature, "label": label}
        query = {"model": model, "version": version, "view": view}
        return self.send(calls.generate(body, accept=accept, query=query))

    def interpolate(
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
        """The images between two images or two latents, with both ends, as a strip.

        `path` is "linear" or "spherical"; `accept` "image/gif" or "image/webp" animates, "application/zip" has frames.
        """
        query = {"model": model, "version": version, "steps": steps, "path": path, "view": view}
        return self.send(calls.interpolate(first, last, accept=accept, query=query))

    def compress(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        rate: int | None = None,
        model: str | None = None,
        version: int | None = None,
    ) -> Picture:
        """One small file of one image or several; `rate` trades bytes for likeness, 0 is the smallest."""
        return self.send(calls.compress(images, query={"model": model, "version": version, "rate": rate}))

    def decompress(
        self, file: Picture | str | Path | bytes, *, quality: int | None = None, accept: str | None = None
    ) -> Picture:
        """The images of a file of `compress`; several give a ZIP, or an array if `accept` says so."""
        return self.send(calls.decompress(file, accept=accept, query={"quality": quality}))

    def anomaly(
        self, image: ImageLike, *, model: str | None = None, version: int | None = None, max_fpr: float | None = None
    ) -> Verdict:
        """How unusual the image is, and where; `max_fpr` moves the thresholds."""
        return self.send(calls.anomaly(image, query={"model": model, "version": version, "max_fpr": max_fpr}))

    def heatmap(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        max_fpr: float | None = None,
        accept: str = "image/png",
    ) -> Picture:
        """Where the image is unusual, in colour over the image, outlined if it is anomalous; NPY gives the map."""
        query = {"model": model, "version": version, "max_fpr": max_fpr, "view": "heatmap"}
        return self.picture("/anomaly", image, accept=accept, **query)

    def mask(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        max_fpr: float | None = None,
        accept: str = "image/png",
    ) -> Picture:
        """Where the image is anomalous: white there, black elsewhere; `accept` is PNG, TIFF or NPY."""
        query = {"model": model, "version": version, "max_fpr": max_fpr, "view": "mask"}
        return self.picture("/anomaly", image, accept=accept, **query)

    def put_item(
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
        return self.send(calls.put_item(collection, item_id, image, metadata=metadata, query=query))

    def item(self, collection: str, item_id: str) -> dict[str, Any]:  # Any: JSON
        """An item: its latent, label and metadata."""
        return self.send(calls.document(calls.item_path(collection, item_id), {}))

    def delete_item(self, collection: str, item_id: str) -> None:
        """Deletes an item."""
        self.send(calls.delete(calls.item_path(collection, item_id)))

    def search(self, collection: str, image: ImageLike | Latent, *, k: int = 10) -> tuple[Neighbour, ...]:
        """The items of a collection that are nearest to one image or latent, nearest first."""
        return self.send(calls.search(collection, image, k=k))

    def classify(self, collection: str, image: ImageLike | Latent, *, k: int = 5) -> Classification:
        """What one image or latent shows, by the labels of what is nearest."""
        return self.send(calls.classify(collection, image, k=k))

    def collections(self) -> list[dict[str, Any]]:  # Any: JSON
        """All collections."""
        return self.send(calls.collections())

    def delete_collection(self, collection: str) -> None:
        """Deletes a collection with all its items."""
        self.send(calls.delete(calls.collection_path(collection)))

    def picture(self, path: str, image: ImageLike, *, accept: str | None = None, **query: object) -> Picture:
        """Any endpoint that takes an image and gives one; `query` is its query."""
        return self.send(calls.picture(path, image, accept=accept, query=query))

    def models(self) -> list[Model]:
        """The live models."""
        return self.send(calls.models())

    def model(self, name: str, *, version: int | None = None) -> dict[str, Any]:  # Any: JSON
        """Everything that is known about a model."""
        return self.send(calls.document(f"/models/{name}", {"version": version}))

    def ready(self) -> dict[str, Any]:  # Any: JSON
        """What is live, and where it runs.

        Raises:
            Busy: Nothing is, after the retries.
        """
        return self.send(calls.document("/health/ready", {}))

    def each(
        self, ask: Callable[[Path], T], paths: Sequence[str | Path], *, at_once: int = 8, what: str = "images"
    ) -> Iterator[tuple[Path, T | ClientError | OSError]]:
        """Asks about every file, several at a time, with a progress bar: each file with its answer or its problem.

        Args:
            ask: What to do with a file, such as `hourglass.denoise`.
            paths: Files, and folders of images.
            at_once: Requests at a time: the service makes batches of them.
            what: Of the progress bar.
        """
        files = find_images(paths)
        with (
            ThreadPoolExecutor(at_once) as threads,
            tqdm(total=len(files), desc=what, unit="", delay=_SILENT_S, disable=None, leave=False) as bar,
        ):
            for file, answer in _in_order(threads, ask, files, 2 * at_once):
                try:
                    result: T | ClientError | OSError = answer.result()
                except (ClientError, OSError) as error:
                    result = error
                bar.update()
                yield file, result

    def send(self, call: Call[T]) -> T:
        """The answer to a call, after as many attempts as `retry` allows.

        Raises:
            Problem: The service says no.
            Unreachable: It says nothing.
        """
        attempt = 0
        while True:
            try:
                response = self._http.request(
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
            time.sleep(pause_s)
            attempt += 1


def options(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:  # Any: arguments of httpx
    """What both clients tell httpx."""
    headers: Mapping[str, str] = {"User-Agent": "hourglass"} | ({"X-API-Key": key} if key else {})
    return {"base_url": url, "headers": headers, "timeout": timeout_s}


def unreachable(url: httpx.URL, error: httpx.TransportError) -> Unreachable:
    """What is said where nothing was answered."""
    reason = str(error) or type(error).__name__
    return Unreachable(f"{url} does not answer: {reason}; is the service running there?")


def _in_order(
    threads: ThreadPoolExecutor, ask: Callable[[Path], T], files: Iterable[Path], ahead: int
) -> Iterator[tuple[Path, Future[T]]]:
    """Answers in the order of the files, with at most `ahead` of them asked for and not yet taken."""
    remaining = iter(files)
    waiting = [(file, threads.submit(ask, file)) for file in islice(remaining, ahead)]
    while waiting:
        yield waiting.pop(0)
        waiting += [(file, threads.submit(ask, file)) for file in islice(remaining, 1)]
