"""What deploys the service holds together: every file is valid by its published schema, and every name in it exists."""

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate

from service.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSION = "1.35"  # the strict schemas refuse unknown members
OVERLAYS = sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml"))
Manifest = dict[str, Any]  # Any: YAML


def load(path: Path) -> Manifest:
    document: Manifest = yaml.safe_load(path.read_text())
    return document


# --- Kustomize: the few of its features that are used here ---


def built(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder."""
    recipe = load(folder / "kustomization.yaml")
    assert recipe.keys() <= {"apiVersion", "kind", "resources", "labels", "images", "patches"}
    found: list[Manifest] = []
    for name in recipe["resources"]:
        path = folder / name
        found += built(path) if path.is_dir() else [load(path)]
    for patch in recipe.get("patches", []):
        (target,) = [
            m for m in found if (m["kind"], m["metadata"]["name"]) == (patch["target"]["kind"], patch["target"]["name"])
        ]
        for step in yaml.safe_load(patch["patch"]):
            apply(target, step)
    for label in recipe.get("labels", []):
        for manifest in found:
            add_labels(manifest, label["pairs"])
    for image in recipe.get("images", []):
        for container in [c for m in found for c in containers(m)]:
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    return found


def apply(manifest: Manifest, step: dict[str, Any]) -> None:
    """One step of a JSON patch (RFC 6902), as far as `add` and `replace` go."""
    *parents, last = (part.replace("~1", "/") for part in step["path"].split("/")[1:])
    place: Any = manifest
    for part in parents:
        place = place[int(part) if isinstance(place, list) else part]
    if isinstance(place, list):
        assert (step["op"], last) == ("add", "-")
        place.append(step["value"])
    else:
        assert step["op"] == "add" or last in place
        place[last] = step["value"]


def add_labels(manifest: Manifest, pairs: dict[str, str]) -> None:
    manifest["metadata"].setdefault("labels", {}).update(pairs)
    spec = manifest["spec"]
    match manifest["kind"]:
        case "Deployment":
            spec.setdefault("selector", {}).setdefault("matchLabels", {}).update(pairs)
            spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(pairs)
        case "Service":
            spec.setdefault("selector", {}).update(pairs)
        case "PodDisruptionBudget":
            spec.setdefault("selector", {}).setdefault("matchLabels", {}).update(pairs)
        case "NetworkPolicy":
            spec["podSelector"].setdefault("matchLabels", {}).update(pairs)


def pod_specs(manifest: Manifest) -> list[Manifest]:
    spec = manifest["spec"]
    match manifest["kind"]:
        case "Deployment" | "Job":
            return [spec["template"]["spec"]]
        case "PyTorchJob":
            return [replica["template"]["spec"] for replica in spec["pytorchReplicaSpecs"].values()]
        case "ServingRuntime":
            return [{name: spec[name] for name in ("containers", "volumes")}]
    return []


def containers(manifest: Manifest) -> list[Manifest]:
    return [container for spec in pod_specs(manifest) for container in spec["containers"]]


def everything() -> dict[str, Manifest]:
    found = {}
    for overlay in OVERLAYS:
        for manifest in built(KUBERNETES / overlay):
            found[f"{overlay} {manifest['kind']}"] = manifest
    for path in (KUBERNETES / "training").glob("*.yaml"):
        manifest = load(path)
        found[f"training {manifest['kind']}"] = manifest
    return found


MANIFESTS = everything()
OURS = {"serving.kserve.io", "kubeflow.org"}  # their schemas are in no package; their pods are checked below


def is_core(manifest: Manifest) -> bool:
    return manifest["apiVersion"].partition("/")[0] not in OURS


@pytest.mark.parametrize("name", [name for name, manifest in MANIFESTS.items() if is_core(manifest)])
def test_a_manifest_is_what_the_api_of_kubernetes_takes(name: str) -> None:
    validate(MANIFESTS[name], VERSION, strict=True)


@pytest.mark.parametrize("name", [name for name, manifest in MANIFESTS.items() if pod_specs(manifest)])
def test_every_pod_is_valid_and_has_no_rights(name: str) -> None:
    for spec in pod_specs(MANIFESTS[name]):
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}, VERSION, strict=True)
        mounted = {volume["name"] for volume in spec.get("volumes", [])}
        for container in spec["containers"]:
            security = {**spec.get("securityContext", {}), **container["securityContext"]}
            assert security["runAsNonRoot"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"]["drop"] == ["ALL"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounted
            assert "memory" in container["resources"]["limits"]


def test_the_schemas_refuse_what_is_wrong() -> None:
    wrong = copy.deepcopy(MANIFESTS["base Deployment"])
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}

    with pytest.raises(Exception, match="readynessProbe"):
        validate(wrong, VERSION, strict=True)


def test_selectors_find_the_pods_and_the_drain_fits_into_the_grace_period() -> None:
    deployment = MANIFESTS["base Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = MANIFESTS[f"base {kind}"]["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        assert (selector.get("matchLabels") or selector).items() <= labels.items()
    spec = deployment["template"]["spec"]
    (container,) = spec["containers"]
    environ = {variable["name"]: variable.get("value") for variable in container["env"]}
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause + int(environ["HOURGLASS_GRACE_S"]) < spec["terminationGracePeriodSeconds"]
    assert MANIFESTS["queue-depth HorizontalPodAutoscaler"]["spec"]["metrics"][1]["type"] == "Pods"
    assert container["image"] == "hourglass:0.1.0"
    assert containers(MANIFESTS["gpu Deployment"])[0]["image"] == "hourglass:0.1.0-cuda"


def test_every_setting_that_is_named_exists() -> None:
    texts = [path.read_text() for path in KUBERNETES.rglob("*.yaml")]
    texts += [(ROOT / name).read_text() for name in ("docker-compose.yml", "service/Dockerfile", "training/Dockerfile")]

    named = set(re.findall(rf"\b{PREFIX}([A-Z_]+)\b", "\n".join(texts)))
    assert len(named) >= 5
    assert {name.lower() for name in named} <= set(Settings.model_fields)


# --- containers ---


def test_the_compose_file_is_valid_by_the_published_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]

    done = subprocess.run([*command, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_what_compose_mounts_and_builds_is_there() -> None:
    services = load(ROOT / "docker-compose.yml")["services"]

    for service in services.values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith("./deploy") or (ROOT / source).exists()
        if "build" in service:
            text = (ROOT / service["build"]["dockerfile"]).read_text()
            target = service["build"].get("target")
            assert target is None or f" AS {target}\n" in text
    assert {profile for service in services.values() for profile in service.get("profiles", [])} == {
        "gpu",
        "training",
        "monitoring",
        "prune",
    }
    assert services["training"]["volumes"][0] == "models:/app/models"
    assert services["service"]["volumes"] == ["models:/app/models:ro", "collections:/app/collections"]


@pytest.mark.parametrize("name", ["service", "training"])
def test_a_dockerfile_copies_only_what_is_let_in_and_ends_without_root(name: str) -> None:
    text = (ROOT / name / "Dockerfile").read_text()
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    lines = re.findall(r"^COPY (?!--from)(?:--chown=\S+ )?(.*)", text, re.MULTILINE)
    copied = [source for line in lines for source in line.split()[:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert source.split("/")[0] in let_in
    assert re.findall(r"^USER (.*)", text, re.MULTILINE) == ["10001:10001"]


def owners(name: str) -> dict[str, int]:
    """Who owns the folders below /app in an image, as its Dockerfile makes them; "USER" is who runs there."""
    found: dict[str, int] = {}
    text = (ROOT / name / "Dockerfile").read_text().replace("\\\n", " ")
    for instruction, rest in re.findall(r"^(COPY|RUN|USER) (.*)", text, re.MULTILINE):
        words = rest.split()
        if instruction == "USER":
            found["USER"] = int(words[0].partition(":")[0])
        elif instruction == "COPY":
            option = next((word for word in words if word.startswith("--chown=")), "--chown=0")
            found.setdefault(words[-1], int(option.removeprefix("--chown=").partition(":")[0]))
        for group in re.findall(r"mkdir ([a-z ]+?)(?: &&|$)", rest):
            found |= dict.fromkeys(group.split(), 0)
        for uid, group in re.findall(r"chown (\d+):\d+ ([a-z ]+?)(?: &&|$)", rest):
            found |= dict.fromkeys(group.split(), int(uid))
    return found


# What `training.publish` does: a hidden folder, the files, and one rename.
PUBLISH = (
    "mkdir -p {home} && mkdir {home}/.tmp-1 && echo '{{}}' >{home}/.tmp-1/manifest.json && mv {home}/.tmp-1 {home}/{v}"
)


def test_the_training_may_publish_into_the_volume_whichever_container_has_filled_it() -> None:
    services = load(ROOT / "docker-compose.yml")["services"]
    mounts = {name: next((v for v in s["volumes"] if v.startswith("models:")), None) for name, s in services.items()}

    assert {name for name, mount in mounts.items() if mount == "models:/app/models"} == {"training", "prune"}
    assert {name for name, mount in mounts.items() if mount == "models:/app/models:ro"} == {"service", "service-gpu"}
    assert owners("service")["models"] == owners("training")["models"] == owners("training")["USER"]
    assert owners("service")["collections"] == owners("service")["USER"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as other users")
@pytest.mark.parametrize("first", ["service", "training"])
def test_what_the_training_publishes_is_read_by_the_service_as_their_users_are(first: str) -> None:
    with tempfile.TemporaryDirectory(prefix="hourglass-volume-") as folder:  # pytest's own folders let in nobody else
        Path(folder).chmod(0o755)
        volume = Path(folder) / "models"
        shipped = volume / "digits" / "5"
        shipped.mkdir(parents=True)
        for path in (volume, shipped.parent, shipped):
            os.chown(path, owners(first)["models"], owners(first)["models"])

        def act(name: str, script: str) -> subprocess.CompletedProcess[str]:
            uid = owners(name)["USER"]
            as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh", "-c", script]
            return subprocess.run(as_user, capture_output=True, text=True, check=False)

        new = act("training", PUBLISH.format(home=volume / "mine", v=1))
        next_one = act("training", PUBLISH.format(home=volume / "digits", v=6))
        read = act("service", f"cat {volume}/mine/1/manifest.json {volume}/digits/6/manifest.json")
        gone = act("service", f"mv {shipped} {shipped.parent}/.pruned-5 && rm -r {shipped.parent}/.pruned-5")

    assert (new.stderr, next_one.stderr, read.stdout, gone.stderr) == ("", "", "{}\n{}\n", "")


def test_new_shipped_models_are_added_to_an_old_volume_and_nothing_else_changes(tmp_path: Path) -> None:
    image, volume = tmp_path / "image", tmp_path / "volume"
    for version, content in (("digits/5", "old"), ("digits/6", "new"), ("scan/1", "new")):
        (image / version).mkdir(parents=True)
        (image / version / "manifest.json").write_text(content)
    (volume / "digits" / "5").mkdir(parents=True)
    (volume / "digits" / "5" / "manifest.json").write_text("mine")

    command = ["sh", str(ROOT / "deploy" / "add-models.sh"), str(image), str(volume)]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]

    assert said == ["digits/6\nscan/1\n", ""]
    found = {path.relative_to(volume).as_posix(): path.read_text() for path in volume.rglob("*.json")}
    assert found == {
        "digits/5/manifest.json": "mine",
        "digits/6/manifest.json": "new",
        "scan/1/manifest.json": "new",
    }
    assert not list(volume.rglob(".*"))


def test_the_service_image_has_no_pytorch() -> None:
    text = (ROOT / "service" / "Dockerfile").read_text()

    assert "training]" not in text
    assert json.dumps(re.findall(r"pip install.*", text)).count("torch") == 0


REQUIREMENTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/requirements*.txt"))


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_what_an_image_installs_has_one_version_and_a_hash(name: str) -> None:
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    version_by_name = {key.lower().replace("_", "-"): version for key, version in constraints.items()}
    text = (ROOT / name).read_text().replace("\\\n", " ")

    pins = [re.fullmatch(r"([a-z0-9.-]+)==(\S+) +--hash=sha256:[0-9a-f]{64}", line) for line in text.splitlines()[1:]]

    assert pins
    assert all(pins)
    for pin in pins:
        assert pin is not None
        assert pin[2] == version_by_name.get(pin[1], pin[2]) or "build" in name, pin[0]


@pytest.mark.parametrize(("name", "extras"), [("service", ["tracing", "postgres"]), ("training", ["training"])])
def test_the_hashes_cover_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    found = set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / name / "requirements.txt").read_text(), re.MULTILINE))

    names = {re.split(r"[\[;<>=! ]", line)[0].lower().replace("_", "-") for line in asked}
    assert names - found == ({"torch"} if name == "training" else set())


def test_images_install_nothing_without_a_hash() -> None:
    service = re.findall(r"pip install (.*)", (ROOT / "service" / "Dockerfile").read_text())
    training = re.findall(r"pip install (.*)", (ROOT / "training" / "Dockerfile").read_text())

    assert all("--require-hashes" in line or "--no-deps /wheels/" in line for line in service)
    assert [line for line in training if "--require-hashes" not in line] == ["--no-cache-dir -c constraints.txt torch"]


def test_images_of_others_are_pinned_by_digest() -> None:
    bases = {
        re.findall(r"^ARG PYTHON=(\S+)", (ROOT / name / "Dockerfile").read_text(), re.MULTILINE)[0]
        for name in ("service", "training")
    }
    services = load(ROOT / "docker-compose.yml")["services"].values()
    others = bases | {service["image"] for service in services if not service["image"].startswith("hourglass")}

    assert len(bases) == 1  # one base for both
    assert len(others) == 3
    assert all(re.fullmatch(r"[a-z/]+:\S+@sha256:[0-9a-f]{64}", image) for image in others), others
