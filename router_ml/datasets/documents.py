"""Simulated documents to summarise, question, rewrite and translate: genres from chatty to specialised."""

from __future__ import annotations

import numpy as np

from router_ml.datasets.writing import fill, pick_graded, pick_some

_EMAIL = (
    "I talked to {person} on {day} and the room for the workshop is booked until {time}.",
    "Could somebody order {n} more chairs before {day}?",
    "The caterer moved the delivery to {time}, so please be there a little earlier.",
    "{person} will bring the projector and {person} the extension cords.",
    "We still need a volunteer for the sign-up desk in the morning.",
    "The budget is {money}, of which {money} is already spent.",
    "If you can't make it, tell {person} by {day}.",
    "Parking is behind the old mill in {town}, the gate closes at {time}.",
    "Last year {n} people came and the food ran out, let's not repeat that.",
    "I put the list of names on the shared drive.",
    "The weather looks bad for {day}, so we have the hall as a fallback.",
    "Thanks to everyone who helped with the flyers, it made a real difference.",
    "{person} asked whether children are welcome, and yes, of course they are.",
)
_REVIEW = (
    "I have owned this {product} for {n} weeks now and use it nearly every day.",
    "Setting it up took me about {n} minutes, and the manual was clear enough.",
    "The first one arrived with a cracked lid, but support replaced it within {n} days.",
    "At {money} it is not cheap, although a friend paid more for a worse one.",
    "It is louder than my old one, which bothered my neighbours a little.",
    "The battery lasts around {n} hours, not the {n} that the box promises.",
    "What I like best is how easily it comes apart for cleaning.",
    "The app asks for far too many permissions and logs me out every {day}.",
    "After the last update the buttons react late, sometimes not at all.",
    "My partner finds it ugly; I stopped noticing after a week.",
    "I would buy it again, but I would wait for a sale.",
    "Compared with the {product} from {company}, the finish feels cheaper.",
    "{company} answered my complaint politely and then did nothing.",
)
_NEWS = (
    "The council of {town} voted on {day} to close the harbour road to lorries from {month}.",
    "Residents had complained for {n} years about noise and about cracks in their walls.",
    "According to the council, {big} vehicles pass through the old centre each week.",
    "{company}, the largest employer in the area, warned that the detour adds {n} minutes to each delivery.",
    "A spokesperson said that {n} jobs might move to {town} if nothing changes.",
    "The opposition called the plan well meant but badly prepared.",
    "An earlier trial in {month} had cut traffic by {pct}, though it rose again by {pct} in the side streets.",
    "The new lanes will cost {money}, a third of it paid by the region.",
    "Shop owners are divided: some fear empty pavements, others hope for more tables outside.",
    "Work begins in {month} and should take {n} weeks.",
    "A petition against the closure has gathered {big} signatures.",
    "The school at the corner welcomed the decision and asked for a second crossing.",
    "Whether the ferry pier stays open in winter was left for a later session.",
)
_MEETING = (
    "{person} opened the meeting at {time} and noted that {dept} was absent.",
    "The launch moves from {month} to {month} because the certificates are late.",
    "{person} reported that {n} test cases pass and that {n} wait for {dept}.",
    "Decision: we keep the supplier for one more quarter and review the price in {month}.",
    "Action: {person} sends the revised estimate to {dept} by {day}.",
    "{person} disagreed and asked to record that the estimate leaves out training.",
    "The spend to date is {money} against a plan of {money}.",
    "Open question: who answers customers between {time} and {time}?",
    "{dept} wants a freeze from {day}; {person} thinks that two days are enough.",
    "Action: {person} checks with {company} whether the spare parts can be shipped earlier.",
    "The pilot in {town} has {n} users, {pct} of whom came back in the second week.",
    "It was agreed to drop the printed brochure.",
    "The item on parking was moved to the next meeting, as it was last time.",
    "Decision: the hiring of {n} people is approved, subject to the figures of {month}.",
)
_SUPPORT = (
    "Customer: since the update on {day} the {product} shows error {n} and stops after {n} seconds.",
    "Agent: thank you for writing, could you tell me the serial number and where it was bought?",
    "Customer: it is {ref}, bought at {company} in {month}, I have the receipt.",
    "Agent: please hold the reset button for {n} seconds and try again.",
    "Customer: I did that twice before I contacted you, nothing changed.",
    "Agent: I see a charge of {money} and a refund of {money} on the account.",
    "Customer: the refund was for another order, please don't mix them up.",
    "Agent: the warranty covers the motor but not the lid, so I have asked {dept} to decide.",
    "Customer: your colleague {person} promised a replacement by {day}.",
    "Agent: I can't find a note about that, though the call itself is listed at {time}.",
    "Customer: then please check the recording, I was told it is kept for {n} days.",
    "Agent: I have opened case {ref} and raised its priority.",
    "Customer: I'd rather have my money back than wait again.",
)
_INCIDENT = (
    "At {time} UTC the {system} began to reject {pct} of writes with a timeout after {n} s.",
    "The on-call engineer was paged at {time} and acknowledged within {n} minutes.",
    "A deploy of the {system} had finished {n} minutes earlier and was first suspected, then ruled out.",
    "Latency at the 99th percentile rose from {n} ms to {big} ms across {n} shards.",
    "Retries without jitter doubled the load on the {system} and exhausted its connection pool.",
    "Rolling back did not help, because the schema migration had already been applied to the replica.",
    "The {system} served stale reads for {n} minutes, which affected {big} accounts.",
    "The alert on queue depth had been muted since {month} during an unrelated clean-up.",
    "Failover to the second region succeeded at {time}, but the {system} kept its old DNS record for {n} minutes.",
    "Root cause: an index on the lease table was dropped, so each heartbeat scanned {big} rows.",
    "Contributing factor: the {system} and the {system} share one rate limit.",
    "Follow-up {ref}: add a circuit breaker between the {system} and the {system}.",
    "Follow-up {ref}: {dept} documents how to drain a shard by hand.",
    "Credits of {money} were issued to {n} customers under the service agreement.",
)
_RESEARCH = (
    "We randomised {big} participants in {n} centres, stratified by baseline severity and centre.",
    "The primary endpoint was the change in the composite score at week {n} under the intention-to-treat estimand.",
    "Attrition differed between the arms ({pct} versus {pct}), which weakens the assumption of ignorable missingness.",
    "The adjusted hazard ratio was below one, with an interval that narrowly excluded the null.",
    "A pre-registered subgroup analysis showed heterogeneity by biomarker (interaction p below the threshold).",
    "Sensitivity analyses under missing-not-at-random patterns attenuated the effect by {pct}.",
    "Multiplicity was controlled by a hierarchical gatekeeping procedure over {n} secondary endpoints.",
    "Adverse events of grade three or higher occurred in {pct} of the treated and {pct} of the control arm.",
    "Mediation analysis attributed {pct} of the total effect to the inflammatory pathway, assuming no confounding.",
    "Instrumental-variable estimates using distance to the centre were larger but imprecise.",
    "Compliance fell to {pct} after week {n}, so the per-protocol effect is reported with inverse-probability weights.",
    "The calibration slope in the external cohort of {big} was well below unity, which suggests overfitting.",
    "Generalisability is limited, since {pct} of those screened were excluded for comorbidity.",
    "Heterogeneity between the centres was substantial, and a random-effects model widened the interval.",
)
_CONTRACT = (
    "Notwithstanding clause {n}, the Licensee shall indemnify the Licensor against third-party claims.",
    "The aggregate liability of either party shall not exceed {money} or {pct} of the fees paid, whichever is lower.",
    "Clause {n} survives termination for a period of {n} months, save where the Agreement is rescinded for fraud.",
    "The Licensee may assign its rights to an Affiliate upon {n} days' written notice, subject to clause {n}.",
    "Where the Services fall below {pct} availability in a calendar month, a credit of {pct} shall accrue.",
    "No credit accrues to the extent that the shortfall is attributable to Force Majeure or Scheduled Maintenance.",
    "The Licensor may vary the Fees on {n} days' notice, provided that no variation exceeds {pct} per annum.",
    "If the Licensee objects in writing within {n} days, the prior Fees apply until the Renewal Date.",
    "Confidential Information excludes information that was independently developed or lawfully received.",
    "The Deposit of {money} is refundable pro rata, unless clause {n} or Schedule {n} provides otherwise.",
    "Any dispute shall first be escalated to the Steering Committee, which shall convene within {n} Business Days.",
    "Failing resolution, the dispute shall be referred to a sole arbitrator seated in {town}.",
    "Renewal is automatic for successive terms of {n} months absent notice of at least {n} days.",
    "A waiver of any breach shall not be construed as a waiver of a subsequent breach.",
)
_FILING = (
    "Revenue recognised over time under the percentage-of-completion method amounted to {money} thousand.",
    "Goodwill of {money} thousand was tested for impairment with a pre-tax discount rate of {pct}.",
    "A rise of that rate by one point would eliminate the headroom in the cash-generating unit {company}.",
    "Deferred tax assets of {money} thousand were not recognised, as their recovery is not probable.",
    "The covenant on net leverage was waived by the lenders until {month}, against a fee of {pct}.",
    "Contingent consideration for {company} is measured at fair value, level three, with {money} thousand at year end.",
    "Foreign-currency hedges were designated as cash-flow hedges, of which {pct} proved ineffective.",
    "Operating cash flow fell by {pct}, although adjusted earnings rose by {pct}, owing to the build-up of inventory.",
    "Factoring without recourse of receivables of {money} thousand has been derecognised.",
    "The provision for onerous contracts was released by {money} thousand after the renegotiation with {company}.",
    "Related-party purchases from {company} amounted to {money} thousand on terms equivalent to arm's length.",
    "The actuarial loss of {money} thousand was recognised in other comprehensive income.",
    "Segment margin excludes restructuring of {money} thousand and the dilution of {pct} from the convertible bond.",
    "The auditor draws attention to note {n}, which describes a material uncertainty.",
)

