"""Whatever a conversation is, compressed it keeps the budget, is one that providers take, and has what has to stay."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langgraph_durable import InvalidRequestError
from langgraph_durable.context import compress_messages, count_tokens, repair_messages
from langgraph_durable.core.conversation import UNKNOWN
from langgraph_durable.errors import ContextBudgetError
from tests.compressed import (
    BUDGETS,
    CHUNKS,
    SEEDS,
    Chunk,
    Messages,
    Size,
    check_budget,
    check_instructions,
    check_newest,
    check_request,
    check_requests,
    chunk,
    instructions,
    is_summary,
    kept,
    merged,
    replayed,
    request,
    shortest,
    text_of,
)
from tests.histories import HOPELESS, by_hand, damaged, facts, valid
from tests.validity import call_ids, problems


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Without the thousand warnings about what Gemini is not told, and about summarizers that fail."""
    caplog.set_level(logging.CRITICAL)


@pytest.fixture(scope="module", params=[*CHUNKS, pytest.param(None, id="by hand")])
def sound(request: pytest.FixtureRequest) -> Chunk:
    """Valid conversations: of some seeds, and those made by hand."""
    seeds = request.param
    if seeds is None:
        return chunk(by_hand, all_rich=True)
    return chunk(lambda: {f"valid {seed}": valid(seed) for seed in seeds}, all_rich=seeds.start >= SEEDS)


@pytest.fixture(scope="module", params=CHUNKS)
def unsound(request: pytest.FixtureRequest) -> Chunk:
    """Broken conversations of some seeds."""
    seeds = request.param

    def make() -> dict[str, Messages]:
        made = {seed: damaged(seed) for seed in seeds}
        return {f"broken {seed} {damages}": messages for seed, (messages, damages) in made.items()}

    return chunk(make, all_rich=seeds.start >= SEEDS, plain=True)


# -- valid ones ------------------------------------------------------------------------------------------------------


def test_the_budget_is_kept(sound: Chunk) -> None:
    """No conversation is above its budget afterwards, in tokens by any counter or in messages."""
    for case in sound.done():
        check_budget(case)


