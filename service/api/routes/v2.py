"""The Open Inference Protocol, for clients of Triton and KServe: docs/v2.md.

Its names are not on the API page: it has a description and clients of its own.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from service import __version__
from service.api.open_inference import LENGTH_HEADER, Infer, InferAnswer, json_length
from service.api.responses import json_response
from service.api.route import AdmittedRoute
from service.api.service import Service, reserve, service_of
from service.contract.manifest import TASKS, Task, TensorSpec
from service.errors import InvalidParameter, MalformedBody, ModelNotFound, UnloadRefused, shown
from service.http.admission import slot_of
from service.http.body import ORDER_CAP, check_size, file_cap, json_cap, parse_json, read_raw_body
from service.http.content_coding import choose, decode
from service.http.sent import header
from service.media_types import JSON_TYPE
from service.models.model import Model
from service.tasks.cost import cost_of_rows
from service.telemetry.counters import State

Json = dict[str, Any]  # Any: an answer of any depth

_PLATFORM = "onnxruntime_onnx"
_LENGTH = LENGTH_HEADER.lower().encode()  # as it is in a scope
_SMALL_BYTES = 16_384  # read where they arrive: going to a thread takes longer
_EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]


def _no_query(request: Request) -> None:
    if request.query_params:
        raise InvalidParameter(f"the address has a query, {shown(str(request.query_params))}; no parameter is accepted")


router = APIRouter(prefix="/v2", include_in_schema=False, dependencies=[Depends(_no_query)])


def _admitted(method: str, *paths: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an endpoint that opens a model or reads a body. Health must answer without a place in the queue."""

    def register(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        for path in paths:
            router.add_api_route(
                path, endpoint, methods=[method], response_class=Response, route_class_override=AdmittedRoute
            )
        return endpoint

    return register


def _of_model(method: str, suffix: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an endpoint for a model and for one of its versions."""
    return _admitted(method, *(path + suffix for path in ("/models/{name}", "/models/{name}/versions/{version}")))


async def _find(service: Service, name: str, version: str | None) -> tuple[Model, Task]:
    """Find the model and task of a name such as `digits.denoise`.

    Raises:
        ModelNotFound, VersionNotFound, NotReady: There is none, or not yet.
    """
    model_name, _, task_name = name.rpartition(".")
    registry = service.registry
    task = next((task for task in TASKS if task == task_name), None)
    if task is None:
        offered = [f"{n}.{t}" for n, m in sorted(registry.snapshot.model_by_name.items()) for t in m.manifest.tasks]
        raise ModelNotFound(f"no model {shown(name)}; a name is <model>.<task>: {', '.join(offered) or 'none is live'}")
    if version is not None and not (version.isascii() and version.isdigit() and len(version) < 10):
        raise ModelNotFound(f"model {shown(name)} has no version {shown(version)}; versions are whole numbers")
    model = await registry.find_version(registry.snapshot, model_name, int(version) if version else None)
    if task not in model.manifest.tasks:
        offered = [f"{model_name}.{other}" for other in model.manifest.tasks]
        raise ModelNotFound(f"no model {shown(name)}; there are {', '.join(offered)}")
    return model, task


@router.get("")
async def server() -> Response:
    """Return the name and version of the server."""
    return json_response({"name": "hourglass", "version": __version__, "extensions": _EXTENSIONS})


@router.get("/health/live")
async def live() -> Response:
    """Check that the process answers."""
    return json_response({"live": True})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """Check that at least one model is live and the service is not stopping."""
    service = service_of(request)
    service.admission.refuse_if_draining()
    service.registry.refuse_if_empty()
    return json_response({"ready": True})


@router.get("/models/stats")
async def all_statistics(request: Request) -> Response:
    """Return counts and times of every task of every live model."""
    service = service_of(request)
    state = await service.metrics.share()
    live = sorted(service.registry.snapshot.model_by_name.items())
    return json_response(
        {"model_stats": [_stats(state, model, task) for _, model in live for task in model.manifest.tasks]}
    )


@_of_model("GET", "/ready")
async def model_ready(request: Request, name: str, version: str | None = None) -> Response:
    """Check that the model is live."""
    await _find(service_of(request), name, version)
    return json_response({"name": name, "ready": True})


@_of_model("GET", "")
async def model_metadata(request: Request, name: str, version: str | None = None) -> Response:
    """Return the versions and tensors of a model; -1 is any size."""
    service = service_of(request)
    model, task = await _find(service, name, version)
    graph = model.manifest.tasks[task]
    return json_response(
        {
            "name": name,
            "versions": [str(v) for v in service.registry.snapshot.versions_by_name[model.manifest.name]],
            "platform": _PLATFORM,
            "inputs": [_tensor(spec) for spec in graph.inputs],
            "outputs": [_tensor(spec) for spec in graph.outputs],
        }
    )


@_of_model("GET", "/config")
async def model_config(request: Request, name: str, version: str | None = None) -> Response:
    """Return the configuration as in Triton's config.pbtxt. `dims` leaves out the first axis, the batch."""
    service = service_of(request)
    model, task = await _find(service, name, version)
    graph, settings = model.manifest.tasks[task], service.settings

    def described(spec: TensorSpec) -> Json:
        return {"name": spec.name, "data_type": "TYPE_FP32", "dims": _shape(spec)[1:]}

    return json_response(
        {
            "name": name,
            "platform": _PLATFORM,
            "backend": "onnxruntime",
            "max_batch_size": settings.max_images,
            "input": [described(spec) for spec in graph.inputs],
            "output": [described(spec) for spec in graph.outputs],
            "dynamic_batching": {"max_queue_delay_microseconds": 0},
            "version_policy": {"all": {}},
        }
    )


@_of_model("POST", "/infer")
async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Run the graph on the inputs and return its outputs."""
    service = service_of(request)
    model, task = await _find(service, name, version)
    length = json_length(header(request.scope, _LENGTH))
    settings = service.settings
    cap = json_cap(settings) if length is None else file_cap(settings)
    body = await read_raw_body(request, cap)
    if coding := header(request.scope, b"content-encoding"):
        body = await asyncio.to_thread(decode, body, coding, cap)
    if not body:
        raise MalformedBody("the body is empty")
    check_size(min(length or 0, len(body)), json_cap(settings))
    read = partial(
        Infer.read,
        body,
        length,
        model_name=name,
        manifest=model.manifest,
        task=task,
        limits=service.limits,
        coding=choose(header(request.scope, b"accept-encoding") or ""),
    )
    job = read() if len(body) <= _SMALL_BYTES else await asyncio.to_thread(read)
    slot_of(request).start(request, len(job.inputs[0]))
    batcher, values = model.batcher_by_task[task], sum(x.size for x in job.inputs)
    await reserve(request, cost_of_rows(1, job.inputs[0].size, job.growth * values, batcher))
    result = await batcher.answer(job)
    return _infer_response(result, model.label)


@_admitted("POST", "/repository/index")
async def repository_index(request: Request) -> Response:
    """List every task of every live model, and the rejected versions."""
    wanted = await _read_order(request)
    snapshot = service_of(request).registry.snapshot
    index: list[Json] = [
        {"name": f"{name}.{task}", "version": str(model.manifest.version), "state": "READY", "reason": ""}
        for name, model in sorted(snapshot.model_by_name.items())
        for task in model.manifest.tasks
    ]
    if wanted.get("ready") is not True:
        index += [
            {"name": found.name, "version": str(found.version), "state": "UNAVAILABLE", "reason": found.reason}
            for _, found in sorted(snapshot.rejected.items())
        ]
    return json_response(index)


@_admitted("POST", "/repository/models/{name}/load")
async def load(request: Request, name: str) -> Response:
    """Scan the models directory now. 200 if the model is live afterwards."""
    if (await _read_order(request)).get("parameters"):
        raise MalformedBody("a model is loaded from its directory; `parameters` are not supported")
    service = service_of(request)
    await service.registry.refresh()
    await _find(service, name, None)
    return Response(media_type=JSON_TYPE)


@_admitted("POST", "/repository/models/{name}/unload")
async def unload(request: Request, name: str) -> Response:
    """Refuse: the live models follow the directory, for all workers and after every restart."""
    model, _ = await _find(service_of(request), name, None)
    raise UnloadRefused(f"models follow the directory models_dir; remove {model.manifest.name!r} from it to unload it")


@_of_model("GET", "/stats")
async def statistics(request: Request, name: str, version: str | None = None) -> Response:
    """Return counts and times of one task of a model."""
    service = service_of(request)
    model, task = await _find(service, name, version)
    return json_response({"model_stats": [_stats(await service.metrics.share(), model, task)]})


async def _read_order(request: Request) -> Json:
    """Parse the JSON body; an empty body is an empty object."""
    document = parse_json(await read_raw_body(request, ORDER_CAP) or b"{}")
    slot_of(request).start(request, 1)
    if not isinstance(document, dict):
        raise MalformedBody(f"the body is {shown(document)}; send a JSON object, or nothing")
    return document


def _infer_response(answer: InferAnswer, label: str) -> Response:
    headers = {"X-Model": label}
    if answer.coding is not None:
        headers["Content-Encoding"] = answer.coding
    if answer.json_bytes is None:
        return Response(answer.content, headers=headers, media_type=JSON_TYPE)
    headers[LENGTH_HEADER] = str(answer.json_bytes)
    return Response(answer.content, headers=headers, media_type="application/octet-stream")


def _shape(spec: TensorSpec) -> list[int]:
    return [-1 if isinstance(axis, str) else axis for axis in spec.shape]


def _tensor(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": "FP32", "shape": _shape(spec)}


def _stats(state: State, model: Model, task: Task) -> Json:
    """Return the statistics of a task, over all versions and workers since the start of the service."""
    labels = (model.manifest.name, task)

    def of(stage: str) -> tuple[int, int]:
        counts, total_s = state.histograms.get((f"hourglass_{stage}_seconds", *labels), ([0], 0.0))
        return sum(counts), round(total_s * 1e9)

    stages = {"queue": "queue", "compute_input": "decode", "compute_infer": "compute", "compute_output": "encode"}
    spent = {name: of(stage) for name, stage in stages.items()}
    files, failed = spent["queue"][0], int(state.values.get(("hourglass_failed_files", *labels), 0))
    entries = {name: {"count": count, "ns": ns} for name, (count, ns) in spent.items()}
    entries["success"] = {"count": files - failed, "ns": sum(ns for _, ns in spent.values())}
    entries["fail"] = {"count": failed, "ns": 0}
    return {
        "name": ".".join(labels),
        "version": str(model.manifest.version),
        "inference_count": int(state.values.get(("hourglass_images", *labels), 0)),
        "execution_count": spent["compute_infer"][0],
        "inference_stats": entries,
    }
