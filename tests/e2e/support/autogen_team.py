"""A team of two AutoGen agents whose model answers in a stream. Arguments: base URL, key. Prints one JSON object."""

import asyncio
import json
import sys
import time

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import ModelClientStreamingChunkEvent, TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient


async def main():
    base_url, key = sys.argv[1:]
    info = {"vision": False, "function_calling": False, "json_output": False, "structured_output": False, "family": "unknown"}
    client = OpenAIChatCompletionClient(model="small", base_url=base_url, api_key=key, model_info=info, max_retries=0)
    agents = [AssistantAgent(name, client, model_client_stream=True) for name in ("writer", "critic")]
    team = RoundRobinGroupChat(agents, termination_condition=MaxMessageTermination(3))
    pieces, messages = [], []
    async for event in team.run_stream(task="Say something."):
        if isinstance(event, ModelClientStreamingChunkEvent):
            pieces.append((event.source, event.content, time.monotonic()))
        elif isinstance(event, TextMessage):
            messages.append((event.source, event.content))
    await client.close()
    print(json.dumps({"pieces": pieces, "messages": messages}))


asyncio.run(main())
