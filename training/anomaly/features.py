"""phi for small grey images: a fixed convolution with nothing to learn."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Images = Float[Tensor, "batch channel height width"]
FeatureMaps = Float[Tensor, "batch feature rows columns"]


class Gradients(nn.Module):
    """Oriented gradients: how fast the image becomes brighter towards each of eight directions, in cells of 2x2 pixels.

    x (N,C,H,W) ->[ grey, Sobel ]-> gradient (N,2,H,W) ->[ onto 8 directions, positive part, mean of 2x2 ]->
    (N,8,H/2,W/2). The idea is that of histograms of oriented gradients (Dalal and Triggs 2005,
    https://doi.org/10.1109/CVPR.2005.177), without the normalisation of blocks.
    """

    channels = 8
    stride = 2
    sobel: Tensor
    directions: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        angles = torch.arange(self.channels) * (2 * math.pi / self.channels)
        self.register_buffer("sobel", torch.stack([across, across.T])[:, None])  # (2, 1, 3, 3)
        self.register_buffer("directions", torch.stack([angles.cos(), angles.sin()], 1)[:, :, None, None])

    def forward(self, x: Images) -> FeatureMaps:
        grey = F.pad(x.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        gradient = F.conv2d(grey, self.sobel)  # (N, 2, H, W)
        towards = F.conv2d(gradient, self.directions).relu()  # (N, 8, H, W)
        return F.avg_pool2d(towards, self.stride)