def test_it_is_down_to_the_target(sound: Chunk) -> None:
    """What was above its budget is at half of it afterwards, or at what has to stay where that is more.

    A summary is the last to go: it stays where half cannot be reached without it either. So do short messages of the
    user's right before the current request, which may be part of it.
    """
    for case in sound.done():
        if case.size(case.ready) > case.budget[1] and not case.tight:
            left = [message for message in case.result.messages if not is_summary(message)]
            row, most = case.size(requests_in_a_row(left)), max(case.budget[1] // 2, case.size(case.kept))
            assert case.size(left) - (row if row <= case.budget[1] / 8 else 0) <= most, case.name


def requests_in_a_row(messages: Messages) -> Messages:
    """The messages of the user that come right before the current request."""
    asked = request(messages)
    row: Messages = []
    for message in reversed(messages[: messages.index(asked)] if asked is not None else ()):
        if not isinstance(message, HumanMessage):
            break
        row.insert(0, message)
    return row


def test_nothing_is_refused(sound: Chunk) -> None:
    """No provider would refuse a compressed conversation."""
    for case in sound.done():
        assert problems(case.result.messages) == [], case.name


def test_requests_can_be_made(sound: Chunk) -> None:
    """The packages of all providers make requests of it."""
    for case in sound.done():
        check_requests(case)


def test_instructions_stay(sound: Chunk) -> None:
    """The system messages at the head stay as they are."""
    for case in sound.done():
        check_instructions(case)


def test_the_request_stays(sound: Chunk) -> None:
    """The current request stays, whole, or with its beginning where it does not fit."""
    for case in sound.done():
        check_request(case)


def test_the_newest_unit_stays(sound: Chunk) -> None:
    """The newest message of the model stays with all results of its calls."""
    for case in sound.done():
        check_newest(case)


def test_it_begins_with_a_request(sound: Chunk) -> None:
    """Behind the system messages comes no answer, if none came there before."""
    for case in sound.done():
        head = len(instructions(case.ready))
        if len(case.ready) > head and not isinstance(case.ready[head], AIMessage):
            assert not isinstance(case.result.messages[head], AIMessage), case.name


def test_only_the_hopeless_is_an_error(sound: Chunk) -> None:
    """It fails only where what has to stay is above the budget however short its texts are cut."""
    for case in sound.cases:
        if case.error is not None:
            least = case.size([shortest(message) for message in case.kept])
            assert least > case.budget[1], f"{case.name}: {least} tokens have to stay. {case.error}"
            assert case.error.tokens > case.error.budget == case.budget[1], case.name
        if case.budget[0] == "tokens" and any(case.name.startswith(name) for name in HOPELESS):
            assert case.error is not None, case.name


def test_within_the_budget_nothing_is_done(sound: Chunk) -> None:
    """A conversation that keeps its budget is handed back as it is, and there is nothing to update."""
    seen = 0
    for case in sound.cases:
        if case.size(case.given) <= case.budget[1]:
            seen += 1
            assert len(case.result.messages) == len(case.given), case.name
            assert all(after is before for after, before in zip(case.result.messages, case.given, strict=True)), (
                case.name
            )
            assert case.result.update == [], case.name
            report = case.result.report
            assert (report.tokens_before, report.tokens_after) == (case.size(case.given),) * 2, case.name
            assert not any((report.dropped, report.summarized, report.repaired, report.failures)), case.name
            assert not any(report.edits.values()), case.name
    if not seen:
        pytest.skip("none of these conversations is within a budget")


def test_it_never_grows(sound: Chunk) -> None:
    """There are never more tokens afterwards."""
    for case in sound.done():
        assert case.size(case.result.messages) <= case.size(case.ready), case.name
        assert case.result.report.tokens_before == case.size(case.ready), case.name


def test_a_second_time_changes_nothing(sound: Chunk) -> None:
    """A compressed conversation is compressed to itself, whether the state of the first time is given or not."""
    for case in sound.done():
        for state in (None, case.result.state):
            again = compress_messages(case.result.messages, budget=case.budget, state=state, **case.options)
            assert again.messages == case.result.messages, f"{case.name}, state {state is not None}"


def test_the_state_repeats_it(sound: Chunk) -> None:
    """The whole conversation, given again with the state of the first time, is compressed to the same."""
    for case in sound.named():
        again = compress_messages(case.given, budget=case.budget, state=case.result.state, **case.options)
        assert again.messages == case.result.messages, case.name


def test_the_state_is_plain_and_small(sound: Chunk) -> None:
    """The state is what JSON can hold, and no larger than the texts that a budget has room for."""
    for case in sound.done():
        packed = json.dumps(case.result.state, ensure_ascii=False)
        assert json.loads(packed) == case.result.state, case.name
        if case.budget[0] == "tokens" and case.options["token_counter"] is count_tokens:
            assert len(packed.encode()) < 8_192 + 10 * case.budget[1], f"{case.name}: {len(packed.encode())}"


def test_the_state_has_no_media() -> None:
    """An image that stays in a message whose text was cut is not kept a second time, in the state."""
    image = {"type": "image", "base64": "iVBO" * 100_000, "mime_type": "image/png"}
    asked = HumanMessage([{"type": "text", "text": "look at this " * 5_000}, image], id="m0")
    done = compress_messages([asked], budget=("tokens", 8_000))
    assert image in done.messages[0].content
    assert len(json.dumps(done.state)) < 100_000


def test_order_and_names_stay(sound: Chunk) -> None:
    """What is left is in the order that it had, and nothing else is there."""
    for case in sound.named():
        places = {message.id: place for place, message in enumerate(case.ready)}
        left = [places[message.id] for message in case.result.messages]
        assert left == sorted(left), case.name


def test_edits_are_told(sound: Chunk) -> None:
    """An edited message has its id, says that it was edited, and is in the report; so is each that was dropped."""
    for case in sound.named():
        before = {message.id: message for message in case.ready}
        after = {message.id: message for message in case.result.messages}
        edited = {name for name, message in after.items() if message != before[name]}
        report = case.result.report
        assert edited == {name for names in report.edits.values() for name in names if name in after}, case.name
        assert set(report.edits) <= {"cleared", "shortened", "media", "shrunk"}, case.name
        for name in edited:
            assert after[name].response_metadata.get("context_editing"), (case.name, name)
            assert type(after[name]) is type(before[name]), (case.name, name)
        assert before.keys() - after.keys() == {*report.dropped, *report.summarized}, case.name
        if not case.tight:
            assert not report.edits.get("shrunk"), case.name


def test_no_edit_makes_it_longer(sound: Chunk) -> None:
    """Each message that was edited is smaller than before: nothing is cut for a marker that takes more."""
    for case in (case for case in sound.named() if case.rich):
        before = {message.id: message for message in case.ready}
        count = case.options["token_counter"]
        for message in case.result.messages:
            was = before[message.id]
            if message is not was:
                at = f"{case.name}\n{was!r:.600}\n{message!r:.600}"
                assert count([message]) <= count([was]), at
                if isinstance(was.content, str) and "cleared" not in text_of(message):
                    assert len(message.content) <= len(was.content), at


@pytest.mark.parametrize("length", [1_300, 3_000, 50_000])
@pytest.mark.parametrize("budget", [60, 100, 300])
def test_the_marker_says_what_was_cut(length: int, budget: int) -> None:
    """Where the middle of a text was cut out, the number in its place is that of the characters that are gone."""
    asked = HumanMessage("".join(chr(97 + place % 26) for place in range(length)), id="m0")
    after = text_of(compress_messages([asked], budget=("tokens", budget)).messages[0])
    marker = re.search(r"\n?\[[^\[]*?([\d,]+) characters[^\]]*\]\n?", after)
    assert marker is not None, after
    assert int(marker[1].replace(",", "")) == length - (len(after) - len(marker[0])), after


def test_thoughts_are_never_edited(sound: Chunk) -> None:
    """A thought that its provider has signed is there as it was, or gone: one that was cut is refused."""
    for case in sound.done():
        before = [block for message in case.given for block in thoughts(message)]
        assert all(block in before for message in case.result.messages for block in thoughts(message)), case.name


def thoughts(message: BaseMessage) -> list[Any]:
    blocks = message.content if isinstance(message.content, list) else []
    return [block for block in blocks if isinstance(block, dict) and block.get("type") == "thinking"]


def test_nobody_says_nothing(sound: Chunk) -> None:
    """A message that said something says something afterwards, if only that it was cleared: empty ones are refused."""
    for case in sound.named():
        before = {message.id: message for message in case.ready}
        for message in case.result.messages:
            if before[message.id].content:
                assert message.content, f"{case.name}: {before[message.id]!r:.300}"


def test_calls_are_told_alike(sound: Chunk) -> None:
    """A call that a message tells twice, in its content and beside it, has the same arguments in both places."""
    for case in sound.done():
        for message in case.result.messages:
            if isinstance(message, AIMessage) and isinstance(message.content, list):
                args = {call["id"]: call["args"] for call in message.tool_calls}
                for block in message.content:
                    match block:
                        case {"type": "tool_use", "id": call_id, "input": told_args}:
                            assert told_args == args[call_id], case.name
                        case {"type": "function_call", "call_id": call_id, "arguments": packed}:
                            assert json.loads(packed) == args[call_id], case.name
                        case {"type": "tool_call", "id": call_id, "args": told_args}:
                            assert told_args == args[call_id], case.name


def test_the_update_makes_the_state_the_same(sound: Chunk) -> None:
    """The update, applied by `add_messages` or by the reducer of a DeltaChannel, makes the conversation what it is."""
    for case in sound.done():
        if not all(message.id for message in case.given):
            if case.result.messages != case.given:
                with pytest.raises(InvalidRequestError):
                    _ = case.result.update
            continue
        update = case.result.update
        assert merged(case.given, update) == case.result.messages, case.name
        assert replayed(case.given, update) == case.result.messages, case.name
        changed = {message.id for message in update}
        assert len(changed) == len(update), case.name
        assert changed.isdisjoint(message.id for message in instructions(case.given)), case.name


def test_what_is_given_stays_as_it_was(sound: Chunk) -> None:
    """The conversation that was compressed is not changed."""
    for name, (messages, before) in sound.before.items():
        assert messages == before, name


# -- broken ones -----------------------------------------------------------------------------------------------------


def test_broken_the_budget_is_kept(unsound: Chunk) -> None:
    """A broken conversation is not above its budget afterwards either."""
    for case in unsound.done():
        check_budget(case)
        assert case.size(case.result.messages) <= case.size(case.ready), case.name


def test_broken_nothing_is_refused(unsound: Chunk) -> None:
    """No provider would refuse what is made of a broken conversation, repaired or compressed."""
    for case in unsound.cases:
        assert problems(case.ready) == [], case.name
        if case.done is not None:
            assert problems(case.done.messages) == [], case.name


def test_broken_requests_can_be_made(unsound: Chunk) -> None:
    """The packages of all providers make requests of it."""
    for case in unsound.done():
        check_requests(case)


def test_broken_what_has_to_stay_stays(unsound: Chunk) -> None:
    """System messages, the current request and the newest unit of a broken conversation stay."""
    for case in unsound.done():
        check_instructions(case)
        check_request(case)
        check_newest(case)


def test_broken_is_as_repaired(unsound: Chunk) -> None:
    """Compressing a broken conversation is compressing the repaired one, and both are done once."""
    for case in unsound.cases:
        assert repair_messages(case.ready) == case.ready, case.name
        if case.done is not None:
            again = compress_messages(case.ready, budget=case.budget, **case.options)
            assert again.messages == case.done.messages, case.name
            assert case.done.report.repaired, case.name
            for state in (None, case.done.state) if case.rich else ():
                again = compress_messages(case.done.messages, budget=case.budget, state=state, **case.options)
                assert again.messages == case.done.messages, (case.name, state is not None)


def test_broken_only_the_hopeless_is_an_error(unsound: Chunk) -> None:
    """It fails only where what has to stay is above the budget however short its texts are cut."""
    for case in unsound.cases:
        if case.error is not None:
            assert case.size([shortest(message) for message in case.kept]) > case.budget[1], case.name


def test_broken_the_update_can_be_applied(unsound: Chunk) -> None:
    """The update fits the state, and what it makes is as good."""
    for case in unsound.done():
        if case.rich and all(message.id for message in case.given):
            state = merged([], copy.deepcopy(case.given))
            update = compress_messages(state, budget=case.budget, **case.options).update
            after = merged(state, update)
            again = compress_messages(after, budget=case.budget, **case.options)
            assert problems(again.messages) == [], case.name
            assert case.size(again.messages) <= case.budget[1], case.name


def test_broken_stays_as_it_was(unsound: Chunk) -> None:
    """The conversation that was repaired is not changed, and messages that nothing was wrong with are the same."""
    for name, (messages, before) in unsound.before.items():
        assert messages == before, name
    for case in unsound.cases:
        given = {id(message) for message in case.given}
        same = sum(id(message) in given for message in case.ready)
        assert same >= len(case.ready) - 12, (case.name, len(case.ready) - same)


def test_broken_nothing_that_was_said_is_lost(unsound: Chunk) -> None:
    """Repairing keeps every request and answer, and of each call the first real result behind it."""
    for case in unsound.cases[:: len(BUDGETS)]:
        left = facts(case.ready)
        for message in case.given:
            if isinstance(message, (HumanMessage, AIMessage)):
                assert (
                    facts(
                        [
                            message.model_copy(
                                update={"content": text_of(message), "tool_calls": [], "invalid_tool_calls": []}
                            )
                        ]
                    )
                    <= left
                ), f"{case.name}: {message!r:.300}"
        for call_id, result in real_results(case.given):
            kept_result = [
                each for each in case.ready if isinstance(each, ToolMessage) and each.tool_call_id == call_id
            ]
            assert [each.content for each in kept_result] == [result.content], (case.name, call_id)


def real_results(messages: Sequence[BaseMessage]) -> Iterator[tuple[str, ToolMessage]]:
    """Of each call whose id no other message uses, the first result behind it that a tool gave."""
    callers: dict[str, set[str]] = {}
    for place, message in enumerate(messages):
        for call_id in call_ids(message):
            callers.setdefault(call_id, set()).add(message.id or str(place))
    called: set[str] = set()
    for message in messages:
        called |= {call_id for call_id in call_ids(message) if call_id and len(callers[call_id]) == 1}
        if isinstance(message, ToolMessage) and message.tool_call_id in called and message.content != UNKNOWN:
            yield message.tool_call_id, message
            called.discard(message.tool_call_id)
            callers[message.tool_call_id].add("done")


# -- anything at all ---------------------------------------------------------------------------------------------------

some_text = st.one_of(
    st.text(max_size=40), st.integers(0, 3_000).map("word ".__mul__), st.integers(0, 900).map("漢字🙂".__mul__)
)
some_block = st.one_of(
    some_text.map(lambda text: {"type": "text", "text": text}),
    st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
    st.just({"type": "image", "base64": "AAAA" * 500, "mime_type": "image/png"}),
    st.just({"type": "widget", "payload": [1, {"a": None}]}),
    st.just({}),
    st.text(max_size=10),
)
some_content = st.one_of(some_text, st.lists(some_block, max_size=3))
some_call_id = st.sampled_from(["a", "b", "c", "", None])
some_args = st.dictionaries(
    st.text(max_size=3), st.one_of(some_text, st.none(), st.lists(some_text, max_size=2)), max_size=2
)
some_call_block = st.builds(lambda i: {"type": "tool_use", "id": i, "name": "t", "input": {}}, some_call_id)


def some_answer(content: Any, calls: list[tuple[Any, Any]], unread: list[Any], hidden: list[Any]) -> AIMessage:
    """A message of a model with calls of every kind, wrong as they may be."""
    made: Any = [{"name": "t", "args": args, "id": call_id, "type": "tool_call"} for call_id, args in calls]
    bad: Any = [{"name": "t", "args": "{", "id": i, "error": None, "type": "invalid_tool_call"} for i in unread]
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return AIMessage([*blocks, *hidden] if hidden else content, tool_calls=made, invalid_tool_calls=bad)


some_messages = st.lists(
    st.one_of(
        st.builds(HumanMessage, some_content),
        st.builds(
            some_answer,
            some_content,
            st.lists(st.tuples(some_call_id, some_args), max_size=3),
            st.lists(some_call_id, max_size=1),
            st.lists(some_call_block, max_size=1),
        ),
        st.builds(ToolMessage, some_content, tool_call_id=st.sampled_from(["a", "b", "c", ""])),
        st.builds(lambda text: HumanMessage(text, additional_kwargs={"lc_source": "summarization"}), some_text),
    ),
    max_size=14,
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(some_messages, st.lists(some_text, max_size=2), st.sampled_from([60, 300, 1_500]), st.booleans(), st.booleans())
def test_anything(body: Messages, head: list[str], budget: int, by_count: bool, named: bool) -> None:
    """However wrong a list of messages is, repairing and compressing it gives a valid one, or says that it cannot."""
    messages: Messages = [*map(SystemMessage, head), *body]
    if named:
        for place, message in enumerate(messages):
            message.id = f"m{place}"
    before = copy.deepcopy(messages)
    ready = repair_messages(messages)
    assert problems(ready) == []
    assert repair_messages(ready) == ready
    assert messages == before
    size: Size = ("messages", budget // 60) if by_count else ("tokens", budget)
    count = len if by_count else count_tokens
    try:
        done = compress_messages(messages, budget=size)
    except ContextBudgetError:
        assert count([shortest(message) for message in kept(ready)]) > size[1]
        return
    assert messages == before
    assert problems(done.messages) == []
    assert count(done.messages) <= size[1]
    assert count(done.messages) <= count(ready)
    assert instructions(done.messages) == instructions(ready)
    assert compress_messages(done.messages, budget=size).messages == done.messages
    assert compress_messages(done.messages, budget=size, state=done.state).messages == done.messages
    if named:
        assert compress_messages(messages, budget=size, state=done.state).messages == done.messages
        if ready == messages:
            assert merged(messages, done.update) == done.messages
        else:
            merged(messages, done.update)
