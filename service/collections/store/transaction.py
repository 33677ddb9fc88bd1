"""How work is done in a database, whichever it is: statements inside a transaction."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Ask(Protocol):
    """Runs one statement inside a transaction; values stand where it has a question mark."""

    def __call__(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401  what a row holds
        """Run a statement and return its rows."""


class Transaction(Protocol):
    """Runs some work in one transaction that no other one of this table runs beside."""

    def __call__(self, work: Callable[[Ask], T]) -> T:
        """Run the work in a transaction and return its result after the commit."""


def with_tables(transaction: Transaction, schema: Sequence[str]) -> Transaction:
    """Return a transaction that first creates the tables if they are missing."""

    def transaction_with_tables(work: Callable[[Ask], T]) -> T:
        def with_tables_made(ask: Ask) -> T:
            for statement in schema:
                ask(statement)
            return work(ask)

        return transaction(with_tables_made)

    return transaction_with_tables
