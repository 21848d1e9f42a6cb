# SPDX-License-Identifier: Apache-2.0
"""What the project's README shows is true: its C program is the example, its samples run, its links lead somewhere."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
README = ROOT / "README.md"
if not README.is_file():
    pytest.skip("only in the repository", allow_module_level=True)
TEXT = README.read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.S | re.M)


def test_the_c_program_is_the_example_word_for_word():
    example = (ROOT / "examples" / "quickstart.c").read_text("utf-8")
    assert blocks("c") == [example]
    assert len(example.splitlines()) <= 60


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_python_blocks_compile():
    for block in blocks("python"):
        compile(block, "README.md", "exec")


def test_the_sample_does_what_it_says():
    pytest.importorskip("chromadb")
    import ochre
    lines = [line[4:] for block in blocks("console") for line in block.splitlines()
             if line.startswith(">>> ")]
    assert len(lines) >= 5
    client, names = ochre.Client(), {}
    for line in lines:
        line, _, comment = line.replace("chromadb.HttpClient()", "client").partition("  #")
        names["client"] = client
        wanted = comment.partition(":  ")[2].strip()
        if wanted:
            assert repr(eval(line, names)) == wanted, line
        else:
            exec(line, names)
    ochre.close(client)


def test_the_verbs_of_dev_exist():
    dev = (ROOT / "dev").read_text("utf-8")
    for verb in set(re.findall(r"^\s*\$? *\./dev (\w+)", TEXT, re.M)):
        assert re.search(rf"^{verb}\)", dev, re.M), verb
