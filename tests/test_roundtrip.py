"""Whatever an application does with a saver, every checkpoint comes back as it was when it was put.

A random program runs against a saver and against a `Model`: a list of what was put, in order, taken apart into forms
(see `test_codec.form`) at the moment of the call, so that nothing that is done to a value later can reach it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, HumanMessage, message_to_dict, messages_from_dict
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, Checkpoint, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph_durable import InvalidRequestError, SqliteSaver, ThreadDeletedError, UnserializableError
from langgraph_durable.saver import DurableSaver
from tests.conftest import Face, checkpoint, saver_at, thread
from tests.test_codec import KEY, REFUSED, SERDE, common_messages, form, plain, rare_messages, round_trip, values
from tests.test_delta import IN_PLACE, LONG, edited, lists_of_one_kind, spoil

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

programs = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

THREADS = ["a", "b"]
NAMESPACES = ["", "sub:1"]
TASKS = ["task-1", "task-2"]
RUNS = ["run-1", "run-2", None]


class PlainJson:
    """A serializer of an application's own: JSON and messages, and nothing that it could not read again."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        made = "json", json.dumps(obj, default=self._tagged).encode()
        self.loads_typed(made)
        return made

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        assert data[0] == "json"
        return json.loads(data[1], object_hook=self._untagged)

    @staticmethod
    def _tagged(value: Any) -> dict[str, Any]:
        if isinstance(value, BaseMessage):
            return {"__message__": message_to_dict(value)}
        if isinstance(value, bytes):
            return {"__bytes__": value.hex()}
        raise TypeError(f"no JSON for {type(value).__name__}")

    @staticmethod
    def _untagged(value: dict[str, Any]) -> Any:
        if value.keys() == {"__message__"}:
            return messages_from_dict([value["__message__"]])[0]
        return bytes.fromhex(value["__bytes__"]) if value.keys() == {"__bytes__"} else value


@dataclass
class Record:
    """A checkpoint as it has to come back."""

    thread_id: str
    ns: str
    id: str
    parent: str | None
    run: str | None
    head: Any
    channels: Any
    metadata: Any
    writes: dict[tuple[str, int], tuple[str, str, Any]] = field(default_factory=dict)

    @property
    def config(self) -> RunnableConfig:
        return thread(self.thread_id, self.ns, self.id)


