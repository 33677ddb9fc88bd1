"""Shapes in annotations are checked while these tests run, as in those of training."""

import torch
from jaxtyping import install_import_hook

install_import_hook(["training", "benchmarks.models"], "beartype.beartype")
torch.set_num_threads(1)
