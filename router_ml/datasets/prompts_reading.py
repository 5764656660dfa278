"""Prompts about a pasted text: summaries, questions on a document, rewriting and translation."""

from __future__ import annotations

import numpy as np

from router_ml.datasets.documents import pick_genre, write_document
from router_ml.datasets.writing import Request, count, demands, fill, pick, pick_graded

_SUMMARY_ASKS = (
    "Summarise this {genre}.",
    "tl;dr of the {genre} below?",
    "Give me a summary of the following {genre}.",
    "Can you sum up this {genre} for {person}?",
    "Shorten this {genre} to the essentials.",
    "Write a brief summary of this {genre} for {dept}.",
    "What are the key points of this {genre}?",
    "I have no time to read this {genre}. What does it say?",
    "Condense the {genre} so that {dept} can act on it.",
)
_SUMMARY_DEMANDS = (
    "Use exactly {few} bullet points.",
    "Stay under {words} words.",
    "Keep every figure that appears.",
    "Explain each technical term in half a sentence.",
    "List open questions separately at the end.",
    "Point out statements that contradict each other.",
    "Separate what was decided from what was merely proposed.",
    "Write for a reader without any background.",
    "Quote the sentence that supports each point.",
    "Order the points by how much money is at stake.",
    "Name who is responsible for each action, or say that nobody is.",
    "Don't take over the author's wording.",
    "State how certain each claim is.",
    "Add one sentence on what is missing from the text.",
    "Give one version for {dept} and one for {dept}.",
)
# From easy to hard.
_QUESTIONS = (
    "What is this {genre} about?",
    "Who is mentioned in the {genre}?",
    "Which amounts of money are mentioned?",
    "What happens on {day}, if anything?",
    "What are the next steps, and who takes them?",
    "What does the {genre} say about {dept}?",
    "Which numbers changed over time, and in which direction?",
    "Is anybody opposed, and what is the argument?",
    "What would change if the date moved by {n} days?",
    "Which claims are backed by figures and which are opinion?",
    "Add up all the amounts that are mentioned and say which of them should not be added.",
    "Which two statements are hardest to reconcile, and what reading makes both true?",
    "Under which conditions would the amount of {money} still be owed? Cite each sentence that you rely on.",
    "What follows for a party who acted {n} days late, given all the exceptions in the text?",
    "Which conclusion does the text suggest without supporting it, and what evidence would be needed?",
    "Reconstruct the order of events, with the intervals between them, and mark what can't be determined.",
)
_QUESTION_LEADS = (
    "", "", "", "Based only on the text: ", "From the document: ", "Question about the {genre}: ",
    "Read this and answer. ", "Use the {genre} below. ", "I need an answer from this {genre}. ",
)  # fmt: skip
_QUESTION_DEMANDS = (
    "If the text doesn't say, answer 'not stated'.",
    "Quote the passage.",
    "Answer in one sentence.",
    "Show how you derived it.",
    "Give the paragraph number for each claim.",
    "Also say what a careless reader would get wrong.",
)
_REWRITE_ASKS = (
    "Rewrite this so that it sounds {tone}.",
    "Make this {tone}:",
    "Can you make the text below more {tone}?",
    "Please rephrase the following, it should be {tone}.",
    "Polish this for {person} from {dept}, {tone} in tone.",
    "My boss wants this to be {tone}. Reword it.",
    "Edit the passage so that it reads {tone}.",
)
# From easy to hard.
_TONES = (
    "polite", "friendly", "shorter", "formal", "casual", "more confident", "warmer", "neutral", "persuasive",
    "diplomatic but firm", "dry and humorous", "like a legal notice", "like a nineteenth-century letter",
    "apologetic without admitting fault", "plain enough for a ten-year-old and still exact",
)  # fmt: skip
_REWRITE_DEMANDS = (
    "Keep all names and numbers.",
    "Fix the grammar too.",
    "No sentence longer than {few} words plus ten.",
    "Avoid the passive voice.",
    "Don't use the letter sequence 'ing'.",
    "Keep the number of sentences the same.",
    "Begin each sentence with a different letter.",
    "Give {few} variants that differ in structure.",
    "Use British spelling.",
    "It must fit into {words} words.",
    "Leave out anything that could be read as blame.",
    "Mark each change and say why you made it.",
)
# From easy to hard.
_LANGUAGES = (
    "Spanish", "French", "German", "Italian", "Portuguese", "Dutch", "Polish", "Swedish", "Czech", "Turkish",
    "Japanese", "Arabic", "Finnish", "Korean", "Hungarian", "Icelandic", "Welsh", "Basque", "classical Latin",
)  # fmt: skip
_TRANSLATION_ASKS = (
    "Translate into {language}:",
    "Translate the following to {language}.",
    "How do you say this in {language}?",
    "I need this in {language} for {company}.",
    "Please put this {genre} into {language}.",
    "{language} translation please.",
    "Our partner in {town} only reads {language}. Translate this.",
)
_TRANSLATION_DEMANDS = (
    "Use the formal form of address.",
    "Keep figures and units as they are.",
    "Don't translate the names of products.",
    "Keep the line breaks.",
    "Convert all units and dates to local custom.",
    "Find equivalents for idioms instead of translating them literally.",
    "Where a term has no equivalent, add a footnote.",
    "Give the literal translation next to the idiomatic one.",
    "Keep the register of each speaker.",
    "Translate back into English afterwards and comment on what was lost.",
)
_PHRASES = (
    "Where is the nearest pharmacy?", "The train to {town} leaves at {time}.", "Happy birthday, {person}!",
    "Your order {ref} has shipped.", "We are closed on {day}.", "Please don't feed the ducks.",
    "I would like to return this {product}.", "Could we move our call to {day} at {time}?",
    "Thank you for your patience.", "The meeting room is on the second floor.", "How much does the {product} cost?",
    "See you on {day}, don't forget the keys.", "My luggage did not arrive.", "The {product} is out of stock.",
)  # fmt: skip
_IDIOMS = (
    "He let the cat out of the bag, and now we're all walking on eggshells.",
    "That ship has sailed, so let's not cry over spilt milk.",
    "She's a dark horse; I'd take her promises with a pinch of salt.",
    "We burned the midnight oil only to end up back at square one.",
    "Don't count your chickens, the devil is in the details.",
    "It's six of one and half a dozen of the other, but the ball is in their court.",
)
_SMALL = {
    "few": tuple(str(i) for i in range(2, 9)),
    "words": tuple(str(i) for i in range(40, 160, 10)),
}


