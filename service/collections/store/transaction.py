"""Interfaces to run statements in a transaction, independent of the database."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")

# Reads do not wait for writers, and deleting works on a full disk.
Purpose = Literal["read", "write", "delete"]


class Ask(Protocol):
    """Runs one statement inside a transaction, with values for its question marks."""

    def __call__(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  values of a row
        """Run a statement and return its rows."""


class Transaction(Protocol):
    """Runs work in one transaction."""

    def __call__(self, work: Callable[[Ask], T], purpose: Purpose = "write") -> T:
        """Run the work in a transaction and return its result after the commit."""


def with_tables(transaction: Transaction, schema: Sequence[str]) -> Transaction:
    """Return a transaction that first creates the tables if they are missing."""

    def transaction_with_tables(work: Callable[[Ask], T], purpose: Purpose = "write") -> T:
        def with_tables_made(ask: Ask) -> T:
            for statement in schema:
                ask(statement)
            return work(ask)

        return transaction(with_tables_made, purpose)

    return transaction_with_tables
