"""Every message that the page explains is one that the code can give, word for word."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
MESSAGES = re.findall(r"^### `+ ?(.*?) ?`+$", PAGE, re.MULTILINE)


@cache
def texts():
    """All texts of the code, `…` for what is filled in."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def known(message):
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)
    return any(pattern.search(text) for text in texts())


def test_there_are_messages():
    assert len(MESSAGES) >= 30


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_gives_this_message(message):
    assert len(max(message.split("…"), key=len)) >= 10
    assert known(message)


def test_messages_of_the_report_are_its_own():
    said = re.findall(r"^### ([A-Z][^`\n]*)$", PAGE, re.MULTILINE)
    script = (ROOT / "src/weakseg/apps/report/templates").glob("*.js")
    text = " ".join(path.read_text("utf-8") for path in script)
    assert len(said) == 2
    for message in said:
        assert all(part in text for part in message.split("…"))


def test_others_are_told_apart():
    assert not known("there is no such elephant")
