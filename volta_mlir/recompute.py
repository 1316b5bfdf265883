"""Which values of a program to compute again instead of keeping them: a model of its memory, and a planner.

A :class:`Graph` is a program as the planner sees it: tasks in the order in which they run, each with what it reads,
what it writes, and how long it takes. A :class:`Choice` says which values are dropped at a *boundary*, a place in that
order, and computed again just before the first task behind it that reads them. :func:`simulate` tells the peak of a
choice and the time that it adds; :func:`plan` searches for one that meets a budget and adds little, :func:`spare` for
one that spares much of the memory at next to no time.

The search of :func:`plan` begins with several choices of known merit and improves the best of them:

- nothing is dropped;
- the cut of least bytes between what is computed before and what is used behind the boundary (as in functorch's
  partitioner: Horace He, "min-cut rematerialization"), where products are not computed again;
- segments, as in Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016): kept is what crosses their ends.

Values with the same label, such as those of one line of a layer, are decided alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

#: Segment sizes that are tried: this many between the largest value and all of them.
_SEGMENT_SIZES = 16
#: Differences of less than the peak over this do not count where a budget is out of reach.
_PEAK_STEPS = 64
#: Shares of the segments, from the first on, in which values are dropped.
_SHARES = (1.0, 0.75, 0.5, 0.25)


@dataclass(frozen=True)
class Task:
    """Something that runs as a whole.

    Attributes:
        inputs: the values that it reads.
        outputs: the values that it writes.
        seconds: how long it takes.
        workspace: bytes that it needs while it runs.
        recomputable: whether it may run again.
        is_product: whether it is a contraction or convolution, which run again only if a budget is not met otherwise.
        label: values that tasks of the same label write are decided alike.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    seconds: float = 1.0
    workspace: int = 0
    recomputable: bool = True
    is_product: bool = False
    label: Hashable = ""


@dataclass(frozen=True)
class Graph:
    """A program.

    Attributes:
        tasks: in the order in which they run.
        sizes: the bytes of each value, 0 where it takes no memory: arguments and results.
        recipes: tells what computes a value again, where that is not the whole task that writes it. A recipe may read
            other values that this task writes.
    """

    tasks: tuple[Task, ...]
    sizes: tuple[int, ...]
    recipes: Callable[[int], Task | None] = lambda _: None

    @cached_property
    def producers(self) -> dict[int, int]:
        """The task that writes a value; none for arguments."""
        return {value: index for index, task in enumerate(self.tasks) for value in task.outputs}

    def recipe(self, value: int) -> Task:
        """What computes a value again."""
        return self.recipes(value) or self.tasks[self.producers[value]]


@dataclass(frozen=True)
class Choice:
    """Values that are dropped once the task ``boundary`` has run, and computed again for the tasks behind it."""

    boundary: int
    dropped: frozenset[int]


NOTHING = Choice(0, frozenset())


@dataclass(frozen=True)
class Outcome:
    """What a choice costs.

    Attributes:
        peak: the most bytes at any time.
        peak_task: the task that runs then.
        seconds: the time that recomputation takes.
        recomputed: how many tasks run again.
    """

    peak: int
    peak_task: int
    seconds: float
    recomputed: int


class Step(NamedTuple):
    """Something that runs.

    Attributes:
        number: that of the task, or of the one that has written first what is computed again.
        task: the task, or the recipe.
        again: whether it computes something again.
    """

    number: int
    task: Task
    again: bool


def steps(graph: Graph, choice: Choice) -> Iterator[Step]:
    """What runs, in order."""
    copied: set[int] = set()
    for index, task in enumerate(graph.tasks):
        if index > choice.boundary:
            yield from _missing(graph, choice.dropped, task.inputs, copied)
        yield Step(index, task, False)


def _missing(graph: Graph, dropped: frozenset[int], wanted: Iterable[int], copied: set[int]) -> list[Step]:
    """What computes dropped values again, each after those that it needs; adds to ``copied``."""
    found: list[Step] = []
    pending = [(value, False) for value in wanted]
    while pending:
        value, is_ready = pending.pop()
        if value not in dropped or value in copied:
            continue
        task = graph.recipe(value)
        if is_ready:
            copied.update(v for v in task.outputs if v in dropped)
            found.append(Step(graph.producers[value], task, True))
        else:
            pending.append((value, True))
            pending += [(v, False) for v in task.inputs]
    return found


