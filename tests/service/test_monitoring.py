"""The dashboard and the alert rules in deploy/monitoring, with the service's real metrics and a real Prometheus."""

import json
import re
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.prometheus import LEAST_SCORES
from tests.service.conftest import MakeClient
from tests.service.files import to_npy
from tests.service.rawclient import post
from tests.service.slowmodel import ROOT, START_TIMEOUT_S, flat_png, service_process, until
from tests.service.toymodels import publish_toy

FOLDER = ROOT / "deploy" / "monitoring"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = json.loads((FOLDER / "grafana" / "hourglass.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def test_dashboard_and_alerts_ask_only_for_metrics_that_exist(models_dir: Path, make_client: MakeClient) -> None:
    publish_toy(models_dir)
    client = make_client()
    client.post("/anomaly", content=to_npy(np.zeros((LEAST_SCORES, 1, 4, 4), np.float32)))
    client.get("/nowhere")
    families = text_string_to_metric_families(client.get("/metrics").text)
    existing = {sample.name for family in families for sample in family.samples}

    asked = set(re.findall(r"\b(?:hourglass|process)_[a-z_]+", " ".join([*EXPRESSIONS, ALERTS.read_text()])))
    assert len(asked) >= 15
    assert asked <= existing


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus (Debian: apt install prometheus)")
def test_prometheus_scrapes_the_service_and_takes_dashboard_and_rules(models_dir: Path, tmp_path: Path) -> None:
    publish_toy(models_dir)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"

    def ask(path: str) -> Any:  # noqa: ANN401  JSON
        with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=60) as answer:
            return json.load(answer)["data"]

    def query(expression: str) -> list[Any]:
        found: list[Any] = ask("query?query=" + quote(expression.replace("$__rate_interval", "1m")))["result"]
        return found

    def is_scraped() -> bool:
        try:
            return bool(query('hourglass_requests_total{route="/denoise"}'))
        except OSError:  # it does not listen yet
            return False

    with service_process(models_dir, workers=2) as process:
        for _ in range(10):
            post(process.port, "/denoise", flat_png(4))
        config = (FOLDER / "prometheus.yml").read_text()
        for ours, here in (
            ("service:8000", f"127.0.0.1:{process.port}"),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
            ("/etc/prometheus/alerts.yml", str(ALERTS)),
        ):
            assert ours in config
            config = config.replace(ours, here)
        (tmp_path / "prometheus.yml").write_text(config)
        for kind, path in (("rules", ALERTS), ("config", tmp_path / "prometheus.yml")):
            subprocess.run(["promtool", "check", kind, str(path)], check=True, capture_output=True)
        command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        server = subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL)
        try:
            until(is_scraped)
            answered = query('sum(hourglass_requests_total{route="/denoise",status="200"})')
            for expression in EXPRESSIONS:
                query(expression)  # raises where Prometheus cannot read it
            rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
            targets = ask("targets")["activeTargets"]
        finally:
            server.terminate()
            server.wait(START_TIMEOUT_S)

    assert answered[0]["value"][1] == "10"
    assert [target["health"] for target in targets] == ["up"]
    assert {rule["name"] for rule in rules} >= {"HourglassDown", "HourglassRefuses", "HourglassDrifts"}
