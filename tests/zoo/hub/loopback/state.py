"""What a Hub holds: repositories, their commits, and large files by their checksums."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

LARGE = re.compile(r".*\.(safetensors|bin|pt|onnx)|tokenizer\.model")
"""Files that are kept by their checksum, as the Hub's .gitattributes has it."""


class RefusalError(Exception):
    """An answer other than 200, with the Hub's word for it."""

    def __init__(self, status: int, code: str | None = None, message: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


@dataclass(frozen=True)
class File:
    """One file of a commit."""

    size: int
    oid: str
    """Git's checksum of what git keeps."""
    sha256: str | None = None
    """Of a large file."""
    content: bytes = b""
    """Of a small one."""

    @classmethod
    def small(cls, content: bytes) -> "File":
        return cls(len(content), blob_id(content), content=content)

    @classmethod
    def large(cls, sha256: str, size: int) -> "File":
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return cls(size, blob_id(pointer.encode()), sha256)

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    def described(self, path: str) -> dict[str, Any]:
        lfs = {"oid": self.sha256, "sha256": self.sha256, "size": self.size, "pointerSize": 134}
        more = {"lfs": lfs} if self.sha256 else {}
        return {"type": "file", "path": path, "size": self.size, "oid": self.oid, **more}


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A revision: every file of it."""

    files: dict[str, File]
    parent: str | None
    title: str

    @property
    def sha(self) -> str:
        named = {path: file.oid for path, file in sorted(self.files.items())}
        return hashlib.sha1(json.dumps([named, self.parent, self.title]).encode()).hexdigest()


@dataclass
class Repository:
    """Branches, tags and pull requests over commits."""

    private: bool = False
    gated: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    pull_requests: int = 0

    def __post_init__(self) -> None:
        if not self.refs:
            self.put(
                "main", Commit({".gitattributes": File.small(b"*.safetensors filter=lfs\n")}, None, "initial")
            )

    def put(self, ref: str, commit: Commit) -> str:
        self.commits[commit.sha] = commit
        self.refs[ref] = commit.sha
        return commit.sha

    def sha_of(self, revision: str) -> str:
        sha = self.refs.get(revision, revision)
        if sha not in self.commits:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def at(self, revision: str) -> Commit:
        return self.commits[self.sha_of(revision)]

    @property
    def head(self) -> str:
        return self.refs["main"]

    def names(self, revision: str = "main") -> set[str]:
        return set(self.at(revision).files) - {".gitattributes"}
