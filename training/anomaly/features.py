"""phi for small grey images: fixed convolutions without trained weights."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Images = Float[Tensor, "batch channel height width"]
FeatureMaps = Float[Tensor, "batch feature rows columns"]
FineMaps = Float[Tensor, "batch fine_feature fine_rows fine_columns"]


class Gradients(nn.Module):
    """Oriented gradients: the rise in brightness towards each of eight directions, in cells of 2x2 pixels.

    x (N,C,H,W) ->[ grey, Sobel ]-> gradient (N,2,H,W) ->[ onto 8 directions, positive part, mean of 2x2 ]->
    (N,8,H/2,W/2). The idea is that of histograms of oriented gradients (Dalal and Triggs 2005,
    https://doi.org/10.1109/CVPR.2005.177), without the normalisation of blocks. There are no finer features: coarse and
    fine ones are the same.
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

    def forward(self, x: Images) -> tuple[FeatureMaps, FineMaps]:
        grey = F.pad(x.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        gradient = F.conv2d(grey, self.sobel)  # (N, 2, H, W)
        towards = F.conv2d(gradient, self.directions).relu()  # (N, 8, H, W)
        cells = F.avg_pool2d(towards, self.stride)
        return cells, cells


class GradientCells(nn.Module):
    """Normalised edge directions of each cell of an image, for images with centred subjects.

    x (N,C,H,W) ->[ Gradients, before their mean ]-> (N,8,H,W) ->[ mean of overlapping cells, root, over the length of
    the 3x3 cells around ]-> (N,8,rows,columns). With the root and the normalisation of blocks these are histograms of
    oriented gradients (Dalal and Triggs 2005, https://doi.org/10.1109/CVPR.2005.177).

    Args:
        cell: Pixels from one cell to the next; a cell is half as wide again, so neighbours share an edge between them.
    """

    channels = 8
    sobel: Tensor
    directions: Tensor

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.cell = cell
        gradients = Gradients()
        self.register_buffer("sobel", gradients.sobel)
        self.register_buffer("directions", gradients.directions)

    def forward(self, x: Images) -> FeatureMaps:
        height, width = int(x.shape[2]), int(x.shape[3])
        grey = x.mean(dim=1, keepdim=True)
        grey = F.pad(grey, (0, -width % self.cell, 0, -height % self.cell), mode="replicate")  # to whole cells
        gradient = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), self.sobel)
        towards = F.conv2d(gradient, self.directions).relu()  # (N, 8, H, W)
        margin = self.cell // 4
        cells = F.avg_pool2d(F.pad(towards, (margin,) * 4), self.cell + 2 * margin, stride=self.cell)
        cells = (cells + 1e-4).sqrt()  # the root lets faint edges count; 1e-4 keeps it calm where there are none
        around = F.avg_pool2d(cells.square().sum(1, keepdim=True), 3, stride=1, padding=1)
        return cells / (around + 1e-3).sqrt()
