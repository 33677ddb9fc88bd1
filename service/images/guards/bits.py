"""Read the bits of a header in coded data."""

from service.errors import BrokenImage

_MOST_BYTES = 1024  # the longest header that is read has less: AV1's with all 32 operating points


class Bits:
    """Reads unsigned numbers of any number of bits.

    Args:
        data: The header; only its first kilobyte is read.
        name: Name of the format, for errors.
    """

    def __init__(self, data: bytes | memoryview, name: str) -> None:
        self._name = name
        head = data[:_MOST_BYTES]
        self._value, self._left = int.from_bytes(head, "big"), 8 * len(head)

    def take(self, count: int = 1) -> int:
        """Read the next number of `count` bits.

        Raises:
            BrokenImage: The header ends before.
        """
        if count > self._left:
            raise BrokenImage(f"{self._name}: a header of its coded data is truncated")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def zeros(self) -> int:
        """Skip zeros and the one behind them, and return how many zeros there were."""
        count = 0
        while not self.take():
            count += 1
        return count
