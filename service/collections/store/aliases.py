"""Aliases of model versions: one table, the same in every database."""

# ruff: noqa: S608  only constants are formatted into SQL

from dataclasses import replace

from service.collections.store.rows import now
from service.collections.store.transaction import Ask, Transaction, with_tables
from service.errors import NoFormerVersion, TooManyAliases, shown
from service.models.aliases import MAX_ALIASES, Alias, no_alias

_COLUMNS = "model, name, version, candidate, share, shadow, former, updated"


class AliasTable:
    """The table of aliases. Every method is one transaction, and blocks.

    Args:
        transaction: Runs work in a transaction; those of this table are serialised.
        table: Name of the table.
    """

    def __init__(self, transaction: Transaction, *, table: str) -> None:
        self._table = table
        schema = (
            f"CREATE TABLE IF NOT EXISTS {table} (model TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, "
            "candidate INTEGER, share DOUBLE PRECISION NOT NULL, shadow INTEGER, former INTEGER, "
            "updated TEXT NOT NULL, PRIMARY KEY (model, name))",
        )
        self._run = with_tables(transaction, schema)

    def all(self) -> list[Alias]:
        """Return the aliases of all models, sorted by model and name."""
        return self._run(lambda ask: [Alias(*row) for row in ask(f"{self._select} ORDER BY model, name")], "read")

    def get(self, model: str, name: str) -> Alias:
        """Return an alias.

        Raises:
            AliasNotFound: The alias is missing.
        """
        return self._run(lambda ask: self._find(ask, model, name), "read")

    def put(self, alias: Alias) -> tuple[Alias, bool]:
        """Create or replace an alias. If its version changes, `former` becomes the previous one.

        Returns:
            The stored alias, and whether it is new.

        Raises:
            TooManyAliases: The model already has `MAX_ALIASES`.
        """

        def put(ask: Ask) -> tuple[Alias, bool]:
            known = {found.name: found for found in self._of(ask, alias.model)}
            old = known.get(alias.name)
            if old is None and len(known) >= MAX_ALIASES:
                raise TooManyAliases(
                    f"model {shown(alias.model)} has {len(known)} aliases, the limit; DELETE an unused one"
                )
            former = None if old is None else old.former if old.version == alias.version else old.version
            return self._write(ask, replace(alias, former=former)), old is None

        return self._run(put)

    def roll_back(self, model: str, name: str) -> Alias:
        """Remove the candidate; without one, return to the previous version. Remove a shadow in either case.

        The alias then has no previous version, so that a repeated call does not go back two steps.

        Raises:
            AliasNotFound: The alias is missing.
            NoFormerVersion: The alias has neither a candidate nor a previous version.
        """

        def roll_back(ask: Ask) -> Alias:
            old = self._find(ask, model, name)
            if old.candidate is None and old.former is None:
                raise NoFormerVersion(
                    f"alias {shown(name)} of model {shown(model)} names version {old.version} and has neither a "
                    "candidate nor a previous version; PUT the version that it should name"
                )
            version = old.version if old.candidate is not None else old.former or old.version
            return self._write(ask, Alias(model, name, version))

        return self._run(roll_back)

    def remove(self, model: str, name: str) -> None:
        """Remove an alias.

        Raises:
            AliasNotFound: The alias is missing.
        """

        def remove(ask: Ask) -> None:
            self._find(ask, model, name)
            ask(f"DELETE FROM {self._table} WHERE model = ? AND name = ?", model, name)

        self._run(remove, "delete")

    @property
    def _select(self) -> str:
        return f"SELECT {_COLUMNS} FROM {self._table}"

    def _of(self, ask: Ask, model: str) -> list[Alias]:
        return [Alias(*row) for row in ask(f"{self._select} WHERE model = ?", model)]

    def _find(self, ask: Ask, model: str, name: str) -> Alias:
        known = {alias.name: alias for alias in self._of(ask, model)}
        if name not in known:
            raise no_alias(model, name, known)
        return known[name]

    def _write(self, ask: Ask, alias: Alias) -> Alias:
        kept = replace(alias, updated=now())
        ask(f"DELETE FROM {self._table} WHERE model = ? AND name = ?", kept.model, kept.name)
        ask(
            f"INSERT INTO {self._table} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(kept.model, kept.name, kept.version, kept.candidate, kept.share, kept.shadow, kept.former, kept.updated),
        )
        return kept
