"""An ASGI application behind hypercorn: a model API's shape, WebSocket echo, uploads with digests."""

import asyncio
import base64
import hashlib
import json

# Bodies of the requests to model APIs, in base64, which masks do not look into.
SEEN: list[str] = []


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        print("websocket", scope["path"], scope["headers"], flush=True)
        return await (refuse if scope["path"] == "/refused" else echo)(receive, send)
    if scope["type"] != "http":
        return None
    path, body = scope["path"], b""
    if path == "/upload":
        return await upload(receive, send)
    more = True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if path == "/seen":
        return await answer(send, json.dumps(SEEN[-8:]))
    if path.startswith("/v1/"):
        SEEN.append(base64.b64encode(body).decode())
    if path == "/v1/responses":
        return await responses(json.loads(body), send)
    if path == "/v1/chat/completions":
        return await chat(json.loads(body), send)
    if path == "/v1/messages":
        return await messages(json.loads(body), send)
    if path == "/events":
        return await events(int(scope["query_string"] or b"10"), send)
    if path == "/echo":
        return await answer(send, body.decode())
    if path == "/echoed":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/octet-stream")]})
        return await send({"type": "http.response.body", "body": body})
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    return await answer(send, json.dumps({"path": path, "headers": headers}))


async def answer(send, text: str, kind: bytes = b"application/json"):
    body = text.encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


WORDS = ["Bytes ", "move ", "in ", "place", "."]


async def chat(request: dict, send):
    # A test says what the model says: its words stand in the system prompt.
    told = [message["content"] for message in request["messages"] if message["role"] == "system"]
    words = json.loads(told[0]) if told and told[0].startswith("[") else WORDS
    frame = {"id": "c1", "created": 1, "model": request["model"]}
    if not request.get("stream"):
        text = "".join(words)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return await answer(send, json.dumps(frame | {"object": "chat.completion", "choices": [choice]}))
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    called = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "note", "arguments": ""}}
    deltas = [{"role": "assistant", "tool_calls": [called]}] if request.get("tools") else []
    for word in words:
        call = {"tool_calls": [{"index": 0, "function": {"arguments": word}}]}
        deltas.append(call if request.get("tools") else {"content": word})
    deltas += [{}] if request.get("tools") else []
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "tool_calls"}
        chunk = json.dumps(frame | {"object": "chat.completion.chunk", "choices": [choice]})
        await send({"type": "http.response.body", "body": f"data: {chunk}\n\n".encode(), "more_body": True})
        await asyncio.sleep(0.05 if words is WORDS else 0.005)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def messages(request: dict, send):
    """Anthropic's shape: what it is told in `system` comes back as text, word by word."""
    words = json.loads(request["system"])
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m1", "type": "message", "role": "assistant", "model": request["model"], "stop_sequence": None}
    if not request.get("stream"):
        content = [{"type": "text", "text": "".join(words)}]
        return await answer(send, json.dumps(message | {"content": content, "stop_reason": "end_turn", "usage": usage}))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

    async def event(kind: str, **more):
        body = f"event: {kind}\ndata: {json.dumps({'type': kind} | more)}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})

    await event("message_start", message=message | {"content": [], "stop_reason": None, "usage": usage})
    tool = {"type": "tool_use", "id": "toolu_1", "name": "note", "input": {}}
    await event("content_block_start", index=0, content_block=tool if request.get("tools") else {"type": "text", "text": ""})
    for word in words:
        called = {"type": "input_json_delta", "partial_json": word}
        await event("content_block_delta", index=0, delta=called if request.get("tools") else {"type": "text_delta", "text": word})
        await asyncio.sleep(0.005)
    await event("content_block_stop", index=0)
    await event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 9})
    await event("message_stop")
    await send({"type": "http.response.body", "body": b""})


async def responses(request: dict, send):
    """OpenAI's Responses API: its words stand in `instructions` or the first message; the last events repeat the whole text."""
    words = json.loads(request.get("instructions") or request["input"][0]["content"])
    text = "".join(words)
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    whole = item | {"content": [part | {"text": text}]}
    if request.get("tools"):
        item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "note", "status": "completed"}
        whole = item | {"arguments": text}
    frame = {"id": "resp_1", "object": "response", "created_at": 1, "model": request["model"], "tools": [], "tool_choice": "auto"}
    frame |= {"parallel_tool_calls": True, "status": "completed", "instructions": None, "error": None, "incomplete_details": None}
    frame |= {"metadata": {}, "temperature": 1.0, "top_p": 1.0}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    done = frame | {"output": [whole], "usage": usage}
    if not request.get("stream"):
        return await answer(send, json.dumps(done))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    place = {"item_id": item["id"], "output_index": 0}
    begun = item | {"status": "in_progress"} | ({"arguments": ""} if request.get("tools") else {"content": []})
    told = [{"type": "response.created", "response": frame | {"status": "in_progress", "output": []}}]
    told += [{"type": "response.output_item.added", "output_index": 0, "item": begun}]
    if request.get("tools"):
        told += [{"type": "response.function_call_arguments.delta", "delta": word} | place for word in words]
        told += [{"type": "response.function_call_arguments.done", "arguments": text, "name": "note"} | place]
    else:
        place |= {"content_index": 0}
        told += [{"type": "response.content_part.added", "part": part | {"text": ""}} | place]
        told += [{"type": "response.output_text.delta", "delta": word, "logprobs": []} | place for word in words]
        told += [{"type": "response.output_text.done", "text": text, "logprobs": []} | place]
        told += [{"type": "response.content_part.done", "part": part | {"text": text}} | place]
    told += [{"type": "response.output_item.done", "output_index": 0, "item": whole}]
    told += [{"type": "response.completed", "response": done}]
    for number, event in enumerate(told):
        body = f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def events(count: int, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for n in range(count):
        await send({"type": "http.response.body", "body": f"data: {n}\n\n".encode(), "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b""})


async def upload(receive, send):
    digest, length, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message.get("body", b""))
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, json.dumps({"sha256": digest.hexdigest(), "length": length}))


async def refuse(receive, send):
    await receive()
    # Before it is accepted, this is a 403.
    await send({"type": "websocket.close"})


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        kept = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send"} | kept)
