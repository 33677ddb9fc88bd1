"""Shared by the commands beside the service: flags that are settings of the service, and its models."""

import argparse
import os

from service.limits import probe_limits, run_limits
from service.models.registry import Registry
from service.models.session import start_provider
from service.settings import Settings, read_settings
from service.telemetry.counters import Meters

_FLAGS = ("models-dir", "collections-url", "device")


def add_setting_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the settings that a command needs, such as `--models-dir`."""
    for flag in _FLAGS:
        parser.add_argument(f"--{flag}", metavar=flag.rsplit("-", 1)[-1].upper(), help="as for the service")


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of the environment; those given as flags win.

    Raises:
        InvalidSettings: A setting is unknown or has an invalid value.
    """
    flags = [f"--{name}={value}" for name in _FLAGS if (value := getattr(options, name.replace("-", "_")))]
    return read_settings(os.environ, flags)


def registry_of(settings: Settings, *, old_versions: int) -> Registry:
    """Return a registry over the directory of models, which has loaded none yet.

    Args:
        settings: Settings of the service.
        old_versions: Number of versions besides the newest that may stay loaded.

    Raises:
        ProviderUnavailable: The device of the settings does not start.
    """
    return Registry(
        settings.models_dir,
        provider=start_provider(settings.device, max_gpu_bytes=settings.max_gpu_bytes),
        limits=run_limits(settings),
        meters=Meters(),
        allowed=probe_limits(settings),
        old_versions=old_versions,
    )
