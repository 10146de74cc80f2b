"""A server and its clients in one event loop; all connections are closed."""

import asyncio


async def serve(reader, writer):
    writer.write(await reader.read(5))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    text = await reader.read(5)
    writer.close()
    await writer.wait_closed()
    return len(text)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sizes = await asyncio.gather(*[ask(port) for _ in range(20)])
    server.close()
    await server.wait_closed()
    print(sum(sizes), "bytes")


asyncio.run(main())
