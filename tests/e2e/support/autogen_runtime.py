"""AutoGen's distributed runtime: `host ADDRESS`, `worker ADDRESS` that answers, `asker ADDRESS` that asks and prints JSON."""

import asyncio
import json
import sys
from dataclasses import dataclass

from autogen_core import (
    AgentId,
    DefaultTopicId,
    MessageContext,
    RoutedAgent,
    TypeSubscription,
    message_handler,
    try_get_known_serializers_for_type,
)
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost


@dataclass
class Question:
    text: str


@dataclass
class Answer:
    text: str


@dataclass
class News:
    text: str


class Answerer(RoutedAgent):
    @message_handler
    async def on_question(self, message: Question, context: MessageContext) -> Answer:
        return Answer(message.text.upper())

    @message_handler
    async def on_news(self, message: News, context: MessageContext) -> None:
        await self.publish_message(Answer(f"heard {message.text}"), DefaultTopicId(type="answers"))


heard = asyncio.Queue()


class Listener(RoutedAgent):
    @message_handler
    async def on_answer(self, message: Answer, context: MessageContext) -> None:
        await heard.put(message.text)


async def host(address):
    runtime = GrpcWorkerAgentRuntimeHost(address)
    runtime.start()
    print("up", flush=True)
    await runtime.stop_when_signal()


async def started(address):
    runtime = GrpcWorkerAgentRuntime(host_address=address)
    await runtime.start()
    # Types that are only sent, or only answered, must be known as well.
    for kind in (Question, Answer, News):
        runtime.add_message_serializer(try_get_known_serializers_for_type(kind))
    return runtime


async def worker(address):
    runtime = await started(address)
    await Answerer.register(runtime, "answerer", lambda: Answerer("answers"))
    await runtime.add_subscription(TypeSubscription("news", "answerer"))
    print("up", flush=True)
    await runtime.stop_when_signal()


async def asker(address):
    runtime = await started(address)
    await Listener.register(runtime, "listener", lambda: Listener("listens"))
    await runtime.add_subscription(TypeSubscription("answers", "listener"))
    answers = []
    for n in range(20):
        answer = await runtime.send_message(Question(f"question {n}"), AgentId("answerer", "default"))
        answers.append(answer.text)
    news = []
    for n in range(20):
        await runtime.publish_message(News(f"news {n}"), DefaultTopicId(type="news"))
    while len(news) < 20:
        news.append(await asyncio.wait_for(heard.get(), 20))
    await runtime.stop()
    print(json.dumps({"answers": answers, "news": sorted(news)}))


asyncio.run(globals()[sys.argv[1]](sys.argv[2]))
