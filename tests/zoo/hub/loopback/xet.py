"""What hf_xet stored in a folder of this machine, found again by its checksum."""

import struct
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 48
_HAS_CHECKS, _HAS_CHECKSUM = 1 << 31, 1 << 30


def find(folder: Path, sha256: str) -> str | None:
    """Xet's name for a file."""
    wanted = struct.unpack(">4Q", bytes.fromhex(sha256))
    for shard in sorted(folder.rglob("shards/*.mdb")):
        for name, checksum in _files(shard.read_bytes()):
            if checksum == wanted:
                return "".join(f"{number:016x}" for number in name)
    return None


def _files(shard: bytes) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Names and checksums of a shard's files, each four numbers.

    After the shard's own block, each file has one with its name, one for each piece, as many of checks, and
    one with the checksum.
    """
    place = _BLOCK_BYTES
    while shard[place : place + 32] != b"\xff" * 32:
        *name, flags, pieces = struct.unpack("<4Q2I", shard[place : place + 40])
        place += _BLOCK_BYTES * (1 + pieces * (2 if flags & _HAS_CHECKS else 1))
        if flags & _HAS_CHECKSUM:
            yield tuple(name), struct.unpack("<4Q", shard[place : place + 32])
            place += _BLOCK_BYTES
