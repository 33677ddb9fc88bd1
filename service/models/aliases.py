"""Names such as `prod` for versions of a model: `hazelnut@prod` is the version that `prod` means now.

An alias may have a candidate, which answers a share of the requests, and a shadow, whose answers are compared and
discarded.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.errors import AliasNotFound, shown

ALIAS_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}$"
MAX_REFERENCE = 63 + 1 + 32  # characters of `<model>@<alias>`
MAX_ALIASES = 16  # per model


@dataclass(frozen=True)
class Alias:
    """A name for a version of a model.

    Attributes:
        model, name: Names of the model and the alias; requests use `<model>@<name>`.
        version: The version that answers.
        candidate: The version that answers a share of the requests instead, or None.
        share: Share of the candidate, in [0, 1].
        shadow: The version that runs on the same images for comparison, without answering, or None.
        former: The version before `version`, to which a rollback returns, or None.
        updated: Time of the last change, UTC, ISO 8601.
    """

    model: str
    name: str
    version: int
    candidate: int | None = None
    share: float = 0.0
    shadow: int | None = None
    former: int | None = None
    updated: str = ""

    @property
    def versions(self) -> frozenset[int]:
        """All versions that a request or a rollback may need."""
        named = (self.version, self.candidate, self.shadow, self.former)
        return frozenset(version for version in named if version is not None)

    def chooses_candidate(self, contents: Iterable[bytes]) -> bool:
        """Return whether the candidate answers these files.

        The choice depends on the digest of the files: the same files always reach the same version. Files that the
        candidate answers at one share, it also answers at any larger share.
        """
        if self.candidate is None or self.share <= 0:
            return False
        digest = hashlib.blake2b(f"{self.model}@{self.name}/{self.candidate}".encode(), digest_size=8)
        for content in contents:
            digest.update(len(content).to_bytes(8))
            digest.update(content)
        return int.from_bytes(digest.digest()) < self.share * 2**64


@dataclass(frozen=True)
class Aliases:
    """An immutable snapshot of all aliases.

    Attributes:
        by_model: Aliases by model name, then by alias name.
    """

    by_model: Mapping[str, Mapping[str, Alias]] = field(default_factory=dict)

    @classmethod
    def of(cls, aliases: Iterable[Alias]) -> "Aliases":
        """Group aliases by model and name."""
        by_model: dict[str, dict[str, Alias]] = {}
        for alias in aliases:
            by_model.setdefault(alias.model, {})[alias.name] = alias
        return cls(by_model)

    @property
    def versions(self) -> frozenset[tuple[str, int]]:
        """All (model, version) that an alias names."""
        return frozenset(
            (model, version)
            for model, aliases in self.by_model.items()
            for alias in aliases.values()
            for version in alias.versions
        )

    def find(self, model: str, name: str) -> Alias:
        """Return an alias of a model.

        Raises:
            AliasNotFound: The alias is missing.
        """
        known = self.by_model.get(model, {})
        if name not in known:
            raise no_alias(model, name, known)
        return known[name]


def no_alias(model: str, name: str, known: Iterable[str]) -> AliasNotFound:
    """Return the error for a missing alias; `known` are the aliases of the model."""
    names = ", ".join(sorted(known)) or "none"
    return AliasNotFound(f"model {shown(model)} has no alias {shown(name)}; it has {names}")
