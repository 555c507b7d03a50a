"""What a real, very small LLM does in this process: extraction, two sets of examples, topics with a confidence.

    make demo-llm                                  # downloads the weights (93 MB, Apache-2.0) and checks them
    python benchmarks/quality/local_llm.py FILE.gguf [--check]    # exit code 1 if too few answers are right

SmolLM2-135M-Instruct is 50 to 1,000 times smaller than what one would choose: it shows that everything works without a
network and without a server, and what the figures look like. All figures are measured in this run.
"""

from __future__ import annotations

import sys
import time
from typing import Literal

from llmtasker import LLM, Classification, InputField, OutputField, Signature, Task
from llmtasker.evaluation import calibrate, compare, evaluate


class Payment(Signature):
    """Extract who paid and how much."""

    text: str = InputField()
    name: str = OutputField(description="the name of the person who paid")
    amount: int = OutputField(description="the amount in euros")


class Topic(Signature):
    """Say what the text is about."""

    text: str = InputField()
    topic: Literal["sports", "politics", "health", "travel"] = OutputField()


PAID = [
    ("Alice paid 40 euros on Monday.", "Alice", 40), ("We received 120 euros from Bernard.", "Bernard", 120),
    ("Chloé sent us 15 euros for the book.", "Chloé", 15), ("Payment of 300 euros by David, thank you.", "David", 300),
    ("Emma has paid her bill of 75 euros.", "Emma", 75), ("The 22 euros came from Farid.", "Farid", 22),
    ("Grace gave 500 euros to the shelter.", "Grace", 500), ("Hugo settled the 64 euros yesterday.", "Hugo", 64),
    ("From Inès: 18 euros for the tickets.", "Inès", 18), ("Jules transferred 210 euros this morning.", "Jules", 210),
]  # fmt: skip
SHOWN = [
    Payment(text="Marc paid 30 euros in cash.", name="Marc", amount=30),
    Payment(text="We got 250 euros from Nadia last week.", name="Nadia", amount=250),
]
TOPICS: dict[str, list[str]] = {
    "sports": [
        "The goalkeeper saved two penalties in the final.", "She won the marathon in record time.",
        "The coach changed three players at half-time.", "Our team lost the match by one point.",
        "The cyclist crashed in the last stage of the tour.", "He signed with a basketball club for two years.",
        "The stadium was full for the derby.", "The swimmer broke the world record.",
    ],
    "politics": [
        "Parliament voted on the new budget.", "The president met the ministers on Tuesday.",
        "The opposition demands an election.", "The mayor announced her candidacy.",
        "The senate rejected the law.", "Two parties formed a coalition government.",
        "Voters go to the polls on Sunday.", "The minister resigned after the scandal.",
    ],
    "health": [
        "The vaccine protects against the flu.", "Doctors advise more sleep and less sugar.",
        "The hospital opened a new ward for children.", "The patient recovered after the surgery.",
        "A new drug lowers blood pressure.", "Nurses treated the infection with antibiotics.",
        "Regular exercise is good for the heart.", "The clinic tests for diabetes.",
    ],
    "travel": [
        "The train to the coast leaves at nine.", "We booked a hotel near the beach.",
        "The flight was delayed by two hours.", "Tourists visit the old town in summer.",
        "You need a visa to enter the country.", "The ferry takes you to the island.",
        "The guide showed us the castle.", "Pack light for the trip through the mountains.",
    ],
}  # fmt: skip
FIRST = [Topic(text="The striker scored twice.", topic="sports"), Topic(text="A striker was hurt.", topic="sports")]
SECOND = [
    Topic(text="The striker scored twice.", topic="sports"),
    Topic(text="The chancellor presented the law to parliament.", topic="politics"),
    Topic(text="The doctor prescribed a medicine for the pain.", topic="health"),
    Topic(text="Our hotel was close to the airport.", topic="travel"),
]

LEAST = {"both right": 8, "topics": 24, "label scores": 12}  # of 10, 32 and 16


def title(text: str) -> None:
    print(f"\n── {text} ──", flush=True)


def main(path: str, *, check: bool) -> None:
    llm = LLM(path, temperature=0, max_tokens=60, cache=False)
    started = time.monotonic()

    title("extract name and amount, by JSON schema")
    rows = [{"text": text, "name": name, "amount": amount} for text, name, amount in PAID]
    extract = Task(Payment, llm=llm, examples=SHOWN, mode="json_schema", attempts=1)
    report = evaluate(extract, rows, concurrency=4, progress=False)
    both = sum(row.answer == row.gold for row in report.rows)
    print(report)
    print(f'both right: {both} of {len(rows)}; `llm="offline"`, which is not a language model, can only refuse:')
    print(Task(Payment, llm="offline", examples=SHOWN, attempts=1)(rows[0]["text"]).error)

    title("two sets of examples for topics: one label, and one example of each label")
    texts = [
        {"text": text, "topic": topic}
        for found in zip(*TOPICS.values(), strict=True)
        for topic, text in zip(TOPICS, found, strict=True)
    ]
    topics = Task(Topic, llm=llm, examples=FIRST, mode="json_schema", attempts=1)
    before = evaluate(topics, texts, concurrency=4, progress=False)
    after = evaluate(topics.with_(examples=SECOND), texts, concurrency=4, progress=False)
    print(f"first   {before}\nsecond  {after}")
    print(compare(before, after))

    title(
        "how sure: scores of the labels, in a form that the LLM continues; no examples, calibrated on half of the texts"
    )
    labelled = [{"text": row["text"], "label": row["topic"]} for row in texts]
    half = len(labelled) // 2
    scored = Classification(llm=llm, labels=list(TOPICS), confidence="label_scores")
    sure = calibrate(scored, labelled[:half], concurrency=4, progress=False)
    print(sure.calibration)
    judged = evaluate(sure, labelled[half:], concurrency=4, progress=False)
    print(f"on the other half: {judged}")
    for row in labelled[half::3]:
        item = sure(row["text"])
        shares = {label: round(share, 2) for label, share in (item.confidence or {}).items()}
        print(f"{row['text']:48} {row['label']:9} {item.output or item.error} {shares}")

    print(f"\n{time.monotonic() - started:.0f} s. What a model of this size can't do: rewrite, summarise, many labels.")

    found = {"both right": both, "topics": after.score("topic").right, "label scores": judged.score("label").right}
    if check and (
        missed := [f"{name} {found[name]} of {least}" for name, least in LEAST.items() if found[name] < least]
    ):
        sys.exit(f"fewer right answers than asked for: {', '.join(missed)}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], check="--check" in sys.argv)