def simulate(graph: Graph, choice: Choice = NOTHING) -> Outcome:
    """The peak and the added time of a choice. Values live from the task that writes to the last that reads them."""
    order = list(steps(graph, choice))
    last: dict[tuple[int, bool], int] = {}
    for time, step in enumerate(order):
        late = step.again or step.number > choice.boundary
        for value in step.task.inputs:
            last[value, late and value in choice.dropped] = time
    frees: dict[int, int] = defaultdict(int)
    live = peak = peak_task = 0
    for time, (number, task, again) in enumerate(order):
        for value in task.outputs:
            size = graph.sizes[value]
            if size and (not again or value in choice.dropped):
                live += size
                frees[last.get((value, again), time)] += size
        if live + task.workspace > peak:
            peak, peak_task = live + task.workspace, number
        live -= frees.pop(time, 0)
    repeated = [step.task.seconds for step in order if step.again]
    return Outcome(peak, peak_task, sum(repeated), len(repeated))


@dataclass(frozen=True)
class Found:
    """The best choice, and its outcome, which may exceed the budget."""

    choice: Choice
    outcome: Outcome


def plan(graph: Graph, budget: int) -> Found:
    """The choice that adds the least time among those that were found to meet a budget, else that of the least peak.

    Args:
        graph: the program.
        budget: the most bytes at any time, workspaces included; 0 looks for the least peak.
    """
    base = simulate(graph)
    best = Found(NOTHING, base)
    goal = _Goal(budget, max(base.peak // _PEAK_STEPS, 1))
    for with_products in (False, True):
        for boundary in _boundaries(graph, base):
            search = _Search(graph, boundary, goal, with_products)
            best = min(best, search.run(), key=lambda found: goal.rank(found.outcome))
        if best.outcome.peak <= budget:
            break
    return best


def spare(graph: Graph, share: float) -> Found:
    """A choice that adds at most a share of the program's time, and what it leaves of the peak.

    What costs the least for its bytes is dropped first. Products are not computed again.
    """
    base = simulate(graph)
    goal = _Goal(0, max(base.peak // _PEAK_STEPS, 1))
    return _Search(graph, base.peak_task, goal, False).spare(share * sum(task.seconds for task in graph.tasks))


@dataclass(frozen=True)
class _Goal:
    """What is searched for: the least time within a budget, else the least peak.

    Peaks within ``step`` bytes count as equal: a little memory is not worth any amount of time.
    """

    budget: int
    step: int

    def rank(self, outcome: Outcome) -> tuple[int, float, int]:
        """Orders outcomes, the best first."""
        over = outcome.peak > self.budget
        return -(-outcome.peak // self.step) if over else 0, outcome.seconds, outcome.peak


def _boundaries(graph: Graph, base: Outcome) -> list[int]:
    """Where values may be dropped: at the peak, and where live values first come near it."""
    last = {value: index for index, task in enumerate(graph.tasks) for value in task.inputs}
    change = [0] * (len(graph.tasks) + 1)
    for index, task in enumerate(graph.tasks):
        for value in task.outputs:
            change[index] += graph.sizes[value]
            change[last.get(value, index) + 1] -= graph.sizes[value]
    live, total = [], 0
    for amount in change[:-1]:
        total += amount
        live.append(total)
    most = max(live, default=0)
    first = next((i for i, amount in enumerate(live) if amount > 0.9 * most), 0)
    return list(dict.fromkeys((base.peak_task, live.index(most) if live else 0, first)))


class _Search:
    """The search for the values to drop at one boundary."""

    def __init__(self, graph: Graph, boundary: int, goal: _Goal, with_products: bool) -> None:
        self.graph, self.boundary, self.goal = graph, boundary, goal
        self.may_run = set()
        for value, index in graph.producers.items():
            if index > boundary:
                continue
            task = graph.recipe(value)
            if task.recomputable and (with_products or not task.is_product):
                self.may_run.add(value)
        self.candidates = frozenset(v for v in self.may_run if graph.sizes[v])
        late = graph.tasks[boundary + 1 :]
        self.used_late = {value for task in late for value in task.inputs}
        self.outcomes: dict[frozenset[int], Outcome] = {}

    def outcome(self, dropped: frozenset[int]) -> Outcome:
        found = self.outcomes.get(dropped)
        if found is None:
            found = self.outcomes[dropped] = simulate(self.graph, Choice(self.boundary, dropped))
        return found

    def rank(self, dropped: frozenset[int]) -> tuple[int, float, int]:
        return self.goal.rank(self.outcome(dropped))

    def run(self) -> Found:
        seeds = sorted(dict.fromkeys(self._seeds()), key=self.rank)
        best = min((self._improve(seed) for seed in seeds[:3]), key=self.rank)
        return Found(Choice(self.boundary, best), self.outcome(best))

    # -- choices to begin with ---------------------------------------------------------------------------------

    def _seeds(self) -> Iterator[frozenset[int]]:
        yield frozenset()
        yield self._cut()
        sizes = [self.graph.sizes[v] for v in self.candidates]
        if not sizes:
            return
        least, most = max(sizes), max(sum(sizes), max(sizes) + 1)
        for i in range(_SEGMENT_SIZES):
            segments = list(self._segments(least * (most / least) ** (i / _SEGMENT_SIZES)))
            for share in _SHARES:
                yield frozenset().union(*segments[: round(share * len(segments))])

    def _cut(self) -> frozenset[int]:
        """What is behind the cut of least bytes between what is there at the boundary and what is used later."""
        import networkx

        flow = networkx.DiGraph()
        source, sink = "source", "sink"
        flow.add_nodes_from((source, sink))
        for task in self.graph.tasks[: self.boundary + 1]:
            for value in task.outputs:
                flow.add_edge((value, "in"), (value, "out"), capacity=self.graph.sizes[value])
                if value not in self.may_run:
                    flow.add_edge(source, (value, "in"))
                for used in self.graph.recipe(value).inputs:
                    if used in self.graph.producers:
                        flow.add_edge((used, "out"), (value, "in"))
                if value in self.used_late:
                    flow.add_edge((value, "out"), sink)
        _, (_, behind) = networkx.minimum_cut(flow, source, sink)
        return frozenset(v for v in self.candidates if (v, "in") in behind)

    def _segments(self, limit: float) -> Iterator[frozenset[int]]:
        """For each segment but the last what is dropped in it. Their values take about ``limit`` bytes."""
        tasks, sizes = self.graph.tasks, self.graph.sizes
        start = 0
        while start <= self.boundary:
            held, end, ends = 0, start, []
            while end <= self.boundary and held <= limit:
                held += sum(sizes[v] for v in tasks[end].outputs if v in self.candidates)
                end += 1
                ends.append(end)
            if end > self.boundary:
                return
            # Where few bytes cross, in the second half of what fits.
            cut = min(ends[len(ends) // 2 :], key=lambda end: (self._crossing_bytes[end], -end))
            made = self.candidates.intersection(v for task in tasks[start:cut] for v in task.outputs)
            yield frozenset(v for v in made if self._last.get(v, -1) < cut)
            start = cut

    @cached_property
    def _last(self) -> dict[int, int]:
        """The last task up to the boundary that reads a value."""
        return {v: i for i, task in enumerate(self.graph.tasks[: self.boundary + 1]) for v in task.inputs}

    @cached_property
    def _crossing_bytes(self) -> list[int]:
        last = self._last
        change = [0] * (self.boundary + 3)
        for value, producer in self.graph.producers.items():
            if last.get(value, -1) > producer:
                change[producer + 1] += self.graph.sizes[value]
                change[last[value] + 1] -= self.graph.sizes[value]
        total, found = 0, []
        for amount in change:
            total += amount
            found.append(total)
        return found

    # -- improvement -------------------------------------------------------------------------------------------

    def _improve(self, dropped: frozenset[int]) -> frozenset[int]:
        """Keeps or drops all values of a label where that is better."""
        order = sorted(self._groups(), key=self._cost, reverse=True)
        while True:
            before = dropped
            for group in order:
                for changed in (dropped - group, dropped | group):
                    if self.rank(changed) < self.rank(dropped):
                        dropped = changed
            if dropped == before:
                return dropped

    def spare(self, seconds: float) -> Found:
        """Drops all values of a label as long as that does not take too long altogether."""
        order = sorted(self._groups(), key=self._cost)
        dropped: frozenset[int] = frozenset()
        while True:
            before = dropped
            for group in order:
                outcome = self.outcome(dropped | group)
                if outcome.seconds <= seconds and outcome.peak <= self.outcome(dropped).peak - self.goal.step:
                    dropped |= group
            if dropped == before:
                return Found(Choice(self.boundary, dropped), self.outcome(dropped))

    def _groups(self) -> list[frozenset[int]]:
        """The candidates by their labels."""
        groups: dict[Hashable, set[int]] = defaultdict(set)
        for value in self.candidates:
            groups[self.graph.recipe(value).label].add(value)
        return list(map(frozenset, groups.values()))

    def _cost(self, group: frozenset[int]) -> float:
        """The time that keeping the values saves, for each byte."""
        seconds = sum(self.graph.recipe(v).seconds for v in group)
        return seconds / sum(self.graph.sizes[v] for v in group)
