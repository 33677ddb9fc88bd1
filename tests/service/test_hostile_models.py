"""Harmful model versions stay out and take nothing down: the version before goes on answering."""

import contextlib
import hashlib
import json
import math
import os
import re
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from starlette.testclient import TestClient

from service.contract.manifest import MANIFEST_FILE
from service.contract.tables import TABLES_FILE, RatePoint, digest_of
from service.contract.version import TABLES, manifest_of, tables_of
from service.errors import ModelRejected
from service.limits import Limits, ProbeLimits
from service.models.loading import load_model
from service.models.onnx_guard import check_onnx
from service.models.probe import Child, Outcome, probe
from service.models.provider import CPU
from service.models.session import Session
from tests.service.conftest import MakeClient
from tests.service.files import pixels_of, png
from tests.service.toymodels import Axis, make_graph, publish_codec, publish_toy, replace_graph, toy_graphs

LEVEL = png(np.full((4, 4), 200, np.uint8))
SHAPE: list[Axis] = ["n", 1, 4, 4]
LIMITS = Limits(threads=1, max_batch=64, max_pixels=25_000_000)
MEMORY_BYTES = 600 * 2**20
node = helper.make_node


def graph_of(*nodes: onnx.NodeProto, **constants: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> bytes:
    return make_graph(nodes, {"x": SHAPE}, {"x_hat": SHAPE}, dict(constants))


SOUND = graph_of(node("Mul", ["x", "half"], ["x_hat"]), half=np.array(0.5, np.float32))


def edited(change: Callable[[onnx.ModelProto], object], content: bytes = SOUND) -> bytes:
    """An ONNX file after a change; unlike `make_graph`, nothing checks it."""
    model = onnx.load_from_string(content)
    change(model)
    changed: bytes = model.SerializeToString()
    return changed


def loop() -> bytes:
    """Doubles x 2**62 times."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Add", ["y", "y"], ["y_next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y_next", TensorProto.FLOAT, SHAPE),
        ],
    )
    constants = {"times": np.array(2**62, np.int64), "yes": np.array(1, np.bool_)}
    return graph_of(node("Loop", ["times", "yes", "x"], ["x_hat"], body=body), **constants)


def branch() -> bytes:
    halves = [
        helper.make_graph(
            [node("Mul", ["x", "half"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)],
        )
        for name in ("then", "else")
    ]
    return graph_of(
        node("If", ["yes"], ["x_hat"], then_branch=halves[0], else_branch=halves[1]),
        yes=np.array(1, np.bool_),
        half=np.array(0.5, np.float32),
    )


def external(model: onnx.ModelProto, location: str = "../../../../etc/passwd") -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)


def memory_bomb() -> bytes:
    """Fills 8 GiB with zeros on every run, and adds one of them to x."""
    return graph_of(
        node("Shape", ["x"], ["shape"]),
        node("Mul", ["shape", "factors"], ["huge"]),  # from the input, or onnxruntime would do it while loading
        node("ConstantOfShape", ["huge"], ["zeros"]),
        node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        node("Add", ["x", "zero"], ["x_hat"]),
        factors=np.array([1, 2**10, 2**9, 2**6], np.int64),
    )


def time_bomb() -> bytes:
    """Multiplies 3000 x 3000 matrices a thousand times: hours, in little memory."""
    nodes = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Expand", ["most", "size"], ["m0"]),
        *(node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(1000)),
        node("ReduceMin", ["m1000"], ["least"], keepdims=0),
        node("Add", ["x", "least"], ["x_hat"]),
    ]
    return graph_of(*nodes, size=np.array([3000, 3000], np.int64))


def weight_of(*values: float, dtype: type[np.floating] = np.float32) -> bytes:
    """x + max(w) where w has these values besides 0; NaN in a place that this never looks at."""
    return graph_of(
        node("Gather", ["w", "zero"], ["first"]),
        node("Cast", ["first"], ["float"], to=TensorProto.FLOAT),
        node("Add", ["x", "float"], ["x_hat"]),
        w=np.array([0, *values], dtype),
        zero=np.array(0, np.int64),
    )


def half_as_varints(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT16, [3], [0, float("nan"), 0]))


def twice_the_graph(model: onnx.ModelProto) -> bytes:
    """Protobuf merges the two, and the second has all the harm."""
    content: bytes = (
        model.SerializeToString() + onnx.ModelProto(graph=onnx.load_from_string(loop()).graph).SerializeToString()
    )
    return content


def huge_dimensions(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [2**31, 2**31]


HARMFUL = {
    "a loop": (loop(), "operator Loop runs a subgraph"),
    "a branch": (branch(), "operator If runs a subgraph"),
    "a subgraph in an operator without": (
        edited(
            lambda m: m.graph.node[0].attribute.append(
                helper.make_attribute("body", onnx.load_from_string(loop()).graph)
            )
        ),
        "attribute 'body' of 'Mul' is a subgraph",
    ),
    "an operator of another domain": (
        edited(lambda m: setattr(m.graph.node[0], "domain", "com.microsoft")),
        "operator 'com.microsoft.Mul' is not an ONNX operator",
    ),
    "a function": (edited(lambda m: m.functions.add(name="f", domain="")), "has functions"),
    "weights in another file": (edited(external), "tensor 'half' has its data in another file"),
    "a constant in another file": (
        edited(
            lambda m: m.graph.node[0].attribute.append(
                helper.make_attribute("value", TensorProto(name="c", data_type=1, data_location=TensorProto.EXTERNAL))
            )
        ),
        "tensor 'c' has its data in another file",
    ),
    "more elements than data": (edited(huge_dimensions), "tensor 'half' says it has 4611686018427387904 elements"),
    "a negative size": (
        edited(lambda m: m.graph.initializer[0].dims.append(-1)),
        "tensor 'half' has the shape [18446744073709551615]",
    ),
    "two graphs to be merged": (twice_the_graph(onnx.load_from_string(SOUND)), "cannot be read as ONNX"),
    "strings": (
        edited(lambda m: m.graph.initializer.append(numpy_helper.from_array(np.array(["a"], object), "s"))),
        "tensor 's' has data type 8",
    ),
    "a NaN nobody looks at": (weight_of(float("nan")), "tensor 'w' has 1 of 2 values NaN or infinite"),
    "infinity": (weight_of(1, -float("inf")), "tensor 'w' has 1 of 3 values NaN or infinite"),
    "a double NaN": (weight_of(float("nan"), dtype=np.float64), "tensor 'w' has 1 of 2 values"),
    "a half NaN": (weight_of(float("nan"), dtype=np.float16), "tensor 'w' has 1 of 2 values"),
    "a half NaN as an integer": (edited(half_as_varints, weight_of(1, 2, dtype=np.float16)), "tensor 'w' has 1 of 3"),
    "a NaN attribute": (
        graph_of(node("LeakyRelu", ["x"], ["x_hat"], alpha=float("nan"))),
        "attribute 'alpha' of 'LeakyRelu' has 1 of 1 values NaN or infinite",
    ),
    "nothing": (b"", "cannot be read as ONNX"),
    "onnxruntime's own format": (struct.pack("<I", 24) + b"ORTM" + bytes(64), "cannot be read as ONNX"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_graph_is_refused_by_its_bytes_with_a_reason(name: str) -> None:
    content, reason = HARMFUL[name]

    with pytest.raises(ModelRejected) as refusal:
        check_onnx(content)

    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    "content", [SOUND, *toy_graphs(1, 4, 4).values(), weight_of(1), weight_of(1, dtype=np.float16)]
)
def test_a_sound_graph_passes(content: bytes) -> None:
    check_onnx(content)


def test_no_damage_to_an_onnx_file_makes_the_check_fail_otherwise() -> None:
    rng = np.random.default_rng(0)
    content = np.frombuffer(toy_graphs(1, 4, 4)["decode"], np.uint8)
    refused = 0

    for _ in range(3000):
        damaged = content[: rng.integers(1, len(content) + 1)].copy()
        damaged[rng.integers(len(damaged), size=3)] = rng.integers(256, size=3)
        try:
            check_onnx(damaged.tobytes())
        except ModelRejected:
            refused += 1

    assert refused > 1500


BOMBS = {
    "memory": (memory_bomb(), 30, "(setting probe_memory_bytes)"),
    "time": (time_bomb(), 6, "takes more than 6 s (setting probe_timeout_s)"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_goes_off_in_the_child_while_the_version_before_answers(
    models_dir: Path, make_client: MakeClient, name: str
) -> None:
    bomb, timeout_s, reason = BOMBS[name]
    publish_toy(models_dir, tasks=["denoise"])
    client = make_client(watch_interval_s=0.02, probe_memory_bytes=MEMORY_BYTES, probe_timeout_s=timeout_s)
    before_bytes = resident_bytes()

    replace_graph(publish_toy(models_dir, version=2, tasks=["denoise"]), "denoise", bomb)

    answered = -1  # before the version was judged; the last answer may have come after
    deadline = time.monotonic() + 300  # only a failing test waits so long
    while not (found := rejected(client)):
        assert time.monotonic() < deadline, "it was never judged"
        response = client.post("/denoise", content=LEVEL)
        answered += 1
        assert response.headers["x-model"] == "toy/1"
        assert (pixels_of(response.content) == 100).all()
    assert reason in found["toy/2"]
    assert answered > 0  # a child needs a second to start, an answer some milliseconds
    assert resident_bytes() - before_bytes < 100 * 2**20


def test_one_bomb_among_new_models_takes_no_other_with_it(models_dir: Path, make_client: MakeClient) -> None:
    for name in ("a", "c"):
        publish_toy(models_dir, name=name, tasks=["denoise"])
    replace_graph(publish_toy(models_dir, name="b", tasks=["denoise"]), "denoise", time_bomb())

    client = make_client(probe_memory_bytes=MEMORY_BYTES, probe_timeout_s=5)
    wait_until(lambda: client.get("/health/ready").status_code == 200)

    assert [model["name"] for model in client.get("/models").json()] == ["a", "c"]
    assert list(rejected(client)) == ["b/1"]


def probed(*directories: Path, memory_bytes: int = MEMORY_BYTES) -> list[Outcome]:
    allowed = ProbeLimits(memory_bytes, timeout_s=30)
    return list(probe(directories, limits=LIMITS, allowed=allowed, stop=threading.Event()))


def test_a_child_that_is_killed_is_a_rejection_and_the_next_directory_gets_another(models_dir: Path) -> None:
    good = publish_toy(models_dir)
    crashing = publish_toy(models_dir, version=2)
    (crashing / "manifest.json").unlink()
    os.mkfifo(crashing / "manifest.json")  # reading it never ends, so no outcome comes
    allowed = ProbeLimits(MEMORY_BYTES, timeout_s=5)

    outcomes = list(probe([good, crashing, good], limits=LIMITS, allowed=allowed, stop=threading.Event()))

    assert [outcome.reason is None for outcome in outcomes] == [True, False, True]
    assert "takes more than 5 s" in str(outcomes[1].reason)


def test_a_child_that_was_started_early_is_used_only_for_what_it_looks_at(models_dir: Path) -> None:
    old, new = publish_toy(models_dir), publish_toy(models_dir, version=2)
    allowed = ProbeLimits(MEMORY_BYTES, timeout_s=30)
    stop = threading.Event()
    early = [Child([directory], LIMITS, allowed) for directory in (old, new)]

    for child in early:
        (outcome,) = probe([new], limits=LIMITS, allowed=allowed, stop=stop, first=child)
        assert outcome.reason is None

    assert [child.directories for child in early] == [[old], [new]]
    wait_until(lambda: not any(find_child(str(directory)) for directory in (old, new)))


def test_a_child_that_cannot_even_start_is_a_rejection_that_names_the_setting(models_dir: Path) -> None:
    (outcome,) = probed(publish_toy(models_dir), memory_bytes=16 * 2**20)  # less than Python itself takes

    assert "signal" in str(outcome.reason) or "exit status" in str(outcome.reason)
    assert "probe_memory_bytes" in str(outcome.reason)


def test_the_child_has_its_limits_and_none_of_our_secrets(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURGLASS_API_KEYS", "correct-horse-battery")
    directory = publish_toy(models_dir, tasks=["denoise"])
    replace_graph(directory, "denoise", time_bomb())
    stop, found = threading.Event(), {}

    def look() -> None:
        wait_until(lambda: find_child(str(directory)) is not None)
        process = find_child(str(directory))
        assert process is not None
        wait_until(lambda: "1000" in (process / "oom_score_adj").read_text())
        for name in ("limits", "environ"):
            found[name] = (process / name).read_text()
        stop.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    list(probe([directory], limits=LIMITS, allowed=ProbeLimits(MEMORY_BYTES, timeout_s=60), stop=stop))
    watcher.join()

    assert re.search(rf"Max address space +{MEMORY_BYTES} ", found["limits"])
    assert re.search(r"Max cpu time +60 ", found["limits"])
    assert re.search(r"Max file size +0 ", found["limits"])
    assert "HOURGLASS" not in found["environ"]


def test_a_stop_ends_the_child_at_once(models_dir: Path) -> None:
    directory = publish_toy(models_dir, tasks=["denoise"])
    replace_graph(directory, "denoise", time_bomb())
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()

    outcomes = list(probe([directory], limits=LIMITS, allowed=ProbeLimits(MEMORY_BYTES, timeout_s=60), stop=stop))

    assert outcomes == []
    assert time.monotonic() - started < 30  # half of what it may take


def test_a_manifest_that_changed_after_the_probe_is_not_loaded(models_dir: Path) -> None:
    directory = publish_toy(models_dir)
    (outcome,) = probed(directory)
    (directory / "manifest.json").write_text((directory / "manifest.json").read_text() + "\n")

    with pytest.raises(ModelRejected, match="was changed while"):
        load_model(directory, provider=CPU, limits=LIMITS, manifest_sha256=outcome.manifest_sha256)


def find_child(directory: str) -> Path | None:
    """The folder in /proc of the process that tries this directory."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text()
            if "service.models.probe_child" in command and directory in command:
                return process
    return None


def rejected(client: TestClient) -> dict[str, str]:
    document = client.get("/health/ready").json()
    return {f"{entry['name']}/{entry['version']}": entry["reason"] for entry in document["rejected"]}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def with_compression(directory: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A codec whose manifest says something else of its compression."""
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return directory


def other_table(document: dict[str, Any]) -> None:
    """One count moved from a symbol to another; the digest is right again."""
    counts = document["compression"]["rates"][0]["tables"][0]["counts"]
    counts[0], counts[1] = counts[0] - 5000, counts[1] + 5000
    rates = tuple(RatePoint.model_validate(point) for point in document["compression"]["rates"])
    document["compression"]["tables_sha256"] = digest_of(rates)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["compression"]["rates"][0]["tables"][0]["counts"].append(1), "counts of a table sum to 65537"),
        (lambda d: d["compression"]["rates"][0]["tables"][0].update(counts=[-1, 65537]), "greater than 0"),
        (lambda d: d["compression"]["rates"][0]["tables"][0].update(first=2**40), "less than or equal"),
        (lambda d: d["compression"]["rates"][0]["tables"].pop(), "a table for every latent"),
        (lambda d: d["compression"].update(tables_sha256="0" * 64), "tables have sha256"),
        (lambda d: d["compression"].update(default_rate=2), "there are 2 rates"),
        (lambda d: d["compression"].update(golden="00"), "does not decode to|cannot be read"),
        (lambda d: d["compression"].update(golden="ff" * 9000), "cannot be read"),
        (other_table, "does not decode to|cannot be read"),
        (lambda d: d.update(compression=None), "and the reverse"),
        (lambda d: d["tasks"].pop("compress"), "and the reverse"),
        (lambda d: d["input"].update(height=None, width=None), "or one size"),
    ],
)
def test_a_codec_whose_tables_are_not_what_they_should_be_stays_out(
    models_dir: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    directory = with_compression(publish_codec(models_dir), change)

    with pytest.raises(ModelRejected, match=message):
        load_model(directory, provider=CPU, limits=LIMITS)


def with_tables_file(directory: Path, content: bytes | None = None) -> Path:
    """A codec whose tables are in `tables.json`, with another content if given."""
    manifest = manifest_of(directory)
    (directory / MANIFEST_FILE).write_text(manifest.model_dump_json(exclude=TABLES))
    (directory / TABLES_FILE).write_bytes(tables_of(manifest) or b"" if content is None else content)
    return directory


def test_tables_may_be_in_a_file_of_their_own(models_dir: Path) -> None:
    inline = manifest_of(publish_codec(models_dir))

    model = load_model(with_tables_file(models_dir / "codec" / "1"), provider=CPU, limits=LIMITS)

    assert model.manifest == inline


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "tables.json does not have the tables"),
        (b"[]", "tables.json does not have the tables"),
        (b"[1, 2]", "tables.json does not have the tables"),
        (b"{}", "tables.json does not have the tables"),
        (b'[{"tables": []}, {"tables": []}]', "tables.json does not have the tables"),
        (b'[{"tables": [], "chroma": []}, {"tables": [], "chroma": []}]', "a rate has no tables"),
        (b"[" * 100_000, "recursion limit exceeded"),
    ],
)
def test_a_codec_with_another_file_of_tables_stays_out(models_dir: Path, content: bytes, message: str) -> None:
    directory = with_tables_file(publish_codec(models_dir), content)

    with pytest.raises(ModelRejected, match=message):
        load_model(directory, provider=CPU, limits=LIMITS)


def test_a_codec_without_its_file_of_tables_stays_out(models_dir: Path) -> None:
    directory = with_tables_file(publish_codec(models_dir))
    (directory / TABLES_FILE).unlink()

    with pytest.raises(ModelRejected, match=r"a rate has no tables; is tables\.json missing\?"):
        load_model(directory, provider=CPU, limits=LIMITS)


def test_a_codec_whose_graph_has_other_symbols_than_tables_stays_out(models_dir: Path) -> None:
    directory = publish_codec(models_dir)

    def fewer(document: dict[str, Any]) -> None:
        rates = document["compression"]["rates"]
        for point in rates:
            point["tables"].pop()
        found = tuple(RatePoint.model_validate(point) for point in rates)
        document["compression"]["tables_sha256"] = digest_of(found)

    with pytest.raises(ModelRejected, match="its input, latent and tables say"):
        load_model(with_compression(directory, fewer), provider=CPU, limits=LIMITS)


@pytest.mark.parametrize("rate", [0.5, 7.0, -1.0, math.nan])
def test_a_codec_whose_golden_sample_has_a_rate_that_is_none_stays_out(models_dir: Path, rate: float) -> None:
    directory = publish_codec(models_dir)
    with np.load(directory / "golden.npz") as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    session = Session((directory / "decompress.onnx").read_bytes(), provider=CPU, threads=1)
    golden["decompress.rate"] = np.full(2, rate, np.float32)
    (golden["decompress.x_hat"],) = session.run(golden["decompress.symbols"], golden["decompress.rate"])
    np.savez(directory / "golden.npz", **golden)
    sha256 = hashlib.sha256((directory / "golden.npz").read_bytes()).hexdigest()
    with_compression(directory, lambda document: document["golden"].update(sha256=sha256))

    with pytest.raises(ModelRejected, match=r"rates|differs by"):
        load_model(directory, provider=CPU, limits=LIMITS)
