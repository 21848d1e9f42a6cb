# SPDX-License-Identifier: Apache-2.0
"""What stands between Chroma's Python tests and us: the model without its download, and the in-process transport."""
import os
import tempfile

from chromadb.config import Settings
from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

model = None


def embed(self, input):
    global model
    if model is None:
        from minilm import MiniLM
        model = MiniLM()
    return list(model.embed(list(input)))


ONNXMiniLM_L6_V2.__call__ = embed
ONNXMiniLM_L6_V2._download_model_if_not_exists = lambda self: None

if os.environ.get("OCHRE_CLIENTS_EMBEDDED"):
    from ochre import _chroma, _handle

    class Lasting(_chroma.Connection):
        """One database for the whole run, whoever stops."""

        def __init__(self, handle):
            self.handle, self.apis, self.done = handle, [], False

        def left(self, api):
            pass

    folder = tempfile.TemporaryDirectory(prefix="clients-")
    lasting = Lasting(_handle.acquire(folder.name, settings={"allow_reset": True}))
    _chroma._connections["localhost"] = lasting
    official = Settings.require

    def require(self, key):
        value = official(self, key)
        if key != "chroma_api_impl" or self.chroma_server_host not in _chroma._connections:
            return value
        return _chroma.OFFICIAL.get(value, value)

    Settings.require = require
