"""Requests and answers of the Open Inference Protocol (V2): tensors as JSON, or as bytes behind the JSON.

    {"inputs": [{"name": "x", "shape": [1,1,28,28], "datatype": "FP32", "parameters": {"binary_data_size": 3136}}]}...

https://github.com/kserve/open-inference-protocol and Triton's binary tensor data extension. The header
`Inference-Header-Content-Length` says where the JSON ends, before any Content-Encoding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from service.contract.manifest import Manifest, Task, TensorSpec
from service.contract.tables import CELL
from service.errors import InvalidArray, MalformedBody, TooManyImages, TooManyPixels, shown
from service.http.body import complaint, parse_json
from service.http.content_coding import encode
from service.http.encoding import write_json
from service.images.npy import to_bytes
from service.images.tiles import UNTILED_PIXELS
from service.limits import InputLimits
from service.models.job import Inputs, Outputs
from service.models.runner import all_finite

LENGTH_HEADER = "Inference-Header-Content-Length"

_LITTLE = np.dtype("<f4")
_SMALL_BYTES = 16_384
MAX_JSON_NUMBERS = 2**21  # some 40 MiB of text, written while every other thread waits

Json = dict[str, Any]  # Any: JSON of a stranger, looked at member by member


class _Part(BaseModel):
    """A part of a request. Nothing is converted, and the first thing that is wrong is enough."""

    model_config = ConfigDict(strict=True, frozen=True)


class _OutputParameters(_Part):
    model_config = ConfigDict(extra="forbid")

    binary_data: bool | None = None


class _Output(_Part):
    name: str
    parameters: _OutputParameters | None = None


class _Tensor(_Part):
    name: str
    datatype: str
    shape: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=8), FailFast()]
    parameters: Json | None = None
    data: Any = None  # `_numbers` looks at it, at the speed of C


class _Request(_Part):
    id: str | None = None
    parameters: Json | None = None
    inputs: Annotated[list[_Tensor], Field(max_length=8), FailFast()]
    outputs: Annotated[list[_Output] | None, Field(max_length=64), FailFast()] = None


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
        inputs: From `read`.
        is_binary_by_output: Which outputs are wanted, in order, and whether as bytes.
        request_id: What the client calls it.
        model_name: As it was asked for: "digits.denoise".
        manifest: Manifest of the model.
        task: Its task.
        coding: For the answer.
        is_small: 16 KiB of tensor at most. JSON takes longer to read than its tensor to run.
    """

    inputs: Inputs
    is_binary_by_output: dict[str, bool]
    request_id: str | None
    model_name: str
    manifest: Manifest
    task: Task
    coding: str | None
    is_small: bool

    @classmethod
    def read(
        cls,
        body: bytes,
        json_bytes: int | None,
        *,
        model_name: str,
        manifest: Manifest,
        task: Task,
        limits: InputLimits,
        coding: str | None,
    ) -> "Infer":
        """Return the job of a request: `body` has lost its Content-Encoding.

        Behind its first `json_bytes` are the tensors.

        Raises:
            MalformedBody: The JSON is none, or not as the protocol has it.
            InvalidArray, TooManyImages, TooManyPixels: The tensor is not one that the graph takes.
        """
        length = len(body) if json_bytes is None else json_bytes
        if length > len(body):
            raise MalformedBody(f"{LENGTH_HEADER} is {length}, but the body has {len(body)} bytes")
        document = parse_json(memoryview(body)[:length], "the JSON of the body")
        try:
            request = _Request.model_validate(document)
        except ValidationError as error:
            raise MalformedBody(f"{complaint(error)}; see the Open Inference Protocol") from error
        graph = manifest.tasks[task]
        if len(request.inputs) != len(graph.inputs):
            needed = "one input" if len(graph.inputs) == 1 else f"{len(graph.inputs)} inputs"
            raise MalformedBody(f'the request needs {needed}: {{"inputs": [{{"name": "{graph.inputs[0].name}"…')
        is_binary_by_output = _outputs(request, [output.name for output in graph.outputs])
        inputs = _Reader(model_name, manifest, task, limits).read_all(request.inputs, graph.inputs, body[length:])
        _refuse_long_json(is_binary_by_output, manifest, task, inputs[0].shape)
        is_small = json_bytes is not None and len(body) <= _SMALL_BYTES
        return cls(inputs, is_binary_by_output, request.id, model_name, manifest, task, coding, is_small)

    @property
    def growth(self) -> int:
        """Enlargement of the output."""
        return _growth(self.manifest, self.task)

    def prepare(self) -> Inputs:
        """Return the input tensors."""
        return self.inputs

    def finish(self, outputs: Outputs) -> InferAnswer:
        """Return the answer in the form that the request asked for."""
        graph = self.manifest.tasks[self.task]
        output_by_name = dict(zip((output.name for output in graph.outputs), outputs, strict=True))
        tensors, binary = [], []
        for name, is_binary in self.is_binary_by_output.items():
            value = np.ascontiguousarray(output_by_name[name], _LITTLE)
            tensor: Json = {"name": name, "datatype": "FP32", "shape": value.shape}
            if is_binary:
                binary.append(to_bytes(value))
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


