"""Shapes in annotations are checked while these tests run, as in those of training."""

from tests.training.conftest import exporter_is_set_up_once

__all__ = ["exporter_is_set_up_once"]  # a fixture
