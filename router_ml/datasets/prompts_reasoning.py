"""Prompts that need steps of reasoning: arithmetic word problems, logic puzzles, proofs and plans."""

from __future__ import annotations

import numpy as np

from router_ml.datasets.writing import Request, count, demands, fill, pick, pick_graded, pick_some

# Opening, unit, ways to add, ways to take away.
_STORIES: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("A bakery in {town} starts the day with {v} loaves.", "loaves",
     ("Then {k} more come out of the oven.", "{person} brings {k} from the other shop."),
     ("{person} sells {k} of them before noon.", "A café picks up {k}.")),
    ("{person} has {v} stamps in an album.", "stamps",
     ("An aunt sends {k} more.", "{person} swaps a coin for {k} further stamps."),
     ("{k} turn out to be duplicates and are given away.", "The dog ruins {k}.")),
    ("A warehouse of {company} holds {v} pallets.", "pallets",
     ("A truck unloads {k} pallets.", "On {day}, {k} returns arrive."),
     ("{k} pallets leave for {town}.", "An inspection rejects {k}.")),
    ("The library of {town} owns {v} books on gardening.", "books",
     ("A donor leaves {k} books.", "The council pays for {k} new ones."),
     ("{k} are lent to a school.", "{k} are sold at the summer fair.")),
    ("A ferry leaves {town} with {v} passengers.", "passengers",
     ("At the next pier {k} people board.", "{k} latecomers are picked up by boat."),
     ("{k} get off at the island.", "{k} change to the express boat.")),
    ("{person} saves {v} euros for a {product}.", "euros",
     ("A weekend job pays {k} euros.", "Selling the old one brings {k} euros."),
     ("A repair costs {k} euros.", "{k} euros go to a birthday present.")),
    ("A server has {v} gigabytes in use.", "gigabytes",
     ("The nightly backup writes {k} gigabytes.", "The {system} logs another {k} gigabytes."),
     ("A clean-up frees {k} gigabytes.", "{person} moves {k} gigabytes to the archive.")),
    ("An orchard near {town} picks {v} crates of pears.", "crates",
     ("The neighbour adds {k} crates.", "A second pass brings in {k} crates."),
     ("{k} crates spoil.", "The cider press takes {k} crates.")),
    ("A print shop has an order of {v} flyers from {company}.", "flyers",
     ("{dept} asks for {k} more.", "A late order adds {k} flyers."),
     ("{k} come out smudged and don't count.", "{k} are cancelled on {day}.")),
    ("A tank holds {v} litres of water.", "litres",
     ("Rain adds {k} litres.", "A pump brings in {k} litres."),
     ("{k} litres are used on the beds.", "Through a leak {k} litres are lost.")),
)  # fmt: skip
_TIMES = ("Overnight the number doubles.", "The next delivery triples what is there.", "By {month} it has doubled.")
_SHARES = (
    "A quarter of what is left is passed on.", "Then half of the rest goes to {company}.",
    "One fifth of the remainder is set aside.", "A third of them is put into reserve.",
)  # fmt: skip
_PERCENTS = (
    "After that the number falls by {pct}.", "In {month} there is a rise of {pct}.",
    "A correction of {pct} applies to everything up to here.", "The loss until {day} is {pct} of the stock.",
    "From then on {pct} is lost each week, for {n} weeks.",
)  # fmt: skip
_COUNT_QUESTIONS = (
    "How many {unit} are there now?", "How many {unit} remain?", "What is the number of {unit} at the end?",
    "So how many {unit} is that?",
)  # fmt: skip
# From easy to hard.
_EXTRA_QUESTIONS = (
    "Each is worth {money}: what is the total?",
    "By what percentage did the number change from start to end?",
    "At which step was it highest?",
    "How large must the first number be so that exactly {n} are left?",
    "If every percentage were {pct} instead, by how much would the answer differ?",
    "Give the answer as a reduced fraction of the first number and prove that no step went below zero.",
)
# From easy to hard.
_SUMS = (
    "What is {a} + {b}?", "{a} times {b}?", "Calculate {a} * {b} - {c}.", "What is {pct} of {big}?",
    "How many minutes are {a} hours and {b} minutes?", "Split {money} between {a} people, how much is it each?",
    "{person} drives {b} km in {a} hours. What is the average speed?",
    "A {product} costs {money} after a discount of {pct}. What did it cost before?",
    "{money} at {pct} interest, compounded monthly for {a} years: what is the balance?",
    "Two pumps need {a} and {b} hours alone. How long do they need together if the second starts {c} minutes late?",
)  # fmt: skip
_WORKING = ("Show your work.", "Explain each step.", "Just the number.", "Check the result a second way.")
_NUMBERS = {
    "a": tuple(map(str, range(3, 40))),
    "b": tuple(map(str, range(41, 480))),
    "c": tuple(map(str, range(5, 60))),
}

