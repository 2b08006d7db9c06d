"""The endpoints of the explorer, and what they refuse."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from PIL import Image

from nelbo.explorer.explored import Place
from nelbo.explorer.server import BODY_BYTES
from tests.helpers.explorers import IMAGES, make_explored, served

POINT: dict[str, Any] = {
    **{"run": 0, "image": 4, "setting": {}, "label": None, "origin": "images", "z": None, "other": 9, "step": 0},
    **{"path": "linear", "level": 1, "upper": "images", "below": "mode", "shifts": {}, "seed": 1, "temperature": 1},
}


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with served([make_explored("ladder"), make_explored("label")]) as address:
        yield address


def send(address: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request; return status, headers and content."""
    request = urllib.request.Request(address, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def ask(page: str, path: str, /, **body: Any) -> tuple[int, Any]:
    status, _, content = send(f"{page}{path}", json.dumps(body).encode(), **{"Content-Type": "application/json"})
    return status, json.loads(content)


def pixels(picture: dict[str, Any]) -> torch.Tensor:
    """Return a picture that the page is sent, (C, H, W) in [0, 1]."""
    content = torch.frombuffer(bytearray(base64.b64decode(picture["pixels"])), dtype=torch.uint8)
    return content.reshape(picture["height"], picture["width"], picture["channels"]).permute(2, 0, 1) / 255


def test_a_decoded_point(page: str) -> None:
    explored = make_explored("ladder")
    status, answer = ask(page, "decode", **{**POINT, "level": 3})
    assert status == 200
    with torch.no_grad():
        expected = explored.model.decode(*explored.codes_of(Place(4, {}))).mean[0].clamp(0, 1)
    assert (pixels(answer["picture"]) - expected).abs().max() < 0.01
    status, again = ask(page, "decode", **{**POINT, "origin": "point", "z": answer["z"], "level": 3})
    assert status == 200 and again == answer
    status, other = ask(page, "decode", **{**POINT, "run": 1, "label": 2})
    assert status == 200 and other["picture"] != ask(page, "decode", **{**POINT, "run": 1, "label": 0})[1]["picture"]


def test_units_plane_and_posterior(page: str) -> None:
    status, units = ask(page, "units", run=0, setting={})
    assert status == 200 and [len(level["kl"]) for level in units["levels"]] == [3, 4, 2]
    status, plane = ask(page, "plane", run=0, setting={}, axes=None)
    assert status == 200 and len(plane["points"]) == len(plane["labels"]) == len(plane["images"]) == IMAGES
    status, plane = ask(page, "plane", run=0, setting={}, axes=[2, 0])
    assert status == 200 and plane["names"] == ["unit 2", "unit 0"]
    status, posterior = ask(page, "posterior", run=1, setting={}, image=5, label=None)
    assert status == 200 and posterior["label"] == 2 and len(posterior["levels"][0]["mean"]) == 4


def test_images_are_pngs(page: str) -> None:
    status, headers, content = send(f"{page}image/1/5.png")
    assert status == 200 and headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (5, 6) and picture.mode == "L"
    assert send(f"{page}image/0/{IMAGES}.png")[0] == 400
    assert send(f"{page}image/2/0.png")[0] == 404


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"run": 2}, "run=null: must be from 0 to 1"),
        ({"image": IMAGES}, f"image={IMAGES}: the test split has images 0 to {IMAGES - 1}"),
        ({"image": -1}, "image=-1: must be a whole number of at least 0"),
        ({"image": None}, "image=null: must be a whole number of at least 0"),
        ({"other": 1000, "step": 50}, f"image=1000: the test split has images 0 to {IMAGES - 1}"),
        ({"step": 101}, "step=101: must be at most 100"),
        ({"origin": "moon"}, "origin=moon: must be one of images, prior, median, point"),
        ({"origin": "point", "z": [1.0]}, "z=1: must be 3 numbers"),
        ({"origin": "point", "z": [1.0, None, 0.0]}, "z=null: must be a finite number"),
        ({"origin": "point", "z": "abc"}, "z=abc: must be a list of numbers"),
        ({"level": 4}, "level=4: the model has levels 1 to 3"),
        ({"level": 2, "shifts": {"2": {"9": 1}}}, "shifts=9: level 2 has units 0 to 3"),
        ({"shifts": {"2": 3}}, "shifts={2:3}: must be an object of objects of numbers"),
        ({"temperature": -1}, "temperature=-1: must be a finite number of at least 0"),
        ({"setting": {"beta": 1}}, "setting={beta:1}: must have names of []"),
        ({"run": 1, "label": 3}, "label=3: must be at most 2"),
    ],
)
def test_wrong_requests_are_answered_with_one_line(page: str, change: dict[str, Any], line: str) -> None:
    status, answer = ask(page, "decode", **{**POINT, **change})
    assert status == 400 and answer["error"].startswith(line) and len(answer["error"].splitlines()) == 1


def test_what_is_no_json_object_is_refused(page: str) -> None:
    json_type = {"Content-Type": "application/json"}
    assert send(f"{page}decode", b"[]", **json_type)[0] == 400
    assert send(f"{page}decode", b"{", **json_type)[0] == 400
    assert send(f"{page}decode", b"\xff\xfe", **json_type)[0] == 400
    assert send(f"{page}decode", b" " * (BODY_BYTES + 1), **json_type)[0] == 413
    assert send(f"{page}decode")[0] == 405


def test_only_this_machine_is_answered_and_no_other_page(page: str) -> None:
    """A name that leads here (DNS rebinding) is refused, and so is what a form of another page can send."""
    body, port = json.dumps(POINT).encode(), page.rstrip("/").rpartition(":")[2]
    for path in ("", "image/0/0.png", "decode"):
        content = body if path == "decode" else None
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example"):
            answer = send(f"{page}{path}", content, Host=host, **{"Content-Type": "application/json"})
            assert answer[0] == 400 and b"host" in answer[2].lower(), (path, host)
    assert send(page, Host=f"localhost:{port}")[0] == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert send(f"{page}decode", body, **{"Content-Type": kind})[0] == 415
    for path, content in (("", None), ("decode", body)):
        headers = send(f"{page}{path}", content, Origin="http://evil.example", **{"Content-Type": "application/json"})[
            1
        ]
        assert not [name for name in headers if name.lower().startswith("access-control-")]
        assert headers["cross-origin-resource-policy"] == "same-origin"
    request = urllib.request.Request(f"{page}decode", method="OPTIONS", headers={"Origin": "http://evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    with refused.value as error:
        assert error.code == 405


class Addresses(HTMLParser):
    """The addresses that a page names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]


def test_the_page_is_one_file_that_may_run_its_own_script_alone(page: str) -> None:
    status, headers, content = send(page)
    text = content.decode()
    assert status == 200 and len(content) < 100_000
    assert all(address.startswith("/image/") or address == "data:," for address in Addresses(text).found)
    assert not re.findall(r"https?:", text)
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_names_are_escaped() -> None:
    explored = make_explored()
    object.__setattr__(explored.scene, "name", "</script><script>alert(1)</script>")
    with served([explored]) as address:
        text = send(address)[2].decode()
    assert "<script>alert" not in text and len(re.findall("<script", text)) == 2
