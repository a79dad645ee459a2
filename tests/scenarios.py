"""What is done with LangGraph: each a graph, and a function that runs it and answers what happened, for any saver."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Command, Overwrite, Send, interrupt

from tests.graphs import Running

Saver = BaseCheckpointSaver[Any]
Built = tuple[Any, Callable[[Running], Any]]


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    total: Annotated[int, operator.add]
    last: Any


def conversation(saver: Saver) -> Built:
    """An agent that calls a tool twice a turn, with a conditional edge, over three turns."""

    def agent(state: MessagesState) -> dict[str, list[AnyMessage]]:
        number = len(state["messages"])
        calls: Any = [
            {"name": "look", "args": {"n": [number, {"deep": True}]}, "id": f"c{number}", "type": "tool_call"}
        ]
        done = number % 6 == 5
        return {"messages": [AIMessage("done" if done else "", id=f"a{number}", tool_calls=[] if done else calls)]}

    def tools(state: MessagesState) -> dict[str, list[AnyMessage]]:
        call = state["messages"][-1].tool_calls[0]  # type: ignore[union-attr]
        number = len(state["messages"])
        return {"messages": [ToolMessage(f"saw {call['args']}", id=f"t{number}", tool_call_id=call["id"])]}

    def going_on(state: MessagesState) -> str:
        return "tools" if state["messages"][-1].tool_calls else END  # type: ignore[union-attr]

    builder = StateGraph(MessagesState)
    builder.add_node(agent)
    builder.add_node(tools)
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", going_on, ["tools", END])
    builder.add_edge("tools", "agent")

    def act(running: Running) -> Any:
        return [running.invoke({"messages": [HumanMessage(f"turn {turn}", id=f"h{turn}")]}) for turn in range(3)]

    return builder.compile(checkpointer=saver), act


def commands(saver: Saver) -> Built:
    """Nodes that say where to go, update while they go, send packets while they go, and are resumed by a command."""

    def first(state: State) -> Command[Any]:
        return Command(goto="second", update={"log": ["first"], "total": 1})

    def second(state: State) -> Command[Any]:
        answer = interrupt({"question": "left or right?", "seen": list(state["log"])})
        if answer == "packets":
            return Command(goto=[Send("packet", {"last": number}) for number in range(3)], update={"log": ["second"]})
        return Command(goto=answer, update=[("log", ["second"]), ("last", {"answer": answer})])

    def left(state: State) -> dict[str, Any]:
        return {"log": ["left"]}

    def packet(state: State) -> dict[str, Any]:
        return {"log": [("packet", state["last"])], "total": state["last"]}

    builder = StateGraph(State)
    builder.add_node(first, destinations=("second",))
    builder.add_node(second, destinations=("left", "packet"))
    builder.add_node(left)
    builder.add_node(packet)
    builder.add_edge(START, "first")

    def act(running: Running) -> Any:
        told = [running.invoke({"log": ["input"], "last": None}), running.state().next]
        told.append(running.invoke(Command(resume="left", update={"log": ["by command"]})))
        told.append(running.invoke({"log": ["again"]}))
        told.append(running.invoke(Command(resume="packets")))
        told.append(running.invoke(Command(goto="left", update={"total": 100})))
        return told

    return builder.compile(checkpointer=saver), act


def fan_out(saver: Saver) -> Built:
    """Packets to one node, twice in a row, and a join that sees them in the order of sending."""

    def spread(state: State) -> list[Send]:
        return [Send("work", {"last": {"item": number, "text": "x" * 100}}) for number in range(5)]

    def work(state: State) -> dict[str, Any]:
        return {"log": [state["last"]["item"]], "total": 1}

    def again(state: State) -> Any:
        return "join" if state["total"] > 5 else spread(state)

    def join(state: State) -> dict[str, Any]:
        return {"last": list(state["log"])}

    builder = StateGraph(State)
    builder.add_node("plan", lambda state: {"log": ["planned"]})
    builder.add_node(work)
    builder.add_node("between", lambda state: {"log": ["between"]})
    builder.add_node(join)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", spread, ["work"])
    builder.add_edge("work", "between")
    builder.add_conditional_edges("between", again, ["work", "join"])
    builder.add_edge("join", END)
    return builder.compile(checkpointer=saver), lambda running: running.invoke({"log": [], "total": 0})


def subgraphs(saver: Saver) -> Built:
    """A graph in a graph in a graph, the innermost one interrupted, and one that keeps a memory of its own."""

    def ask(state: State) -> dict[str, Any]:
        return {"log": [("answer", interrupt("inside?"))]}

    innermost = StateGraph(State).add_node(ask).add_edge(START, "ask").compile()
    inner = (
        StateGraph(State)
        .add_node("before", lambda state: {"log": ["before"]})
        .add_node("innermost", innermost)
        .add_edge(START, "before")
        .add_edge("before", "innermost")
        .compile()
    )
    memory = (
        StateGraph(State)
        .add_node("count", lambda state: {"total": 1, "log": [f"counted {state.get('total', 0)}"]})
        .add_edge(START, "count")
        .compile(checkpointer=True)
    )
    builder = StateGraph(State)
    builder.add_node("inner", inner)
    builder.add_node("memory", memory)
    builder.add_node("after", lambda state: {"last": len(state["log"])})
    builder.add_edge(START, "inner")
    builder.add_edge("inner", "memory")
    builder.add_edge("memory", "after")

    def act(running: Running) -> Any:
        told: list[Any] = []
        for turn in range(2):
            told.append(running.invoke({"log": [turn]}))
            state = running.state(subgraphs=True)
            told.append((state.next, [task.name for task in state.tasks]))
            told.append(running.invoke(Command(resume=f"yes {turn}")))
        return told

    return builder.compile(checkpointer=saver), act


def parallel_interrupts(saver: Saver) -> Built:
    """Three packets that ask at once, resumed one after the other and by their ids, beside a node that asks twice."""

    def ask(state: State) -> dict[str, Any]:
        return {"log": [(state["last"], interrupt({"who": state["last"]}))]}

    def twice(state: State) -> dict[str, Any]:
        first = interrupt("first")
        return {"log": [("twice", first, interrupt(f"second, after {first}"))]}

    builder = StateGraph(State)
    builder.add_node(ask)
    builder.add_node(twice)
    builder.add_node("end", lambda state: {"log": ["end"]}, defer=True)
    builder.add_conditional_edges(START, lambda state: [Send("ask", {"last": name}) for name in "abc"], ["ask"])
    builder.add_edge(START, "twice")
    builder.add_edge("ask", "end")
    builder.add_edge("twice", "end")

    def act(running: Running) -> Any:
        def asked(answer: dict[str, Any]) -> Any:
            # They come in the order in which they happened to ask.
            return sorted(str(each.value) for each in answer.pop("__interrupt__", ())), answer

        told = [asked(running.invoke({"log": []}))]
        waiting = running.state().interrupts
        by_id = {each.id: f"for {each.value}" for each in waiting if each.value in ({"who": "b"}, "first")}
        told.append(asked(running.invoke(Command(resume=by_id))))
        told.append(asked(running.invoke(Command(resume={each.id: "rest" for each in running.state().interrupts}))))
        return told

    return builder.compile(checkpointer=saver), act


def breakpoints(saver: Saver) -> Built:
    """Stops before and after nodes, an update at the stop, and going on without input."""
    builder = StateGraph(State)
    for name in ("a", "b", "c"):
        builder.add_node(name, lambda state, name=name: {"log": [name], "total": 1})
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")
    builder.add_edge("b", "c")
    graph = builder.compile(checkpointer=saver, interrupt_before=["b"], interrupt_after=["b"])

    def act(running: Running) -> Any:
        told = [running.invoke({"log": []}), running.state().next]
        running.update({"log": ["edited at the stop"]})
        told += [running.invoke(None), running.state().next, running.invoke(None), running.state().next]
        told += [running.invoke({"log": ["again"]}, interrupt_before=["c"]), running.state().next]
        return told

    return graph, act


def time_travel(saver: Saver) -> Built:
    """Forks by `update_state`, as a node and as another, and runs from older checkpoints with and without input."""
    builder = StateGraph(State)
    for name in ("a", "b"):
        builder.add_node(name, lambda state, name=name: {"log": [name], "last": {name: len(state["log"])}})
    builder.add_edge(START, "a")
    builder.add_edge("a", "b")

    def act(running: Running) -> Any:
        told = [running.invoke({"log": ["one"]}), running.invoke({"log": ["two"]})]
        history = running.history()
        told.append([(state.next, state.values, state.metadata) for state in history])
        past = history[len(history) // 2].config
        told.append(running.invoke(None, past))
        told.append(running.invoke({"log": ["from the past"]}, past))
        fork = running.update({"log": ["fork"]}, past, as_node="a")
        told += [running.state(fork).next, running.invoke(None, fork)]
        running.update({"log": ["by b"]}, as_node="b")
        running.update(None)
        told += [running.state().values, running.invoke({"log": ["three"]})]
        return told

    return builder.compile(checkpointer=saver), act


def removals(saver: Saver) -> Built:
    """Messages that are removed by id, edited by id, all removed, and overwritten."""

    def trim(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [RemoveMessage(id=str(state["messages"][0].id)), HumanMessage("edited", id="h1")]}

    def forget(state: MessagesState) -> Any:
        if len(state["messages"]) > 3:
            return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), AIMessage("summary", id="summary")]}
        return {"messages": Overwrite([*state["messages"], AIMessage("over", id="over")])}

    builder = StateGraph(MessagesState)
    builder.add_node(trim)
    builder.add_node(forget)
    builder.add_edge(START, "trim")
    builder.add_edge("trim", "forget")

    def act(running: Running) -> Any:
        told = []
        for turn in range(3):
            new = [HumanMessage(f"turn {turn}", id=f"h{turn}"), AIMessage("a", id=f"a{turn}")]
            told.append(running.invoke({"messages": new}))
        return told

    return builder.compile(checkpointer=saver), act


def failure(saver: Saver) -> Built:
    """A node that fails twice beside two that do not: who finished is not run again, and the rest goes on."""
    ran: list[str] = []

    def steady(state: State) -> dict[str, Any]:
        ran.append("steady")
        return {"log": ["steady"]}

    def unsteady(state: State) -> dict[str, Any]:
        ran.append("unsteady")
        if ran.count("unsteady") % 3:
            raise ValueError("not now")
        return {"log": ["unsteady"]}

    def packet(state: State) -> dict[str, Any]:
        ran.append(f"packet {state['last']}")
        return {"log": [state["last"]]}

    builder = StateGraph(State)
    builder.add_node(steady)
    builder.add_node(unsteady)
    builder.add_node(packet)
    builder.add_node("after", lambda state: {"last": list(state["log"])}, defer=True)
    builder.add_edge(START, "steady")
    builder.add_edge(START, "unsteady")
    builder.add_conditional_edges(START, lambda state: [Send("packet", {"last": n}) for n in (1, 2)], ["packet"])
    for name in ("steady", "unsteady", "packet"):
        builder.add_edge(name, "after")

    def act(running: Running) -> Any:
        # One at a time: LangGraph may cancel whoever is not done when a neighbour fails. The last is the one that does.
        config: RunnableConfig = {**running.config, "max_concurrency": 1}
        told: list[Any] = []
        value: Any = {"log": ["input"]}
        for _ in range(3):
            try:
                told.append(running.invoke(value, config))
            except ValueError as error:
                told.append(repr(error))
            value = None
            told.append((running.state().next, list(ran)))
        return told

    return builder.compile(checkpointer=saver), act


def functional(saver: Saver) -> Built:
    """The functional API: tasks, an interrupt between them, and what one run leaves for the next."""
    ran: list[Any] = []

    @task
    def double(number: int) -> int:
        ran.append(number)
        return number * 2

    @entrypoint(checkpointer=saver)
    def flow(number: int, *, previous: Any = None) -> entrypoint.final[Any, Any]:
        first = double(number).result()
        more = interrupt(f"more than {first}?")
        result = double(first + more).result()
        return entrypoint.final(value={"result": result, "previous": previous}, save=[result, previous])

    @task
    async def adouble(number: int) -> int:
        ran.append(number)
        return number * 2

    @entrypoint(checkpointer=saver)
    async def aflow(number: int, *, previous: Any = None) -> entrypoint.final[Any, Any]:
        first = await adouble(number)
        more = interrupt(f"more than {first}?")
        result = await adouble(first + more)
        return entrypoint.final(value={"result": result, "previous": previous}, save=[result, previous])

    def act(running: Running) -> Any:
        running.graph = flow if running.loop is None else aflow
        told: list[Any] = []
        for number in (1, 5):
            told += [running.invoke(number), running.invoke(Command(resume=10)), list(ran)]
        return told

    return flow, act


SCENARIOS: dict[str, Callable[[Saver], Built]] = {
    build.__name__: build
    for build in (
        conversation,
        commands,
        fan_out,
        subgraphs,
        parallel_interrupts,
        breakpoints,
        time_travel,
        removals,
        failure,
        functional,
    )
}
