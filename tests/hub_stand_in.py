"""A stand-in of the Hugging Face hub: the calls that an upload makes, on 127.0.0.1."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub(ThreadingHTTPServer):
    """What was uploaded, and what is to be refused."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.blobs: dict[str, bytes] = {}  # large files, by their SHA-256
        self.files: dict[str, bytes] = {}  # committed
        self.created: dict[str, Any] = {}
        self.refuse: dict[str, tuple[int, str]] = {}  # path -> status and words


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._send(404, b"{}")

    def do_PUT(self) -> None:
        content = self._body()
        if not self._refused():
            self.server.blobs[self.path.rpartition("/")[2]] = content
            self._send(200)

    def do_POST(self) -> None:
        body, hub = self._body(), self.server
        if self.headers["Authorization"] != "Bearer hf_right":
            return self._send(401, json.dumps({"error": "Invalid username or password."}).encode())
        if self._refused():
            return None
        if self.path == "/api/repos/create":
            status = 409 if hub.created else 200
            hub.created = json.loads(body)
            return self._send(status, json.dumps({"url": f"{hub.url}/me/vae"}).encode())
        if self.path == "/api/models/me/vae/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "regular" if name.endswith((".md", ".json")) else "lfs" for name in names}
            answer: dict[str, Any] = {
                "files": [{"path": n, "uploadMode": modes[n], "shouldIgnore": False} for n in names]
            }
        elif self.path == "/me/vae.git/info/lfs/objects/batch":
            objects = json.loads(body)["objects"]
            where = [{"upload": {"href": f"{hub.url}/blobs/{each['oid']}"}} for each in objects]
            answer = {"objects": [{**each, "actions": to} for each, to in zip(objects, where, strict=True)]}
        elif self.path == "/api/models/me/vae/commit/main":
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.blobs[value["oid"]]
            answer = {"commitUrl": f"{hub.url}/me/vae/commit/{'0' * 40}", "commitOid": "0" * 40}
        else:
            answer = {}  # /api/validate-yaml finds nothing wrong
        return self._send(200, json.dumps(answer).encode())

    def _refused(self) -> bool:
        answers = [answer for path, answer in self.server.refuse.items() if path in self.path]
        for status, words in answers:
            self._send(status, json.dumps({"error": words}).encode())
        return bool(answers)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
