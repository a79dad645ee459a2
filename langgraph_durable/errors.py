"""Every error this package raises on purpose is one of these, and its message says what to do next.

    DurableError
    ├── OpenError                  the database, or the connection given, cannot be used
    │   ├── NotADatabaseError      a directory, or a file of some other kind
    │   └── SchemaVersionError     written by a newer release than this one
    ├── StoreError                 the database was opened and then refused
    │   ├── BusyError              another process held the write lock for too long
    │   ├── ReadOnlyError          a write to what can only be read
    │   └── ClosedError            the saver was closed
    ├── UnserializableError        a value that the serializer cannot take (also a TypeError)
    ├── CorruptDataError           something stored is missing or cannot be decoded
    ├── ThreadDeletedError         a run went on writing to a thread that was deleted under it
    ├── ThreadBusyError            another run has the thread
    ├── LeaseLostError             a run went on after another had taken over its thread
    ├── RunCancelledError          a run was asked to end from elsewhere, and did
    ├── EnvironmentChangedError    a thread would go on with other tools, or another model or graph, than it began with
    ├── ContextBudgetError         what has to stay of a conversation is above its budget
    ├── UsageLimitError            the models of a thread have used what they may
    └── InvalidRequestError        a call that cannot mean anything (also a ValueError)
        └── NothingToResumeError   a thread that has nothing left to do, or is not there

    CorruptDataWarning             something stored is damaged, and what is left was used instead (a UserWarning)
    EnvironmentChangedWarning      a thread goes on with something else than it began with (a UserWarning)

Errors that end a run are RuntimeErrors as well: those LangGraph does not retry unless it is told to.
An error of a database driver never gets out bare: it is the `__cause__` of one of these.
"""

from __future__ import annotations


class DurableError(Exception):
    """What everything this package raises on purpose has in common."""


class OpenError(DurableError):
    """The database, or the connection given, cannot be used."""


class NotADatabaseError(OpenError):
    """The path is a directory, or a file that is neither empty nor an SQLite database of checkpoints."""


class SchemaVersionError(OpenError):
    """The database was written by a newer release of this package."""


class StoreError(DurableError):
    """The database refused; nothing of the call was stored."""


class BusyError(StoreError):
    """Another process held the database's write lock for longer than `busy_timeout` seconds."""


class ReadOnlyError(StoreError):
    """A write to a database that can only be read."""


class ClosedError(StoreError):
    """The saver was closed."""


class UnserializableError(DurableError, TypeError):
    """A value that the serializer cannot take.

    `channel` names where it is in the state, `path` the place inside the channel's value (`[3].payload['lock']`),
    `type_name` what was found there.
    """

    def __init__(self, message: str, *, channel: str, path: str, type_name: str) -> None:
        super().__init__(message)
        self.channel = channel
        self.path = path
        self.type_name = type_name

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args[0], vars(self))


class CorruptDataError(DurableError):
    """Something stored is missing or cannot be decoded; nothing else of the thread is affected.

    `thread_id`, `checkpoint_id` and `channel` say where; `channel` is None when the checkpoint itself is damaged.
    """

    def __init__(self, message: str, *, thread_id: str, checkpoint_id: str, channel: str | None) -> None:
        super().__init__(message)
        self.thread_id = thread_id
        self.checkpoint_id = checkpoint_id
        self.channel = channel

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args[0], vars(self))


class CorruptDataWarning(UserWarning):
    """Something stored is damaged, and what is left was used instead; the message says where it is."""


class ThreadDeletedError(DurableError, RuntimeError):
    """A run went on writing to a thread that was deleted under it; the write was refused, the thread stays deleted."""


class ThreadBusyError(DurableError):
    """Another run has the thread: `owner` since `since` (seconds since 1970). Nothing was stored."""

    def __init__(self, message: str, *, thread_id: str, owner: str, since: float) -> None:
        super().__init__(message)
        self.thread_id = thread_id
        self.owner = owner
        self.since = since

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args[0], vars(self))


class LeaseLostError(DurableError, RuntimeError):
    """A run went on after another had taken over its thread; its write was refused, and it has ended."""


class RunCancelledError(DurableError, RuntimeError):
    """A run was asked to end from elsewhere; what it had done is stored, and the thread is `interrupted`."""


class EnvironmentChangedError(DurableError, RuntimeError):
    """A thread would go on with something else than it began with; `report` tells what. Nothing was run."""

    def __init__(self, message: str, *, report: object) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args[0], vars(self))


class EnvironmentChangedWarning(UserWarning):
    """A thread goes on with something else than it began with; `report` tells what."""

    def __init__(self, message: str, *, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class ContextBudgetError(DurableError, RuntimeError):
    """What has to stay of a conversation has `tokens`, and its `budget` is less (or messages, if that counts them)."""

    def __init__(self, message: str, *, tokens: int, budget: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.budget = budget

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args[0], vars(self))


class UsageLimitError(DurableError, RuntimeError):
    """The model calls of a thread have `spent` as many tokens, or as much, as the `limit`; the next was not made.

    `unit` is "tokens" or "cost". The thread goes on from there with a higher limit.
    """

    def __init__(self, message: str, *, thread_id: str, spent: float, limit: float, unit: str) -> None:
        super().__init__(message)
        self.thread_id = thread_id
        self.spent = spent
        self.limit = limit
        self.unit = unit

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args[0], vars(self))


class InvalidRequestError(DurableError, ValueError):
    """A call that cannot mean anything, such as a config without a `thread_id`."""


class NothingToResumeError(InvalidRequestError):
    """A thread that has nothing left to do, or is not there."""


def _rebuilt(kind: type[DurableError], message: str, fields: dict[str, object]) -> DurableError:
    """An error as another process pickled it: keyword-only fields do not survive the default way."""
    error = kind.__new__(kind, message)
    error.args = (message,)
    vars(error).update(fields)
    return error