class Model:
    """What a saver has to hold: checkpoints in the order in which they were put."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self.serde = serde
        self.records: list[Record] = []
        self.gone: list[Record] = []

    def of(self, thread_id: str, ns: str | None = None) -> list[Record]:
        """The checkpoints of a thread, and perhaps of one namespace, newest first."""
        return [
            record for record in reversed(self.records) if record.thread_id == thread_id and ns in (None, record.ns)
        ]

    def expected(self, value: Any) -> Any:
        """The form in which a value comes back, a list element by element; REFUSED when it cannot be stored."""
        if type(value) is list:
            parts = [self.expected_one(element) for element in value]
            return REFUSED if REFUSED in parts else (list, tuple(parts))
        return self.expected_one(value)

    def expected_one(self, value: Any) -> Any:
        try:
            typed = self.serde.dumps_typed(value)
        except Exception:  # noqa: BLE001  a serializer may say no in any way it likes
            return REFUSED
        return form(self.serde.loads_typed(typed))

    def put(self, record: Record) -> None:
        """A checkpoint that is there already is replaced where it stands."""
        for place, old in enumerate(self.records):
            if (old.thread_id, old.ns, old.id) == (record.thread_id, record.ns, record.id):
                self.records[place] = replace(record, writes=old.writes)
                return
        self.records.append(record)

    def write(self, record: Record, task_id: str, path: str, writes: Sequence[tuple[str, Any]]) -> None:
        """Special channels replace what they wrote before; of other writes the first one stays."""
        replaces = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        for index, (channel, value) in enumerate(writes):
            key = task_id, WRITES_IDX_MAP.get(channel, index)
            if replaces or key not in record.writes:
                record.writes[key] = path, channel, self.expected(value)

    def remove(self, gone: Callable[[Record], bool]) -> None:
        """Forget checkpoints, and remember that they were there."""
        self.gone += [record for record in self.records if gone(record)]
        self.records = [record for record in self.records if not gone(record)]


def found_form(found: CheckpointTuple) -> Any:
    """A checkpoint that was read, in the shape of `record_form`."""
    conf = found.config["configurable"]
    rest = {key: part for key, part in found.checkpoint.items() if key != "channel_values"}
    parent = found.parent_config["configurable"] if found.parent_config else None
    return {
        "config": conf,
        "parent": parent,
        "head": form(dict(sorted(rest.items()))),
        "channels": [(name, form(value)) for name, value in found.checkpoint["channel_values"].items()],
        "metadata": form(found.metadata),
        "writes": [(task_id, channel, form(value)) for task_id, channel, value in found.pending_writes or ()],
    }


def record_form(record: Record) -> Any:
    """A checkpoint as it has to be read."""
    ordered = sorted(
        ((path, task_id, index), channel, value) for (task_id, index), (path, channel, value) in record.writes.items()
    )
    parent = thread(record.thread_id, record.ns, record.parent)["configurable"] if record.parent else None
    return {
        "config": record.config["configurable"],
        "parent": parent,
        "head": record.head,
        "channels": record.channels,
        "metadata": record.metadata,
        "writes": [(key[1], channel, value) for key, channel, value in ordered],
    }


def compare(face: Face, model: Model) -> None:
    """Every way to read gives what the model has, in its order."""
    agree(face.list(None), model.records[::-1])
    for thread_id in {*THREADS, *(record.thread_id for record in model.records)}:
        agree(face.list({"configurable": {"thread_id": thread_id}}), model.of(thread_id))
        for ns in NAMESPACES:
            mine = model.of(thread_id, ns)
            latest = face.get_tuple(thread(thread_id, ns))
            agree([latest] if latest else [], mine[:1])
            agree(face.list(thread(thread_id, ns)), mine)
            for record in mine:
                found = face.get_tuple(record.config)
                agree([found] if found else [], [record])
    for record in model.gone:
        if record.id not in {other.id for other in model.of(record.thread_id, record.ns)}:
            assert face.get_tuple(record.config) is None


def agree(read: Sequence[CheckpointTuple], expected: Sequence[Record]) -> None:
    """What was read is what was put, checkpoint by checkpoint, and nothing of it is shared with anybody."""
    assert [found.config for found in read] == [record.config for record in expected]
    for found, record in zip(read, expected, strict=True):
        for part, value in record_form(record).items():
            assert (record.id, part, found_form(found)[part]) == (record.id, part, value)
        spoil(found.checkpoint)
        spoil(found.metadata)
        spoil(found.pending_writes)


class Program:
    """An application with a state in each namespace of each thread, one or two savers, and a model beside them."""

    def __init__(self, data: st.DataObject, faces: list[Face], reopen: Callable[[Face], Face], model: Model) -> None:
        self.data = data
        self.faces = faces
        self.reopen = reopen
        self.model = model
        self.states: dict[tuple[str, str], dict[str, Any]] = {}
        self.parents: dict[tuple[str, str], str | None] = {}
        self.lists = lists_of_one_kind
        self.anything: st.SearchStrategy[Any] = values | common_messages | rare_messages

    def draw(self, strategy: st.SearchStrategy[Any]) -> Any:
        return self.data.draw(strategy)

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    @property
    def face(self) -> Face:
        """One of the savers."""
        return self.faces[0] if len(self.faces) == 1 else self.pick(*self.faces)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            step = self.pick(
                *[self.put] * 6,
                *[self.write] * 2,
                *[self.read] * 3,
                self.fork,
                self.fork,
                self.put_again,
                self.open_again,
                self.delete,
                self.copy,
                self.prune,
                self.delete_runs,
            )
            step()

    # -- what an application does ----------------------------------------------------------------------------------

    def put(self) -> None:
        """The next checkpoint of a namespace, perhaps after its writes."""
        at = self.pick(*THREADS), self.pick(*NAMESPACES, "")
        state = self.states.setdefault(at, {})
        self.change(state)
        checkpoint_id = str(uuid6())
        if self.draw(st.integers(0, 9)) == 0:
            # LangGraph's pool may hand in the writes before the checkpoint that they belong to.
            early = Record(*at, checkpoint_id, None, None, None, [], None)
            self.face.put_writes(early.config, [("messages", [1])], TASKS[0])
            record = self.store(at, checkpoint_id, self.parents.get(at), state)
            self.model.write(record, TASKS[0], "", [("messages", [1])])
            return
        self.store(at, checkpoint_id, self.parents.get(at), state)

    def put_again(self) -> None:
        """A checkpoint that is there already, with other contents."""
        record = self.any_record()
        if record is not None:
            at = record.thread_id, record.ns
            state = self.states.setdefault(at, {})
            self.change(state)
            self.store(at, record.id, record.parent if self.is_there(at, record.parent) else None, state)

    def fork(self) -> None:
        """Go on from any checkpoint, with the state that it reads."""
        record = self.any_record()
        if record is not None:
            found = self.face.get_tuple(record.config)
            assert found is not None
            at = record.thread_id, record.ns
            self.states[at] = state = found.checkpoint["channel_values"]
            self.change(state)
            self.store(at, str(uuid6()), record.id, state)

    def write(self) -> None:
        """Writes of a task, once or again, of one kind or of both."""
        record = self.any_record()
        if record is None:
            return
        special = st.tuples(st.sampled_from(sorted(WRITES_IDX_MAP)), self.anything)
        usual = st.tuples(st.sampled_from(["messages", "log", "__no_writes__"]), self.lists | self.anything)
        writes = self.draw(st.lists(special, min_size=1, max_size=2) | st.lists(usual | special, max_size=3))
        task_id, path = self.pick(*TASKS), self.pick("", "~__pregel_pull, tools", "~__pregel_push, 0")
        if REFUSED in [self.model.expected(value) for _, value in writes]:
            with pytest.raises(UnserializableError):
                self.face.put_writes(record.config, writes, task_id, path)
            return
        self.face.put_writes(record.config, writes, task_id, path)
        self.model.write(record, task_id, path, writes)
        # What becomes of a value after it was written is its owner's business.
        spoil(writes)

    def read(self) -> None:
        """Read a checkpoint and change everything in what was read."""
        record = self.any_record()
        if record is None:
            return
        latest = self.model.of(record.thread_id, record.ns)[0]
        if self.draw(st.booleans()):
            found = self.face.get_tuple(record.config)
        else:
            record, found = latest, self.face.get_tuple(thread(record.thread_id, record.ns))
        assert found is not None
        agree([found], [record])

    def open_again(self) -> None:
        """Close a saver and open another one, which knows nothing yet."""
        place = self.draw(st.integers(0, len(self.faces) - 1))
        self.faces[place] = self.reopen(self.faces[place])

    def delete(self) -> None:
        """Delete a thread; a late write of a run that was under way is refused."""
        thread_id = self.pick(*THREADS)
        late = self.model.of(thread_id)
        self.face.call("delete_thread", thread_id)
        self.removed(lambda record: record.thread_id == thread_id)
        if late:
            record = self.pick(*late)
            with pytest.raises(ThreadDeletedError):
                self.face.put_writes(record.config, [("messages", "late")], TASKS[0])
            with pytest.raises(ThreadDeletedError):
                self.face.put(record.config, checkpoint(messages=["late"]))

    def copy(self) -> None:
        """Copy a thread to a new one, or try to copy it to one that is there."""
        source, target = self.pick(*THREADS), self.pick(*THREADS)
        if self.model.of(target):
            with pytest.raises(InvalidRequestError):
                self.face.call("copy_thread", source, target)
            return
        self.face.call("copy_thread", source, target)
        for record in reversed(self.model.of(source)):
            self.model.records.append(replace(record, thread_id=target, writes=dict(record.writes)))
        for ns in NAMESPACES:
            self.settle((target, ns))

    def prune(self) -> None:
        """Keep the latest of each namespace, or nothing, of some threads."""
        threads = self.draw(st.lists(st.sampled_from(THREADS), max_size=2, unique=True))
        strategy = self.pick("keep_latest", "keep_latest", "delete")
        self.face.call("prune", threads, strategy=strategy)
        kept: list[Record] = []
        if strategy == "keep_latest":
            kept = [one for thread_id in threads for ns in NAMESPACES for one in self.model.of(thread_id, ns)[:1]]
        self.removed(lambda record: record.thread_id in threads and not any(record is one for one in kept))

    def delete_runs(self) -> None:
        """Take away what a run put, wherever that is."""
        run = self.pick(*RUNS[:2])
        self.face.call("delete_for_runs", [run])
        self.removed(lambda record: record.run == run)

    # -- how it does it --------------------------------------------------------------------------------------------

    def change(self, state: dict[str, Any]) -> None:
        """Something new in some channels: in place, or in a value of the channel's own."""
        for channel in self.draw(st.lists(st.sampled_from(["messages", "log", "data", "any", "note"]), max_size=4)):
            value = state.get(channel)
            if channel in ("messages", "log"):
                state[channel] = edited(self.data, value) if isinstance(value, list) else self.draw(self.lists)
            elif channel == "data" and isinstance(value, dict) and self.draw(st.booleans()):
                value[self.draw(st.text(max_size=3))] = self.draw(self.anything)
            elif channel == "note":
                state[channel] = self.pick(None, 0, 1, True, 1.0, "", "x" * 100, b"x" * 100, HumanMessage("x" * 100))
            else:
                state[channel] = self.draw(self.anything | st.just({}))
            if self.draw(st.integers(0, 9)) == 0:
                del state[channel]

    def store(self, at: tuple[str, str], checkpoint_id: str, parent: str | None, state: dict[str, Any]) -> Record:
        """Put a checkpoint, in the saver and in the model; what cannot be stored is refused, and then left out."""
        refused = [name for name, value in state.items() if self.model.expected(value) == REFUSED]
        if refused:
            with pytest.raises(UnserializableError) as caught:
                self.face.put(thread(*at, parent), self.checkpoint(checkpoint_id, state))
            assert caught.value.channel == refused[0]
            for name in refused:
                del state[name]
        made = self.checkpoint(checkpoint_id, state)
        metadata = self.metadata()
        rest = {key: part for key, part in made.items() if key != "channel_values"}
        record = Record(
            *at,
            checkpoint_id,
            parent,
            metadata.get("run_id"),
            form(dict(sorted(rest.items()))),
            [(name, self.model.expected(value)) for name, value in state.items()],
            form(metadata),
        )
        versions = {name: version for name, version in made["channel_versions"].items() if self.draw(st.booleans())}
        saved = self.face.put(thread(*at, parent), made, metadata, versions)
        assert saved == record.config
        self.model.put(record)
        self.parents[at] = checkpoint_id
        return next(record for record in self.model.of(*at) if record.id == checkpoint_id)

    def checkpoint(self, checkpoint_id: str, state: dict[str, Any]) -> Checkpoint:
        """A checkpoint whose versions have nothing to do with what changed."""
        made = checkpoint(checkpoint_id, **state)
        made["channel_versions"] = {name: f"{self.draw(st.integers(1, 3)):032}.0.5" for name in state}
        made["versions_seen"] = {"__input__": {}, "node": dict.fromkeys(state, f"{1:032}.0.5")}
        made["updated_channels"] = self.pick(None, sorted(state))
        return made

    def metadata(self) -> dict[str, Any]:
        run, more = self.pick(*RUNS), self.draw(st.dictionaries(st.sampled_from(["user", "écrit", "a.b"]), plain))
        made = {
            "source": self.pick("input", "update", "fork"),
            "step": self.draw(st.integers(-1, 3)),
            "parents": {},
            **more,
        }
        made = {key: part.replace("\0", "") if isinstance(part, str) else part for key, part in made.items()}
        return made if run is None else {**made, "run_id": run}

    def any_record(self) -> Record | None:
        return self.pick(*reversed(self.model.records)) if self.model.records else None

    def is_there(self, at: tuple[str, str], checkpoint_id: str | None) -> bool:
        return checkpoint_id in {record.id for record in self.model.of(*at)}

    def removed(self, gone: Callable[[Record], bool]) -> None:
        """Let the model know, and go on from what is left."""
        self.model.remove(gone)
        for at in list(self.parents):
            if self.parents[at] is not None and not self.is_there(at, self.parents[at]):
                self.settle(at)

    def settle(self, at: tuple[str, str]) -> None:
        left = self.model.of(*at)
        self.parents[at] = left[0].id if left else None


