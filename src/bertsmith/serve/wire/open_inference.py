"""The Open Inference Protocol, version 2, with the extension for binary data that Triton's client uses.

Inputs are `text` and, for models of pairs, `text_pair`: BYTES of shape `[n]` or `[n, 1]`. Outputs are asked for by
name, or are those that a model gives first: `label` (BYTES, UNKNOWN where the model declines) and `score` (FP64, the
probability of its guess); `value` (FP64) for numbers; or `answer`, which is JSON, for all else.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from bertsmith.serve.asked import Asked, Refused, Served
from bertsmith.serve.wire.fields import boolean, json_object, shown, wrong
from bertsmith.serve.wire.strict_json import read_json

Array = np.ndarray[Any, Any]
LENGTH_HEADER = "inference-header-content-length"
"""Header that says how many bytes of a body are JSON; binary data follows them."""
_INPUTS = ("text", "text_pair")
_KINDS = {
    "label": "BYTES",
    "score": "FP64",
    "guess": "BYTES",
    "unknown": "BOOL",
    "probabilities": "FP64",
    "value": "FP64",
    "answer": "BYTES",
}
_SIZE = struct.Struct("<I")
_MOST_DIGITS = 12


@dataclass(frozen=True)
class Infer:
    """What a request to infer wants.

    Attributes:
        asked: The texts.
        id: The request's own name, given back with the answer; "" where it has none.
        outputs: Output → True where it is wanted as binary data, in the order of the answer.
        shape: Shape of the input, `(n,)` or `(n, 1)`; outputs with one value a text have it, too.
    """

    asked: Asked
    id: str
    outputs: Mapping[str, bool]
    shape: tuple[int, ...]


def outputs_of(task: str) -> tuple[str, ...]:
    """Name the outputs that a task gives; those that are given unasked stand before `answer`, or are it alone."""
    if task in {"single-label", "ordered"}:
        return ("label", "score", "answer", "guess", "unknown", "probabilities")
    if task == "regression":
        return ("value", "answer")
    return ("answer", "probabilities") if task == "multi-label" else ("answer",)


def _unasked(outputs: tuple[str, ...]) -> tuple[str, ...]:
    if "label" in outputs:
        return ("label", "score")
    return ("value",) if "value" in outputs else ("answer",)


def metadata(name: str, version: str, *, task: str, pair: bool, engine: str, labels: int) -> dict[str, Any]:
    """Describe a model, as `GET /v2/models/{name}` answers."""
    shapes = {"probabilities": [-1, labels]}
    return {
        "name": name,
        "versions": [version],
        "platform": f"bertsmith_{engine.replace('-', '_')}",
        "inputs": [_tensor(each, "BYTES", [-1]) for each in _INPUTS[: 1 + pair]],
        "outputs": [_tensor(each, _KINDS[each], shapes.get(each, [-1])) for each in outputs_of(task)],
    }


def _tensor(name: str, kind: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": shape}


def read(body: bytes, length: str | None, *, model: str, task: str, most_depth: int) -> Infer:
    """Read a request to infer.

    Args:
        body: JSON, and binary data behind it where `length` says so.
        length: The header `Inference-Header-Content-Length`; None where all of the body is JSON.
        model: Name of the model that the path names.
        task: Its task, which says what outputs there are.
        most_depth: Arrays and objects of the JSON within one another.

    Raises:
        Refused: 400 where the body cannot be read; 422 where it says something else than was expected.
    """
    end = _json_length(length, len(body))
    given = json_object(read_json(body[:end], most_depth=most_depth))
    columns, shape = _texts(given.get("inputs"), memoryview(body)[end:])
    parameters = json_object(given.get("parameters") or {}, "'parameters'")
    binary = boolean(parameters, "binary_data_output", default=False)
    name = given.get("id")
    asked = Asked(columns["text"], columns.get("text_pair"), model=model)
    return Infer(asked, name if isinstance(name, str) else "", _outputs(given.get("outputs"), task, binary), shape)


def _json_length(length: str | None, size: int) -> int:
    if length is None:
        return size
    if length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS and int(length) <= size:
        return int(length)
    raise Refused(
        400,
        "Not readable",
        f"the header Inference-Header-Content-Length must be a whole number of at most the body's {size:,} bytes. "
        f"Got {length[:40]!r} instead.",
    )


def _texts(inputs: Any, data: memoryview) -> tuple[dict[str, tuple[str, ...]], tuple[int, ...]]:
    """Read the tensors of a request: name → texts, and their shape."""
    if not isinstance(inputs, list) or not inputs:
        raise wrong(f"'inputs' must be a list of tensors. Got {shown(inputs)} instead.")
    columns: dict[str, tuple[str, ...]] = {}
    shapes: set[tuple[int, ...]] = set()
    for tensor in inputs:
        each = json_object(tensor, "each of 'inputs'")
        name = each.get("name")
        if name not in _INPUTS or name in columns:
            raise wrong(f"an input must be 'text' or 'text_pair', once. Got {shown(name)} instead.")
        shape = _shape(each, name)
        size = _binary_size(each, len(data))
        if size is None:
            columns[name] = _of_json(each, name)
        else:
            columns[name] = _of_bytes(data[:size], name)
            data = data[size:]
        if len(columns[name]) != shape[0]:
            raise wrong(f"the input '{name}' has the shape {list(shape)}, but {len(columns[name]):,} texts.")
        shapes.add(shape)
    if len(shapes) > 1 or "text" not in columns:
        raise wrong("there must be an input 'text', and 'text_pair' must have its shape.")
    if len(data):
        raise wrong(f"{len(data):,} bytes of binary data belong to no input.")
    return columns, shapes.pop()


def _shape(tensor: dict[str, Any], name: str) -> tuple[int, ...]:
    kind, shape = tensor.get("datatype"), tensor.get("shape")
    if kind != "BYTES":
        raise wrong(f"the input '{name}' must have the datatype 'BYTES'. Got {shown(kind)} instead.")
    sizes = shape if isinstance(shape, list) else []
    whole = all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in sizes)
    if not whole or len(sizes) not in {1, 2} or (len(sizes) == 2 and sizes[1] != 1):
        raise wrong(f"the input '{name}' must have the shape [n] or [n, 1]. Got {shown(shape)} instead.")
    return tuple(sizes)


def _binary_size(tensor: dict[str, Any], most: int) -> int | None:
    size = json_object(tensor.get("parameters") or {}, "'parameters'").get("binary_data_size")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= most:
        raise wrong(f"'binary_data_size' must be a number of bytes that the body has. Got {shown(size)} instead.")
    return size


def _of_json(tensor: dict[str, Any], name: str) -> tuple[str, ...]:
    data = tensor.get("data")
    if not isinstance(data, list):
        raise wrong(f"'data' of the input '{name}' must be a list of strings. Got {shown(data)} instead.")
    # Tensors may be flat or nested as their shape is.
    flat = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
    other = next((each for each in flat if not isinstance(each, str)), "")
    if not isinstance(other, str):
        raise wrong(f"'data' of the input '{name}' must be a list of strings. Got {shown(other)} in it.")
    return tuple(flat)


def _of_bytes(data: memoryview, name: str) -> tuple[str, ...]:
    """Read texts, each with its length in bytes before it (32 bits, the lowest byte first)."""
    found: list[str] = []
    place = 0
    while place < len(data):
        begin = place + _SIZE.size
        end = begin + (_SIZE.unpack_from(data, place)[0] if begin <= len(data) else 1)
        if end > len(data):
            raise wrong(f"the binary data of the input '{name}' ends inside text {len(found) + 1:,}.")
        try:
            found.append(str(data[begin:end], "utf-8"))
        except UnicodeDecodeError:
            raise wrong(f"text {len(found) + 1:,} of the input '{name}' is not UTF-8.") from None
        place = end
    return tuple(found)


def _outputs(wanted: Any, task: str, binary: bool) -> dict[str, bool]:
    known = outputs_of(task)
    if not wanted:
        return dict.fromkeys(_unasked(known), binary)
    if not isinstance(wanted, list):
        raise wrong(f"'outputs' must be a list of objects with 'name'. Got {shown(wanted)} instead.")
    found = {}
    for output in wanted:
        each = json_object(output, "each of 'outputs'")
        name = each.get("name")
        if not isinstance(name, str) or name not in known:
            raise wrong(f"an output must be one of {', '.join(known)}. Got {shown(name)} instead.")
        parameters = json_object(each.get("parameters") or {}, "'parameters'")
        found[name] = boolean(parameters, "binary_data", default=binary)
    return found


def answer(infer: Infer, served: Served) -> tuple[bytes, int | None]:
    """Write the answer.

    Args:
        infer: What was asked.
        served: What was answered.

    Returns:
        The body, and how many bytes of it are JSON where binary data follows; else None.
    """
    tensors, binary = [], []
    for name, as_binary in infer.outputs.items():
        values = np.asarray(_values(name, served))
        shape = values.shape if values.ndim > 1 else infer.shape
        tensor: dict[str, Any] = {"name": name, "datatype": _KINDS[name], "shape": list(shape)}
        if as_binary:
            binary.append(b"".join(_packed(values)))
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            tensor["data"] = values.ravel().tolist()
        tensors.append(tensor)
    told = {"model_name": served.model, "model_version": served.version, "outputs": tensors}
    head = json.dumps(told | ({"id": infer.id} if infer.id else {}), allow_nan=False).encode()
    return b"".join([head, *binary]), len(head) if binary else None


def _values(name: str, served: Served) -> Any:
    if name == "probabilities":
        return served.probabilities
    if name == "answer":
        told = [each.as_json() for each in served.answers]
        return np.array([json.dumps(each, ensure_ascii=False) for each in told], dtype=object)
    found = [getattr(each, name) for each in served.answers]
    return np.array(found, dtype={"FP64": np.float64, "BOOL": np.bool_}.get(_KINDS[name], object))


def _packed(values: Array) -> Iterator[bytes]:
    if values.dtype != object:
        yield np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
        return
    for each in values.tolist():
        text = cast("str", each).encode()
        yield _SIZE.pack(len(text))
        yield text
