"""The live models: follows a directory, lets verified versions in, keeps what works."""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import HourglassError, ModelNotFound, NotReady, TaskNotOffered, VersionNotFound, shown
from service.manifest import MANIFEST_FILE, Task
from service.model import Limits, Model, load_model

log = logging.getLogger(__name__)

_VERSION = re.compile(r"[1-9][0-9]{0,8}")

# What a directory looked like when it was judged: name, size, change time and inode of every file in it.
Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Rejected:
    """A version that is not live, and why."""

    name: str
    version: int
    reason: str


@dataclass(frozen=True)
class Snapshot:
    """What is live at one moment. Replaced as a whole, so a request sees one state only.

    Attributes:
        model_by_name: The version of each model that answers when none is named.
        versions_by_name: Every version on disk, ascending.
        rejected: Versions that did not pass, by (name, version).
    """

    model_by_name: Mapping[str, Model] = field(default_factory=dict)
    versions_by_name: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rejected: Mapping[tuple[str, int], Rejected] = field(default_factory=dict)

    def default_for(self, task: Task) -> Model | None:
        """The model that does a task when none is named.

        The one whose manifest says so; else, where exactly one model offers the task, that one. Of several claims
        the alphabetically first name wins, so every worker and every restart agrees.
        """
        offering = [model for _, model in sorted(self.model_by_name.items()) if task in model.manifest.tasks]
        claiming = [model for model in offering if task in model.manifest.default_for]
        if claiming:
            return claiming[0]
        return offering[0] if len(offering) == 1 else None


