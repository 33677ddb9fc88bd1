"""Errors that a user can fix, in addition to those of recipes (`RecipeError`).

PipelineError
├── DataError      images that cannot be read or are too few
├── RunError       a run directory that does not fit the command
├── DeviceError    a device that is not there
├── TrainingError  a loss that is no number, or weights that are not there
├── ExportError    a graph that differs from its network
├── VerifyError    a model directory that does not hold what its manifest says
└── PublishError   a models directory that cannot take a version

Every message names the fault, the value, and what would work.
"""


class PipelineError(Exception):
    """A stage failed for a reason that the user can fix."""


class DataError(PipelineError):
    """Images that cannot be read, have the wrong size, or are too few."""


class RunError(PipelineError):
    """A run directory that does not fit the command: another recipe, other images, a stage missing."""


class DeviceError(PipelineError):
    """The requested device is not available."""


class TrainingError(PipelineError):
    """Training failed; the message says why and what to change."""


class ExportError(PipelineError):
    """A graph could not be written, or its answers differ from the network's."""


class VerifyError(PipelineError):
    """A model directory does not hold what its manifest says."""


class PublishError(PipelineError):
    """The models directory cannot take a new version."""
