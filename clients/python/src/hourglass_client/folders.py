"""Files and folders of images, the paths of outputs, and how outputs are written."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".npy"}
_SYSTEM_FOLDERS = {"__MACOSX"}


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Return the given files and all images in the given folders and their subfolders, by extension, in order of names.

    Hidden files and folders (`.thumbnails/`, `._photo.jpg`) are skipped.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += [file for file in sorted(path.rglob("*")) if is_image_below(file, path)]
        else:
            found.append(path)
    return found


def is_image_below(file: Path, folder: Path) -> bool:
    """Return whether `find_images` would return the file for the folder."""
    # A pipe or a device with such a name would never end.
    return is_image_name(file.relative_to(folder).as_posix()) and file.is_file()


def is_image_name(name: str) -> bool:
    """Return whether a path below a folder, with slashes, has the extension of an image and is not hidden."""
    path = PurePosixPath(name)
    if path.suffix.lower() not in _ENDINGS:
        return False
    return not any(part.startswith(".") or part in _SYSTEM_FOLDERS for part in path.parts)


def some_images(paths: Sequence[str | Path]) -> list[Path]:
    """Return `find_images`, or raise an error if there are none.

    Raises:
        ValueError: The paths have no images.
    """
    found = find_images(paths)
    if not found:
        raise ValueError(f"no images in {', '.join(map(str, paths))}")
    return found


def targets(inputs: Sequence[Path], output: Path, ending: str) -> dict[Path, Path]:
    """Return the output path of every file.

    Outputs keep the folder structure of the inputs.

    Raises:
        ValueError: Two outputs have the same path, or one would overwrite an input.
    """
    target_by_file: dict[Path, Path] = {}
    file_by_target: dict[Path, Path] = {}
    for path in inputs:
        for file in find_images([path]):
            target = (output / file.relative_to(path if path.is_dir() else path.parent)).with_suffix(ending)
            other = file_by_target.setdefault(target, file)
            if other != file:
                raise ValueError(f"{other} and {file} would both become {target}; pass a common parent folder")
            target_by_file[file] = target
    sources = {file.resolve() for file in target_by_file}
    for file, target in target_by_file.items():
        if target.resolve() in sources:
            raise ValueError(f"the answer to {file} would overwrite {target}; choose another folder")
    return target_by_file


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file atomically. On failure no partial file is left, and an older one is kept."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # standard output, a pipe
        target.write_bytes(content)
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