class Registry:
    """Models by name, version and task.

    The newest version that passes its checks serves; older ones are loaded when a request names them, and the
    `old_versions` most recently used stay loaded. A version that fails is not tried again until its files change.

    Args:
        models_dir: `<name>/<version>/manifest.json` below it; names starting with a dot are skipped.
        provider: Of onnxruntime, from `session.start_provider`.
        limits: How models are run.
        old_versions: How many older versions stay loaded.
    """

    def __init__(self, models_dir: Path, *, provider: str, limits: Limits, old_versions: int) -> None:
        self.provider = provider
        self.snapshot = Snapshot()
        self._models_dir = models_dir
        self._limits = limits
        self._old_versions = old_versions
        self._old: OrderedDict[tuple[str, int], tuple[Fingerprint, Model]] = OrderedDict()
        self._lock_by_version: dict[tuple[str, int], asyncio.Lock] = {}
        self._judged: dict[tuple[str, int], Fingerprint] = {}  # live or rejected, as it looked then

    async def find(self, task: Task, name: str | None, version: int | None) -> Model:
        """The model that answers a request.

        Raises:
            NotReady: Nothing is live.
            ModelNotFound, VersionNotFound, TaskNotOffered: The request asks for what is not there.
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
            raise TaskNotOffered(f"model {model.manifest.name!r} cannot {_VERBS[task]}; it offers {offered}")
        return model

    async def find_version(self, snapshot: Snapshot, name: str, version: int | None) -> Model:
        """A model by name, and by version where one is given.

        Raises:
            ModelNotFound, VersionNotFound: There is none.
        """
        live = snapshot.model_by_name.get(name)
        if live is not None and version in {None, live.manifest.version}:
            return live
        versions = snapshot.versions_by_name.get(name, ())
        if version is not None and version in versions:
            return await self._load_old(snapshot, name, version)
        if live is None:
            names = ", ".join(sorted(snapshot.model_by_name)) or "none"
            raise ModelNotFound(f"no model {shown(name)}; live models: {names}")
        raise VersionNotFound(f"model {name!r} has no version {version}; it has {', '.join(map(str, versions))}")

    async def watch(self, interval_s: float) -> None:
        """Looks at the directory every `interval_s` seconds, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.refresh()
            except Exception:  # the watch must outlive whatever one directory holds
                log.exception("looking for new versions failed; going on with the models as they are")

    async def refresh(self) -> None:
        """Brings the live models in line with the directory. Loading happens in a thread; answering goes on."""
        try:
            self.snapshot = await asyncio.to_thread(self._scan, self.snapshot)
        except OSError as error:  # a network file system that is away must not take the models down
            log.warning("%s cannot be read (%s); going on with the models as they are", self._models_dir, error)
        on_disk = {(name, v) for name, versions in self.snapshot.versions_by_name.items() for v in versions}
        for key in self._old.keys() - on_disk:
            del self._old[key]

    def _scan(self, before: Snapshot) -> Snapshot:
        versions_by_name = _list_versions(self._models_dir)
        rejected: dict[tuple[str, int], Rejected] = {}
        model_by_name: dict[str, Model] = {}
        for name, versions in versions_by_name.items():
            for version in reversed(versions):
                if model := self._judge(before, rejected, name, version):
                    model_by_name[name] = model
                    break
        return Snapshot(model_by_name, versions_by_name, rejected)

    def _judge(
        self, before: Snapshot, rejected: dict[tuple[str, int], Rejected], name: str, version: int
    ) -> Model | None:
        key, directory = (name, version), self._models_dir / name / str(version)
        live = before.model_by_name.get(name)
        is_live = live is not None and live.manifest.version == version
        try:
            fingerprint = _fingerprint(directory)
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
            model = load_model(directory, provider=self.provider, limits=self._limits)
        except HourglassError as error:
            rejected[key] = Rejected(name, version, str(error))
            log.error("%s/%s does not go live: %s", name, version, error)
            return live if is_live else None  # its files were spoilt in place: what is in memory still works
        log.info("%s is live (%s)", model.label, ", ".join(model.manifest.tasks))
        return model

    async def _load_old(self, snapshot: Snapshot, name: str, version: int) -> Model:
        key, directory = (name, version), self._models_dir / name / str(version)
        async with self._lock_by_version.setdefault(key, asyncio.Lock()):
            try:
                fingerprint = await asyncio.to_thread(_fingerprint, directory)
                if key in self._old and self._old[key][0] == fingerprint:
                    self._old.move_to_end(key)
                    return self._old[key][1]
                if key in snapshot.rejected:
                    raise VersionNotFound(
                        f"version {version} of model {name!r} is not served: {snapshot.rejected[key].reason}"
                    )
                model = await asyncio.to_thread(load_model, directory, provider=self.provider, limits=self._limits)
            except OSError as error:
                raise VersionNotFound(f"version {version} of model {name!r} has just been removed") from error
            except VersionNotFound:
                raise
            except HourglassError as error:
                raise VersionNotFound(f"version {version} of model {name!r} is not served: {error}") from error
            self._old[key] = (fingerprint, model)
            while len(self._old) > self._old_versions:
                self._old.popitem(last=False)
            return model

    def _name(self, snapshot: Snapshot, task: Task, name: str | None) -> str:
        if name is not None:
            return name
        model = snapshot.default_for(task)
        if model is None:
            raise self._no_default(snapshot, task)
        return model.manifest.name

    def _no_default(self, snapshot: Snapshot, task: Task) -> NotReady | TaskNotOffered:
        offering = sorted(name for name, model in snapshot.model_by_name.items() if task in model.manifest.tasks)
        if offering:
            return TaskNotOffered(f"several models can {_VERBS[task]} and none is the default; add ?model= {offering}")
        if snapshot.model_by_name:
            names = ", ".join(sorted(snapshot.model_by_name))
            return TaskNotOffered(f"no live model can {_VERBS[task]}; live models: {names}")
        return NotReady(
            f"no model is live in {self._models_dir}; train one with `python -m training fit digits`",
            headers={"Retry-After": "5"},
        )


_VERBS: dict[Task, str] = {
    "denoise": "denoise",
    "encode": "encode",
    "decode": "decode",
    "anomaly": "find anomalies",
}


def _list_versions(models_dir: Path) -> dict[str, tuple[int, ...]]:
    versions_by_name: dict[str, tuple[int, ...]] = {}
    for directory in sorted(models_dir.iterdir()):
        if directory.name.startswith(".") or not directory.is_dir():
            continue
        versions = sorted(
            int(entry.name)
            for entry in directory.iterdir()
            if _VERSION.fullmatch(entry.name) and (entry / MANIFEST_FILE).is_file()
        )
        if versions:
            versions_by_name[directory.name] = tuple(versions)
    return versions_by_name


def _fingerprint(directory: Path) -> Fingerprint:
    entries = []
    for path in sorted(directory.iterdir()):
        stat = path.stat()
        entries.append((path.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(entries)
