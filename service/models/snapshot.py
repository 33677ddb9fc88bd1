"""What is live at one moment, as every request sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from service.contract.manifest import TASKS, Task
from service.models.model import Model


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
        is_loading: The directory has not been looked at yet: what is missing may still come.
    """

    model_by_name: Mapping[str, Model] = field(default_factory=dict)
    versions_by_name: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rejected: Mapping[tuple[str, int], Rejected] = field(default_factory=dict)
    is_loading: bool = True

    def default_among(self, task: Task, first: Model, *, is_colour: bool) -> Model:
        """Return the default of a task for colour or grey images, among several that claim it; else `first`."""
        fitting = (m for m in self._claiming_by_task[task] if (m.manifest.input.channels == 3) == is_colour)
        return next(fitting, first)

    def default_for(self, task: Task) -> Model | None:
        """Return the model that does a task when none is named.

        The one whose manifest says so; else, where exactly one model offers the task, that one. Of several claims
        the alphabetically first name wins, so every worker and every restart agrees; see also `default_among`.
        """
        return self._default_by_task.get(task)

    def offering(self, task: Task) -> list[str]:
        """Return the names of the models that do a task, in order."""
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
