"""Makes the README's pictures by asking the service with the shipped models: `python docs/images/make.py`."""

import io
from pathlib import Path

from fastapi.testclient import TestClient
from PIL import Image

from service.api.app import create_app
from service.settings import Settings

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent / "tests" / "data"


def keep(name: str, png: bytes, *, times: int = 4) -> None:
    """Save an answer enlarged: every pixel becomes a square of several screen pixels."""
    with Image.open(io.BytesIO(png)) as image:
        size = (image.width * times, image.height * times)
        image.resize(size, Image.Resampling.NEAREST).save(HERE / f"{name}.png", optimize=True)


def main() -> None:
    """Ask once per picture."""
    names = ("digit_noisy", "digit", "digit_damaged", "digit_two")
    noisy, digit, damaged, two = ((SAMPLES / f"{name}.png").read_bytes() for name in names)
    png, heat_map = {"Content-Type": "image/png"}, {"Content-Type": "image/png", "Accept": "image/png"}
    with TestClient(create_app(Settings(models_dir=HERE.parent.parent / "models"))) as client:
        latent = client.post("/encode", content=digit, headers=png).json()["latent"]
        keep("noisy", noisy)
        keep("clean", client.post("/denoise?model=digits", content=noisy, headers=png).content)
        keep("digit", digit)
        keep("decoded", client.post("/decode", json={"latent": latent}).content)
        keep("way", client.post("/interpolate", files=[("file", digit), ("file", two)]).content, times=2)
        keep("damaged", damaged)
        keep("heat", client.post("/anomaly", content=damaged, headers=heat_map).content)


if __name__ == "__main__":
    main()
