"""The live models: follow a directory, load verified versions, keep working ones."""

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from service.contract.fields import is_name
from service.contract.manifest import Task
from service.errors import (
    HourglassError,
    InvalidParameter,
    ModelNotFound,
    ModelRejected,
    NotReady,
    RequestError,
    TaskNotOffered,
    VersionNotFound,
    printable,
    shown,
)
from service.limits import Limits, ProbeLimits
from service.memory import release_unused
from service.models.aliases import Alias, Aliases
from service.models.directory import Fingerprint, fingerprint_of, list_versions
from service.models.loading import load_model
from service.models.model import Model
from service.models.probe import Child, Outcome, probe
from service.models.provider import Provider
from service.models.snapshot import Rejected, Snapshot
from service.telemetry.counters import Meters

log = logging.getLogger(__name__)

T = TypeVar("T")

_THREADS = 4  # separate ones, so that scans never wait for requests; versions are loaded one at a time
_MAX_FILE_BYTES = 16 * 2**20  # of cards and previews; training writes a hundredth of it


class Registry:
    """Models by name, version and task.

    The newest version that passes its checks is live. Older versions are loaded when a request names them; the
    `old_versions` most recently used stay loaded, and so do all that an alias names. Each version is loaded in a child
    process first. A version that fails is not tried again until its files change.

    Attributes:
        provider: What runs the graphs.
        snapshot: The live versions.
        aliases: Aliases of versions; None until they have been read.

    Args:
        models_dir: Directory of `<name>/<version>/manifest.json`; names that start with a dot are skipped.
        provider: What runs the graphs, from `session.start_provider`.
        limits: Limits of batches, pixels and threads.
        meters: Counters of the worker.
        allowed: Memory and time of the child process that loads a version first.
        old_versions: Number of older versions that stay loaded.
        idle_s: Seconds without a run after which a graph is closed, until its next request; 0 to keep all open.
        first: A child process that already probes the newest versions.
    """

    def __init__(
        self,
        models_dir: Path,
        *,
        provider: Provider,
        limits: Limits,
        meters: Meters,
        allowed: ProbeLimits,
        old_versions: int,
        idle_s: float = 0.0,
        first: Child | None = None,
    ) -> None:
        self.provider = provider
        self.snapshot = Snapshot()
        self.aliases: Aliases | None = None
        self._models_dir = models_dir
        self._limits = limits
        self._meters = meters
        self._allowed = allowed
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="models")
        self._refreshing = asyncio.Lock()
        self._old_versions = old_versions
        self._idle_s = idle_s
        self._first = first
        self._old: OrderedDict[tuple[str, int], tuple[Fingerprint, Model]] = OrderedDict()
        self._lock_by_version: dict[tuple[str, int], asyncio.Lock] = {}
        self._judged: dict[tuple[str, int], Fingerprint] = {}  # files of a version when it was judged
        self._verdicts: dict[tuple[str, int], tuple[Fingerprint, Outcome]] = {}

    async def find(self, task: Task, name: str | None, version: int | None) -> Model:
        """Return the model for a request.

        Args:
            task: Task of the endpoint.
            name: Name of the model, `<model>@<alias>`, or None for the default of the task.
            version: Version, or None for the newest or that of the alias.

        Raises:
            NotReady: No model is live, or the models are still being loaded.
            TaskNotOffered: The model does not offer the task, or the task has no default.
            RequestError: See `find_version`.
        """
        snapshot = self.snapshot
        if name is None and version is None:
            model = snapshot.default_for(task)
            if model is None:
                raise self._no_default(snapshot, task)
        else:
            model = await self.find_version(snapshot, self._name(snapshot, task, name), version)
        if task not in model.manifest.tasks:
            offered = ", ".join(model.manifest.tasks)
            able = ", ".join(snapshot.offering(task)) or "no live model"
            raise TaskNotOffered(
                f"model {model.manifest.name!r} cannot {_VERBS[task]}; it offers {offered}; {able} can {_VERBS[task]}"
            )
        return model

    def refuse_if_empty(self) -> None:
        """Check that a model is live.

        Raises:
            NotReady: No model is live, or the models are still being loaded.
        """
        if not self.snapshot.model_by_name:
            raise self._nothing_is_live(self.snapshot)

    async def find_version(self, snapshot: Snapshot, name: str, version: int | None) -> Model:
        """Return a model by its name, and by its version or alias if given.

        Args:
            snapshot: The live versions.
            name: Name of the model, or `<model>@<alias>`.
            version: Version, or None for the newest or that of the alias.

        Raises:
            NotReady: The models are still being loaded.
            ModelNotFound, VersionNotFound, AliasNotFound: The model, version or alias is missing.
            InvalidParameter: Both an alias and a version are given.
        """
        name, version = self.resolve(name, version)
        live = snapshot.model_by_name.get(name)
        if live is not None and version in {None, live.manifest.version}:
            return live
        versions = snapshot.versions_by_name.get(name, ())
        if version is not None and version in versions:
            return await self._load_old(snapshot, name, version)
        if live is None:
            raise self._no_model(snapshot, name)
        raise VersionNotFound(f"model {name!r} has no version {version}; it has {', '.join(map(str, versions))}")

    def resolve(self, name: str, version: int | None) -> tuple[str, int | None]:
        """Return the model and version that `<model>@<alias>` names; a plain name is returned unchanged.

        Raises:
            RequestError: See `find_version`.
        """
        if "@" not in name:
            return name, version
        if version is not None:
            raise InvalidParameter(f"model {shown(name)} already names a version; leave version={version} out")
        alias = self.alias(name)
        return alias.model, alias.version

    def alias(self, reference: str) -> Alias:
        """Return the alias of a reference `<model>@<alias>`.

        Raises:
            RequestError: See `find_version`.
        """
        model, _, name = reference.partition("@")
        if self.aliases is None:
            raise NotReady("the aliases have not been read yet; retry in a few seconds", headers=_SOON)
        if model not in self.aliases.by_model and model not in self.snapshot.versions_by_name:
            raise self._no_model(self.snapshot, model)
        return self.aliases.find(model, name)

    async def load_aliased(self) -> None:
        """Load every version that an alias names, so that no request waits for one."""
        for name, version in sorted(self._aliased):
            try:
                await self.find_version(self.snapshot, name, version)
            except RequestError as error:
                log.warning("%s/%d has an alias but cannot be loaded: %s", name, version, error)

    @property
    def serving(self) -> list[Model]:
        """The live version of each model and the loaded versions of aliases, sorted by name and version."""
        aliased = self._aliased
        models = {model.label: model for model in self.snapshot.model_by_name.values()}
        models |= {model.label: model for key, (_, model) in self._old.items() if key in aliased}
        return sorted(models.values(), key=lambda model: (model.manifest.name, model.manifest.version))

    @property
    def _aliased(self) -> frozenset[tuple[str, int]]:
        return frozenset() if self.aliases is None else self.aliases.versions

    async def read_file(self, model: Model, name: str) -> bytes | None:
        """Read a file of a model's directory; empty if it is missing or too large, None if reading failed."""
        path = self._directory((model.manifest.name, model.manifest.version)) / name
        return await self._in_thread(lambda: _read(path))

    async def watch(self, interval_s: float) -> None:
        """Scan the directory every `interval_s` seconds until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.refresh()
                if self._idle_s:
                    await asyncio.to_thread(self._close_idle)
            except Exception:  # one faulty directory must not end the watch
                log.exception("scanning for new versions failed; the live models are unchanged")

    def _close_idle(self) -> None:
        loaded = [*self.snapshot.model_by_name.values(), *(model for _, model in self._old.values())]
        closed = [model.label for model in loaded if model.close_idle(self._idle_s)]
        if closed:
            release_unused()
            log.info("closed until their next request: %s", ", ".join(closed))

    def close(self) -> None:
        """Kill a running probe, so that shutdown does not wait for it."""
        self._stop.set()
        threads, self._threads = self._threads, ThreadPoolExecutor(_THREADS, thread_name_prefix="models")
        threads.shutdown(wait=False, cancel_futures=True)  # the application may be started again

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def refresh(self) -> None:
        """Update the live models to match the directory. Loading happens in a thread, while requests continue."""
        async with self._refreshing:
            await self._refresh()

    async def _refresh(self) -> None:
        before = self.snapshot
        try:
            self.snapshot = await self._in_thread(lambda: self._scan(self.snapshot))
        except OSError as error:  # an unavailable network file system must not take the models down
            log.warning("%s cannot be read (%s); the live models are unchanged", self._models_dir, error)
        for name, version in self._aliased:  # keep an aliased version that a newer one has replaced
            model, live = before.model_by_name.get(name), self.snapshot.model_by_name.get(name)
            if model is not None and live is not None and live.manifest.version != model.manifest.version == version:
                self._old[name, version] = (self._judged[name, version], model)
        for name, live in self.snapshot.model_by_name.items():
            self._old.pop((name, live.manifest.version), None)
        on_disk = {(name, v) for name, versions in self.snapshot.versions_by_name.items() for v in versions}
        for cache in (self._old, self._verdicts):
            for key in cache.keys() - on_disk:
                del cache[key]

    def _scan(self, before: Snapshot) -> Snapshot:
        versions_by_name = list_versions(self._models_dir)
        rejected: dict[tuple[str, int], Rejected] = {}
        for name in [name for name in versions_by_name if not is_name(name)]:
            rejected |= {(name, version): _misnamed(name, version) for version in versions_by_name.pop(name)}
        self._probe([(name, versions[-1]) for name, versions in versions_by_name.items()])
        model_by_name: dict[str, Model] = {}
        for name, versions in versions_by_name.items():
            for version in reversed(versions):
                if model := self._judge(before, rejected, name, version):
                    model_by_name[name] = model
                    break
        return Snapshot(model_by_name, versions_by_name, rejected, is_loading=False)

    def _judge(
        self, before: Snapshot, rejected: dict[tuple[str, int], Rejected], name: str, version: int
    ) -> Model | None:
        key = (name, version)
        live = before.model_by_name.get(name)
        is_live = live is not None and live.manifest.version == version
        try:
            fingerprint = fingerprint_of(self._directory(key))
        except OSError:  # removed while we look
            return live if is_live else None
        if self._judged.get(key) == fingerprint:
            if key in before.rejected:
                rejected[key] = before.rejected[key]
                return live if is_live else None
            if is_live:
                return live
        self._judged[key] = fingerprint
        try:
            model = self._load(key)
        except HourglassError as error:
            rejected[key] = Rejected(name, version, str(error))
            log.error("%s/%s does not go live: %s", name, version, error)
            return live if is_live else None  # damaged in place: the version in memory still works
        log.info("%s is live (%s)", model.label, ", ".join(model.manifest.tasks))
        return model

    def _load(self, key: tuple[str, int]) -> Model:
        """Probe a version, then load it.

        Raises:
            ModelRejected: The version failed a check.
        """
        self._probe([key])
        if key not in self._verdicts:
            raise ModelRejected("the service is stopping")
        _, outcome = self._verdicts[key]
        if outcome.reason is not None:
            raise ModelRejected(outcome.reason)
        try:
            return load_model(
                self._directory(key),
                provider=self.provider,
                limits=self._limits,
                meters=self._meters,
                manifest_sha256=outcome.manifest_sha256,
            )
        finally:
            release_unused()

    def _probe(self, keys: Sequence[tuple[str, int]]) -> None:
        """Probe versions whose files have changed since their last probe. They share one child process."""
        fingerprint_by_key = {}
        for key in keys:
            with contextlib.suppress(OSError):  # removed while we look
                fingerprint_by_key[key] = fingerprint_of(self._directory(key))
        new = [
            key
            for key, fingerprint in fingerprint_by_key.items()
            if key not in self._verdicts or self._verdicts[key][0] != fingerprint
        ]
        directories = [self._directory(key) for key in new]
        first, self._first = self._first, None
        outcomes = probe(directories, limits=self._limits, allowed=self._allowed, stop=self._stop, first=first)
        for key, outcome in zip(new, outcomes, strict=False):  # fewer if the service is stopping
            self._verdicts[key] = (fingerprint_by_key[key], outcome)

    def _directory(self, key: tuple[str, int]) -> Path:
        name, version = key
        return self._models_dir / name / str(version)

    async def _load_old(self, snapshot: Snapshot, name: str, version: int) -> Model:
        key = (name, version)
        async with self._lock_by_version.setdefault(key, asyncio.Lock()):
            try:
                fingerprint = await self._in_thread(lambda: fingerprint_of(self._directory(key)))
                if key in self._old and self._old[key][0] == fingerprint:
                    self._old.move_to_end(key)
                    return self._old[key][1]
                if key in snapshot.rejected:
                    raise VersionNotFound(
                        f"version {version} of model {name!r} is not served: {snapshot.rejected[key].reason}"
                    )
                model = await self._in_thread(lambda: self._load(key))
            except OSError as error:
                raise VersionNotFound(f"version {version} of model {name!r} was just removed") from error
            except VersionNotFound:
                raise
            except HourglassError as error:
                raise VersionNotFound(f"version {version} of model {name!r} is not served: {error}") from error
            self._old[key] = (fingerprint, model)
            spare = [old for old in self._old if old not in self._aliased]
            for old in spare[: max(0, len(spare) - self._old_versions)]:
                del self._old[old]
            return model

    def _name(self, snapshot: Snapshot, task: Task, name: str | None) -> str:
        if name is not None:
            return name
        model = snapshot.default_for(task)
        if model is None:
            raise self._no_default(snapshot, task)
        return model.manifest.name

    def _no_default(self, snapshot: Snapshot, task: Task) -> NotReady | TaskNotOffered:
        if offering := snapshot.offering(task):
            return TaskNotOffered(f"several models can {_VERBS[task]} and none is the default; add ?model= {offering}")
        if snapshot.model_by_name:
            names = ", ".join(sorted(snapshot.model_by_name))
            return TaskNotOffered(f"no live model can {_VERBS[task]}; live models: {names}")
        return self._nothing_is_live(snapshot)

    def _no_model(self, snapshot: Snapshot, name: str) -> NotReady | ModelNotFound:
        if snapshot.is_loading:
            return NotReady(_LOADING, headers=_SOON)
        if not snapshot.model_by_name:  # also if the volume is not mounted: it may come back
            return self._nothing_is_live(snapshot)
        names = ", ".join(sorted(snapshot.model_by_name))
        return ModelNotFound(f"no model {shown(name)}; live models: {names}")

    def _nothing_is_live(self, snapshot: Snapshot) -> NotReady:
        nothing = f"no model is live in {self._models_dir}; train one with `python -m training fit digits`"
        return NotReady(_LOADING if snapshot.is_loading else nothing, headers=_SOON)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError:
        return None
    return content if len(content) <= _MAX_FILE_BYTES else b""


def _misnamed(name: str, version: int) -> Rejected:
    return Rejected(printable(name), version, f"the folder name {shown(name)} is not a valid model name")


_SOON = {"Retry-After": "5"}
_LOADING = "the models are still being loaded; retry in a few seconds"

_VERBS: dict[Task, str] = {
    "denoise": "denoise",
    "encode": "encode",
    "decode": "decode",
    "anomaly": "find anomalies",
    "enhance": "enhance",
    "generate": "generate",
    "compress": "compress",
    "decompress": "decompress",
}
