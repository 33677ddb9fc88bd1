"""Feedback: images that users labelled as normal or defective. One table, the same in every database.

Databases differ in their transactions and in the name of a type; `SqliteStore` and `PostgresStore` pass both.
Transactions of this table are serialised, as each may change the number of bytes that are left.
"""

# ruff: noqa: S608  only constants are formatted into SQL

from dataclasses import dataclass
from typing import Literal, TypeVar

from service.collections.store.rows import now
from service.collections.store.transaction import Ask, Transaction, with_tables
from service.errors import FeedbackFull, FeedbackNotFound, shown

T = TypeVar("T")
Opinion = Literal["fine", "defect"]

OVERHEAD_BYTES = 1024  # upper bound of a row and its index entries
PAGE = 1000  # images of a page
_UTC = "+00:00"  # the end of every time; a plus sign in an address is a space
_END_OF_TIME = "9999"  # greater than every time


@dataclass(frozen=True)
class Picture:
    """An image with the verdict of a user.

    Attributes:
        id: SHA-256 of the image file, so that a new verdict on the same image replaces the old one.
        verdict: Verdict of the user.
        version: Model version whose verdict the user saw.
        who: Name of the user, if given.
        created: Time of the verdict, UTC, ISO 8601.
        has_mask: Whether the user marked the defect.
    """

    id: str
    verdict: Opinion
    version: int
    who: str | None
    created: str
    has_mask: bool

    @property
    def place(self) -> str:
        """Its place in the order of a list, for addresses."""
        return f"{self.created.removesuffix(_UTC)},{self.id}"


@dataclass(frozen=True)
class Totals:
    """Numbers of images of a model by their verdicts, and the bytes of all images of all models."""

    fine: int
    defect: int
    bytes: int


@dataclass(frozen=True)
class Files:
    """The files of an image, unchanged, with the mask of its defect, if any."""

    image: bytes
    mask: bytes | None


class Feedback:
    """The table of the feedback. Every method is one transaction, and blocks.

    Args:
        transaction: Runs work in a transaction; those of this table are serialised.
        table: Name of the table.
        blob: Type of bytes in the database.
    """

    def __init__(self, transaction: Transaction, *, table: str, blob: str) -> None:
        self._table = table
        schema = (
            f"CREATE TABLE IF NOT EXISTS {table} (model TEXT NOT NULL, id TEXT NOT NULL, verdict TEXT NOT NULL, "
            "version INTEGER NOT NULL, who TEXT, created TEXT NOT NULL, bytes BIGINT NOT NULL, "
            f"image {blob} NOT NULL, mask {blob}, PRIMARY KEY (model, id))",
            f"CREATE INDEX IF NOT EXISTS {table}_bytes ON {table} (bytes)",  # every new image needs its sum
        )
        self._run = with_tables(transaction, schema)

    def put(self, model: str, picture: Picture, files: Files, *, max_bytes: int) -> None:
        """Store an image, replacing an earlier verdict on it.

        Raises:
            FeedbackFull: The images of all models would exceed `max_bytes`. Nothing was stored.
        """
        size = len(files.image) + len(files.mask or b"") + OVERHEAD_BYTES

        def put(ask: Ask) -> None:
            ask(f"DELETE FROM {self._table} WHERE model = ? AND id = ?", model, picture.id)
            total = _total(ask, self._table) + size
            if total > max_bytes:
                raise FeedbackFull(
                    f"the pictures of all feedback would take {total} bytes, the limit is {max_bytes} (setting "
                    f"max_feedback_bytes); export them, then DELETE /models/{model}/feedback"
                )
            ask(
                f"INSERT INTO {self._table} (model, id, verdict, version, who, created, bytes, image, mask) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(model, picture.id, picture.verdict, picture.version, picture.who, picture.created, size),
                *(files.image, files.mask),
            )

        self._run(put)

    def pictures(self, model: str, *, after: str = "", limit: int = PAGE) -> list[Picture]:
        """Return the images of a model, newest first.

        Args:
            model: Name of the model.
            after: `place` of the last image of the previous page; "" for the first page.
            limit: Largest number of images.
        """
        last, _, last_id = after.partition(",")
        rows = self._run(
            lambda ask: ask(
                f"SELECT id, verdict, version, who, created, mask IS NOT NULL FROM {self._table} WHERE model = ? "
                "AND (created < ? OR created = ? AND id > ?) ORDER BY created DESC, id LIMIT ?",
                *(model, f"{last}{_UTC}" if after else _END_OF_TIME, f"{last}{_UTC}", last_id, limit),
            ),
            "read",
        )
        return [
            Picture(picture_id, verdict, version, who, created, has_mask=bool(has_mask))
            for picture_id, verdict, version, who, created, has_mask in rows
        ]

    def totals(self, model: str) -> Totals:
        """Return the number of images of a model, and the bytes of all images of all models."""

        def totals(ask: Ask) -> Totals:
            counts = dict(ask(f"SELECT verdict, count(*) FROM {self._table} WHERE model = ? GROUP BY verdict", model))
            return Totals(counts.get("fine", 0), counts.get("defect", 0), _total(ask, self._table))

        return self._run(totals, "read")

    def largest(self, model: str) -> int:
        """Return the bytes of the largest image of a model with its mask; 0 if there is none."""
        ((size,),) = self._run(
            lambda ask: ask(f"SELECT coalesce(max(bytes), 0) FROM {self._table} WHERE model = ?", model), "read"
        )
        return int(size)

    def files(self, model: str, picture_id: str) -> Files | None:
        """Return the files of an image; None if it was deleted."""
        rows = self._run(
            lambda ask: ask(f"SELECT image, mask FROM {self._table} WHERE model = ? AND id = ?", model, picture_id),
            "read",
        )
        return Files(bytes(rows[0][0]), None if rows[0][1] is None else bytes(rows[0][1])) if rows else None

    def remove(self, model: str, picture_id: str) -> None:
        """Remove an image.

        Raises:
            FeedbackNotFound: The image is missing.
        """

        def remove(ask: Ask) -> None:
            if not ask(f"DELETE FROM {self._table} WHERE model = ? AND id = ? RETURNING id", model, picture_id):
                raise FeedbackNotFound(
                    f"model {shown(model)} has no feedback {shown(picture_id)}; GET /models/{model}/feedback lists them"
                )

        self._run(remove, "delete")

    def clear(self, model: str) -> None:
        """Remove all images of a model."""
        self._run(lambda ask: ask(f"DELETE FROM {self._table} WHERE model = ?", model), "delete")


def picture_of(picture_id: str, verdict: Opinion, version: int, who: str | None, *, has_mask: bool) -> Picture:
    """Return an image with the current time."""
    return Picture(picture_id, verdict, version, who, now(), has_mask)


def _total(ask: Ask, table: str) -> int:
    ((total,),) = ask(f"SELECT coalesce(sum(bytes), 0) FROM {table}")
    return int(total)
