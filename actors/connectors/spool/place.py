"""The places where a spool may lie: a local disk, in a directory that can be written."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from actors.connectors.trusted import check_file, check_parent
from actors.errors import ConfigurationError

BESIDE = ("-wal", "-shm", "-journal")  #: what SQLite appends to the name of its file

MOUNTINFO = Path("/proc/self/mountinfo")

#: File systems on which locks or shared memory do not hold between all who mount them.
_NETWORK = re.compile(
    r"9p|afs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|nfs\d?|ocfs2|orangefs|smb3|smbfs"
    r"|fuse\.(ceph|cephfs|davfs2|gcsfuse|glusterfs|juicefs|rclone|s3fs|sshfs)"
)


def prepare(path: Path, mountinfo: Path = MOUNTINFO) -> None:
    """Make the directory (0700) and the file (0600) where they are missing.

    Raises `ConfigurationError` where the path is on a network file system or cannot be written.
    """
    try:
        if path.is_dir():
            raise ConfigurationError(
                f"connection spool://{path}: is a directory; name a file in it"
            )
        _refuse_network(path, mountinfo)
        _make_directory(path.parent)
        check_parent(os.stat(path.parent), path.parent, f"connection spool://{path}")
        check_files(path)
        _make_file(path)
        check_files(path)
    except OSError as error:
        raise ConfigurationError(
            f"connection spool://{path}: cannot be used: {error.strerror}"
        ) from error
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise ConfigurationError(f"connection spool://{path}: {place} cannot be written")


def check_files(path: Path) -> None:
    """Whether the file and what SQLite keeps beside it are ours, where they are there.

    Raises `ConfigurationError`. Nothing is opened: to close it would drop SQLite's locks.
    """
    for place in (path, *(Path(f"{path}{end}") for end in BESIDE)):
        with contextlib.suppress(FileNotFoundError):
            check_file(os.lstat(place), place, f"connection spool://{path}")


def _refuse_network(path: Path, mountinfo: Path) -> None:
    kind = file_system(path, mountinfo)
    if _NETWORK.fullmatch(kind):
        raise ConfigurationError(
            f"connection spool://{path}: is on a network file system ({kind}), "
            "where locks do not hold; name a file on a local disk"
        )


def file_system(path: Path, mountinfo: Path = MOUNTINFO) -> str:
    """The type of the file system that `path` is or would be on; "" where nobody can tell."""
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:  # Linux alone has it
        return ""
    longest, kind = -1, ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = Path(_unescape(mount.split(" ")[4]))
        # Of two mounts on one point the later covers the earlier.
        if len(point.parts) >= longest and path.is_relative_to(point):
            longest, kind = len(point.parts), source.split(" ")[0]
    return kind


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _make_directory(directory: Path) -> None:
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
        _sync(place.parent)


def _make_file(path: Path) -> None:
    try:
        # Never open a file that exists: closing it would drop the locks that SQLite holds
        # on it in this process.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """A new name survives a power cut only once its directory is written."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
