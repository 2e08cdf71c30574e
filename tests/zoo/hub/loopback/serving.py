"""The protocol, as huggingface_hub 2 speaks it."""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from . import xet
from .faults import Fault
from .state import LARGE, Commit, File, RefusalError, Repository

TOKEN = "hf_loopbackloopbackloopbackloopback"
DATE = "2026-01-02T03:04:05.000Z"


@dataclass(frozen=True)
class Request:
    """One that arrived."""

    method: str
    path: str
    origin: str
    has_token: bool

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Loopback:
    """A Hub and its store of large files."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=lambda: {TOKEN: "me"})
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    xet_folder: Path | None = None
    """Where hf_xet stores what is uploaded, one process at a time; None: there is no Xet."""
    part_bytes: int | None = None
    """What a large file is cut into where it is sent; None: it is sent whole."""
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """Of large files that are not whole yet."""

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.servers = [_Server(self, "hub"), _Server(self, "store")]
        self.url, self.store_url = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)

    def __enter__(self) -> "Loopback":
        for server in self.servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def publish(self, repo_id: str, folder: Path, ref: str = "main", **kind: Any) -> str:
        """A folder's files as a new commit, without a client; its 40-hex name."""
        repository = self.repositories.setdefault(repo_id, Repository(**kind))
        files = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name, content = path.relative_to(folder).as_posix(), path.read_bytes()
            files[name] = self._file(content) if LARGE.fullmatch(name) else File.small(content)
        return repository.put(ref, Commit(files, repository.refs.get(ref), "published"))

    def _file(self, content: bytes) -> File:
        sha256 = hashlib.sha256(content).hexdigest()
        self.large[sha256] = content
        return File.large(sha256, len(content))

    def read(self, repo_id: str, name: str, revision: str = "main") -> bytes:
        file = self.repositories[repo_id].at(revision).files[name]
        return self.large[file.sha256] if file.sha256 else file.content

    def lines(self, pattern: str = "") -> list[str]:
        return [request.line for request in self.requests if re.search(pattern, request.line)]

    # Routes

    def serve(self, call: "_Call") -> Answer:
        origin_routes = _STORE_ROUTES if call.origin == "store" else _ROUTES
        for pattern, handle in origin_routes:
            if found := re.fullmatch(pattern, f"{call.method} {call.path}"):
                return handle(self, call, *(unquote(part) if part else part for part in found.groups()))
        raise RefusalError(404, None, f"no route for {call.method} {call.path}")

    def repository(self, call: "_Call", repo_id: str, *, writes: bool = False) -> Repository:
        who = self.who(call)
        found = self.repositories.get(repo_id)
        if found is None or (found.private and who is None):
            raise RefusalError(401 if who is None else 404, "RepoNotFound", "Repository not found")
        if found.gated and who is None:
            raise RefusalError(401, "GatedRepo", "Access to this model is restricted")
        if writes and who is None:
            raise RefusalError(401, None, "Invalid username or password.")
        if writes and repo_id.split("/")[0] != who:
            raise RefusalError(403, None, "You don't have the rights to write here")
        return found

    def who(self, call: "_Call") -> str | None:
        if call.token is None:
            return None
        if call.token not in self.tokens:
            raise RefusalError(401, None, "Invalid credentials in Authorization header")
        return self.tokens[call.token]

    def whoami(self, call: "_Call") -> Answer:
        name = self.who(call)
        if name is None:
            raise RefusalError(401, None, "Invalid username or password.")
        return _json({"type": "user", "name": name, "fullname": name, "orgs": [], "auth": {}})

    def create(self, call: "_Call") -> Answer:
        asked = call.json()
        name = self.who(call)
        if name is None:
            raise RefusalError(401, None, "Invalid username or password.")
        owner = asked.get("organization") or name
        if owner != name:
            raise RefusalError(403, None, f"You don't have the rights to create a model under {owner}")
        repo_id = f"{owner}/{asked['name']}"
        url = {"url": f"{self.url}/{repo_id}", "name": repo_id, "id": "0"}
        if repo_id in self.repositories:
            return _json({**url, "error": "You already created this model repo"}, 409)
        self.repositories[repo_id] = Repository(private=asked.get("visibility") == "private")
        return _json(url)

    def validate(self, call: "_Call") -> Answer:
        return _json({"errors": [], "warnings": []})

    def info(self, call: "_Call", repo_id: str, revision: str | None) -> Answer:
        repository = self.repository(call, repo_id)
        sha = repository.sha_of(revision or "main")
        siblings = []
        for path, file in repository.commits[sha].files.items():
            more = {
                "blobId": file.oid,
                **{k: v for k, v in file.described(path).items() if k in ("size", "lfs")},
            }
            siblings.append({"rfilename": path, **(more if "blobs" in call.query else {})})
        return _json(
            {
                "id": repo_id, "modelId": repo_id, "sha": sha, "private": repository.private,
                "gated": "auto" if repository.gated else False, "disabled": False, "downloads": 0, "likes": 0,
                "tags": [], "siblings": siblings, "createdAt": DATE, "lastModified": DATE,
            }
        )  # fmt: skip

    def tree(self, call: "_Call", repo_id: str, revision: str) -> Answer:
        commit = self.repository(call, repo_id).at(revision)
        listed = [file.described(path) for path, file in commit.files.items()]
        start, size = int(call.query.get("cursor", ["0"])[0]), 4  # pages, as of large repositories
        more = {}
        if start + size < len(listed):
            url = f"{self.url}{call.path}?recursive=true&cursor={start + size}"
            more["Link"] = f'<{url}>; rel="next"'
        answer = _json(listed[start : start + size])
        answer.headers |= more
        return answer

    def refs(self, call: "_Call", repo_id: str) -> Answer:
        found = self.repository(call, repo_id).refs.items()
        listed: dict[str, list[Any]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for name, sha in found:
            is_request = name.startswith("refs/pr/")
            full = name if is_request else f"refs/heads/{name}"
            kind = "pullRequests" if is_request else "branches"
            listed[kind].append({"name": name, "ref": full, "targetCommit": sha})
        return _json(listed)

    def resolve(self, call: "_Call", repo_id: str, revision: str, path: str) -> Answer:
        repository = self.repository(call, repo_id)
        sha = repository.sha_of(revision)
        file = repository.commits[sha].files.get(path)
        headers = {"X-Repo-Commit": sha}
        if file is None:
            raise RefusalError(404, "EntryNotFound", "Entry not found", **headers)
        if file.sha256 is None:
            return Answer(file.content, 200, {**headers, "ETag": f'"{file.oid}"'})
        headers |= {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        if self.xet_folder is not None and (name := xet.find(self.xet_folder, file.sha256)):
            route = f"{self.url}/api/models/{repo_id}/xet-read-token"
            headers |= {"X-Xet-Hash": name, "X-Xet-Refresh-Route": route}
        place = f"{self.store_url}/large/{file.sha256}?signature=s3cret"
        return Answer(b"", 302, {**headers, "Location": place})

    def preupload(self, call: "_Call", repo_id: str, revision: str) -> Answer:
        files = self.repository(call, repo_id, writes=True).at(revision).files
        answers = []
        for asked in call.json()["files"]:
            mode = "lfs" if LARGE.fullmatch(asked["path"]) else "regular"
            known = files.get(asked["path"])
            answers.append(
                {
                    "path": asked["path"], "uploadMode": mode, "shouldIgnore": False,
                    "oid": known.etag if known else None,
                }
            )  # fmt: skip
        return _json({"files": answers})

    def batch(self, call: "_Call", repo_id: str) -> Answer:
        self.repository(call, repo_id, writes=True)
        objects = []
        for asked in call.json()["objects"]:
            missing = {"actions": {"upload": self._upload(**asked)}} if asked["oid"] not in self.large else {}
            objects.append({**asked, "authenticated": True, **missing})
        return _json({"transfer": "multipart" if self.part_bytes else "basic", "objects": objects})

    def _upload(self, oid: str, size: int) -> dict[str, Any]:
        """Where a large file is to be sent, whole or in parts that are then said to be all."""
        href = f"{self.store_url}/large/{oid}?signature=s3cret"
        if self.part_bytes is None:
            return {"href": href}
        numbers = range(1, -(-size // self.part_bytes) + 1)
        places = {
            str(number): f"{self.store_url}/parts/{oid}/{number}?signature=s3cret" for number in numbers
        }
        return {"href": href, "header": {"chunk_size": str(self.part_bytes), **places}}

    def commit(self, call: "_Call", repo_id: str, revision: str) -> Answer:
        repository = self.repository(call, repo_id, writes=True)
        parent = repository.sha_of(revision)
        files = dict(repository.commits[parent].files)
        summary, number = "", None
        for line in call.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    summary = value["summary"]
                    if value.get("parentCommit", parent) != parent and "create_pr" not in call.query:
                        raise RefusalError(
                            412, None, "A commit has happened since. Please refresh and try again."
                        )
                case "file":
                    files[value["path"]] = File.small(base64.b64decode(value["content"]))
                case "lfsFile":
                    if not self.has_content(value["oid"]):
                        raise RefusalError(400, None, f"no content {value['oid']}")
                    files[value["path"]] = File.large(value["oid"], value["size"])
                case "deletedFile":
                    if files.pop(value["path"], None) is None:
                        raise RefusalError(404, "EntryNotFound", "A file with this name doesn't exist")
        ref = revision
        if "create_pr" in call.query:
            repository.pull_requests += 1
            number, ref = repository.pull_requests, f"refs/pr/{repository.pull_requests}"
        sha = repository.put(ref, Commit(files, parent, summary))
        more = {"pullRequestUrl": f"{self.url}/{repo_id}/discussions/{number}"} if number else {}
        return _json({"commitUrl": f"{self.url}/{repo_id}/commit/{sha}", "commitOid": sha, **more})

    def has_content(self, sha256: str) -> bool:
        is_in_xet = self.xet_folder is not None and xet.find(self.xet_folder, sha256) is not None
        return is_in_xet or sha256 in self.large

    def branch(self, call: "_Call", repo_id: str, name: str) -> Answer:
        repository = self.repository(call, repo_id, writes=True)
        if name in repository.refs:
            raise RefusalError(409, None, f"Reference already exists: {name}")
        repository.refs[name] = repository.sha_of(call.json().get("startingPoint", "main"))
        return _json({})

    def tag(self, call: "_Call", repo_id: str, revision: str) -> Answer:
        repository = self.repository(call, repo_id, writes=True)
        repository.refs[call.json()["tag"]] = repository.sha_of(revision)
        return _json({})

    def xet_token(self, call: "_Call", repo_id: str, revision: str) -> Answer:
        self.repository(call, repo_id, writes=True)
        if self.xet_folder is None:
            raise RefusalError(404, None, "no Xet here")
        self.xet_folder.mkdir(parents=True, exist_ok=True)
        return _xet_access(self.xet_folder)

    def xet_read_token(self, call: "_Call", repo_id: str) -> Answer:
        self.repository(call, repo_id)
        assert self.xet_folder is not None
        return _xet_access(self.xet_folder)

    def send_large(self, call: "_Call", sha256: str) -> Answer:
        if sha256 not in self.large:
            raise RefusalError(404, None, "no such content")
        content = self.large[sha256]
        if found := re.fullmatch(r"bytes=(\d+)-", call.range or ""):
            first = int(found[1])
            place = f"bytes {first}-{len(content) - 1}/{len(content)}"
            return Answer(content[first:], 206, {"Content-Range": place, "ETag": f'"{sha256}"'})
        return Answer(content, 200, {"ETag": f'"{sha256}"'})

    def take_large(self, call: "_Call", sha256: str) -> Answer:
        if hashlib.sha256(call.body).hexdigest() != sha256:
            raise RefusalError(400, None, "the content is not what was announced")
        self.large[sha256] = call.body
        return Answer()

    def take_part(self, call: "_Call", sha256: str, number: str) -> Answer:
        self.parts[sha256, int(number)] = call.body
        return Answer(headers={"ETag": f'"{hashlib.md5(call.body).hexdigest()}"'})

    def join_parts(self, call: "_Call", sha256: str) -> Answer:
        parts = []
        for said in call.json()["parts"]:
            part = self.parts.get((sha256, said["partNumber"]), b"")
            if said["etag"].strip('"') != hashlib.md5(part).hexdigest():
                raise RefusalError(400, None, f"part {said['partNumber']} is not what was announced")
            parts.append(part)
        content = b"".join(parts)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise RefusalError(400, None, "the content is not what was announced")
        self.large[sha256] = content
        return Answer()


Route = tuple[str, Callable[..., Answer]]
_ID = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[Route] = [
    ("GET /api/whoami-v2", Loopback.whoami),
    ("POST /api/repos/create", Loopback.create),
    ("POST /api/validate-yaml", Loopback.validate),
    (rf"GET /api/models/{_ID}(?:/revision/([^/]+))?", Loopback.info),
    (rf"GET /api/models/{_ID}/tree/([^/]+)", Loopback.tree),
    (rf"GET /api/models/{_ID}/refs", Loopback.refs),
    (rf"(?:GET|HEAD) /{_ID}/resolve/([^/]+)/(.+)", Loopback.resolve),
    (rf"POST /api/models/{_ID}/preupload/([^/]+)", Loopback.preupload),
    (rf"POST /{_ID}\.git/info/lfs/objects/batch", Loopback.batch),
    (rf"POST /api/models/{_ID}/commit/([^/]+)", Loopback.commit),
    (rf"POST /api/models/{_ID}/branch/([^/]+)", Loopback.branch),
    (rf"POST /api/models/{_ID}/tag/([^/]+)", Loopback.tag),
    (rf"GET /api/models/{_ID}/xet-write-token/([^/]+)", Loopback.xet_token),
    (rf"GET /api/models/{_ID}/xet-read-token", Loopback.xet_read_token),
]
_STORE_ROUTES: list[Route] = [
    (r"(?:GET|HEAD) /large/(\w+)", Loopback.send_large),
    (r"PUT /large/(\w+)", Loopback.take_large),
    (r"PUT /parts/(\w+)/(\d+)", Loopback.take_part),
    (r"POST /large/(\w+)", Loopback.join_parts),
]


def _xet_access(folder: Path) -> Answer:
    place, end = f"local://{folder}", int(time.time()) + 3600
    answer = _json({"casUrl": place, "accessToken": "xet", "exp": end})
    answer.headers |= {
        "X-Xet-Cas-Url": place, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(end),
    }  # fmt: skip
    return answer


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


@dataclass(frozen=True)
class _Call:
    method: str
    path: str
    query: dict[str, list[str]]
    origin: str
    token: str | None
    range: str | None
    body: bytes

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: Loopback, origin: str) -> None:
        self.hub, self.origin = hub, origin
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error of the Hub's."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        """The requests are kept in place of being printed."""

    def do_GET(self) -> None:
        hub = self.server.hub
        parts = urlsplit(self.path)
        line = f"{self.command} {parts.path}"
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        with hub.lock:
            hub.requests.append(Request(self.command, parts.path, self.server.origin, token is not None))
            fault = next((fault for fault in hub.faults if fault.meets(line)), None)
            if fault is not None:
                fault.times -= 1
        if fault is not None and fault.kind == "reset":
            self._drop()
            return
        if fault is not None and fault.kind == "stall":
            threading.Event().wait(fault.seconds)
            self._drop()
            return
        call = _Call(
            self.command, parts.path, parse_qs(parts.query, keep_blank_values=True), self.server.origin,
            token, self.headers.get("Range"), self._body(),
        )  # fmt: skip
        answer = self._served(call, fault)
        if fault is not None and fault.kind == "lost":
            self._drop()
            return
        self._send(answer, fault)

    do_HEAD = do_POST = do_PUT = do_GET

    def _served(self, call: _Call, fault: Fault | None) -> Answer:
        if fault is not None and fault.kind == "status":
            answer = _json({"error": "ordered"}, fault.status)
            answer.headers |= fault.headers
            return answer
        try:
            with self.server.hub.lock:
                return self.server.hub.serve(call)
        except RefusalError as refusal:
            answer = _json({"error": refusal.message}, refusal.status)
            code = {"X-Error-Code": refusal.code} if refusal.code else {}
            answer.headers |= {"X-Error-Message": refusal.message, **code, **refusal.headers}
            return answer

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        body = answer.body
        if fault is not None and fault.kind == "flip" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.kind in ("cut", "hang"):
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            if fault.kind == "hang":
                threading.Event().wait(fault.seconds)
            self._drop(kindly=True)
            return
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().strip() or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _drop(self, *, kindly: bool = False) -> None:
        """Closes the connection: by a reset, or as if all had been said."""
        self.close_connection = True
        with suppress(OSError):
            if not kindly:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR) if kindly else self.connection.close()
