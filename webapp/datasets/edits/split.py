"""Which rows train, validate and test, said anew: drawn by class, by group, by time, in folds, or told by a column.

All rows of the version are shared out again, wherever they are now.
"""

# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from webapp.datasets import splitting
from webapp.datasets.columns import quoted
from webapp.datasets.edits import Edit, Wrong, need_column, need_seed
from webapp.datasets.edits.facts import Facts
from webapp.datasets.edits.plan import Parent, Plan
from webapp.datasets.findings import ROW, SPLIT, plural
from webapp.datasets.problems import Refused
from webapp.datasets.splits import SPLITS
from webapp.datasets.splitting import TEST, TRAIN, VALIDATION

MOST_SHARE = 0.9  # of validation and test together
MOST_FOLDS = 20
MOST_VALUES = 50  # of a column that tells the split
CLASSES = ("label", "integer", "boolean")
GROUPS = ("label", "integer", "boolean", "text")
TIMES = ("text", "integer", "float")
Assigned = NDArray[np.uint8]  # a split a row, in the order of the rows: train, validation, test


@dataclass(frozen=True)
class Way:
    """A way to share rows out. `kinds`: of the column that it goes by."""

    title: str
    help: str
    kinds: tuple[str, ...]
    needs_column: bool


WAYS = {
    "stratified": Way(
        "Drawn, in the same proportions of each class",
        "The usual way. Without a column, rows are drawn whatever their class.",
        CLASSES,
        False,
    ),
    "group": Way(
        "Drawn by groups",
        "All rows of a group (a person, a document, a place) come into the same split, so that a model is tested "
        "on groups that it has never seen.",
        GROUPS,
        True,
    ),
    "time": Way(
        "By time",
        "The newest rows test, those before them validate, the oldest train: as a model is used later.",
        TIMES,
        True,
    ),
    "kfold": Way(
        "In folds",
        "For small datasets: rows are dealt into equal folds, one tests, the next one validates, the others train. "
        "A version a fold; the mean over all of them says more than one split.",
        CLASSES,
        False,
    ),
    "column": Way("By the values of a column", "You say for each value what its rows are for.", GROUPS, True),
}


class Split(Edit):
    """Share all rows out again."""

    slug = "split"
    takes = {
        "how": str,
        "column": "",
        "validation": 0.1,
        "test": 0.1,
        "seed": splitting.SEED,
        "folds": 5,
        "fold": 1,
        "every": False,
        "values": {},
    }

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        how = asked["how"]
        way = WAYS.get(how)
        if way is None:
            raise Wrong(how=f"There is no such way. There are: {', '.join(WAYS)}.")
        if asked["column"] or way.needs_column:
            need_column(facts, asked["column"], way.kinds)
        need_seed(asked["seed"])
        rows = sum(facts.splits.values())
        if how in ("stratified", "group", "time"):
            _check_shares(asked)
        if how == "kfold":
            if not 3 <= asked["folds"] <= min(MOST_FOLDS, rows):
                raise Wrong(folds=f"Say a number from 3 to {min(MOST_FOLDS, rows)}.")
            if not 1 <= asked["fold"] <= asked["folds"]:
                raise Wrong(fold=f"Say a number from 1 to {asked['folds']}.")
        if how == "column" and not (
            asked["values"] and all(split in SPLITS for split in asked["values"].values())
        ):
            raise Wrong(values=f"Say {', '.join(SPLITS)} for each value of the column.")

    def title(self, asked: dict[str, Any]) -> str:
        by = f" by “{asked['column']}”" if asked["column"] else ""
        fold = f", fold {asked['fold']} of {asked['folds']}" if asked["how"] == "kfold" else ""
        return f"Splitting the rows{by}{fold}"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        assigned = assign(parent, asked)
        sizes = sizes_of(assigned)
        if 0 in sizes.values():
            empty = next(split for split, rows in sizes.items() if not rows)
            raise Refused(
                "empty_split",
                f"No row would come into {empty}.",
                "Choose other shares, another column, or other values.",
            )
        start = 0
        for split in SPLITS:
            rows = parent.facts.splits.get(split, 0)
            plan.splits[split] = assigned[start : start + rows]
            start += rows
        says = self.story(asked)
        plan.split_details = {"from": "edit", "says": says, "drawn": [], **asked}
        told = ", ".join(f"{plural(rows, 'row')} {WORDS[split]}" for split, rows in sizes.items())
        return f"{says} {told}."

    def story(self, asked: dict[str, Any]) -> str:
        """How the split came about, in a sentence."""
        column, seed = asked["column"], asked["seed"]
        shares = f"{asked['validation']:.0%} to validate and {asked['test']:.0%} to test"
        match asked["how"]:
            case "stratified":
                by = f" in the same proportions of “{column}”" if column else ""
                return f"{shares}, drawn{by} (seed {seed})."
            case "group":
                return f"About {shares}, drawn by groups of “{column}”, none of which is in two splits (seed {seed})."
            case "time":
                return f"By “{column}”: the newest {asked['test']:.0%} test, the {asked['validation']:.0%} before them validate."
            case "kfold":
                by = f" in the same proportions of “{column}”" if column else ""
                return f"Fold {asked['fold']} of {asked['folds']} tests, the next one validates; dealt{by} (seed {seed})."
        return f"As the values of “{column}” say."


