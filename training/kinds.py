"""The kinds of recipes: a field `kind` says which; without one it is for images of one size."""

from training.anomaly.config import AnomalyRecipe
from training.compression.config import CompressionRecipe
from training.config import Recipe, as_recipe, read_fields
from training.photocodec.config import PhotoCodecRecipe
from training.restoration.config import RestorationRecipe

AnyRecipe = Recipe | RestorationRecipe | CompressionRecipe | PhotoCodecRecipe | AnomalyRecipe


def load_any_recipe(name: str, overrides: tuple[str, ...] = ()) -> AnyRecipe:
    """As `training.config.load_recipe`, for recipes of every kind.

    Raises:
        RecipeError: See there.
    """
    fields = read_fields(name, overrides)
    kind = fields.get("kind")
    if kind is None:
        return as_recipe(Recipe, name, fields)
    if kind == "anomaly":
        return as_recipe(AnomalyRecipe, name, fields)
    if kind == "compress":
        return as_recipe(CompressionRecipe, name, fields)
    if kind == "compress-photos":
        return as_recipe(PhotoCodecRecipe, name, fields)
    return as_recipe(RestorationRecipe, name, fields)
