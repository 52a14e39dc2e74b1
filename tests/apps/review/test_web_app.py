import json
import sys
import urllib.error
import urllib.request

import pytest
import uvicorn

from weakseg.apps.review import server
from weakseg.types import ConfigError


@pytest.fixture
def ask(review_address):
    root = review_address.partition("?")[0]

    def ask(path, *, data=None, token="secret", host=None):
        headers = {"X-Token": token, **({"Host": host} if host else {})}
        request = urllib.request.Request(root + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    return ask


def told(answer):
    return json.loads(answer[2])["error"]


def test_nothing_of_the_run_without_the_token(ask):
    for path in ("api/run", "api/photo?id=photo_00000", "api/judge?id=photo_00000&state=accepted"):
        answer = ask(path, token="guess")
        assert answer[0] == 403
        assert "open the address" in told(answer)
    assert ask("api/run")[0] == 200
    assert ask("api/run?token=secret", token="")[0] == 200


def test_no_other_page_reaches_in(ask):
    assert ask("api/run", host="evil.example")[0] == 400
    policy = ask("")[1]["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert ask("")[1]["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path", ["..%2fserver.py", "%2e%2e/server.py", "server.py", "no.css", ".css"]
)
def test_only_the_pages_own_files_are_given(ask, path):
    assert ask(path)[0] == 404


def test_the_page_and_its_parts(ask):
    page = ask("")[2].decode()
    assert "http" not in page.replace("http-equiv", "")  # it needs no network
    for name in ("main.js", "review.css", "look.css", "icons.svg"):
        assert ask(name)[0] == 200


@pytest.mark.parametrize(
    ("path", "data", "code", "text"),
    [
        ("api/image?id=x", None, 400, "the run has no image 'x'"),
        ("api/images?order=size", None, 400, "unknown order 'size'"),
        ("api/map?id=photo_00000&kind=x", None, 400, "has no map 'x'"),
        (
            "api/draw?id=photo_00000&x=0&y=0&width=2&height=2",
            b"123",
            400,
            "expected 2×2 pixels, got 3",
        ),
        ("api/draw?id=photo_00000&x=999&y=0&width=1&height=1", b"1", 400, "leaves the mask"),
        (
            "api/complete?id=photo_00000&label=9&width=1&height=1",
            b"1",
            400,
            "label 9 stands for no",
        ),
        ("api/judge?id=photo_00000&state=corrected", b"", 400, "unknown state"),
        ("api/judge?id=photo_00000&state=accepted&version=4", b"", 409, "changed elsewhere"),
        ("api/tags?id=photo_00000", b"bird", 400, "none of the run's classes"),
        ("api/undo?id=photo_00000", b"", 500, "nothing to undo"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(ask, path, data, code, text):
    answer = ask(path, data=data)
    assert answer[0] == code
    assert text in told(answer)


def test_a_damaged_review_is_told_with_its_file(ask, run_folder):
    assert ask("api/judge?id=photo_00000&state=accepted", data=b"")[0] == 200
    (run_folder / "review" / "entries" / "photo_00000.json").write_text("{")
    answer = ask("api/image?id=photo_00000")
    assert answer[0] == 500
    assert "photo_00000.json is damaged" in told(answer)
    assert ask("api/run")[0] == 200


def test_rows_come_in_pages(ask):
    first = json.loads(ask("api/images?order=file&limit=4")[2])
    rest = json.loads(ask("api/images?order=file&limit=4&offset=4")[2])
    assert first["total"] == rest["total"] == 6
    assert [row["id"] for row in (*first["rows"], *rest["rows"])] == [
        f"photo_{n:05}" for n in range(6)
    ]


def test_the_command_tells_how_to_learn_from_it(ask, run_folder):
    command = json.loads(ask("api/run")[2])["command"]
    assert command.startswith("weakseg run ")
    assert f"--out {run_folder}" in command


class ServedError(Exception):
    pass


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_others_than_this_machine_are_let_in_with_a_warning_alone(
    run_folder, monkeypatch, host, warned
):
    def stop(self, sockets):
        assert sockets[0].getsockname()[0] == host
        raise ServedError

    monkeypatch.setattr(uvicorn.Server, "run", stop)
    said = []
    with pytest.raises(ServedError):
        server.serve(run_folder, host=host, say=said.append, browse=False)
    text = "\n".join(said)
    assert ("everybody who can reach" in text) == warned
    assert f"http://{host}:" in text
    assert len(text.partition("token=")[2].split()[0]) >= 20


def test_a_port_that_is_taken_is_told(run_folder, review_address):
    port = int(review_address.rpartition(":")[2].partition("/")[0])
    with pytest.raises(ConfigError, match="cannot listen on"):
        server.serve(run_folder, port=port, browse=False, say=lambda _: None)


def test_without_the_extra_it_says_what_to_install(run_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'weakseg\[ui\]'"):
        server.serve(run_folder)
