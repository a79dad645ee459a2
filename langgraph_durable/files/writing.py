"""A file holds its old content or its new one, whole, whatever happens; and what it held before can be had again.

Before a file is replaced its content is kept under the root, in a folder that only its owner can read, by its digest.
Nothing of that is ever deleted: the folder grows by each content that was written over, once, and may be deleted as a
whole by who does not want to go back.

Writers in one process take turns for each file. A writer in another process is noticed up to the moment before the
file is replaced, and not after it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from langgraph_durable.errors import InvalidRequestError
from langgraph_durable.files.contents import Found, find, find_in, pieces, regular
from langgraph_durable.files.places import FLAGS, KEPT, Folder, Place, folder_of, placed, refusing, rooted
from langgraph_durable.files.stamps import Stamp

_DIGEST = re.compile(r"[0-9a-f]{64}")


def restore_file(
    file: str | os.PathLike[str] | Mapping[str, Any],
    digest: str | None = None,
    *,
    root: str | os.PathLike[str] = ".",
) -> Stamp:
    """Put back what a file was before a thread wrote to it, and get its stamp; for people, outside of a run.

    `file` is a stamp out of a state, whose `previous` is put back, or a path along with the digest of the content. What
    the file holds now is kept as well: the stamp names it as `previous`, and can be given to undo this. The thread is
    not told: its next write to the file is refused until it has read it, unless the stamp is put into its state
    (`graph.update_state(config, {"files": {stamp["path"]: stamp}})`).

    InvalidRequestError when there is no such content, or the path leads out of the root. A file that is larger, or is
    not text, is put back as well.
    """
    path, wanted, seen = file, digest, 0
    if isinstance(file, Mapping):
        path, wanted, seen = str(file.get("path", "")), digest or file.get("previous"), _number(file.get("seen"))
    if wanted is None:
        raise InvalidRequestError(
            f"there is nothing to put back of {path!r}: give a stamp whose `previous` is a digest, or a path and the "
            "digest of the content; a file that a thread created had no content before"
        )
    place = placed(path, rooted(root))  # type: ignore[arg-type]  # no Mapping is left
    with locked(place):
        now = find(place)
        if now.digest == wanted:
            return now.stamp(place.path, seen=seen + 1)
        after = replace(place, _kept(place, wanted), now)
    return after.stamp(place.path, seen=seen + 1, previous=now.digest)


def replace(place: Place, content: Iterable[bytes], now: Found) -> Found:
    """Put a content in the place of what is there now, which is kept first; folders that are missing are made.

    InvalidRequestError, and nothing has changed, when something else than `now` is there.
    """
    with refusing(place), folder_of(place, make=True) as folder:
        if now.mode is not None:
            if now.mode & 0o222 == 0 or not os.access(folder.at(place.name), os.W_OK, dir_fd=folder.fd):
                raise InvalidRequestError(f"{place.path!r} is read-only; ask somebody to make it writable")
            _keep(folder, place, now)

        def unchanged(_: str) -> None:
            found = find_in(folder, place)
            if found.digest != now.digest:
                raise _changed(place)

        return _put(folder, place.name, content, now.mode, unchanged)


def kept_text(place: Place, digest: str) -> str | None:
    """A text that was kept; None when it was not, or is no text."""
    try:
        return b"".join(_kept(place, digest)).decode()
    except (InvalidRequestError, UnicodeDecodeError):
        return None


def digest_of(content: bytes) -> str:
    """The digest of a content."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """The turn of this thread of the process with a file."""
    with _locks.of(place):
        yield


def _keep(folder: Folder, place: Place, now: Found) -> None:
    """Keep what a file holds, unless it is kept already."""
    own = Place(place.root, f"{KEPT}/{now.digest}")
    with folder_of(own, make=True) as kept:
        with suppress(FileExistsError):
            ignore = os.open(kept.at(".gitignore"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, 0o600, dir_fd=kept.fd)
            with open(ignore, "wb") as file:
                file.write(b"*\n")
        if find_in(kept, own).digest == now.digest:
            return

        def unchanged(digest: str) -> None:
            if digest != now.digest:
                raise _changed(place)

        with regular(folder, place) as fd:
            _put(kept, own.name, pieces(fd), 0o600, unchanged)


def _kept(place: Place, digest: str) -> Iterator[bytes]:
    """A content that was kept, in pieces. InvalidRequestError when it is not there, or is not what it was."""
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise InvalidRequestError(f"{digest!r} is not the digest of a content: 64 hexadecimal digits, as stamps have")
    own = Place(place.root, f"{KEPT}/{digest}")
    sha = hashlib.sha256()
    with refusing(own):
        try:
            with folder_of(own) as folder, regular(folder, own) as fd:
                for piece in pieces(fd):
                    sha.update(piece)
                    yield piece
        except FileNotFoundError:
            raise InvalidRequestError(
                f"no content {digest} of {place.path!r} was kept in {os.path.join(place.root, KEPT)}"
            ) from None
    if sha.hexdigest() != digest:
        raise InvalidRequestError(f"the content {digest} that was kept of {place.path!r} is damaged; it was not used")


def _put(
    folder: Folder,
    name: str,
    content: Iterable[bytes],
    mode: int | None,
    check: Callable[[str], None],
) -> Found:
    """Write a file beside, `check` by its digest, and put it in its place; what raises leaves nothing behind."""
    temporary = f".langgraph-durable-{secrets.token_hex(8)}.tmp"
    size, sha = 0, hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS
    fd = os.open(folder.at(temporary), flags, 0o666 if mode is None else 0o600, dir_fd=folder.fd)
    try:
        with open(fd, "wb") as file:
            for piece in content:
                file.write(piece)
                size += len(piece)
                sha.update(piece)
            file.flush()
            if mode is not None and hasattr(os, "fchmod"):
                # Whoever runs a file as somebody else does not do so with what a model wrote.
                os.fchmod(fd, mode & 0o777)
            os.fsync(fd)
            about = os.fstat(fd)
        check(sha.hexdigest())
        os.replace(folder.at(temporary), folder.at(name), src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(folder.at(temporary), dir_fd=folder.fd)
        raise
    folder.sync()
    return Found(size, about.st_mtime_ns, sha.hexdigest(), about.st_mode & 0o777)


def _changed(place: Place) -> InvalidRequestError:
    return InvalidRequestError(
        f"{place.path!r} was not written: somebody else wrote to it at the same moment. Read it again first"
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


class _Locks:
    """So many locks that two files seldom share one, and no more."""

    def __init__(self) -> None:
        self.forked()

    def forked(self) -> None:
        """Start anew, in the child of a fork: whoever held one of them is not in this process."""
        self._locks = [threading.Lock() for _ in range(64)]

    def of(self, place: Place) -> threading.Lock:
        return self._locks[hash(place) % len(self._locks)]


_locks = _Locks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.forked)
