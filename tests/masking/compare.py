#!/usr/bin/env python3
"""Recall and precision of `staunch mask try` beside Presidio's pattern recognisers, on Presidio's own corpus.

    python3 compare.py synth_dataset_v2.json target/release/staunch CONFIG

The corpus is data/synth_dataset_v2.json of github.com/microsoft/presidio-research; Presidio comes from
`pip install presidio-analyzer` (no language model is needed). CONFIG has one route for each kind, of that name. Each document is masked as a whole, and as a stream of
deltas of four characters; the two must come to the same.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

KINDS = {
    "card": "CREDIT_CARD",
    "iban": "IBAN_CODE",
    "email": "EMAIL_ADDRESS",
    "ssn": "US_SSN",
    "phone": "PHONE_NUMBER",
    "ip": "IP_ADDRESS",
}
# Streams that `mask try` follows at a time.
BATCH = 200
END = " \n"


def recognisers() -> dict:
    from presidio_analyzer import predefined_recognizers as known

    return {
        "card": known.CreditCardRecognizer(),
        "iban": known.IbanRecognizer(),
        "email": known.EmailRecognizer(),
        "ssn": known.UsSsnRecognizer(),
        "phone": known.PhoneRecognizer(),
        "ip": known.IpRecognizer(),
    }


def tried(program: str, config: str, kind: str, body: str, form: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(body)
        file.flush()
        command = [program, "mask", "try", file.name, "-c", config, "-r", kind, "--format", form]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def whole(program: str, config: str, kind: str, texts: list[str]) -> list[str]:
    body = "".join(json.dumps({"t": text}, ensure_ascii=False) + "\n" for text in texts)
    return [json.loads(line)["t"] for line in tried(program, config, kind, body, "json").splitlines()]


def streamed(program: str, config: str, kind: str, texts: list[str]) -> list[str]:
    all_texts = []
    for first in range(0, len(texts), BATCH):
        batch, events = texts[first : first + BATCH], []
        for index, text in enumerate(batch):
            # Something follows each, so that what stands at its end is decided before the next begins.
            for piece in [*(text[at : at + 4] for at in range(0, len(text), 4)), END]:
                delta = {"choices": [{"index": index, "delta": {"content": piece}}]}
                events.append(f"data: {json.dumps(delta, ensure_ascii=False)}\n\n")
        said = [""] * len(batch)
        for line in tried(program, config, kind, "".join(events), "events").splitlines():
            if line.startswith("data: "):
                choice = json.loads(line[6:])["choices"][0]
                said[choice["index"]] += choice["delta"]["content"]
        all_texts += [text.removesuffix(END) for text in said]
    return all_texts


def found_by_mask(before: str, after: str) -> list[tuple[int, int]]:
    """Stretches that were overwritten; what separates the digits of one value joins them."""
    changed = "".join("*" if a == "*" != b else " " for a, b in zip(after, before, strict=True))
    return [match.span() for match in re.finditer(r"\*(?:.{0,3}\*)*", changed)]


def score(gold: list[list], found: list[list]) -> tuple[float, float, int]:
    meets = lambda a, b: a[0] < b[1] and b[0] < a[1]  # noqa: E731
    values = sum(map(len, gold))
    hit = sum(any(meets(value, one) for one in f) for g, f in zip(gold, found) for value in g)
    right = sum(any(meets(value, one) for value in g) for g, f in zip(gold, found) for one in f)
    return hit / values, right / max(1, sum(map(len, found))), values


def main():
    corpus, program, config = sys.argv[1:4]
    documents = json.loads(pathlib.Path(corpus).read_text())
    texts = [document["full_text"] for document in documents]
    theirs = recognisers()
    print("| Kind | Values | Recall | Precision | Presidio: recall | precision |\n|---|---|---|---|---|---|")
    for kind, entity in KINDS.items():
        gold = [
            [(s["start_position"], s["end_position"]) for s in document["spans"] if s["entity_type"] == entity]
            for document in documents
        ]
        masked = whole(program, config, kind, texts)
        if masked != streamed(program, config, kind, texts):
            sys.exit(f"{kind}: streamed, it comes to another text")
        recall, precision, values = score(gold, list(map(found_by_mask, texts, masked)))
        begin = time.monotonic()
        found = [[(r.start, r.end) for r in theirs[kind].analyze(text, [entity], None)] for text in texts]
        took = time.monotonic() - begin
        other, exact, _ = score(gold, found)
        print(f"| {kind} | {values} | {recall:.2f} | {precision:.2f} | {other:.2f} | {exact:.2f} |")
        print(f"  {kind}: Presidio took {took:.2f} s for {sum(map(len, texts)) / 1e6:.2f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
