import asyncio

import databridge


async def main() -> None:
    await asyncio.sleep(0.1)


databridge.run(main())  # as asyncio.run()
with asyncio.Runner(loop_factory=databridge.new_event_loop) as runner:  # or as its loop
    runner.run(main())
