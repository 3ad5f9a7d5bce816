"""Masked streams as frameworks read them: the SDKs for Node, and LangChain, in both directions."""

import base64
import json
import os

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from support.parts import PARTS, TOOLS
from support.process import run
from test_http1 import client
from test_masking import CARD, MASKED, SETS, masked_route

# A tool's arguments, cut within names, numbers and values.
CALL = ['{"card":', " 411", "1111111", "11111", "1", ', "pin": "12', '34", "note": "a', "t jane@exam", 'ple.com"}']
CALLED = {"card": 4111110000001111, "pin": "****", "note": "at jane************"}
SAID = "Pay with 4111 1111 1111 1111, I am jane@example.com."
HEARD = "Pay with 4111 11** **** 1111, I am jane************."


@pytest.fixture
def base(world, start):
    """A gateway whose route masks both ways."""
    chain, key = world.authority.leaf("masked-sdks", ["localhost"])
    route = masked_route(world, sni="localhost", certificate={"chain": chain, "key": key}, mask={"down": ["all"], "up": ["all"]})
    return f"https://localhost:{start(world.config(route, mask=SETS)).port}"


def heard(world, base) -> list[dict]:
    """The requests that the upstream had last: each is JSON still."""
    with client(None, world, headers={"authorization": f"Bearer {world.issuer.token()}"}) as http:
        return [json.loads(base64.b64decode(body)) for body in http.get(f"{base}/seen").json()]


def user_said(request: dict) -> str:
    if "input" in request:
        said = request["input"] if isinstance(request["input"], str) else request["input"][-1]["content"]
    else:
        said = request["messages"][-1]["content"]
    return said if isinstance(said, str) else said[0]["text"]


def test_the_sdks_for_node_read_masked_streams_and_their_requests_go_up_masked(base, world, tmp_path):
    # Node looks for packages from the file's place on.
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    (tmp_path / "masked.mjs").write_text((PARTS / "masked.mjs").read_text())
    request = json.dumps({"words": CARD, "call": CALL, "said": SAID})
    command = ["node", str(tmp_path / "masked.mjs"), base, world.issuer.token(), request]
    done = run(command, 60, env=os.environ | {"NODE_EXTRA_CA_CERTS": world.ca})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "chat": MASKED,
        "whole": MASKED,
        "call": CALLED,
        "responses": [MASKED, MASKED],
        "response": MASKED,
        "messages": MASKED,
        "use": CALLED,
        "message": MASKED,
    }
    requests = heard(world, base)
    assert len(requests) == 8 and {user_said(request) for request in requests} == {HEARD}, requests


def test_langchain_reads_masked_streams_and_its_requests_go_up_masked(base, world, monkeypatch):
    # For the SDK below, which makes its HTTP client itself.
    monkeypatch.setenv("SSL_CERT_FILE", world.ca)
    token = world.issuer.token()
    common = {"model": "m", "api_key": token, "max_retries": 0}

    def note(card: int, pin: str, note: str) -> str:
        """Takes a note."""
        return f"{card}{pin}{note}"

    def messages(words):
        return [("system", json.dumps(words)), ("user", SAID)]

    with client(None, world) as http:
        chat = ChatOpenAI(base_url=f"{base}/v1", http_client=http, **common)
        responses = ChatOpenAI(base_url=f"{base}/v1", http_client=http, use_responses_api=True, **common)
        claude = ChatAnthropic(base_url=base, **common)
        for model in chat, responses, claude:
            assert "".join(chunk.text for chunk in model.stream(messages(CARD))) == MASKED
            assert model.invoke(messages(CARD)).text == MASKED
            whole = None
            for chunk in model.bind_tools([note]).stream(messages(CALL)):
                whole = chunk if whole is None else whole + chunk
            assert [call["args"] for call in whole.tool_calls] == [CALLED], whole
    requests = heard(world, base)
    assert len(requests) == 8 and {user_said(request) for request in requests} == {HEARD}, requests
