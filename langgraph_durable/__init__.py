"""A durable checkpointer for LangGraph, `graph.compile(checkpointer=SqliteSaver("agent.db"))`, and `durable(graph)`."""

from langgraph_durable.comparing import acheck_environment, check_environment
from langgraph_durable.copying import acopy, copy
from langgraph_durable.durability import durable
from langgraph_durable.environment.fingerprints import fingerprint
from langgraph_durable.environment.report import EnvironmentReport
from langgraph_durable.errors import (
    BusyError,
    ClosedError,
    ContextBudgetError,
    CorruptDataError,
    CorruptDataWarning,
    DurableError,
    EnvironmentChangedError,
    EnvironmentChangedWarning,
    InvalidRequestError,
    LeaseLostError,
    NotADatabaseError,
    NothingToResumeError,
    OpenError,
    ReadOnlyError,
    RunCancelledError,
    SchemaVersionError,
    StoreError,
    ThreadBusyError,
    ThreadDeletedError,
    UnserializableError,
    UsageLimitError,
)
from langgraph_durable.savers import AsyncSqliteSaver, FileSaver, SqliteSaver
from langgraph_durable.threads import ThreadInfo
from langgraph_durable.urls import open_saver

__version__ = "0.1.0"

__all__ = [
    "AsyncSqliteSaver",
    "BusyError",
    "ClosedError",
    "ContextBudgetError",
    "CorruptDataError",
    "CorruptDataWarning",
    "DurableError",
    "EnvironmentChangedError",
    "EnvironmentChangedWarning",
    "EnvironmentReport",
    "FileSaver",
    "InvalidRequestError",
    "LeaseLostError",
    "NotADatabaseError",
    "NothingToResumeError",
    "OpenError",
    "ReadOnlyError",
    "RunCancelledError",
    "SchemaVersionError",
    "SqliteSaver",
    "StoreError",
    "ThreadBusyError",
    "ThreadDeletedError",
    "ThreadInfo",
    "UnserializableError",
    "UsageLimitError",
    "acheck_environment",
    "acopy",
    "check_environment",
    "copy",
    "durable",
    "fingerprint",
    "open_saver",
]
