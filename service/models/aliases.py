"""Names such as `prod` for versions of a model: `hazelnut@prod` is the version that `prod` means now.

An alias may have a candidate, which gets a share of the pictures, and a shadow, which sees them and never answers.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.errors import AliasNotFound, shown

ALIAS_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}$"
MAX_REFERENCE = 63 + 1 + 32  # characters of `<model>@<alias>`
MAX_ALIASES = 16  # of a model


@dataclass(frozen=True)
class Alias:
    """What an alias means.

    Attributes:
        model, name: `<model>@<name>` in a request.
        version: The version that answers.
        candidate: A version that answers a share of the pictures instead, or None.
        share: That share, in [0, 1].
        shadow: A version that sees the pictures, too; its answers are compared and thrown away. None for none.
        former: The version before `version`, which a roll back brings back; None if there is none.
        updated: UTC, ISO 8601.
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
        """All versions that requests or a rollback may need."""
        named = (self.version, self.candidate, self.shadow, self.former)
        return frozenset(version for version in named if version is not None)

    def chooses_candidate(self, contents: Iterable[bytes]) -> bool:
        """Return whether the candidate answers these files.

        The digest of the files decides: the same ones always meet the same version, and those that meet the candidate
        at some share also do at a larger one.
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
    """All aliases at one moment. Replaced as a whole.

    Attributes:
        by_model: Aliases of each model by their names.
    """

    by_model: Mapping[str, Mapping[str, Alias]] = field(default_factory=dict)

    @classmethod
    def of(cls, aliases: Iterable[Alias]) -> "Aliases":
        """Sort aliases by model and name."""
        by_model: dict[str, dict[str, Alias]] = {}
        for alias in aliases:
            by_model.setdefault(alias.model, {})[alias.name] = alias
        return cls(by_model)

    @property
    def versions(self) -> frozenset[tuple[str, int]]:
        """(model, version) of all that aliases name."""
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
    """Return the refusal of a name that no version has."""
    names = ", ".join(sorted(known)) or "none"
    return AliasNotFound(f"model {shown(model)} has no alias {shown(name)}; it has {names}")