@dataclass(frozen=True)
class _Reader:
    """Reads the tensors of a request."""

    model_name: str
    manifest: Manifest
    task: Task
    limits: InputLimits

    def read_all(self, tensors: Sequence[_Tensor], specs: Sequence[TensorSpec], binary: bytes) -> Inputs:
        """Return the inputs in the order of the graph; their bytes are in the order of the request."""
        spec_by_name = {spec.name: spec for spec in specs}
        names = ", ".join(map(repr, spec_by_name))
        value_by_name: dict[str, NDArray[np.float32]] = {}
        for tensor in tensors:
            if tensor.name not in spec_by_name:
                raise MalformedBody(f"{self.model_name} has no input {shown(tensor.name)}; it has {names}")
            size = (tensor.parameters or {}).get("binary_data_size")
            mine = len(binary) if len(tensors) == 1 else max(0, size) if type(size) is int else 0
            value_by_name[tensor.name] = self._read(tensor, spec_by_name[tensor.name], binary[:mine])
            binary = binary[mine:]
        if len(value_by_name) != len(spec_by_name):
            raise MalformedBody(f"an input is given twice; {self.model_name} needs each once: {names}")
        if binary:
            raise MalformedBody(f"{len(binary)} bytes follow those of the inputs")
        values = tuple(value_by_name[name] for name in spec_by_name)
        if len({len(value) for value in values}) > 1:
            rows = ", ".join(str(len(value)) for value in values)
            raise InvalidArray(f"the inputs have {rows} rows; send as many of each")
        return values

    def _read(self, tensor: _Tensor, spec: TensorSpec, binary: bytes) -> NDArray[np.float32]:
        name, shape, parameters = tensor.name, tensor.shape, tensor.parameters or {}
        if tensor.datatype != "FP32":
            raise InvalidArray(f"input {name!r} is {shown(tensor.datatype)}; send FP32")
        self._check_shape(shape, spec)
        if any(key.startswith("shared_memory") for key in parameters):
            raise MalformedBody(f"input {name!r} has parameters {shown(parameters)}; shared memory is not supported")
        if "binary_data_size" in parameters:
            values = _binary(parameters["binary_data_size"], binary, shape)
        else:
            if binary:
                raise MalformedBody(f"{len(binary)} bytes follow the JSON, but no input has a binary_data_size")
            values = _numbers(tensor.data, shape)
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
        growth = _growth(self.manifest, self.task)
        if source.height is None and height * width * growth > UNTILED_PIXELS:
            raise TooManyPixels(
                f"the images are {width}x{height}, {height * width} pixels, and a graph gets "
                f"{UNTILED_PIXELS // growth} at once; send tiles, or the picture to /{self.task}, which makes them"
            )
        pixels = shape[0] * height * width * growth
        if pixels > max(self.limits.max_pixels, height * width if source.height else 0):
            raise TooManyPixels(f"the batch has {pixels} pixels, the limit is {self.limits.max_pixels} (max_pixels)")


