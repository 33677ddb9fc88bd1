"""An immutable snapshot of the live models, which a request uses from start to end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from service.contract.manifest import TASKS, Task
from service.models.model import Model


@dataclass(frozen=True)
class Rejected:
    """A version that failed its checks, with the reason."""

    name: str
    version: int
    reason: str


@dataclass(frozen=True)
class Snapshot:
    """The live models at one moment. Replaced as a whole, so that a request sees a single state.

    Attributes:
        model_by_name: Live version of each model.
        versions_by_name: All versions on disk, ascending.
        rejected: Versions that failed their checks, by (name, version).
        is_loading: Whether the first scan of the directory is still running.
    """

    model_by_name: Mapping[str, Model] = field(default_factory=dict)
    versions_by_name: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rejected: Mapping[tuple[str, int], Rejected] = field(default_factory=dict)
    is_loading: bool = True

    def default_among(self, task: Task, first: Model, *, is_colour: bool) -> Model:
        """Return the default of a task for colour or grey images, if several models claim it; else `first`."""
        fitting = (m for m in self._claiming_by_task[task] if (m.manifest.input.channels == 3) == is_colour)
        return next(fitting, first)

    def default_for(self, task: Task) -> Model | None:
        """Return the model of a task for requests without a model, or None.

        It is the model whose manifest claims the task, or the only one that offers it. If several claim it, the
        first name in alphabetical order wins, so that all workers agree; see also `default_among`.
        """
        return self._default_by_task.get(task)

    def offering(self, task: Task) -> list[str]:
        """Return the sorted names of the models that offer a task."""
        return sorted(name for name, model in self.model_by_name.items() if task in model.manifest.tasks)

    @cached_property
    def _default_by_task(self) -> dict[Task, Model | None]:  # every request asks
        return {task: self._choose(task) for task in TASKS}

    @cached_property
    def _claiming_by_task(self) -> dict[Task, list[Model]]:
        models = [model for _, model in sorted(self.model_by_name.items())]
        return {task: [model for model in models if task in model.manifest.default_for] for task in TASKS}

    def _choose(self, task: Task) -> Model | None:
        if self._claiming_by_task[task]:
            return self._claiming_by_task[task][0]
        offering = [model for model in self.model_by_name.values() if task in model.manifest.tasks]
        return offering[0] if len(offering) == 1 else None
