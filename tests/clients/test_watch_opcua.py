"""`hourglass watch --opcua`: verdicts in the variables of a server, here that of asyncua itself."""

import asyncio
from typing import Any

import pytest

from hourglass_client.answers import Verdict
from hourglass_client.watch.part import Part, Stamp
from hourglass_client.watch.sinks import Unavailable
from tests.clients.test_watch import free_port

pytest.importorskip("asyncua")
from asyncua import Server, ua

from hourglass_client.watch.opcua import OpcUa

KINDS = {
    "id": ua.VariantType.Int64,
    "verdict": ua.VariantType.String,
    "score": ua.VariantType.Double,
    "other": ua.VariantType.Double,
}


def part(part_id: int, *, score: float | None) -> Part:
    verdict = None
    word: Any = "failed" if score is None else "anomalous" if score >= 1 else "normal"
    if score is not None:
        verdict = Verdict(
            score=score,
            threshold=1.0,
            is_anomalous=score >= 1,
            p_value=0.1,
            regions=(),
            model="toy/1",
            max_fpr=0.05,
            map_threshold=None,
            calibration_images=99,
            smallest_fpr=0.01,
            verdict="anomalous" if score >= 1 else "good",
        )
    return Part(part_id, "a.png", Stamp(1, 2, 3), "2026-01-01T00:00:00+00:00", word, verdict, None)


async def plc(port: int) -> tuple[Server, dict[str, Any]]:
    """A server with an object `Camera1`, that has some variables, and `Camera2` without any."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    index = await server.register_namespace("http://line.example")
    camera = await server.nodes.objects.add_object(ua.NodeId("Camera1", index), "Camera1")
    await server.nodes.objects.add_object(ua.NodeId("Camera2", index), "Camera2")
    variables = {}
    for name, kind in KINDS.items():
        empty: Any = "" if kind == ua.VariantType.String else 0
        variables[name] = await camera.add_variable(ua.NodeId(name, index), name, empty, kind)
        await variables[name].set_writable()
    return server, variables


@pytest.mark.slow
def test_every_part_is_written_once_the_server_is_there_into_the_variables_that_it_has() -> None:
    port = free_port()
    address = f"opc.tcp://127.0.0.1:{port}/"

    async def watch() -> list[dict[str, Any]]:
        sink, other = OpcUa(f"{address}#ns=2;s=Camera1"), OpcUa(f"{address}#ns=2;s=Camera2")
        with pytest.raises(Unavailable, match="does not accept values"):
            await sink.take(part(1, score=4.5))
        server, variables = await plc(port)
        seen = []
        async with server:
            for each in (part(1, score=4.5), part(2, score=0.5), part(3, score=None)):
                await sink.take(each)
                seen.append({name: await variable.read_value() for name, variable in variables.items()})
            with pytest.raises(Unavailable, match="has no variable"):
                await other.take(part(1, score=0.5))
            await sink.close()
        return seen

    assert asyncio.run(watch()) == [
        {"id": 1, "verdict": "anomalous", "score": 4.5, "other": 0.0},
        {"id": 2, "verdict": "normal", "score": 0.5, "other": 0.0},
        {"id": 3, "verdict": "failed", "score": 0.0, "other": 0.0},
    ]


@pytest.mark.parametrize("url", ["opc.tcp://plc:4840", "http://plc#ns=2;s=A", "opc.tcp://plc:4840#nonsense"])
def test_an_address_that_is_none_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="--opcua"):
        OpcUa(url)
