"""The client that waits. Generated from `aio.py` by `make_sync.py`: edit that."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
from numpy.typing import ArrayLike
from tqdm import tqdm

from hourglass_client import calls, jobs
from hourglass_client.answers import Alias, Classification, Latent, Model, Neighbour, Picture, Verdict
from hourglass_client.arrays import ArrayOrder, Channels, Layout
from hourglass_client.bodies import ImageLike
from hourglass_client.calls import Call
from hourglass_client.concurrency import ask_each
from hourglass_client.connection import Answered, Attempts, Repeat, http_options
from hourglass_client.errors import ClientError
from hourglass_client.folders import find_images
from hourglass_client.jobs import Job, Result
from hourglass_client.retry import Retry

T = TypeVar("T")

_PATIENCE = Retry()
_SILENT_S = 2.0  # a progress bar is for what takes longer
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.1, 2.0  # pauses between two looks at a job


class Hourglass:
    """An asynchronous client of a Hourglass service.

    Args:
        url: Address of the service.
        key: API key, if the service requires one.
        timeout_s: Timeout for connecting, and for each pause between bytes of an answer.
        retry: Retries when the service is busy or the connection fails.
        layout: Layout of arrays, sent and received: "chw", or "hwc" as in OpenCV and scikit-image.
        channels: Channels of colour arrays: "rgb", or "bgr" as in OpenCV.
        transport: Replaces the network in tests.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry = _PATIENCE,
        layout: Layout = "chw",
        channels: Channels = "rgb",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = retry
        self._order = ArrayOrder(layout, channels)
        self._http = httpx.Client(**http_options(url, key, timeout_s), transport=transport)

    def __repr__(self) -> str:
        return f"<Hourglass {self._http.base_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
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
        quality: int | None = None,
        metadata: str | None = None,
        data_range: float | Literal["auto"] | None = None,
        accept: str | None = None,
    ) -> Picture:
        """Denoise an image; `accept` chooses the format, such as "image/webp".

        `sigma` is the noise level, 0-255 units, estimated if left out; `strength` blends with the original;
        `thorough` averages over eight orientations: a little better, in eight times the time; `quality` is that of a
        JPEG or WebP answer, 1 to 100; `metadata="keep"` keeps EXIF data; `data_range` is the value of white in an
        array or a TIFF of floats, or "auto" for the range of its values: the answer has the same range.
        """
        own = {"sigma": sigma, "strength": strength, "thorough": thorough, "quality": quality, "metadata": metadata}
        return self.picture(
            "/denoise", image, accept=accept, model=model, version=version, data_range=data_range, **own
        )

    def enhance(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        version: int | None = None,
        thorough: bool | None = None,
        quality: int | None = None,
        metadata: str | None = None,
        data_range: float | Literal["auto"] | None = None,
        accept: str | None = None,
    ) -> Picture:
        """Enlarge an image; `thorough`, `quality`, `metadata` and `data_range` are those of `denoise`."""
        own = {"thorough": thorough, "quality": quality, "metadata": metadata, "data_range": data_range}
        return self.picture("/enhance", image, accept=accept, model=model, version=version, **own)

    def encode(self, image: ImageLike, *, model: str | None = None, version: int | None = None) -> Latent:
        """Return the latent of an image."""
        return self.send(calls.encode(image, query={"model": model, "version": version}, order=self._order))

    def decode(
        self,
        latent: Latent | ArrayLike,
        *,
        model: str | None = None,
        version: int | None = None,
        accept: str | None = None,
    ) -> Picture:
        """Decode a latent with the model version that made it.

        Several give a ZIP, or an array if `accept` says so.
        """
        return self.send(
            calls.decode(latent, accept=accept, query={"model": model, "version": version}, order=self._order)
        )

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
        """Generate images; `seed` of the answer reproduces them.

        Several give a ZIP, an array, or with view="sheet" one.
        """
        body = {"count": count, "seed": seed, "temperature": temperature, "label": label}
        query = {"model": model, "version": version, "view": view}
        return self.send(calls.generate(body, accept=accept, query=query, order=self._order))

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
        """Interpolate between two images or two latents, both ends included, as a strip.

        `path` is "linear" or "spherical"; `accept` "image/gif" or "image/webp" animates, "application/zip" has frames.
        """
        query = {"model": model, "version": version, "steps": steps, "path": path, "view": view}
        return self.send(calls.interpolate(first, last, accept=accept, query=query, order=self._order))

    def compress(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        rate: int | None = None,
        model: str | None = None,
        version: int | None = None,
    ) -> Picture:
        """Compress one or several images into one file; `rate` trades bytes for quality, 0 is the smallest."""
        return self.send(
            calls.compress(images, query={"model": model, "version": version, "rate": rate}, order=self._order)
        )

    def decompress(
        self, file: Picture | str | Path | bytes, *, quality: int | None = None, accept: str | None = None
    ) -> Picture:
        """Decompress a file of `compress`; several images give a ZIP, or an array if `accept` asks for one."""
        return self.send(calls.decompress(file, accept=accept, query={"quality": quality}, order=self._order))

    def anomaly(
        self,
        image: ImageLike,
        *,
        ignore: ImageLike | None = None,
        model: str | None = None,
        version: int | None = None,
        max_fpr: float | None = None,
    ) -> Verdict:
        """Return the anomaly verdict on an image, with regions; `max_fpr` moves the thresholds.

        `ignore` is a mask, white (or True) where pixels take no part in the verdict.
        """
        query = {"model": model, "version": version, "max_fpr": max_fpr}
        return self.send(calls.anomaly(image, query=query, order=self._order, ignore=ignore))

    def heatmap(
        self,
        image: ImageLike,
        *,
        ignore: ImageLike | None = None,
        model: str | None = None,
        version: int | None = None,
        max_fpr: float | None = None,
        accept: str = "image/png",
    ) -> Picture:
        """Return the anomaly heat map over the image; regions are outlined if it is anomalous.

        NPY gives the map.
        """
        query = {"model": model, "version": version, "max_fpr": max_fpr, "view": "heatmap"}
        call = calls.picture("/anomaly", image, accept=accept, query=query, order=self._order, ignore=ignore)
        return self.send(call)

    def mask(
        self,
        image: ImageLike,
        *,
        ignore: ImageLike | None = None,
        model: str | None = None,
        version: int | None = None,
        max_fpr: float | None = None,
        accept: str = "image/png",
    ) -> Picture:
        """Return the mask of the anomalous regions, white on black; `accept` is PNG, TIFF or NPY."""
        query = {"model": model, "version": version, "max_fpr": max_fpr, "view": "mask"}
        call = calls.picture("/anomaly", image, accept=accept, query=query, order=self._order, ignore=ignore)
        return self.send(call)

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
        """Store the latent of an image in a collection, which the first item creates. Replace an item of that id."""
        query = {"label": label, "model": model, "version": version}
        return self.send(calls.put_item(collection, item_id, image, metadata=metadata, query=query, order=self._order))

    def item(self, collection: str, item_id: str) -> dict[str, Any]:  # Any: JSON
        """Return an item of a collection with its latent, label and metadata."""
        return self.send(calls.document(calls.item_path(collection, item_id), {}))

    def delete_item(self, collection: str, item_id: str) -> None:
        """Delete an item."""
        self.send(calls.delete(calls.item_path(collection, item_id)))

    def search(self, collection: str, image: ImageLike | Latent, *, k: int = 10) -> tuple[Neighbour, ...]:
        """Return the items of a collection nearest to an image or latent, nearest first."""
        return self.send(calls.search(collection, image, k=k, order=self._order))

    def classify(self, collection: str, image: ImageLike | Latent, *, k: int = 5) -> Classification:
        """Classify an image or latent by the labels of its nearest items."""
        return self.send(calls.classify(collection, image, k=k, order=self._order))

    def collections(self) -> list[dict[str, Any]]:  # Any: JSON
        """Return all collections."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.send(calls.collections(after=found[-1]["collection"] if found else ""))
            found += page
            if len(page) < calls.COLLECTIONS_PAGE:
                return found

    def delete_collection(self, collection: str) -> None:
        """Delete a collection with all its items."""
        self.send(calls.delete(calls.collection_path(collection)))

    def picture(self, path: str, image: ImageLike, *, accept: str | None = None, **query: object) -> Picture:
        """Call any endpoint that takes an image and returns one; `query` is its query."""
        return self.send(calls.picture(path, image, accept=accept, query=query, order=self._order))

    def models(self) -> list[Model]:
        """Return the live models."""
        return self.send(calls.models())

    def model(self, name: str, *, version: int | None = None) -> dict[str, Any]:  # Any: JSON
        """Return the manifest of a model."""
        return self.send(calls.document(f"/models/{name}", {"version": version}))

    def aliases(self, model: str) -> list[Alias]:
        """Return the aliases of a model: `model="hazelnut@prod"` works wherever a model is named."""
        return self.send(calls.aliases(model))

    def set_alias(
        self,
        model: str,
        alias: str,
        version: int,
        *,
        candidate: int | None = None,
        share: float | None = None,
        shadow: int | None = None,
    ) -> Alias:
        """Set the version of an alias; `candidate` answers a `share` of the pictures, `shadow` is only compared."""
        meaning = {"version": version, "candidate": candidate, "share": share, "shadow": shadow}
        return self.send(calls.set_alias(model, alias, meaning))

    def roll_back(self, model: str, alias: str) -> Alias:
        """Remove the candidate of an alias or, without one, return to its previous version."""
        return self.send(calls.roll_back(model, alias))

    def delete_alias(self, model: str, alias: str) -> None:
        """Delete an alias; its versions stay."""
        self.send(calls.delete(calls.alias_path(model, alias)))

    def ready(self) -> dict[str, Any]:  # Any: JSON
        """Return the readiness document: live models, provider, cores.

        Raises:
            Busy: No model is live, after the retries.
        """
        return self.send(calls.document("/health/ready", {}))

    def each(
        self,
        ask: Callable[[Path], T],
        paths: Sequence[str | Path],
        *,
        at_once: int = 8,
        what: str = "asking",
    ) -> Iterator[tuple[Path, T | ClientError | OSError]]:
        """Yield each file with its answer or problem, with several requests at a time and a progress bar.

        Args:
            ask: Method to call with each file, such as `hourglass.denoise`.
            paths: Files, and folders of images.
            at_once: Concurrent requests, which the service batches.
            what: Label of the progress bar.
        """
        files = find_images(paths)
        with tqdm(total=len(files), desc=what, unit=" images", delay=_SILENT_S, disable=None, leave=False) as bar:
            for file, result in ask_each(ask, files, at_once):
                bar.update()
                yield file, result

    def submit(
        self,
        endpoint: str,
        image: ImageLike,
        *,
        ignore: ImageLike | None = None,
        accept: str | None = None,
        webhook: str | None = None,
        **query: object,
    ) -> Job:
        """Submit an image as a job, which outlives this connection and the process that works on it.

        Args:
            endpoint: "denoise", "enhance", "anomaly", "encode" or "compress".
            image: As for the method of that name.
            ignore: Mask for `anomaly`, as for the method of that name.
            accept: Form of the result.
            webhook: URL that the service calls when the job has ended.
            query: Other parameters of the endpoint, such as `thorough=True`.

        Raises:
            Problem: The service rejects the job. If the answer is lost, a retried job may run twice.
        """
        return self.send(
            jobs.submit(endpoint, image, accept=accept, webhook=webhook, query=query, order=self._order, ignore=ignore)
        )

    def job(self, job: Job) -> Job:
        """Return the current state of a job.

        Raises:
            NotFound: It was cancelled, or has expired.
        """
        return self.send(jobs.look(job))

    def wait(self, job: Job) -> Result:
        """Wait for a job with a progress bar, return its result, and delete it from the service.

        Raises:
            Problem: The job has failed.
            NotFound: It was cancelled, or has expired.
        """
        pause_s = _FIRST_LOOK_S
        with tqdm(desc=f"job {job.id[:6]}", unit=" tiles", delay=_SILENT_S, disable=None, leave=False) as bar:
            while not job.has_ended:
                bar.total = job.of or None
                bar.update(job.done - bar.n)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_LOOK_S)
                job = self.job(job)
        result = self.send(jobs.result(job))
        self.cancel(job)
        return result

    def cancel(self, job: Job) -> None:
        """Cancel a job, or delete the result of one that has ended."""
        self.send(calls.delete(f"/jobs/{job.id}"))

    def send(self, call: Call[T]) -> T:
        """Send a call, with as many attempts as `retry` allows, and return its answer.

        Raises:
            Problem: The service answers with an error.
            Unreachable: The service does not answer.
        """
        attempts = Attempts(call, self._retry, self._http.base_url)
        while True:
            try:
                response = self._http.request(
                    call.method, call.path, params=call.query, headers=call.headers, content=call.content
                )
            except httpx.RequestError as error:
                outcome: Answered[T] | Repeat = attempts.after_error(error)
            else:
                outcome = attempts.after(response)
            if isinstance(outcome, Answered):
                return outcome.value
            time.sleep(outcome.pause_s)
