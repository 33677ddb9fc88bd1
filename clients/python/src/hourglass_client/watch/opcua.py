"""Verdicts into the variables of an OPC UA server, such as a PLC; the extra `opcua` brings asyncua."""

import contextlib

from asyncua import Client, Node, ua

from hourglass_client.watch.part import Part
from hourglass_client.watch.sinks import Unavailable

_FIELDS = ("file", "verdict", "score", "threshold", "p_value", "model", "problem", "id")  # `id` last: it says "new"
_TIMEOUT_S = 5.0
_FAULTS = (OSError, TimeoutError, ConnectionError, ua.UaError)


class OpcUa:
    """Writes every part into the variables below a node, those among its children that have the name of a field.

    `id` is written last, so that a PLC which sees it change finds all others written.

    Args:
        url: `opc.tcp://HOST:PORT#NODE`, such as `opc.tcp://plc:4840#ns=2;s=Camera1`.

    Raises:
        ValueError: The URL is not such an address.
    """

    def __init__(self, url: str) -> None:
        address, _, node = url.partition("#")
        if not address.startswith("opc.tcp://") or not node:
            raise ValueError(
                f"--opcua {url}: write opc.tcp://HOST:PORT#NODE, such as opc.tcp://plc:4840#ns=2;s=Camera1"
            )
        try:
            self._node = ua.NodeId.from_string(node)
        except ua.UaError as error:
            raise ValueError(f"--opcua {url}: {node} is no node, write ns=2;s=NAME or ns=2;i=NUMBER") from error
        self.name = f"opcua {url}"
        self._address = address
        self._client: Client | None = None
        self._variables: dict[str, tuple[Node, ua.VariantType]] = {}

    async def take(self, part: Part) -> None:
        """Write the part; a value that the part does not have becomes 0 or empty text."""
        document = part.document()
        try:
            if self._client is None:
                await self._connect()
            for name in _FIELDS:
                if name in self._variables:
                    node, kind = self._variables[name]
                    await node.write_value(_as(document[name], kind), kind)
        except _FAULTS as error:
            await self.close()
            raise Unavailable(f"{self._address} does not accept values: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Disconnect from the server."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(*_FAULTS):
                await client.disconnect()

    async def _connect(self) -> None:
        client = Client(self._address, timeout=_TIMEOUT_S)
        await client.connect()
        self._client = client
        self._variables = {}
        for child in await client.get_node(self._node).get_children():
            name = (await child.read_browse_name()).Name
            if name in _FIELDS:
                self._variables[name] = child, await child.read_data_type_as_variant_type()
        if not self._variables:
            await self.close()
            raise Unavailable(f"{self._node.to_string()} of {self._address} has no variable {', '.join(_FIELDS)}")


def _as(value: object, kind: ua.VariantType) -> object:
    if kind in {ua.VariantType.Double, ua.VariantType.Float}:
        return float(value) if isinstance(value, int | float) else 0.0
    if kind == ua.VariantType.String:
        return "" if value is None else str(value)
    return value
