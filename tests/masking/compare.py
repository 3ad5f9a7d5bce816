#!/usr/bin/env python3
"""Recall and precision of `staunch mask try` beside Presidio's pattern recognisers, on Presidio's own corpus.

    python3 compare.py synth_dataset_v2.json target/release/staunch

The corpus is data/synth_dataset_v2.json of github.com/microsoft/presidio-research; Presidio comes from
`pip install presidio-analyzer` (no language model is needed). Each document is masked as a whole, and as a stream of deltas, which
must come to the same: of four characters, and, where NODE_PATH has the package gpt-tokenizer, of one GPT token.
"""

import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

# How often the corpus is read to measure the speed of `mask try`.
REPEATS = 100
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
HEAD = """
[[listener]]
address = "127.0.0.1:8443"

[[issuer]]
name = "corp"
oidc = "https://idp.example.com"
audience = ["staunch"]
"""
RULE = """
[[mask]]
name = "{0}"
detect = ["{0}"]

[[route]]
name = "{0}"
sni = "{0}.example.com"
protocol = "http"
upstream = "tls://api.example.com:443"
certificate = {{ chain = "chain.pem", key = "key.pem" }}
allow = [{{ issuer = "corp", groups = ["ml"] }}]
mask = {{ down = ["{0}"] }}
"""


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


def configuration(folder: pathlib.Path) -> str:
    """A configuration with one route for each kind, of that name."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=compare -addext subjectAltName=DNS:*.example.com"
    subprocess.run([*command.split(), "-keyout", folder / "key.pem", "-out", folder / "chain.pem"], check=True, capture_output=True)
    (folder / "compare.toml").write_text(HEAD + "".join(map(RULE.format, [*KINDS, "personal"])))
    return str(folder / "compare.toml")


def tried(program: str, config: str, kind: str, body: str, form: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(body)
        file.flush()
        command = [program, "mask", "try", file.name, "-c", config, "-r", kind, "--format", form]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def whole(program: str, config: str, kind: str, texts: list[str]) -> list[str]:
    return [json.loads(line)["t"] for line in tried(program, config, kind, json_lines(texts), "json").splitlines()]


def json_lines(texts: list[str]) -> str:
    return "".join(json.dumps({"t": text}, ensure_ascii=False) + "\n" for text in texts)


def speed(program: str, config: str, texts: list[str]) -> float:
    """Megabytes of text in a second, with all kinds at once, the program's start and its output included."""
    body = json_lines(texts) * REPEATS
    begin = time.monotonic()
    tried(program, config, "personal", body, "json")
    return sum(map(len, texts)) * REPEATS / 1e6 / (time.monotonic() - begin)


def of_four_characters(texts: list[str]) -> list[list[str]]:
    return [[text[at : at + 4] for at in range(0, len(text), 4)] for text in texts]


def of_tokens(texts: list[str]) -> list[list[str]]:
    script = """
        const { encode, decodeGenerator } = require("gpt-tokenizer")
        const texts = JSON.parse(require("fs").readFileSync(0, "utf8"))
        process.stdout.write(JSON.stringify(texts.map(text => [...decodeGenerator(encode(text))])))
    """
    done = subprocess.run(["node", "-e", script], input=json.dumps(texts), check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def streamed(program: str, config: str, kind: str, cut: list[list[str]]) -> list[str]:
    all_texts = []
    for first in range(0, len(cut), BATCH):
        batch, events = cut[first : first + BATCH], []
        for index, pieces in enumerate(batch):
            # Something follows each, so that what stands at its end is decided before the next begins.
            for piece in [*pieces, END]:
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
    corpus, program = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        compare(corpus, program, configuration(pathlib.Path(folder)))


def compare(corpus: str, program: str, config: str):
    documents = json.loads(pathlib.Path(corpus).read_text())
    texts = [document["full_text"] for document in documents]
    cuts = [of_four_characters(texts)]
    if "NODE_PATH" in os.environ:
        cuts.append(of_tokens(texts))
    # A recogniser of theirs looks for a newer list of domains, and says at length that it got none.
    logging.disable()
    theirs = recognisers()
    took = 0.0
    print("| Kind | Values | Recall | Precision | Presidio: recall | precision |\n|---|---|---|---|---|---|")
    for kind, entity in KINDS.items():
        gold = [
            [(s["start_position"], s["end_position"]) for s in document["spans"] if s["entity_type"] == entity]
            for document in documents
        ]
        masked = whole(program, config, kind, texts)
        for cut in cuts:
            if masked != streamed(program, config, kind, cut):
                sys.exit(f"{kind}: streamed, it comes to another text")
        recall, precision, values = score(gold, list(map(found_by_mask, texts, masked)))
        begin = time.monotonic()
        found = [[(r.start, r.end) for r in theirs[kind].analyze(text, [entity], None)] for text in texts]
        took += time.monotonic() - begin
        other, exact, _ = score(gold, found)
        print(f"| {kind} | {values} | {recall:.2f} | {precision:.2f} | {other:.2f} | {exact:.2f} |")
    presidio = sum(map(len, texts)) / 1e6 / took
    print(f"\nAll kinds: {speed(program, config, texts):.0f} MB/s, Presidio {presidio:.2f} MB/s")


if __name__ == "__main__":
    main()