_NAMES = (
    "Ada",
    "Ben",
    "Cleo",
    "Dan",
    "Eve",
    "Finn",
    "Gus",
    "Hal",
    "Ivy",
    "Jo",
    "Kim",
    "Lou",
    "Mia",
    "Ned",
    "Oli",
    "Pia",
)
_LINES = (
    "run a race", "stand in a queue", "live in a row of houses", "sit on a bench", "give talks one after another",
    "are listed by height", "reach the summit one by one", "speak at a meeting in turn",
)  # fmt: skip
_NONSENSE = (
    "bloops", "razzies", "wugs", "tolvers", "snarks", "dorps", "quibs", "fendles", "marns", "plims", "zorks",
    "gribbles", "tuffets", "yarrows",
)  # fmt: skip
_LOGIC_DEMANDS = (
    "Explain your reasoning.",
    "Show that the solution is unique, or give all the solutions.",
    "Formalise it in propositional logic first.",
    "Just the answer.",
    "State what you used at each step.",
    "Would the answer change without the first statement?",
    "Show that no statement contradicts another.",
)
_ORDER_DEMANDS = (
    *_LOGIC_DEMANDS,
    "Which clue is redundant?",
    "Prove that no clue can be dropped.",
    "How many orders remain without the first clue?",
    "Answer with the order only.",
)
# From easy to hard.
_THEOREMS = (
    "the sum of two even numbers is even",
    "the square of an odd number is odd",
    "the angles of a triangle add up to 180 degrees",
    "the sum of the first n odd numbers is n squared",
    "n^3 - n is divisible by 6 for every integer n",
    "the square root of {prime} is irrational",
    "there are infinitely many primes",
    "any {n} integers contain two whose difference is divisible by one less than {n}",
    "a connected graph with n vertices and n - 1 edges is a tree",
    "every bounded monotone sequence of reals converges",
    "a continuous function on a closed interval attains its maximum",
    "there are infinitely many primes congruent to 3 modulo 4",
    "every finite integral domain is a field",
    "a group of order {prime} squared is abelian",
    "every open cover of a closed bounded interval has a finite subcover",
    "the halting problem for machines with {n} states or fewer is decidable, and say why that isn't a contradiction",
    "a bounded operator that is the norm limit of finite-rank operators is compact",
    "every filter on a set extends to an ultrafilter, naming the choice principle that you use",
)
_PROOF_ASKS = (
    "Prove that {claim}.", "Show that {claim}.", "Why is it true that {claim}?", "Give a proof that {claim}.",
    "For my course I must show that {claim}.", "How would you prove that {claim}?",
    "Is it correct that {claim}? Prove or refute it.",
)  # fmt: skip
_PROOF_DEMANDS = (
    "Don't use induction.", "Use induction only.", "Cite every theorem that you rely on.",
    "Then generalise the statement and prove that too.", "Give two independent proofs.",
    "Say where each hypothesis is used and give a counterexample without it.",
    "Write it so that a beginner can follow.", "Make the constants explicit.", "Avoid proof by contradiction.",
    "Number the steps.", "Sketch how it would be stated in Lean.", "Keep it under {n} lines.",
)  # fmt: skip
_PRIMES = {"prime": ("2", "3", "5", "7", "11", "13", "17", "19", "23")}
# From easy to hard.
_PLANS = (
    "a birthday party for {n} children", "a weekend in {town}", "a week of dinners for {few} people",
    "a beginner's running plan over {few} weeks", "a move from {town} to {town}",
    "a study plan for an exam in {month}", "a team offsite for {n} people near {town}",
    "a garden that yields something from {month} on", "the launch of a {product} by {company}",
    "a day of {few} parallel tracks with {n} talks", "the roster of a clinic with {n} nurses over {few} weeks",
    "the cut-over of the {system} with {big} users", "a delivery tour to {n} addresses with {few} vans",
    "the migration of the {system} off the {system} without downtime",
    "the merger of the warehouses of {company} and {company}",
)  # fmt: skip
_PLAN_ASKS = (
    "Plan {goal}.", "Help me plan {goal}.", "Make a schedule for {goal}.", "I'm organising {goal}. Where do I start?",
    "Draft a plan for {goal}.", "We need {goal}. Propose a plan.", "Can you lay out {goal} step by step?",
)  # fmt: skip
_PLAN_DEMANDS = (
    "The budget is {money}.", "{person} can't do anything on {day}.", "Nothing before {time}.",
    "Two of those involved only work part time.", "Keep {pct} of the time as slack.",
    "No person may work more than {few} days in a row.", "Step two can't begin before {dept} has signed.",
    "Show the critical path.", "Give a fallback for each step that could fail.", "At most {few} things at once.",
    "Everything must be reversible until {day}.", "Minimise the cost and prove that it can't be lower.",
    "It must be finished by {month}.", "Say which two of these constraints conflict.", "As a table please.",
)  # fmt: skip
_FEW = {"few": tuple(map(str, range(2, 9)))}