# From easy to hard. A genre names what the user calls it and holds its sentences.
GENRES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("email", _EMAIL),
    ("review", _REVIEW),
    ("news article", _NEWS),
    ("meeting notes", _MEETING),
    ("support thread", _SUPPORT),
    ("incident report", _INCIDENT),
    ("study abstract", _RESEARCH),
    ("contract excerpt", _CONTRACT),
    ("annual report", _FILING),
)


def pick_genre(rng: np.random.Generator, difficulty: float) -> tuple[str, tuple[str, ...]]:
    """A genre (its name and its sentences), the more specialised the higher `difficulty` in [0, 1]."""
    return pick_graded(rng, GENRES, difficulty)


def write_document(rng: np.random.Generator, sentences: tuple[str, ...], n_words: int) -> str:
    """A document of at least `n_words` words in paragraphs of three to five of the genre's `sentences`.

    A sentence comes back only after every other one of its genre was used, and then with other names and figures.
    """
    paragraphs: list[str] = []
    paragraph: list[str] = []
    words, size = 0, 3 + int(rng.random() * 3)
    while words < n_words:
        for sentence in pick_some(rng, sentences, len(sentences)):
            filled = fill(rng, sentence)
            paragraph.append(filled[0].upper() + filled[1:])
            words += len(paragraph[-1].split())
            if len(paragraph) == size or words >= n_words:
                paragraphs.append(" ".join(paragraph))
                paragraph, size = [], 3 + int(rng.random() * 3)
            if words >= n_words:
                break
    if paragraph:
        paragraphs.append(" ".join(paragraph))
    return "\n\n".join(paragraphs)
