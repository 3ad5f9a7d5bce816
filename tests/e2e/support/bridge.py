"""A bystander between a program and the gateway, or between the gateway and a server: passes bytes on and keeps them."""

import asyncio
import contextlib
import threading


class Talk:
    """One connection: what came from whoever dialled, and what it got."""

    def __init__(self):
        self.sent, self.got = bytearray(), bytearray()
        self.over = False


class Bridge:
    """Listens on a loopback port without TLS and dials another; with `context` it speaks TLS there, as a client for `name`."""

    def __init__(self, port, context=None, name=None):
        self.to, self.context, self.name = port, context, name
        self.talks: list[Talk] = []
        self.loop, begun = asyncio.new_event_loop(), threading.Event()

        async def listen():
            self.server = await asyncio.start_server(self.one, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]
            begun.set()

        def run():
            self.loop.create_task(listen())
            self.loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        assert begun.wait(10)

    async def one(self, reader, writer):
        talk = Talk()
        self.talks.append(talk)
        with contextlib.suppress(OSError):
            far = await asyncio.open_connection("127.0.0.1", self.to, ssl=self.context, server_hostname=self.name)
            await asyncio.gather(self.pump(reader, far[1], talk.sent), self.pump(far[0], writer, talk.got))
        talk.over = True
        writer.close()

    async def pump(self, reader, writer, kept):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                kept += data
                writer.write(data)
                await writer.drain()
        if writer.can_write_eof():
            with contextlib.suppress(OSError):
                writer.write_eof()
        else:
            writer.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