def arithmetic(rng: np.random.Generator, difficulty: float) -> Request:
    """A sum, or a story with one to nine steps and perhaps a question that turns it round."""
    working = f" {pick(rng, _WORKING)}" if rng.random() < 0.35 else ""
    if rng.random() < 0.3:
        return Request(fill(rng, pick_graded(rng, _SUMS, difficulty), _NUMBERS) + working)
    opening, unit, adds, takes = pick(rng, _STORIES)
    value = 20 * (2 + int(rng.random() * 40))
    parts = [fill(rng, opening, {"v": (str(value),)})]
    for _ in range(count(rng, difficulty, 1, 9)):
        part, value = _step(rng, value, adds, takes, difficulty)
        parts.append(part)
    parts.append(fill(rng, pick(rng, _COUNT_QUESTIONS), {"unit": (unit,)}))
    if rng.random() < difficulty:
        parts.append(fill(rng, pick_graded(rng, _EXTRA_QUESTIONS, difficulty)))
    return Request(" ".join(parts) + working)


def _step(
    rng: np.random.Generator, value: int, adds: tuple[str, ...], takes: tuple[str, ...], difficulty: float
) -> tuple[str, int]:
    """One step of a story and about how much there is after it, so that nothing is taken that is not there."""
    kind = rng.random()
    if kind < 0.5 * difficulty:
        table = pick_graded(rng, (_TIMES, _SHARES, _PERCENTS), difficulty)
        return fill(rng, pick(rng, table)), value * 2 if table is _TIMES else value // 2
    if kind < 0.75 or value < 20:
        k = 3 + int(rng.random() * 120)
        return fill(rng, pick(rng, adds), {"k": (str(k),)}), value + k
    k = 2 + int(rng.random() * 0.4 * value)
    return fill(rng, pick(rng, takes), {"k": (str(k),)}), value - k


