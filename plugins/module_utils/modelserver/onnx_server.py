# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A model served by ONNX Runtime, in the open inference protocol (KServe v2, over HTTP with JSON). The runtime itself is a Python library without a server.

    GET  /v2/health/ready            GET /v2/models/NAME
    POST /v2/models/NAME/infer       {"inputs": [{"name", "shape", "datatype", "data"}]} -> {"model_name", "outputs": [...]}
"""

from __future__ import annotations

import importlib
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, DependencyError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError

# Type of a tensor in ONNX Runtime -> (in the protocol, in numpy).
TYPES = {
    "tensor(float)": ("FP32", "float32"), "tensor(double)": ("FP64", "float64"), "tensor(float16)": ("FP16", "float16"), "tensor(bool)": ("BOOL", "bool"),
    "tensor(int8)": ("INT8", "int8"), "tensor(int16)": ("INT16", "int16"), "tensor(int32)": ("INT32", "int32"), "tensor(int64)": ("INT64", "int64"),
    "tensor(uint8)": ("UINT8", "uint8"), "tensor(uint16)": ("UINT16", "uint16"), "tensor(uint32)": ("UINT32", "uint32"), "tensor(uint64)": ("UINT64", "uint64"),
    "tensor(string)": ("BYTES", "object"),
}  # fmt: skip
BODY_MAX = 64 << 20
ELEMENTS_MAX = 1 << 26


class Model:
    """A session of ONNX Runtime and what its tensors are called. Raises AttestedError where the model cannot be served."""

    def __init__(self, name: str, session: Any, numpy: Any) -> None:
        self.name, self._session, self._numpy = name, session, numpy
        self._inputs = {one.name: one for one in session.get_inputs()}
        self._outputs = {one.name: one for one in session.get_outputs()}
        for tensor in (*self._inputs.values(), *self._outputs.values()):
            if tensor.type not in TYPES:
                raise ServingError("the tensor %s is of type %s, which cannot be sent" % (ascii(tensor.name), ascii(tensor.type)), where=name, code="onnx-type")

    def metadata(self) -> Dict[str, Any]:
        return {"name": self.name, "versions": [], "platform": "onnxruntime_onnx", "inputs": [_described(one) for one in self._inputs.values()],
                "outputs": [_described(one) for one in self._outputs.values()]}  # fmt: skip

    def infer(self, request: Any) -> Dict[str, Any]:
        """Raises FormatError on what does not fit the model."""
        body = strict.members(request, ("inputs",), ("id", "outputs", "parameters"), where="request")
        if not isinstance(body["inputs"], list):
            raise FormatError("a list was expected", where="inputs")
        given = {str(one.get("name")) if isinstance(one, dict) else "": one for one in body["inputs"]}
        if set(given) != set(self._inputs) or len(given) != len(body["inputs"]):
            raise FormatError("exactly %s were expected, each once" % ", ".join(sorted(self._inputs)), where="inputs")
        asked = [self._wanted(one) for one in body.get("outputs", [])] or list(self._outputs)
        feed = {name: self._tensor(self._inputs[name], one) for name, one in given.items()}
        try:
            found = self._session.run(asked, feed)
        except Exception as error:  # noqa: BLE001 # the library raises several kinds; its words may quote what was asked
            raise FormatError("the model does not take it (%s)" % type(error).__name__, where="inputs") from None
        outputs = [self._written(name, value) for name, value in zip(asked, found)]
        return dict({"model_name": self.name, "outputs": outputs}, **({"id": body["id"]} if "id" in body else {}))

    def _wanted(self, one: Any) -> str:
        name = strict.members(one, ("name",), ("parameters",), where="outputs")["name"]
        if name not in self._outputs:
            raise FormatError("the model has no output %s" % strict.quoted(name), where="outputs")
        return str(name)

    def _tensor(self, expected: Any, obj: Mapping[str, Any]) -> Any:
        where = "input %s" % strict.quoted(expected.name)
        one = strict.members(obj, ("name", "shape", "datatype", "data"), ("parameters",), where=where)
        datatype, kind = TYPES[expected.type]
        if one["datatype"] != datatype:
            raise FormatError("it is %s, %s was expected" % (strict.quoted(one["datatype"]), datatype), where=where)
        shape = one["shape"]
        if not isinstance(shape, list) or not all(strict.is_integer(size) and 0 <= size <= ELEMENTS_MAX for size in shape):
            raise FormatError("its shape is no list of sizes", where=where)
        try:
            value = self._numpy.array(one["data"], dtype=kind)
            if value.size > ELEMENTS_MAX:
                raise ValueError
            return value.reshape(shape)
        except (ValueError, TypeError, OverflowError):
            raise FormatError("its data does not fit its type and shape", where=where) from None

    def _written(self, name: str, value: Any) -> Dict[str, Any]:
        if not hasattr(value, "shape"):
            # Sequences and maps, as classifiers of scikit-learn give them, are no tensors and were refused at the start.
            raise FormatError("it is no tensor", where="output %s" % strict.quoted(name))
        return {"name": name, "shape": list(value.shape), "datatype": TYPES[self._outputs[name].type][0], "data": value.reshape(-1).tolist()}


def _described(tensor: Any) -> Dict[str, Any]:
    # A dimension that may be of any size has a name or none, and is -1 in the protocol.
    return {"name": tensor.name, "datatype": TYPES[tensor.type][0], "shape": [size if isinstance(size, int) else -1 for size in tensor.shape]}


def find_model(path: str) -> str:
    """The one ONNX file at or below a path. Raises ServingError."""
    if os.path.isfile(path):
        return path
    found: List[str] = sorted(os.path.join(folder, name) for folder, _folders, names in os.walk(path) for name in names if name.endswith(".onnx"))
    if len(found) != 1:
        what = "there are %d ONNX files, one was expected" % len(found)
        raise ServingError(what, where=path, fix="Name it with model_server_file", code="onnx-model")
    return found[0]


def load(path: str, name: str, threads: int) -> Model:
    """Raises AttestedError."""
    try:
        numpy, onnxruntime = (importlib.import_module(library) for library in ("numpy", "onnxruntime"))
    except ImportError as error:
        raise DependencyError("the Python library %s is missing" % error.name, fix="Install onnxruntime and numpy for the Python of model_server_python",
                              code="onnxruntime-missing") from None  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        # Whatever accelerates it is there comes first; the CPU is always last.
        session = onnxruntime.InferenceSession(find_model(path), options, providers=onnxruntime.get_available_providers())
    except AttestedError:
        raise
    except Exception as error:  # noqa: BLE001 # the library raises several kinds
        raise ServingError("ONNX Runtime does not take the model (%s)" % type(error).__name__, where=path, code="onnx-model") from None
    return Model(name, session, numpy)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, model: Model) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.model = model

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who only looked whether it answers has gone; and a trace could hold parts of a request."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        model = self.server.model
        answers = {"/v2/health/ready": {}, "/v2/health/live": {}, "/v2/models/%s" % model.name: model.metadata(), "/v2/models/%s/ready" % model.name: {}}
        self._answer(200, answers[self.path]) if self.path in answers else self._answer(404, {"error": "there is no such path"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_MAX:
            self.close_connection = True
            return self._answer(413, {"error": "a Content-Length of at most %d is needed" % BODY_MAX})
        raw = self.rfile.read(int(length))
        if self.path != "/v2/models/%s/infer" % self.server.model.name:
            return self._answer(404, {"error": "there is no such path"})
        try:
            return self._answer(200, self.server.model.infer(strict.loads(raw, "request")))
        except FormatError as error:
            return self._answer(400, {"error": str(error)})

    def _answer(self, status: int, body: Mapping[str, Any]) -> None:
        payload = json.dumps(body).encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_arguments: Any) -> None:
        """Nobody else is to learn what is asked."""


def run(path: str, name: str, port: int, threads: int) -> int:
    """Serve until the process is ended."""
    server = Server(port, load(path, name, threads))
    server.serve_forever()
    return 0
