"""Prompts that ask for knowledge or ideas: facts, explanations, comparisons and brainstorming."""

from __future__ import annotations

import numpy as np

from router_ml.datasets.writing import Request, count, demands, fill, pick, pick_graded, pick_some

_THINGS: dict[str, tuple[str, ...]] = {
    "country": (
        "Peru", "Norway", "Kenya", "Japan", "Chile", "Portugal", "Vietnam", "Canada", "Morocco", "Finland", "Ghana",
        "Nepal", "Bolivia", "Estonia", "Jordan", "Laos", "Malta", "Oman", "Paraguay", "Slovenia", "Uruguay", "Iceland",
        "Bhutan", "Gabon", "Fiji", "Kyrgyzstan", "Lesotho", "Suriname", "Vanuatu", "Palau", "Eritrea", "Moldova",
    ),
    "element": (
        "oxygen", "iron", "gold", "sodium", "helium", "mercury", "copper", "neon", "tungsten", "selenium", "bismuth",
        "hafnium", "ytterbium", "rhenium", "promethium", "gallium", "iodine", "xenon",
    ),
    "animal": (
        "dog", "elephant", "honey bee", "penguin", "octopus", "giraffe", "hedgehog", "salmon", "barn owl", "tapir",
        "axolotl", "pangolin", "mantis shrimp", "tardigrade", "hagfish", "naked mole rat", "coelacanth", "okapi",
    ),
    "planet": ("Mercury", "Venus", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune", "Titan", "Europa", "Ceres"),
    "invention": (
        "bicycle", "printing press", "telephone", "steam engine", "zipper", "barometer", "transistor", "microscope",
        "ballpoint pen", "sewing machine", "astrolabe", "jacquard loom", "vacuum tube", "slide rule",
    ),
    "year": tuple(str(y) for y in range(1816, 1990, 6)),
}  # fmt: skip
# From easy to hard.
_FACTS = (
    "What is the capital of {country}?", "Which language is spoken in {country}?", "What does the {animal} eat?",
    "Which continent is {country} on?", "What is the chemical symbol of {element}?",
    "Which currency does {country} use?", "How long does the average {animal} live?",
    "Is {planet} bigger than the Earth?",
    "When was the {invention} invented?", "How many moons does {planet} have?",
    "At what temperature does {element} melt?", "Which countries border {country}?",
    "What is the highest mountain of {country}?", "What is the atomic number of {element}?",
    "Which river basin drains most of {country}?", "How many chromosomes does the {animal} have?",
    "What was the population of {country} around {year}?", "Who held patents on the {invention} before {year}?",
    "Which isotope of {element} has the longest half-life, and which decay mode?",
    "What share of the exports of {country} was mining in {year}?",
    "Which treaty fixed the present border of {country}, and what did it leave open?",
    "In which year did {country} ratify the Madrid Protocol, and with which reservation?",
)  # fmt: skip
_FACT_FRAMES = (
    "{q}", "{q}", "{q}", "{q} One line.", "Quiz question: {q}", "My kid asked: {q}", "{q} And how sure are you?",
    "Just checking: {q}", "For a crossword: {q}", "{q} Please give a source.", "Trivia night. {q}", "{q} I forgot.",
)  # fmt: skip
# What logs hold a lot of: greetings, school knowledge, small sums. All tiers answer it.
_EVERYDAY = (
    "Hi", "Hello!", "Thanks, that helped.", "What is the capital of {country}?", "Capital of {country}?", "What is {a}+{b}?",
    "What is {a} + {b}?", "What is {b}+{b}?", "{a}+{b}=?", "What's {a} times {b}?", "How much is {a} minus {b}?", "What is {a}-{b}?", "Which language do people speak in {country}?",
    "What day comes after {day}?", "How many days are in {month}?", "Spell the word {animal}.", "Is {a} an even number?",
    "What colour is a {animal}?", "On which continent is {country}?", "What is the opposite of {word}?", "What does OK mean?",
    "How do you say hello in the language of {country}?", "Which is larger, {a} or {b}?", "Good morning, can you help me?",
)  # fmt: skip
_SMALL = {
    "a": tuple(map(str, range(1, 21))), "b": tuple(map(str, range(1, 13))),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "word": ("hot", "big", "fast", "light", "early", "open", "happy", "full"),
}  # fmt: skip
# From easy to hard.
_CONCEPTS = (
    "why the sky is blue", "how a fridge works", "what inflation is", "how vaccines work", "why we have seasons",
    "what a neural network is", "how compound interest works", "what the difference between weather and climate is",
    "how public-key encryption works", "why bridges need expansion joints", "what a Nash equilibrium is",
    "how a compiler allocates registers", "what the central limit theorem says", "how mRNA is translated",
    "why the Black-Scholes formula has no drift term", "how Paxos reaches consensus", "what a martingale is",
    "why renormalisation makes infinities harmless", "how the Lebesgue integral differs from the Riemann integral",
    "what Goedel's second incompleteness theorem does and doesn't say", "how the Atiyah-Singer index theorem is used",
)  # fmt: skip
_EXPLAIN_ASKS = (
    "Explain {concept}.", "Explain to {audience} {concept}.", "I want to understand {concept}.",
    "Can you tell me {concept}?", "{audience} asked me {concept}. What do I say?", "In simple words: {concept}?",
    "Teach me {concept} as if I were {audience}.",
)  # fmt: skip
_AUDIENCES = (
    "a five-year-old", "my grandmother", "a high-school class", "a new colleague", "a nurse", "an accountant",
    "a first-year student", "a physics graduate", "a sceptical manager", "a journalist",
)  # fmt: skip
_EXPLAIN_DEMANDS = (
    "Use an everyday analogy.", "Under {n} words plus fifty.", "No formulas.", "With one worked example.",
    "Say where the analogy breaks down.", "Derive the main formula.", "List three common misconceptions.",
    "State all the assumptions.", "Give a counterexample for each assumption that is dropped.",
    "Connect it to {other}.", "End with {few} exercises and their solutions.", "Cite the original argument.",
)  # fmt: skip
_CHOICES: tuple[tuple[str, ...], ...] = (
    ("tea", "coffee", "water"), ("a cat", "a dog", "a rabbit"), ("a bike", "a scooter", "the bus"),
    ("renting", "buying", "sharing a flat"), ("an induction hob", "a gas hob", "a ceramic hob"),
    ("a laptop", "a tablet", "a desktop"), ("paper notes", "a note app", "voice memos"),
    ("a heat pump", "a gas boiler", "district heating", "pellets"), ("Python", "Go", "Rust", "Java"),
    ("PostgreSQL", "MongoDB", "DynamoDB", "SQLite"), ("a monolith", "microservices", "a modular monolith"),
    ("leasing", "a bank loan", "cash", "a subscription"),
    ("a fixed-rate bond", "an inflation-linked bond", "a money-market fund"),
    ("random forests", "gradient boosting", "a linear model", "a transformer"),
    ("two-phase commit", "sagas", "an outbox table", "event sourcing"),
    ("propensity matching", "instrumental variables", "regression discontinuity", "difference in differences"),
    ("a limited partnership", "a holding company", "a cooperative", "a foundation"),
)  # fmt: skip
_COMPARE_ASKS = (
    "{options}: which is better for {use}?", "Compare {options} for {use}.", "Should I choose {options} for {use}?",
    "What are the pros and cons of {options}? It's for {use}.", "I can't decide between {options}. Use: {use}.",
    "Recommend one of {options} for {use}.", "{options} - what would you take for {use}?",
)  # fmt: skip
# From easy to hard.
_USES = (
    "a student", "a small flat", "a family of {few}", "weekends", "someone in {town}", "a team of {n}",
    "a start-up with {money}", "a school with {n} classes", "a non-profit in {town}",
    "{company}, which grows by {pct} a year", "a clinic with {n} sites and strict audits",
    "a workload of {big} requests per second", "a horizon of {n} years with uncertain rates",
    "a regulated firm in {few} jurisdictions", "a study with {pct} non-compliance and {n} centres",
)  # fmt: skip
_COMPARE_DEMANDS = (
    "Make a table.", "Cost matters most.", "Just tell me which one.", "I have at most {money}.",
    "It must last {n} years.", "Weigh the criteria and show the weights.", "Say what would change your mind.",
    "Include the cost of switching later.", "Consider tax.", "Give the break-even point and how sensitive it is.",
    "Name the hidden assumptions of each.", "We already have contracts until {month}.",
    "{person} is against the first one, answer the objection.", "Quantify the risk in the worst {pct} of cases.",
)  # fmt: skip
# From easy to hard.
_TOPICS = (
    "names for a cat", "gifts for {person}", "rainy-day activities", "titles for a blog about {product}s",
    "slogans for {company}", "lunch ideas without an oven", "ice-breakers for a meeting of {n}",
    "uses for an empty shop in {town}", "topics for a newsletter of {dept}", "ways to cut the cost of the {system}",
    "plots for a short story set in {town}", "experiments to find out why sign-ups fell by {pct}",
    "business models for a {product} that is never sold", "failure modes of the {system} that no alert would catch",
    "falsifiable hypotheses on why {pct} of users leave in {month}",
    "mechanisms by which {company} could align {n} suppliers without contracts",
)  # fmt: skip
_BRAINSTORM_ASKS = (
    "Give me {k} {topic}.", "Brainstorm {topic}.", "I need {topic}, about {k}.", "Ideas please: {topic}.",
    "Can you think of {k} {topic}?", "List {topic}. {k} or so.", "What are some {topic}?",
)  # fmt: skip
_BRAINSTORM_DEMANDS = (
    "Nothing obvious.", "Be funny.", "One sentence each.", "Group them by effort.",
    "None may cost more than {money}.", "No two may rest on the same idea.", "Each must be testable within {n} days.",
    "Rank them and defend the ranking.", "Only things that one person can do.",
    "Each with the strongest objection to it.", "Avoid anything that has been tried since {month}.",
    "Combine the best two into a third.", "They must rhyme.", "For {dept}.",
)  # fmt: skip
_FEW = {"few": tuple(map(str, range(2, 7))), "k": ("3", "5", "7", "8", "10", "12", "15", "20", "25", "30")}


def everyday(rng: np.random.Generator, difficulty: float) -> Request:  # noqa: ARG001  # as of the other families
    """A greeting, a question of school knowledge or a small sum."""
    return Request(fill(rng, pick(rng, _EVERYDAY), {**_THINGS, **_SMALL}))


def fact(rng: np.random.Generator, difficulty: float) -> Request:
    """A short question of fact, from school knowledge to the obscure."""
    question = fill(rng, pick_graded(rng, _FACTS, difficulty), _THINGS)
    return Request(fill(rng, pick(rng, _FACT_FRAMES), {"q": (question,)}))


def explanation(rng: np.random.Generator, difficulty: float) -> Request:
    """A concept to explain to somebody."""
    concept = pick_graded(rng, _CONCEPTS, difficulty)
    ask = fill(rng, pick(rng, _EXPLAIN_ASKS), {"concept": (concept,), "audience": _AUDIENCES})
    own = {"other": _CONCEPTS, **_FEW}
    return Request(ask + demands(rng, _EXPLAIN_DEMANDS, count(rng, difficulty, 0, 5), own))


def comparison(rng: np.random.Generator, difficulty: float) -> Request:
    """Two to four things to choose from for a use, under more demands the harder."""
    choices = pick_graded(rng, _CHOICES, difficulty)
    options = " or ".join(pick_some(rng, choices, count(rng, difficulty, 2, len(choices))))
    use = fill(rng, pick_graded(rng, _USES, difficulty), _FEW)
    ask = fill(rng, pick(rng, _COMPARE_ASKS), {"options": (options,), "use": (use,)})
    return Request(ask + demands(rng, _COMPARE_DEMANDS, count(rng, difficulty, 0, 6)))


def brainstorm(rng: np.random.Generator, difficulty: float) -> Request:
    """Ideas for a topic, under more demands the harder."""
    topic = fill(rng, pick_graded(rng, _TOPICS, difficulty))
    ask = fill(rng, pick(rng, _BRAINSTORM_ASKS), {"topic": (topic,), **_FEW})
    return Request(ask + demands(rng, _BRAINSTORM_DEMANDS, count(rng, difficulty, 0, 5)))