def logic(rng: np.random.Generator, difficulty: float) -> Request:
    """A syllogism, an order puzzle or a puzzle of liars: more people, clues and demands the harder."""
    n_wishes = count(rng, difficulty, -1, 4)
    if difficulty < 0.25:
        return Request(_syllogism(rng, count(rng, difficulty, 1, 4)) + demands(rng, _LOGIC_DEMANDS, n_wishes))
    if rng.random() < 0.35:
        return Request(_liars(rng, count(rng, difficulty, 2, 7)) + demands(rng, _LOGIC_DEMANDS, n_wishes))
    return Request(_order_puzzle(rng, count(rng, difficulty, 3, 8)) + demands(rng, _ORDER_DEMANDS, n_wishes))


def _syllogism(rng: np.random.Generator, n_links: int) -> str:
    """A chain of `n_links` + 1 premises on made-up beings, and whether the first are the last."""
    kinds = pick_some(rng, _NONSENSE, n_links + 2)
    words = [
        pick(rng, ("All {} are {}.", "Every one of the {} is one of the {}.", "Some {} are {}.")) for _ in kinds[1:]
    ]
    premises = " ".join(word.format(a, b) for word, a, b in zip(words, kinds, kinds[1:], strict=False))
    return f"{premises} {pick(rng, ('Are all', 'Must some', 'Can it be that no'))} {kinds[0]} {kinds[-1]}?"


def _order_puzzle(rng: np.random.Generator, n: int) -> str:
    """`n` people in an order that is drawn first, and true clues about it."""
    order = pick_some(rng, _NAMES, n)
    clues = [_clue(rng, order) for _ in range(n + int(rng.random() * 2))]
    people = ", ".join(sorted(order))
    question = pick(rng, ("What is the order?", f"Who is in place {1 + int(rng.random() * n)}?", "Who is last?"))
    return f"{people} {pick(rng, _LINES)}. {' '.join(dict.fromkeys(clues))} {question}"


def _clue(rng: np.random.Generator, order: list[str]) -> str:
    """A true statement on the place of one or two people."""
    i, j = sorted(pick_some(rng, range(len(order)), 2))
    a, b, between = order[i], order[j], j - i - 1
    if between == 0:
        return pick(rng, (f"{a} is directly before {b}.", f"{b} comes right after {a}.", f"{a} is next to {b}."))
    gap = f"Exactly {'one is' if between == 1 else f'{between} are'} between {b} and {a}."
    far = f"{b} is later than {a}, but not directly."
    return pick(rng, (f"{a} is before {b}.", f"{b} is not first.", f"{a} is not last.", gap, far))


def _liars(rng: np.random.Generator, n: int) -> str:
    """`n` islanders, each of whom either always lies or never does, and what each of them says."""
    people = pick_some(rng, _NAMES, n)
    lines = []
    for speaker in people:
        other = pick(rng, [person for person in people if person != speaker])
        third = pick(rng, [person for person in people if person != other])
        said = (
            f"{other} is a liar",
            f"{other} and I are of the same kind",
            f"exactly {1 + int(rng.random() * n)} of us lie",
            f"if {other} tells the truth, then {third} lies",
            f"{other} would say that {third} lies",
        )
        lines.append(f'{speaker} says: "{pick(rng, said)}."')
    return f"On an island everybody either always lies or always tells the truth. {' '.join(lines)} Who lies?"


def proof(rng: np.random.Generator, difficulty: float) -> Request:
    """A statement to prove, from school to graduate mathematics."""
    claim = fill(rng, pick_graded(rng, _THEOREMS, difficulty), _PRIMES)
    ask = fill(rng, pick(rng, _PROOF_ASKS), {"claim": (claim,)})
    return Request(ask + demands(rng, _PROOF_DEMANDS, count(rng, difficulty, 0, 4)))


def planning(rng: np.random.Generator, difficulty: float) -> Request:
    """Something to plan, under more constraints the harder."""
    goal = fill(rng, pick_graded(rng, _PLANS, difficulty), _FEW)
    ask = fill(rng, pick(rng, _PLAN_ASKS), {"goal": (goal,)})
    return Request(ask + demands(rng, _PLAN_DEMANDS, count(rng, difficulty, 1, 9), _FEW))
