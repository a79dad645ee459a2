"""A folder for each thread, whatever its id: safe on Linux, macOS and Windows, and no two the same.

The name begins with what can be kept of the id and ends with a hash of all of it, so that ids that differ in case only,
or after the first characters, or in what cannot be kept, have folders that differ. The id itself is in the journal.
"""

from __future__ import annotations

import re
from hashlib import blake2b

KEPT = 40
"""Characters of an id that a name begins with; the longest name is well below every system's limit."""

_UNSAFE = re.compile(r"[^a-z0-9_]+")


def folder_name(thread_id: str) -> str:
    """The name of the folder of a thread. UnicodeEncodeError for an id that is half a surrogate pair."""
    digest = blake2b(thread_id.encode(), digest_size=12).hexdigest()
    kept = _UNSAFE.sub("-", thread_id.lower()[: 4 * KEPT]).strip("-")[:KEPT]
    # What follows the hyphen keeps it from being a name that Windows reserves, such as `con`.
    return f"{kept or 'thread'}-{digest}"
