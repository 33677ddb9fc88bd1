"""Region of interest of a detector: the rest of every image is grey, in training and in the graph."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.anomaly.features import FeatureMaps, FineMaps

Images = Float[Tensor, "batch channel height width"]

GREY = 0.5  # of what is not looked at


class Looking(nn.Module):
    """Features of images that are grey outside the region of interest; changes outside it have no effect.

    Args:
        features: Feature extractor for the masked images.
        look: (H,W), True inside the region of interest.
    """

    look: Tensor

    def __init__(self, features: nn.Module, look: Bool[Tensor, "height width"]) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("look", look.float())

    def forward(self, x: Images) -> tuple[FeatureMaps, FineMaps]:
        found: tuple[Tensor, Tensor] = self.features(GREY + (x - GREY) * self.look)
        return found
