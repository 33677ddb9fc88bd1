"""Splits of a data set. Images of one group, such as views of one object, are never in two parts."""

import csv
import re
from collections.abc import Hashable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from training.config import RecipeError
from training.errors import DataError

Indices = Int64[Tensor, "_"]


def split(groups: Sequence[Hashable], shares: tuple[float, ...], *, seed: int) -> tuple[Indices, ...]:
    """Shuffle the groups and split them: one part per share, and the rest for training, which comes first.

    A part takes whole groups until it has its share, so that it can be a little larger than its share.

    Args:
        groups: Group of every image; all different without groups.
        shares: Share of the images for each part except training. A share above 0 gets at least one image.
        seed: Seed of the shuffle.

    Returns:
        Indices of the images of every part.

    Raises:
        DataError: No image is left for training.
    """
    images_of: dict[Hashable, list[int]] = {}
    for image, group in enumerate(groups):
        images_of.setdefault(group, []).append(image)
    members = list(images_of.values())
    order = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed)).tolist()
    sizes = [max(1, round(share * len(groups))) if share else 0 for share in shares]
    parts: list[list[int]] = []
    for size in reversed(sizes):
        part: list[int] = []
        while order and len(part) < size:
            part = members[order.pop()] + part
        parts.insert(0, part)
    train = [image for number in order for image in members[number]]
    if not train:
        what = f"{len(groups)} images" if len(members) == len(groups) else f"{len(members)} groups of images"
        raise DataError(f"shares {shares} of {what} leave none for training; lower them or add images")
    return tuple(torch.tensor(part, dtype=torch.int64) for part in (train, *parts))


def keep_back(free: Sequence[int], names: Sequence[str], groups: Sequence[Hashable], rule: int | str) -> set[int]:
    """Choose the images that a rule holds out, together with the rest of their groups.

    Args:
        free: Indices of the images to choose from.
        names: Names of all images.
        groups: Group of every image.
        rule: A number, at most a third, every k-th in the order of `free`; or a regular expression of names.

    Raises:
        DataError: The expression matches none or all, or no image is left for training.
    """
    if isinstance(rule, str) and not rule.isdecimal():
        kept = {i for i in free if re.search(rule, names[i])}
        if not kept or len(kept) == len(free):
            raise DataError(f"{rule!r} (data.validation or data.test) matches {len(kept)} of {len(free)} names")
    else:
        count = min(int(rule), len(free) // 3)
        kept = {free[round((i + 0.5) * len(free) / count - 0.5)] for i in range(count)} if count else set()
    whole = {groups[i] for i in kept}
    kept = {i for i in free if groups[i] in whole}
    if len(kept) == len(free):
        raise DataError(f"all {len(free)} pairs have a clean picture that is kept back: none is left to learn from")
    return kept


def groups_of(paths: Sequence[Path], rule: str) -> list[str]:
    """Find the group of every file by the rule in `data.groups`.

    Args:
        paths: Paths relative to the folder of all images.
        rule: `folder`, a CSV file, or a regular expression; empty: every file is its own group.

    Raises:
        RecipeError: The rule cannot be used, or does not name every file.
    """
    if not rule:
        return [str(path) for path in paths]
    if rule == "folder":
        return [str(path.parent) for path in paths]
    if rule.endswith(".csv"):
        group_by_file = _read_groups(Path(rule))
        missing = [str(path) for path in paths if path.as_posix() not in group_by_file]
        if missing:
            raise RecipeError(f"data.groups: {rule} has no line for {missing[0]} ({len(missing)} files are missing)")
        return [group_by_file[path.as_posix()] for path in paths]
    try:
        expression = re.compile(rule)
    except re.error as error:
        raise RecipeError(f"data.groups: {rule!r} is no regular expression: {error}") from error
    if not expression.groups:
        raise RecipeError(f"data.groups: {rule!r} has no group in parentheses that says which images belong together")
    found = [expression.search(path.as_posix()) for path in paths]
    if None in found:
        raise RecipeError(f"data.groups: {rule!r} does not fit {paths[found.index(None)]}")
    return [match[1] for match in found if match]


def _read_groups(path: Path) -> dict[str, str]:
    """Read a CSV file as spreadsheets write it: with or without byte order mark, commas, semicolons or tabs."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        delimiter = max(",;\t", key=(lines or [""])[0].count)
        names = [name.strip(' "').lower() for name in (lines or [""])[0].split(delimiter)]  # as people write them: File
        rows = list(csv.DictReader(lines[1:], names, delimiter=delimiter, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"data.groups: cannot read {path}: {error}") from error
    if not rows or not {"file", "group"} <= rows[0].keys():
        raise RecipeError(f"data.groups: {path} needs a first line with the columns file and group")
    return {(row["file"] or "").replace("\\", "/").removeprefix("./"): row["group"] or "" for row in rows}