WORDS = {"train": "to train on", "validation": "to validate", "test": "to test"}


def _check_shares(asked: dict[str, Any]) -> None:
    for name in ("validation", "test"):
        if not 0 < asked[name] < MOST_SHARE:
            raise Wrong(**{name: f"Say a share over 0 and under {MOST_SHARE:.0%}."})
    if asked["validation"] + asked["test"] > MOST_SHARE:
        raise Wrong(test=f"Together they leave less than {1 - MOST_SHARE:.0%} to train on.")


def sizes_of(assigned: Assigned) -> dict[str, int]:
    """{split: rows}"""
    counts = np.bincount(assigned, minlength=len(SPLITS))
    return {split: int(counts[place]) for place, split in enumerate(SPLITS)}


def assign(parent: Parent, asked: dict[str, Any]) -> Assigned:
    """The split of every row, in their order; raises Refused. `asked` has been checked."""
    ways: dict[str, Callable[[Parent, dict[str, Any]], Assigned]] = {
        "stratified": _stratified,
        "group": _grouped,
        "time": _timed,
        "kfold": _folded,
        "column": _told,
    }
    return ways[asked["how"]](parent, asked)


def values_of(parent: Parent, column: str) -> list[Any]:
    """The different values of a column that may tell the split, as texts; raises Refused if they are too many."""
    name = _text(parent, column)
    found = parent.rows.ask(
        f"SELECT DISTINCT {name} FROM rows ORDER BY 1 NULLS FIRST LIMIT {MOST_VALUES + 1}"
    )
    if len(found) > MOST_VALUES:
        raise Refused(
            "too_many_values",
            f"“{column}” has more than {MOST_VALUES} different values.",
            "Choose a column of fewer values, or split by groups of it.",
        )
    return [value or "" for (value,) in found]


def _text(parent: Parent, column: str) -> str:
    """SQL of a column's value as a text: of a class its name."""
    found = parent.column(column)
    if found.kind != "label":
        return f"{quoted(column)}::VARCHAR"
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in found.names)
    return f"list_extract([{names}], {quoted(column)} + 1)"


def _in_order() -> str:
    """SQL that puts rows in their order."""
    cases = " ".join(f"WHEN '{split}' THEN {place}" for place, split in enumerate(SPLITS))
    return f"ORDER BY CASE {SPLIT} {cases} END, {ROW}"


def _ranks(parent: Parent, value: str) -> NDArray[np.int64]:
    """The rank of each row's value, SQL, from 1; 0 without a value. Rows in their order."""
    found = parent.rows.connection.execute(
        f"SELECT CASE WHEN {value} IS NULL THEN 0 ELSE dense_rank() OVER (ORDER BY {value} NULLS FIRST) END AS rank"
        f" FROM rows {_in_order()}"
    ).fetchnumpy()
    return np.asarray(found["rank"], np.int64)


def _codes(parent: Parent, column: str) -> NDArray[np.int64]:
    """A number a row that is the same where the column's value is; without a value, or a column, 0."""
    rows = sum(parent.facts.splits.values())
    return _ranks(parent, quoted(column)) if column else np.zeros(rows, np.int64)


def _stratified(parent: Parent, asked: dict[str, Any]) -> Assigned:
    codes = _codes(parent, asked["column"])
    shares = {VALIDATION: asked["validation"], TEST: asked["test"]}
    plan = splitting.plan(np.bincount(codes), (VALIDATION, TEST), shares)
    return splitting.Splitter(plan, asked["seed"]).assign(codes)


