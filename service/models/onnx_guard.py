"""Reject dangerous ONNX files by their bytes, before a parser in C++ reads them.

The service does not install the package `onnx`, and onnxruntime reports neither the operators nor the weights of a
graph. So this module walks the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) for the few
relevant fields of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3. Subgraphs and functions are rejected at
once, so the walk is at most five messages deep.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from service.errors import ModelRejected, shown

# Field number -> values: integers for wire types 0, 1 and 5, bytes for wire type 2.
Fields = dict[int, list["int | memoryview"]]

_DOMAINS = {"", "ai.onnx"}
_WITH_SUBGRAPHS = {"Loop", "If", "Scan", "SequenceMap"}
# TensorProto.DataType -> bytes per element, without strings, complex numbers and exotic floats.
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
# Floating types -> unsigned type of the same width, and the exponent's bits: all set means infinity or NaN.
_EXPONENT = {1: ("<u4", 0x7F800000), 10: ("<u2", 0x7C00), 11: ("<u8", 0x7FF << 52), 16: ("<u2", 0x7F80)}


def check_onnx(content: bytes) -> None:
    """Check that a file is self-contained and has only standard ONNX operators and finite weights.

    Raises:
        ModelRejected: The file is not ONNX; it refers to other files; it has a subgraph (Loop, If, Scan), a function or
            an operator of another domain; the size of a tensor does not match its data; a weight is NaN or infinite.
    """
    model = _fields(memoryview(content), "the file")
    if model.get(25):
        raise ModelRejected("the graph has functions; export it with its functions inlined")
    graph = _fields(_one_message(model, 7, "the file"), "the graph")
    for node in _messages(graph, 1, "a node"):
        _check_node(node)
    for tensor in _messages(graph, 5, "an initializer"):
        _check_tensor(tensor)
    if graph.get(15):
        raise ModelRejected("the graph has sparse initializers; export it with dense weights")


def _check_node(message: memoryview) -> None:
    node = _fields(message, "a node")
    operator, domain = _text(node, 4, "a node"), _text(node, 7, "a node")
    if domain not in _DOMAINS:
        raise ModelRejected(
            f"operator {shown(f'{domain}.{operator}')} is not an ONNX operator; export with standard operators"
        )
    if operator in _WITH_SUBGRAPHS:
        raise ModelRejected(f"operator {operator} runs a subgraph; export with fixed steps instead")
    for attribute in _messages(node, 5, "an attribute"):
        _check_attribute(attribute, operator)


def _check_attribute(message: memoryview, operator: str) -> None:
    attribute = _fields(message, "an attribute")
    where = f"attribute {shown(_text(attribute, 1, 'an attribute'))} of {shown(operator)}"
    if attribute.get(6) or attribute.get(11):
        raise ModelRejected(f"{where} is a subgraph; export with fixed steps instead")
    if attribute.get(22) or attribute.get(23):
        raise ModelRejected(f"{where} is a sparse tensor; export it with dense weights")
    if 5 in attribute:
        _check_tensor(_one_message(attribute, 5, where))
    for tensor in _messages(attribute, 10, where):
        _check_tensor(tensor)
    _check_finite(_fixed(attribute.get(2, []), 4) + _fixed(attribute.get(7, []), 4), 1, where)


def _check_tensor(message: memoryview) -> None:
    tensor = _fields(message, "a tensor")
    name = f"tensor {shown(_text(tensor, 8, 'a tensor'))}"
    if tensor.get(13) or _number(tensor, 14, name):
        raise ModelRejected(f"{name} has its data in another file; export with all weights inside")
    kind = _number(tensor, 2, name)
    if kind not in _ITEM_BYTES:
        raise ModelRejected(f"{name} has data type {kind}, not a float, integer or boolean one; export in float32")
    elements = math.prod(_dimensions(tensor, name))
    if 9 in tensor:
        raw = bytes(_one_message(tensor, 9, name))
        fits = elements * _ITEM_BYTES[kind] == len(raw)
    else:  # repeated fields instead of raw bytes; a half-precision float is one varint
        floats, doubles = _fixed(tensor.get(4, []), 4), _fixed(tensor.get(10, []), 8)
        integers = [number for field in (5, 7, 11) for number in _varints(tensor.get(field, []), name)]
        fits = elements == len(floats) // 4 + len(doubles) // 8 + len(integers)
        raw = {1: floats, 11: doubles}.get(kind, b"")
        if kind in {10, 16}:
            raw = (np.array(integers, np.uint64) & np.uint64(0xFFFF)).astype("<u2").tobytes()
    if not fits:
        raise ModelRejected(
            f"{name} says it has {shown(elements)} elements, its data has another size; export it again"
        )
    _check_finite(raw, kind, name)


def _dimensions(tensor: Fields, name: str) -> list[int]:
    dimensions = _varints(tensor.get(1, []), name)
    if len(dimensions) > 16 or any(size >= 2**40 for size in dimensions):  # a negative size is near 2**64 here
        raise ModelRejected(f"{name} has the shape {shown(dimensions)}; no weight is that large")
    return dimensions


def _check_finite(data: bytes, kind: int, name: str) -> None:
    if kind not in _EXPONENT:
        return
    dtype, exponent = _EXPONENT[kind]
    bits = np.frombuffer(data, dtype)
    if bad := int(np.count_nonzero((bits & bits.dtype.type(exponent)) == exponent)):
        raise ModelRejected(f"{name} has {bad} of {bits.size} values NaN or infinite; train or export it again")


# --- the wire format ---


def _fields(message: memoryview, what: str) -> Fields:
    fields: Fields = defaultdict(list)
    position = 0
    while position < len(message):
        key, position = _varint(message, position, what)
        if not 8 <= key < 2**32:  # C++ would truncate a longer key and read another field
            raise _not_onnx(what)
        match key & 7:
            case 0:
                value, position = _varint(message, position, what)
                fields[key >> 3].append(value)
                continue
            case 1:
                length = 8
            case 5:
                length = 4
            case 2:
                length, position = _varint(message, position, what)
            case _:
                raise _not_onnx(what)
        end = position + length
        if end > len(message):
            raise _not_onnx(what)
        part = message[position:end]
        fields[key >> 3].append(part if key & 7 == 2 else int.from_bytes(part, "little"))
        position = end
    return fields


def _varint(message: memoryview, position: int, what: str) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(message[position : position + 10]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value & (2**64 - 1), position + count + 1
    raise _not_onnx(what)


def _varints(values: Sequence[int | memoryview], what: str) -> list[int]:
    """Parse a repeated integer field, packed or not."""
    numbers: list[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(value)
            continue
        position = 0
        while position < len(value):
            number, position = _varint(value, position, what)
            numbers.append(number)
    return numbers


def _fixed(values: Sequence[int | memoryview], width: int) -> bytes:
    """Parse a repeated float or double field, packed or not, to its bytes, without an incomplete last value."""
    joined = b"".join(v.to_bytes(8, "little")[:width] if isinstance(v, int) else bytes(v) for v in values)
    return joined[: len(joined) // width * width]


def _messages(fields: Fields, number: int, what: str) -> Iterator[memoryview]:
    for value in fields.get(number, []):
        if isinstance(value, int):
            raise _not_onnx(what)
        yield value


def _one_message(fields: Fields, number: int, what: str) -> memoryview:
    # Protobuf merges repeated occurrences of a single message: parts that pass alone may be harmful when merged.
    found = list(_messages(fields, number, what))
    if len(found) != 1:
        raise _not_onnx(what)
    return found[0]


def _number(fields: Fields, number: int, what: str) -> int:
    values = fields.get(number, [0])
    if len(values) != 1 or not isinstance(values[0], int):
        raise _not_onnx(what)
    return values[0]


def _text(fields: Fields, number: int, what: str) -> str:
    return bytes(_one_message(fields, number, what)).decode("utf-8", "replace") if number in fields else ""


def _not_onnx(what: str) -> ModelRejected:
    return ModelRejected(f"{what} cannot be read as ONNX; the file is damaged or of another format, export it again")
