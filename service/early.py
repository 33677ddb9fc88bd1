"""What can start before the heavy imports: trying the models, which takes as long as those do."""

from service.limits import probe_limits, run_limits
from service.probe import Child
from service.settings import Settings
from service.versions import list_versions


def start_child(settings: Settings) -> Child | None:
    """A child process that tries the newest version of every model; None if there are none, or none can be read.

    Whoever asks for it later compares what it looks at with what is there by then.
    """
    try:
        versions_by_name = list_versions(settings.models_dir)
    except OSError:
        return None  # the registry will say so
    newest = [settings.models_dir / name / str(versions[-1]) for name, versions in versions_by_name.items()]
    return Child(newest, run_limits(settings), probe_limits(settings)) if newest else None
