# SPDX-License-Identifier: Apache-2.0
"""Paragraphs of the documentation that lies on a Debian machine: some of each kind, always in the same order."""
import ast
import gzip
import html
import itertools
import pathlib
import re
import sysconfig

LENGTH_MIN, LENGTH_MAX = 80, 320
ROFF_FONT = re.compile(r"\\f(?:\[[^]]*\]|\(..|.)|\\[&%:|^]|\\s[-+]?\d+")
ROFF_NAME = {r"\-": "-", r"\(aq": "'", r"\(bu": "*", r"\(lq": '"', r"\(rq": '"', r"\(em": "-", r"\e": "\\"}


def read(path):
    opened = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
    with opened as stream:
        return stream.read(2_000_000).decode("utf-8", "replace")


def of_plain(text):
    return re.split(r"\n\s*\n", text)


def of_html(text):
    for block in re.findall(r"<p\b[^>]*>(.*?)(?:</p>|<p\b|<div\b|<table\b)", text, re.S | re.I):
        yield html.unescape(re.sub(r"<[^>]*>", "", block))


def of_roff(text):
    """Paragraphs of a man page: requests end one, fonts and named characters are taken out."""
    lines = []
    for line in text.splitlines() + [".PP"]:
        if re.match(r"\.(B|I|BR|BI|IR|RB|IB|RI)\b", line):
            line = re.sub(r"^\.\w+\s*", "", line).replace('"', "")
        if line.startswith((".", "'")) or not line.strip():
            yield " ".join(lines)
            lines = []
            continue
        for name, plain in ROFF_NAME.items():
            line = line.replace(name, plain)
        lines.append(ROFF_FONT.sub("", line))


def of_python(text):
    """The documentation strings of a module."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            yield from of_plain(ast.get_docstring(node) or "")


def of_rst(text):
    for block in of_plain(text):
        if not block.startswith((" ", "..")):
            yield re.sub(r":[a-z_:]+:`([^`<]*?)(?: <[^`]*>)?`", r"\1", block).replace("``", "")


def cmake_files():
    for path in sorted(pathlib.Path("/usr/share").glob("cmake-*/Help/**/*.rst")):
        yield path.parent.name, path, of_rst


def doc_files():
    for path in sorted(pathlib.Path("/usr/share/doc").rglob("*")):
        name = path.name.lower().removesuffix(".gz")
        if path.is_symlink() or not path.is_file() or name.startswith(("changelog", "copyright")):
            continue
        if name.endswith((".html", ".htm")):
            yield path.parts[4], path, of_html
        elif name.endswith((".txt", ".md", ".rst", ".debian")) or name.startswith(
                ("readme", "news", "faq", "introduction", "todo")):
            yield path.parts[4], path, of_plain


def man_files():
    for section in (1, 5, 7, 8):
        for path in sorted(pathlib.Path(f"/usr/share/man/man{section}").glob("*.gz")):
            if not path.is_symlink():
                yield path.name.split(".")[0], path, of_roff


def python_files():
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    skipped = ("test", "site-packages", "dist-packages", "idlelib", "lib2to3")
    for top in sorted(library.iterdir()):
        if top.name not in skipped:
            for path in [top] if top.suffix == ".py" else sorted(top.rglob("*.py")):
                yield ".".join(path.relative_to(library).with_suffix("").parts), path, of_python


KINDS = {"cmake": cmake_files, "doc": doc_files, "man": man_files, "python": python_files}


def is_prose(text):
    letters = sum(c.isalpha() or c == " " for c in text)
    return (LENGTH_MIN <= len(text) <= LENGTH_MAX and text[0].isupper() and text[-1] in ".:?!"
            and letters >= 0.85 * len(text) and text.isprintable())


def of_kind(kind, per_file, seen):
    for package, path, reader in KINDS[kind]():
        taken = 0
        try:
            blocks = list(reader(read(path)))
        except (OSError, EOFError, gzip.BadGzipFile):
            continue
        for block in blocks:
            text = " ".join(block.split())
            if text and is_prose(text) and text not in seen and taken < per_file:
                seen.add(text)
                taken += 1
                yield {"text": text, "kind": kind, "package": package, "file": str(path)}


def paragraphs(count):
    """`count` of {"text", "kind", "package", "file"}: as many of each kind as long as it lasts."""
    seen, chosen = set(), []
    for per_file in (12, 10_000):  # a little of each file, unless that is not enough
        left = {kind: of_kind(kind, per_file, seen) for kind in KINDS}
        while left and len(chosen) < count:
            share = -(-(count - len(chosen)) // len(left))
            for kind, source in list(left.items()):
                taken = list(itertools.islice(source, min(share, count - len(chosen))))
                chosen += taken
                if len(taken) < share:
                    del left[kind]
    return chosen


if __name__ == "__main__":
    import collections
    chosen = paragraphs(5000)
    print(len(chosen), collections.Counter(item["kind"] for item in chosen))
    for item in chosen[::500]:
        print(item["kind"], item["package"], "|", item["text"])
