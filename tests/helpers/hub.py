"""A local server that answers as the Hugging Face Hub does, as far as models are uploaded and downloaded."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_standin"


@dataclass
class Hub:
    """What the server stores: files by repository, and what it was asked."""

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        """A commit's name, which changes with the files."""
        return hashlib.sha1(repr(sorted(self.repos.items())).encode()).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers of the hub; `hub` is set by `served`."""

    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def answer(self, status: int, content: object = b"", **headers: str) -> None:
        """Send an answer, with JSON for anything but bytes."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refused(self) -> bool:
        """Answer a request without the token, and return whether it was one."""
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return False
        self.answer(401, {"error": "Invalid username or password."}, X_Error_Message="Invalid username or password.")
        return True

    def do_POST(self) -> None:
        """Make a repository, or take a commit."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        self.hub.asked.append(f"POST {path}")
        if self.refused():
            return
        if path == "/api/repos/create":
            wanted = json.loads(body)
            repo = "/".join(filter(None, (wanted.get("organization", "someone"), wanted["name"])))
            if repo in self.hub.repos:
                self.answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{repo}"})
                return
            self.hub.repos[repo] = {}
            self.hub.private[repo] = wanted.get("private", wanted.get("visibility"))
            self.answer(200, {"url": f"{self.hub.url}/{repo}", "name": repo})
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif "/commit/" in path:
            repo = "/".join(path.split("/")[3:5])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.hub.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.hub.url}/{repo}/commit/{self.hub.commit}"
            self.answer(200, {"commitUrl": url, "commitOid": self.hub.commit, "success": True})
        else:
            self.answer(404, {"error": "no such page"})

    def do_GET(self) -> None:
        """Give a file."""
        path = urlsplit(self.path).path
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repo = "/".join(parts[2:4])
            if repo not in self.hub.repos:
                self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
                return
            self.answer(
                200, {"id": repo, "sha": self.hub.commit, "siblings": [{"rfilename": f} for f in self.hub.repos[repo]]}
            )
            return
        repo, file = "/".join(parts[:2]), "/".join(parts[4:])
        if repo not in self.hub.repos:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        elif parts[3] not in ("main", self.hub.commit):
            self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        elif file not in self.hub.repos[repo]:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=self.hub.commit)
        else:
            content = self.hub.repos[repo][file]
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.answer(200, content, ETag=etag, X_Repo_Commit=self.hub.commit)

    do_HEAD = do_GET


@contextmanager
def served() -> Iterator[Hub]:
    """Run a block while a hub without repositories is served on this machine."""
    hub = Hub()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