def _growth(manifest: Manifest, task: Task) -> int:
    """Return the enlargement of the output, in pixels."""
    return manifest.enhance.scale**2 if manifest.enhance is not None and task == "enhance" else 1


def _refuse_long_json(wanted: dict[str, bool], manifest: Manifest, task: Task, shape: Sequence[int]) -> None:
    """Refuse, before the graph runs, outputs that are too long for JSON.

    Args:
        wanted: Which outputs are wanted, and whether as bytes.
        manifest: Manifest of the model.
        task: Its task.
        shape: Shape of the first input.

    Raises:
        TooManyPixels: An output has more than `MAX_JSON_NUMBERS` numbers and is not wanted as bytes.
    """
    pixels = math.prod(shape[2:])
    if task == "compress":
        pixels //= CELL**2
    elif task == "decompress":
        pixels *= CELL**2
    free = shape[0] * pixels * _growth(manifest, task)  # what the axes without a fixed size have together
    for output in manifest.tasks[task].outputs:
        fixed = [axis for axis in output.shape if isinstance(axis, int)]
        is_picture = len(output.shape) - len(fixed) > 1  # not only the batch is free
        numbers = math.prod(fixed) * (free if is_picture else shape[0])
        if numbers > MAX_JSON_NUMBERS and wanted.get(output.name) is False:
            raise TooManyPixels(
                f"output {output.name!r} has {numbers} numbers, the limit as JSON is {MAX_JSON_NUMBERS}; request it as "
                'bytes: "parameters": {"binary_data": true}'
            )


def json_length(header: str | None) -> int | None:
    """Return the value of `Inference-Header-Content-Length`.

    Raises:
        MalformedBody: It is no length.
    """
    if header is None:
        return None
    if not (header.isascii() and header.isdigit() and len(header) < 12):
        raise MalformedBody(f"{LENGTH_HEADER} is {shown(header)}; it is the length of the JSON in bytes")
    return int(header)


def _outputs(request: _Request, offered: list[str]) -> dict[str, bool]:
    """Return which outputs are wanted, in order, and whether as bytes."""
    parameters = request.parameters or {}
    if parameters.get("sequence_id"):
        raise MalformedBody("sequence_id: these models are stateless")
    default = parameters.get("binary_data_output") is True
    if not request.outputs:
        return dict.fromkeys(offered, default)
    is_binary_by_output = {}
    for output in request.outputs:
        if output.name not in offered:
            raise MalformedBody(f"outputs has {shown(output.name)}; there are {', '.join(offered)}")
        own = output.parameters.binary_data if output.parameters else None
        is_binary_by_output[output.name] = default if own is None else own
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
    """Return an array of numbers, flat or nested. Looked at before NumPy is.

    That would make text of numbers beside text.
    """
    needed = math.prod(shape)
    for _ in range(len(shape)):
        if not isinstance(data, list) or set(map(type, data)) != {list}:
            break
        if len(set(map(len, data))) > 1:
            raise InvalidArray("data is uneven; send a list of numbers, flat or nested as the shape says")
        data = list(chain.from_iterable(data))
    if not isinstance(data, list) or not set(map(type, data)) <= {int, float}:
        raise InvalidArray(f"data is {shown(data, limit=40)}; the shape {shown(shape)} needs {needed} numbers")
    if len(data) != needed:
        raise InvalidArray(f"data is {len(data)} numbers; the shape {shown(shape)} needs {needed} numbers")
    with np.errstate(over="ignore"):
        return np.array(data, np.float64).astype(np.float32).reshape(shape)