def summary(rng: np.random.Generator, difficulty: float) -> Request:
    """A document to summarise: longer, more specialised and with more demands the harder."""
    genre, sentences = pick_genre(rng, difficulty)
    ask = fill(rng, pick(rng, _SUMMARY_ASKS), {"genre": (genre,)})
    return Request(
        ask + demands(rng, _SUMMARY_DEMANDS, count(rng, difficulty, 0, 5), _SMALL),
        write_document(rng, sentences, count(rng, difficulty, 70, 540)),
    )


def document_qa(rng: np.random.Generator, difficulty: float) -> Request:
    """A question on a document: from looking a thing up to weighing conditions across paragraphs."""
    genre, sentences = pick_genre(rng, difficulty)
    question = pick(rng, _QUESTION_LEADS) + pick_graded(rng, _QUESTIONS, difficulty)
    ask = fill(rng, question, {"genre": (genre,)}) + demands(rng, _QUESTION_DEMANDS, count(rng, difficulty, 0, 3))
    return Request(ask, write_document(rng, sentences, count(rng, difficulty, 60, 560)))


def rewriting(rng: np.random.Generator, difficulty: float) -> Request:
    """A short text to bring into another tone, under more demands the harder."""
    _, sentences = pick_genre(rng, difficulty * 0.6)
    ask = fill(rng, pick(rng, _REWRITE_ASKS), {"tone": (pick_graded(rng, _TONES, difficulty),)})
    return Request(
        ask + demands(rng, _REWRITE_DEMANDS, count(rng, difficulty, 0, 4), _SMALL),
        write_document(rng, sentences, count(rng, difficulty, 14, 130)),
    )


def translation(rng: np.random.Generator, difficulty: float) -> Request:
    """A phrase, an idiom or a specialised text to translate into a more or less common language."""
    language = pick_graded(rng, _LANGUAGES, difficulty)
    genre, sentences = pick_genre(rng, difficulty)
    ask = fill(rng, pick(rng, _TRANSLATION_ASKS), {"language": (language,), "genre": (genre,)})
    ask += demands(rng, _TRANSLATION_DEMANDS, count(rng, difficulty, 0, 4))
    if difficulty < 0.3:
        return Request(ask, fill(rng, pick(rng, _PHRASES)))
    text = write_document(rng, sentences, count(rng, difficulty, 10, 170))
    return Request(ask, f"{text} {pick(rng, _IDIOMS)}" if rng.random() < 0.3 else text)