def _grouped(parent: Parent, asked: dict[str, Any]) -> Assigned:
    """Large groups first, each into the split that lacks most of what it is to have; in a drawn order where equal."""
    codes = _codes(parent, asked["column"])
    alone = codes == 0  # rows without a value are groups of one
    codes[alone] = codes.max() + 1 + np.arange(int(alone.sum()))
    _, codes = np.unique(codes, return_inverse=True)
    sizes = np.bincount(codes)
    if len(sizes) < len(SPLITS):
        raise Refused(
            "too_few_groups",
            f"“{asked['column']}” has {plural(len(sizes), 'group')}; three are needed, one a split.",
            "Choose a column with more groups.",
        )
    random = np.random.Generator(np.random.PCG64(asked["seed"]))
    drawn = random.permutation(len(sizes))
    order = drawn[np.argsort(-sizes[drawn], kind="stable")]
    shares = np.array([1 - asked["validation"] - asked["test"], asked["validation"], asked["test"]])
    lacking = shares * len(codes)
    where = np.zeros(len(sizes), np.uint8)
    for group in order:
        place = int(np.argmax(lacking))
        where[group] = place
        lacking[place] -= sizes[group]
    _leave_none_empty(where, sizes)
    return where[codes]


def _leave_none_empty(where: NDArray[np.uint8], sizes: NDArray[np.int64]) -> None:
    """A split without a group gets the smallest one of a split that has several."""
    for place in range(len(SPLITS)):
        if (where == place).any():
            continue
        counts = np.bincount(where, minlength=len(SPLITS))
        spare = [group for group in np.argsort(sizes, kind="stable") if counts[where[group]] > 1]
        where[spare[0]] = place


def _timed(parent: Parent, asked: dict[str, Any]) -> Assigned:
    """Rows of one time stay together; rows without a time train."""
    column = parent.column(asked["column"])
    if column.kind == "text":
        name = quoted(column.name)
        wrong = parent.rows.ask(
            f"SELECT {name}, {SPLIT}, {ROW} FROM rows"
            f" WHERE {name} IS NOT NULL AND try_cast({name} AS TIMESTAMP) IS NULL LIMIT 1"
        )
        if wrong:
            raise Refused(
                "not_a_time",
                f"“{column.name}” holds {wrong[0][0][:40]!r}, which is no time.",
                "Write times as 2026-03-31 or 2026-03-31 14:05:00.",
                split=wrong[0][1],
                row=int(wrong[0][2]),
                column=column.name,
            )
    time = f"try_cast({quoted(column.name)} AS TIMESTAMP)" if column.kind == "text" else quoted(column.name)
    codes = _ranks(parent, time)
    _, places = np.unique(codes, return_inverse=True)
    counts = np.bincount(places)
    if 0 in codes:
        counts[0] = 0  # of no time
    times = np.flatnonzero(counts)
    if len(times) < len(SPLITS):
        raise Refused(
            "too_few_times",
            f"“{column.name}” has {plural(len(times), 'different time')}; three are needed, one a split.",
            "Choose a column with more of them.",
        )
    since = np.cumsum(counts[::-1])[::-1][times]  # rows from each time on
    wanted = asked["test"] * len(codes)
    test = 2 + int(np.argmin(np.abs(since[2:] - wanted)))
    wanted += asked["validation"] * len(codes)
    validation = 1 + int(np.argmin(np.abs(since[1:test] - wanted)))
    where = np.full(len(codes), TRAIN, np.uint8)
    where[places >= times[validation]] = VALIDATION
    where[places >= times[test]] = TEST
    return where


def _folded(parent: Parent, asked: dict[str, Any]) -> Assigned:
    """Each class is dealt out in a drawn order, going on where the class before ended."""
    codes = _codes(parent, asked["column"])
    random = np.random.Generator(np.random.PCG64(asked["seed"]))
    drawn = random.permutation(len(codes))
    order = drawn[np.argsort(codes[drawn], kind="stable")]
    folds = np.empty(len(codes), np.int64)
    folds[order] = np.arange(len(codes)) % asked["folds"]
    tests = asked["fold"] - 1
    where = np.full(len(codes), TRAIN, np.uint8)
    where[folds == (tests + 1) % asked["folds"]] = VALIDATION
    where[folds == tests] = TEST
    return where


def _told(parent: Parent, asked: dict[str, Any]) -> Assigned:
    values = values_of(parent, asked["column"])
    missing = [value for value in values if value not in asked["values"]]
    if missing:
        raise Refused(
            "unsaid_value",
            f"Nothing is said for the value “{missing[0][:60]}” of “{asked['column']}”.",
            "Say a split for each value.",
        )
    name = _text(parent, asked["column"])
    found = parent.rows.connection.execute(
        f"SELECT coalesce({name}, '') AS value FROM rows {_in_order()}"
    ).fetchnumpy()["value"]
    places = {value: SPLITS.index(split) for value, split in asked["values"].items()}
    return np.array([places[value] for value in found], np.uint8)


EDITS = (Split(),)
