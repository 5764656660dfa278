"""Prompts of programmers: code to write, code to debug, SQL and regular expressions."""

from __future__ import annotations

import numpy as np

from router_ml.datasets.writing import SLOTS, Request, count, demands, fill, pick, pick_graded, pick_some

_LANGUAGES = ("Python", "JavaScript", "TypeScript", "Go", "Java", "Rust", "C++", "Kotlin")
_CODE_ASKS = (
    "Write a {language} function that {task}.", "{language}: {task}.", "I need {language} code that {task}.",
    "Can you write something in {language} that {task}?", "Implement in {language} a routine that {task}.",
    "Give me a {language} snippet which {task}.", "Please code this in {language}: it {task}.",
)  # fmt: skip
# From easy to hard.
_TASKS = (
    "reverses a string", "counts the vowels in a text", "returns the largest number of a list",
    "checks for palindromes", "sums the digits of a number", "removes duplicates from a list and keeps the order",
    "converts {unit} to {other}", "groups words by their first letter",
    "reads a CSV file and sums the column '{column}'", "finds the {n} most frequent words of a file",
    "merges two sorted lists", "validates the check digit of a barcode",
    "parses lines like 'key = value' with comments", "flattens a nested list of any depth",
    "walks a folder and reports files larger than {n} MB", "retries a call with exponential backoff and jitter",
    "implements an LRU cache of {n} entries", "evaluates arithmetic expressions with brackets and precedence",
    "finds the shortest path in a weighted grid of {big} cells",
    "streams a {n} GB file and sorts it outside of memory", "schedules jobs with dependencies on {n} workers",
    "limits requests to {n} per second across processes", "computes the edit script between two trees",
    "matches orders in a limit order book with price-time priority",
    "implements a lock-free queue for several producers and consumers",
    "keeps a text in sync between {n} editors as a conflict-free replicated data type",
    "solves a system of interval constraints incrementally, with explanation of conflicts",
    "implements Raft leader election and log replication, with snapshotting",
)  # fmt: skip
_CODE_DEMANDS = (
    "Add type hints.", "Standard library only.", "Include a unit test.", "Handle empty input.", "No recursion.",
    "It has to run in O(n log n).", "Constant memory.", "Make it safe for use from several threads.",
    "Malformed input must raise an error that names the line.", "Support cancellation in the middle.",
    "Prove the invariant of the loop in a comment.", "Property-based tests please.", "No allocation on the hot path.",
    "It must be deterministic under any interleaving.", "Unicode has to be handled by grapheme.",
    "Explain the complexity.", "Keep the public interface to {few} functions.", "Compare it with an alternative.",
)  # fmt: skip
_CODE_SLOTS = {
    "unit": ("Celsius", "miles", "ounces", "litres", "knots", "hectares"),
    "other": ("Fahrenheit", "kilometres", "grams", "gallons", "km/h", "acres"),
    "column": ("amount", "price", "hours", "weight", "score", "total", "distance"),
    "few": tuple(map(str, range(2, 6))),
}
# The names and the number in a snippet: one pick each, so that it is the same wherever it stands.
_NAMES = {
    "f": (
        "total",
        "collect",
        "load_rows",
        "update",
        "summarise",
        "process",
        "merge_all",
        "next_batch",
        "handle",
        "apply",
    ),
    "x": ("items", "rows", "values", "orders", "records", "events", "jobs", "prices", "scores", "users"),
    "y": ("result", "out", "acc", "found", "cache", "index", "state", "buffer"),
    "k": ("id", "name", "price", "score", "status", "owner", "due", "size"),
    "n": SLOTS["n"],
}
# From easy to hard: the snippet and what is seen.
_BUGS: tuple[tuple[str, str], ...] = (
    (
        """def {f}({x}):
    {y} = 0
    for i in range(1, len({x})):
        {y} += {x}[i]
    return {y}""",
        "The sum is too small.",
    ),
    (
        """def {f}({x}):
    for v in {x}:
        if v['{k}'] = {n}:
            return v""",
        "SyntaxError: invalid syntax",
    ),
    (
        """{x} = ['3', '10', '2']
{y} = sorted({x})
print({y}[-1])""",
        "It prints 3 instead of 10.",
    ),
    (
        """const {y} = {x}.map(v => { v.{k} * {n} });
console.log({y});""",
        "I get a list of undefined.",
    ),
    (
        """def {f}({k}, {y}=[]):
    {y}.append({k})
    return {y}""",
        "Old entries show up in later calls.",
    ),
    (
        """for {k} in {x}:
    if {x}[{k}] is None:
        del {x}[{k}]""",
        "RuntimeError: dictionary changed size during iteration",
    ),
    (
        """callbacks = [lambda: {k} for {k} in range({n})]
print([c() for c in callbacks])""",
        "All of them return the same.",
    ),
    (
        """def {f}({x}):
    {y} = sum(v.{k} for v in {x})
    return {y} / len([v for v in {x}])

{f}(v for v in source)""",
        "ZeroDivisionError although the source has rows.",
    ),
    (
        """SELECT a.{k}, COUNT(*) FROM {x} a LEFT JOIN {y} b ON a.id = b.ref
WHERE b.{k} > {n} GROUP BY a.{k};""",
        "Rows without a match are missing.",
    ),
    (
        """async function {f}({x}) {
  {x}.forEach(async v => { await save(v.{k}); });
  console.log('done');
}""",
        "'done' appears before anything is saved.",
    ),
    (
        """total = 0.0
for {k} in [0.1] * {n}:
    total += {k}
assert total == {n} * 0.1""",
        "The assertion fails.",
    ),
    (
        """def {f}(self):
    if self.{y} is None:
        self.{y} = self.load()
    return self.{y}""",
        "Under load it runs load() several times, and sometimes the wrong {k} is returned.",
    ),
    (
        """with open(path) as h:
    lines = (line.strip() for line in h)
{y} = [line for line in lines if line]""",
        "ValueError: I/O operation on closed file",
    ),
    (
        """func {f}({x} []Item) {
  var wg sync.WaitGroup
  for _, v := range {x} {
    go func() { wg.Add(1); save(v); wg.Done() }()
  }
  wg.Wait()
}""",
        "Some of the {x} are never saved, it differs from run to run.",
    ),
    (
        """with lock_a:
    {y}.{f}()
# elsewhere
with lock_b:
    with lock_a:
        {x}.{f}()""",
        "About once per {n} hours the process hangs, the {system} shows no CPU use.",
    ),
    (
        """while head.load(relaxed) == tail.load(relaxed) {}
let v = slots[tail % {n}];
tail.store(tail + 1, relaxed);""",
        "On ARM we read stale {x} about once in {big} operations; on x86 never.",
    ),
    (
        """BEGIN;
SELECT {k} FROM {x} WHERE id = {n};
UPDATE {x} SET {k} = {k} - {n} WHERE id = {n};
COMMIT;""",
        "Under REPEATABLE READ two sessions both succeed and the total is wrong by {money}, but "
        "only since the replica was added.",
    ),
)
_BUG_ASKS = (
    "Why does this not work?", "What's wrong here?", "Find the bug.", "Can you fix this?", "Debug this please.",
    "This used to work until {day}. What is wrong?", "My colleague {person} wrote this and it fails. Why?",
    "I don't understand this behaviour.", "Help, it fails in production.",
)  # fmt: skip
_BUG_DEMANDS = (
    "Explain the cause first.", "Only the corrected code.", "Don't change the signature.",
    "Add a test that fails before.", "Are there other bugs?", "It has to stay compatible with version {n}.",
    "Show the interleaving that triggers it.", "Say how to detect it from the metrics of the {system}.",
    "Keep the fix free of locks.", "How would I find where else we do this?", "Argue why the fix is complete.",
)  # fmt: skip
_CONTEXT = (
    "INFO {time} {system} started, {n} workers", "WARN {time} {system}: slow call, {big} ms",
    "ERROR {time} {system}: {ref} failed after {n} retries", "INFO {time} {system}: {big} rows in {n} batches",
    "DEBUG {time} lock wait {n} ms in {system}", "WARN {time} {system}: clock skew of {n} ms against {system}",
)  # fmt: skip
_TABLES = (
    "orders(id, customer_id, amount, status, created_at)", "customers(id, name, country, segment, joined_at)",
    "order_items(order_id, product_id, quantity, unit_price)",
    "products(id, title, category, list_price, discontinued)", "payments(id, order_id, paid_at, method, amount)",
    "employees(id, manager_id, dept, salary, hired_at)", "shifts(employee_id, starts_at, ends_at, site)",
    "events(user_id, kind, at, session, payload)", "stock(product_id, warehouse, level, counted_at)",
    "refunds(payment_id, amount, reason, granted_at)",
)  # fmt: skip
# From easy to hard.
_QUERIES = (
    "list everything of {country}", "count the rows per status", "show the {n} most recent ones",
    "sum the amount per month", "find names that begin with {letter}", "find rows without a match in the other table",
    "give the average per category, only where there are more than {n} rows", "find duplicates and keep the newest",
    "show each customer's first and last order", "rank within each group and keep the top {few}",
    "compute the running total and its share of the year", "find the gaps of more than {n} days between rows",
    "compare each month with the same month of the year before", "pivot the {few} categories into columns",
    "give the median and the {n}th percentile per group without a built-in function",
    "walk up the tree of managers and sum salaries per branch",
    "rebuild sessions with a break of {n} minutes and give the funnel from view to payment",
    "find the longest run of days on which the level fell, per product, over overlapping shifts",
    "compute retention by cohort for {few} weeks, with refunds taken off in the week of the order",
    "match payments to orders many-to-many so that the sums agree within {pct}",
)  # fmt: skip
_SQL_ASKS = (
    "Write a SQL query to {query}.", "SQL: {query}.", "How do I {query} in {dialect}?",
    "I need a {dialect} query: {query}.", "In {dialect}, {query}.", "Query please, it should {query}.",
)  # fmt: skip
_SQL_DEMANDS = (
    "No subqueries.", "One statement only.", "It has to use the index on created_at.", "NULL counts as zero.",
    "Times are UTC but the report is in local time with daylight saving.", "Explain the plan that you expect.",
    "No window functions.", "Ties must be kept.", "Rows that were corrected later count once.",
    "It runs on {n} million rows, so avoid a full scan.", "Use a common table expression.", "Sort the result.",
)  # fmt: skip
_SQL_SLOTS = {
    "country": ("Norway", "Chile", "Kenya", "Japan", "Canada", "Portugal"),
    "letter": tuple("ABCDEFGHKLMNPRSTW"),
    "few": tuple(map(str, range(2, 9))),
    "dialect": ("PostgreSQL", "SQLite", "MySQL", "BigQuery", "DuckDB", "SQL Server"),
}
# From easy to hard.
_PATTERNS = (
    "digits only", "a word that begins with '{letter}'", "a {few}-digit number", "a date like 2026-10-31",
    "a time between 00:00 and 23:59", "a colour in hex", "an order number such as {ref}", "a price with two decimals",
    "an e-mail address, roughly", "a quoted string with escaped quotes", "an IPv4 address with every octet up to 255",
    "a floating-point number with an optional exponent",
    "the text between the {few}rd and the next comma, quotes respected",
    "a password with {few} classes of characters and no {few} equal ones in a row",
    "an IPv6 address with abbreviation", "a date that exists, leap years included",
    "a binary number that is divisible by {few}", "balanced brackets up to depth {few}",
    "lines of the log of the {system} in which no field repeats",
    "every {few}th field of a CSV line in which quotes may be nested",
)  # fmt: skip
_REGEX_ASKS = (
    "Regex for {pattern}.", "Write a regular expression that matches {pattern}.", "I need a pattern for {pattern}.",
    "How do I match {pattern} with a regex?", "{flavour} regex: {pattern}.", "regex to find {pattern} in a line",
)  # fmt: skip
_REGEX_DEMANDS = (
    "No lookahead.", "Anchor it.", "Named groups please.", "It must not backtrack badly.",
    "It must reject trailing white space.", "Explain each part.", "Unicode letters count too.",
    "In at most {few}0 characters.", "Give {few} strings that match and {few} that don't.",
    "Only possessive or atomic constructs.", "No backreferences, it has to run on a DFA.",
)  # fmt: skip
_REGEX_SLOTS = {
    "flavour": ("PCRE", "Python", "RE2", "POSIX", "JavaScript", "Java"),
    "few": tuple(map(str, range(3, 10))),
    "letter": tuple("abcdefghklmnprstw"),
}
_SAMPLES = (
    "{ref}",
    "{money}",
    "{time}",
    '"{ref}, {n}"',
    "{company}",
    "{big}",
    "{pct}",
    "x={n}",
    "2026-02-{n}",
    "{person}@{n}",
)


