"""Files and folders of images, and where what is made of them goes."""

from collections.abc import Sequence
from pathlib import Path

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".npy"}


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Files as they are, and the images in folders (by their endings, in order of names, deeper folders too)."""
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        # A pipe or a device with such a name would never end.
        found += [file for file in sorted(path.rglob("*")) if file.suffix.lower() in _ENDINGS and file.is_file()]
    return found


def some_images(paths: Sequence[str | Path]) -> list[Path]:
    """As `find_images`, at least one.

    Raises:
        ValueError: There is none.
    """
    found = find_images(paths)
    if not found:
        raise ValueError(f"no images in {', '.join(map(str, paths))}")
    return found


def targets(inputs: Sequence[Path], output: Path, ending: str) -> dict[Path, Path]:
    """Where the answer to every file goes: in the output folder as the file lies below the folder that was named.

    Raises:
        ValueError: Two would go to the same place.
    """
    target_by_file: dict[Path, Path] = {}
    file_by_target: dict[Path, Path] = {}
    for path in inputs:
        for file in find_images([path]):
            target = (output / file.relative_to(path if path.is_dir() else path.parent)).with_suffix(ending)
            other = file_by_target.setdefault(target, file)
            if other != file:
                raise ValueError(f"{other} and {file} would both become {target}; name a folder above them")
            target_by_file[file] = target
    return target_by_file
