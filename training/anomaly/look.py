"""Where a detector looks: the rest of every image is one grey for it, in training and in the graph."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.anomaly.features import FeatureMaps, FineMaps

Images = Float[Tensor, "batch channel height width"]

GREY = 0.5  # of what is not looked at


class Looking(nn.Module):
    """Features of images in which all but a part is grey: what happens outside changes nothing.

    Args:
        features: Of what is left.
        look: (H,W), True where it is looked at.
    """

    look: Tensor

    def __init__(self, features: nn.Module, look: Bool[Tensor, "height width"]) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("look", look.float())

    def forward(self, x: Images) -> tuple[FeatureMaps, FineMaps]:
        found: tuple[Tensor, Tensor] = self.features(GREY + (x - GREY) * self.look)
        return found