databases = itertools.count()


@pytest.fixture(params=["file", "memory", "folder"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Iterator[Any]]:
    """A function that makes a database, for as many savers as need it."""

    def make() -> Iterator[Any]:
        if request.param == "file":
            path = tmp_path / f"{next(databases)}.db"
            yield str(path)
            for left in tmp_path.glob(f"{path.name}*"):
                left.unlink()
        elif request.param == "folder":
            path = tmp_path / f"{next(databases)} checkpoints"
            yield str(path)
            shutil.rmtree(path)
        else:
            connection = sqlite3.connect(":memory:", check_same_thread=False)
            yield connection
            connection.close()

    return make


def run_program(
    data: st.DataObject,
    database: Any,
    loop: asyncio.AbstractEventLoop | None,
    serde: SerializerProtocol | None = None,
    prepare: Callable[[Program], None] = lambda program: None,
) -> None:
    """Run a random program over one or two savers of a database, and compare what they and a new one read."""
    opened: list[DurableSaver] = []

    def open_face() -> Face:
        opened.append(
            saver_at(database, serde=serde) if isinstance(database, str) else SqliteSaver(database, serde=serde)
        )
        return Face(opened[-1], loop)

    def reopen(face: Face) -> Face:
        face.saver.close()
        return open_face()

    try:
        faces = [open_face() for _ in range(data.draw(st.integers(1, 2)))]
        model = Model(serde or SERDE)
        program = Program(data, faces, reopen, model)
        prepare(program)
        program.run(data.draw(st.integers(3, 16)))
        for face in [*program.faces, open_face()]:
            compare(face, model)
    finally:
        for saver in opened:
            saver.close()


@settings(programs, max_examples=5)
@given(data=st.data())
def test_every_checkpoint_comes_back(
    data: st.DataObject, new_database: Callable[[], Iterator[Any]], loop: asyncio.AbstractEventLoop | None
) -> None:
    """After any program every checkpoint and its writes read as they were put, for every saver and for a new one."""
    for database in new_database():
        run_program(data, database, loop)


@pytest.mark.soak
@settings(programs, max_examples=100)
@given(data=st.data())
def test_every_checkpoint_of_many_programs(
    data: st.DataObject, new_database: Callable[[], Iterator[Any]], loop: asyncio.AbstractEventLoop | None
) -> None:
    """The same for more programs."""
    for database in new_database():
        run_program(data, database, loop)


@pytest.mark.sampled(10)
@pytest.mark.parametrize("case", IN_PLACE)
def test_an_edit_in_place_is_stored(case: str, face: Face) -> None:
    """A stored message that is changed in place is another one in the next checkpoint, and what it was in the last."""
    make, edit = IN_PLACE[case]
    value = [make(f"message {index}") for index in range(LONG)]
    saved = face.put(thread(), checkpoint(messages=value))
    expected = [[round_trip(message) for message in value]]
    for index in (0, 31, LONG - 1):
        saved = face.put(saved, checkpoint(messages=value))
        edit(value[index])
        expected += [expected[-1], [*expected[-1]]]
        expected[-1][index] = round_trip(value[index])
        saved = face.put(saved, checkpoint(messages=value))
    read = [found.checkpoint["channel_values"]["messages"] for found in face.list(thread())]
    assert [[form(message) for message in messages] for messages in read] == expected[::-1]
    assert [form(message) for message in face.messages(thread())] == expected[-1]


@pytest.mark.sampled(10)
@pytest.mark.parametrize("case", IN_PLACE)
def test_what_is_read_is_the_readers_own(case: str, face: Face) -> None:
    """Changing a message that was read changes nothing for who reads it next, or for what is stored later."""
    make, edit = IN_PLACE[case]
    value = [make(f"message {index}") for index in range(LONG)]
    expected = [round_trip(message) for message in value]
    saved = face.put(thread(), checkpoint(messages=value))
    for index in (0, 31, LONG - 1):
        read = face.messages(saved)
        assert [form(message) for message in read] == expected
        edit(read[index])
        saved = face.put(saved, checkpoint(messages=value))
    for config in (saved, thread()):
        assert [form(message) for message in face.messages(config)] == expected


TAKEN_AWAY: dict[str, Callable[[Face], None]] = {
    "thread deleted": lambda face: face.call("delete_thread", "thread"),
    "thread pruned": lambda face: face.call("prune", ["thread"]),
    "thread pruned away": lambda face: face.call("prune", ["thread"], strategy="delete"),
    "run deleted": lambda face: face.call("delete_for_runs", ["run"]),
    "nothing": lambda face: None,
}


@pytest.mark.parametrize("how", TAKEN_AWAY)
@pytest.mark.parametrize("reads", [False, True], ids=["puts", "reads"])
def test_what_another_saver_did_is_seen(how: str, reads: bool, shared: str, open_face: Callable[..., Face]) -> None:
    """A saver that remembers a thread reads, and goes on from, what another one has put in the place of it."""
    mine, other = open_face(shared), open_face(shared)

    def put(face: Face, label: str, config: RunnableConfig) -> RunnableConfig:
        values = {"messages": [HumanMessage(f"{label} {index}" * 10) for index in range(LONG)], "note": label * 100}
        metadata = {"source": "input", "step": 0, "parents": {}, "run_id": "run" if label == "first" else "another"}
        return face.put(config, checkpoint(None, **values), metadata)

    put(mine, "first", put(mine, "first", thread()))
    assert mine.messages(thread())[0].content.startswith("first 0")
    TAKEN_AWAY[how](other)
    # The same number of everything again, where the numbers of what is gone may be given out anew.
    saved = put(other, "second", put(other, "second", thread()))
    if not reads:
        saved = put(mine, "third", saved)
    label = "second" if reads else "third"
    for face in (mine, other, open_face(shared)):
        for config in (thread(), saved):
            assert [message.content for message in face.messages(config)] == [
                f"{label} {index}" * 10 for index in range(LONG)
            ]
            assert face.values(config)["note"] == label * 100


@settings(programs, max_examples=5)
@given(data=st.data())
def test_every_checkpoint_comes_back_encrypted(data: st.DataObject, new_database: Callable[[], Iterator[Any]]) -> None:
    """The same with a serializer that encrypts."""
    for database in new_database():
        run_program(data, database, None, EncryptedSerializer.from_pycryptodome_aes(key=KEY))


@settings(programs, max_examples=5)
@given(data=st.data())
def test_every_checkpoint_comes_back_through_another_serializer(
    data: st.DataObject, new_database: Callable[[], Iterator[Any]]
) -> None:
    """The same with a serializer of the user's, which knows JSON and messages and refuses everything else."""

    def only_json(program: Program) -> None:
        program.anything = plain | common_messages | values

    for database in new_database():
        run_program(data, database, None, PlainJson(), only_json)
