"""Verdicts as MQTT messages, to a broker such as Mosquitto."""

import contextlib
import json
import os
import ssl
from urllib.parse import urlsplit

import aiomqtt

from hourglass_client.watch.part import Part
from hourglass_client.watch.sinks import Unavailable

_PORT_BY_SCHEME = {"mqtt": 1883, "mqtts": 8883}


class Mqtt:
    """Publishes every part as JSON with quality of service 1: repeated until the broker confirms it.

    Args:
        url: mqtt://HOST:PORT/TOPIC, or mqtts:// with TLS. `$HGCLIENT_MQTT_USER` and `$HGCLIENT_MQTT_PASSWORD` log in.

    Raises:
        ValueError: The URL is not such an address.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        topic = parts.path.removeprefix("/")
        if parts.scheme not in _PORT_BY_SCHEME or not parts.hostname or not topic:
            raise ValueError(f"--mqtt {url}: write mqtt://HOST:PORT/TOPIC, or mqtts:// with TLS")
        if "#" in url or "+" in topic:
            raise ValueError(f"--mqtt {url}: a topic to publish to must not contain # or +")
        self.name = f"mqtt {url}"
        self._url, self._topic = url, topic
        self._host, self._port = parts.hostname, parts.port or _PORT_BY_SCHEME[parts.scheme]
        self._tls = ssl.create_default_context() if parts.scheme == "mqtts" else None
        self._client: aiomqtt.Client | None = None

    async def take(self, part: Part) -> None:
        """Publish the part, and wait for the broker's confirmation."""
        try:
            if self._client is None:
                client = aiomqtt.Client(
                    self._host,
                    self._port,
                    username=os.environ.get("HGCLIENT_MQTT_USER"),
                    password=os.environ.get("HGCLIENT_MQTT_PASSWORD"),
                    tls_context=self._tls,
                )
                await client.__aenter__()
                self._client = client
            await self._client.publish(self._topic, json.dumps(part.document()), qos=1)
        except (aiomqtt.MqttError, OSError) as error:
            await self.close()
            raise Unavailable(f"{self._url} does not accept messages: {error}") from error

    async def close(self) -> None:
        """Disconnect from the broker."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(aiomqtt.MqttError, OSError):
                await client.__aexit__(None, None, None)
