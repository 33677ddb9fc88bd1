"""Requests and answers of the Open Inference Protocol (V2): tensors as JSON, or as bytes behind the JSON.

    {"inputs": [{"name": "x", "shape": [1,1,28,28], "datatype": "FP32", "parameters": {"binary_data_size": 3136}}]}...

https://github.com/kserve/open-inference-protocol and Triton's binary tensor data extension. The header
`Inference-Header-Content-Length` says where the JSON ends, before any Content-Encoding.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.contract.manifest import Manifest, Task, TensorSpec
from service.contract.tables import CELL
from service.errors import InvalidArray, MalformedBody, TooManyImages, TooManyPixels, shown
from service.http.content_coding import encode
from service.http.encoding import write_json
from service.limits import InputLimits
from service.models.batcher import Inputs, Outputs, all_finite

LENGTH_HEADER = "Inference-Header-Content-Length"

_LITTLE = np.dtype("<f4")
_SHAPE = re.compile(rb'"shape"\s*:\s*\[\s*(\d{1,9})')
_LOOK_BYTES = 4096
_SMALL_BYTES = 16_384

Json = dict[str, Any]  # Any: JSON of a stranger, looked at member by member


@dataclass(frozen=True)
class InferAnswer:
    """The body of an answer, the length of its JSON where tensors follow it, and its coding."""

    content: bytes
    json_bytes: int | None
    coding: str | None


@dataclass
class Infer:
    """One V2 request as a job for a `Batcher`: the graph's own tensors, unscaled and unrounded.

    Args:
        body: Without its Content-Encoding.
        json_bytes: Of `body`; the tensors are behind it. None if it is all JSON.
        model_name: As it was asked for: "digits.denoise".
        manifest: Of the model.
        task: Its task.
        limits: On pixels and images.
        coding: For the answer.
    """

    body: bytes
    json_bytes: int | None
    model_name: str
    manifest: Manifest
    task: Task
    limits: InputLimits
    coding: str | None
    request_id: str | None = field(default=None, init=False)
    is_binary_by_output: dict[str, bool] = field(init=False)

    @property
    def is_small(self) -> bool:
        """16 KiB of tensor at most. JSON takes longer to read than its tensor to run."""
        return self.json_bytes is not None and len(self.body) <= _SMALL_BYTES

    def prepare(self) -> Inputs:
        """The input tensors.

        Raises:
            MalformedBody: The JSON is none, or not as the protocol has it.
            InvalidArray, TooManyImages, TooManyPixels: The tensor is not one that the graph takes.
        """
        length = len(self.body) if self.json_bytes is None else self.json_bytes
        if length > len(self.body):
            raise MalformedBody(f"{LENGTH_HEADER} is {length}, but the body has {len(self.body)} bytes")
        try:
            request = orjson.loads(memoryview(self.body)[:length])
        except orjson.JSONDecodeError as error:
            raise MalformedBody(f"the first {length} bytes of the body are not JSON: {error}") from error
        graph = self.manifest.tasks[self.task]
        match request:
            case {"inputs": [*tensors]} if len(tensors) == len(graph.inputs) and all(type(t) is dict for t in tensors):
                pass
            case _:
                needed = "one input" if len(graph.inputs) == 1 else f"{len(graph.inputs)} inputs"
                raise MalformedBody(f'the request needs {needed}: {{"inputs": [{{"name": "{graph.inputs[0].name}"…')
        self.request_id = _optional_text(request, "id")
        self.is_binary_by_output = _outputs(request, [output.name for output in graph.outputs])
        return self._read_all(tensors, graph.inputs, self.body[length:])

    def finish(self, outputs: Outputs) -> InferAnswer:
        """The answer in the form that the request asked for."""
        graph = self.manifest.tasks[self.task]
        output_by_name = dict(zip((output.name for output in graph.outputs), outputs, strict=True))
        tensors, binary = [], []
        for name, is_binary in self.is_binary_by_output.items():
            value = np.ascontiguousarray(output_by_name[name], _LITTLE)
            tensor: Json = {"name": name, "datatype": "FP32", "shape": value.shape}
            if is_binary:
                binary.append(value.tobytes())
                tensor["parameters"] = {"binary_data_size": value.nbytes}
            else:
                tensor["data"] = value.ravel()
            tensors.append(tensor)
        head: Json = {"model_name": self.model_name, "model_version": str(self.manifest.version), "outputs": tensors}
        if self.request_id is not None:
            head["id"] = self.request_id
        json = write_json(head)
        content, coding = encode(b"".join([json, *binary]), self.coding)
        return InferAnswer(content, len(json) if binary else None, coding)

    def _read_all(self, tensors: list[Json], specs: Sequence[TensorSpec], binary: bytes) -> Inputs:
        """The inputs in the order of the graph; their bytes are in the order of the request."""
        spec_by_name = {spec.name: spec for spec in specs}
        names = ", ".join(map(repr, spec_by_name))
        value_by_name: dict[str, NDArray[np.float32]] = {}
        for tensor in tensors:
            name = tensor.get("name")
            if not isinstance(name, str) or name not in spec_by_name:
                raise MalformedBody(f"{self.model_name} has no input {shown(name)}; it has {names}")
            parameters = tensor.get("parameters")
            size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
            mine = len(binary) if len(tensors) == 1 else max(0, size) if type(size) is int else 0
            value_by_name[name] = self._read(tensor, spec_by_name[name], binary[:mine])
            binary = binary[mine:]
        if len(value_by_name) != len(spec_by_name):
            raise MalformedBody(f"an input is there twice; {self.model_name} needs each once: {names}")
        if binary:
            raise MalformedBody(f"{len(binary)} bytes are left behind those of the inputs")
        values = tuple(value_by_name[name] for name in spec_by_name)
        if len({len(value) for value in values}) > 1:
            rows = ", ".join(str(len(value)) for value in values)
            raise InvalidArray(f"the inputs have {rows} rows; send as many of each")
        return values

    def _read(self, tensor: Json, spec: TensorSpec, binary: bytes) -> NDArray[np.float32]:
        name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
        if datatype != "FP32":
            raise InvalidArray(f"input {name!r} is {shown(datatype)}; send FP32")
        if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
            raise MalformedBody(f"input {name!r} has the shape {shown(shape)}; it is a list of whole numbers")
        self._check_shape(shape, spec)
        parameters = tensor.get("parameters") or {}
        if not isinstance(parameters, dict) or any(str(key).startswith("shared_memory") for key in parameters):
            raise MalformedBody(f"input {name!r} has parameters {shown(parameters)}; shared memory does not work here")
        if "binary_data_size" in parameters:
            values = _binary(parameters["binary_data_size"], binary, shape)
        else:
            if binary:
                raise MalformedBody(f"{len(binary)} bytes follow the JSON, but no input has a binary_data_size")
            values = _numbers(tensor.get("data"), shape)
        if not all_finite((values,)):
            raise InvalidArray(f"input {name!r} has NaN or infinity in it, or numbers too large for FP32")
        return values

    def _check_shape(self, shape: list[int], spec: TensorSpec) -> None:
        wanted = tuple(-1 if isinstance(axis, str) else axis for axis in spec.shape)
        fits = len(shape) == len(wanted) and all(w in {-1, size} for w, size in zip(wanted, shape, strict=True))
        if not fits or 0 in shape:
            raise InvalidArray(f"the shape is {shown(shape)}; {self.model_name} takes {list(wanted)}, -1 for any size")
        if shape[0] > self.limits.max_images:
            raise TooManyImages(f"the batch has {shape[0]} images, the limit is {self.limits.max_images} (max_images)")
        source = self.manifest.input
        cell = CELL if spec.name == "symbols" else 1
        own = (source.height or 1, source.width or 1)
        height, width = (cell * side for side in shape[2:]) if len(shape) == 4 else own
        if len(shape) == 4 and (height % source.multiple_of or width % source.multiple_of):
            raise InvalidArray(f"the images are {width}x{height}; sides must be multiples of {source.multiple_of}")
        pixels = shape[0] * height * width
        if pixels > max(self.limits.max_pixels, height * width if source.height else 0):
            raise TooManyPixels(f"the batch has {pixels} pixels, the limit is {self.limits.max_pixels} (max_pixels)")


def count_images(body: bytes, *, at_most: int) -> int:
    """How many images a request seems to have, for the queue: cheap, and exact for what clients send."""
    found = _SHAPE.search(body, 0, _LOOK_BYTES) or _SHAPE.search(body, max(0, len(body) - _LOOK_BYTES))
    return min(max(int(found[1]) if found else 1, 1), at_most)


def json_length(header: str | None) -> int | None:
    """The value of `Inference-Header-Content-Length`.

    Raises:
        MalformedBody: It is no length.
    """
    if header is None:
        return None
    if not (header.isascii() and header.isdigit() and len(header) < 12):
        raise MalformedBody(f"{LENGTH_HEADER} is {shown(header)}; it is the length of the JSON in bytes")
    return int(header)


def _outputs(request: Json, offered: list[str]) -> dict[str, bool]:
    """Which outputs are wanted, in order, and whether as bytes."""
    parameters = request.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise MalformedBody(f"parameters is {shown(parameters)}; it is an object")
    if parameters.get("sequence_id"):
        raise MalformedBody("sequence_id: these models remember nothing between requests")
    default = parameters.get("binary_data_output") is True
    wanted = request.get("outputs")
    if not wanted:
        return dict.fromkeys(offered, default)
    is_binary_by_output = {}
    for output in wanted if isinstance(wanted, list) else [wanted]:
        match output:
            case {"name": str() as name, **others} if name in offered:
                own = others.get("parameters") or {}
            case _:
                raise MalformedBody(f"outputs has {shown(output)}; there are {', '.join(offered)}")
        if not isinstance(own, dict) or own.keys() - {"binary_data"}:
            raise MalformedBody(f"output {name!r} has parameters {shown(own)}; only binary_data works here")
        is_binary_by_output[name] = own.get("binary_data", default) is True
    return is_binary_by_output


def _binary(size: object, binary: bytes, shape: list[int]) -> NDArray[np.float32]:
    needed = math.prod(shape) * _LITTLE.itemsize
    if size != needed or len(binary) != needed:
        raise InvalidArray(
            f"the shape {shown(shape)} needs {needed} bytes; binary_data_size is {shown(size)}, and {len(binary)} "
            "bytes follow the JSON"
        )
    return np.frombuffer(binary, _LITTLE).reshape(shape).astype(np.float32, copy=False)


def _numbers(data: object, shape: list[int]) -> NDArray[np.float32]:
    try:
        values = np.asarray(data)
    except ValueError as error:  # lists of different lengths
        raise InvalidArray("data is uneven; send a list of numbers, flat or nested as the shape says") from error
    if values.dtype.kind not in "fiu" or values.size != math.prod(shape):
        found = f"{values.size} numbers" if values.dtype.kind in "fiu" else shown(data, limit=40)
        raise InvalidArray(f"data is {found}; the shape {shown(shape)} needs {math.prod(shape)} numbers")
    with np.errstate(over="ignore"):
        return values.astype(np.float32).reshape(shape)


def _optional_text(request: Json, name: str) -> str | None:
    value = request.get(name)
    if not isinstance(value, str | None):
        raise MalformedBody(f"{name} is {shown(value)}; it is a string")
    return value