def code(rng: np.random.Generator, difficulty: float) -> Request:
    """A function to write: from one line to a distributed algorithm, under more demands the harder."""
    task = fill(rng, pick_graded(rng, _TASKS, difficulty), _CODE_SLOTS)
    ask = fill(rng, pick(rng, _CODE_ASKS), {"language": _LANGUAGES, "task": (task,)})
    return Request(ask + demands(rng, _CODE_DEMANDS, count(rng, difficulty, 0, 7), _CODE_SLOTS))


def debugging(rng: np.random.Generator, difficulty: float) -> Request:
    """A snippet with a bug, what is seen, and for hard ones a log around it."""
    snippet, seen = pick_graded(rng, _BUGS, difficulty)
    names = {slot: (pick(rng, values),) for slot, values in _NAMES.items()}
    ask = fill(rng, pick(rng, _BUG_ASKS)) + demands(rng, _BUG_DEMANDS, count(rng, difficulty, -1, 4))
    log = "\n".join(fill(rng, pick(rng, _CONTEXT)) for _ in range(count(rng, difficulty, -6, 14)))
    return Request(
        ask, f"```\n{fill(rng, snippet, names)}\n```\n{fill(rng, seen, names)}" + (f"\n{log}" if log else "")
    )


def sql(rng: np.random.Generator, difficulty: float) -> Request:
    """A query to write against one to six tables."""
    query = fill(rng, pick_graded(rng, _QUERIES, difficulty), _SQL_SLOTS)
    ask = fill(rng, pick(rng, _SQL_ASKS), {"query": (query,), **_SQL_SLOTS})
    ask += demands(rng, _SQL_DEMANDS, count(rng, difficulty, -1, 5))
    return Request(ask, "\n".join(pick_some(rng, _TABLES, count(rng, difficulty, 1, 6))))


def regex(rng: np.random.Generator, difficulty: float) -> Request:
    """A regular expression to write, with demands and examples."""
    pattern = fill(rng, pick_graded(rng, _PATTERNS, difficulty), _REGEX_SLOTS)
    ask = fill(rng, pick(rng, _REGEX_ASKS), {"pattern": (pattern,), **_REGEX_SLOTS})
    samples = [fill(rng, sample) for sample in pick_some(rng, _SAMPLES, count(rng, difficulty, -2, 8))]
    return Request(
        ask + demands(rng, _REGEX_DEMANDS, count(rng, difficulty, 0, 5), _REGEX_SLOTS),
        f"Examples: {', '.join(samples)}" if samples else "",
    )
