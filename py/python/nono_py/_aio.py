"""`async with` for a proxy: called by the extension module, which has no event loop of its own."""

import asyncio

from nono_py._nono_py import ProxyHandle


async def enter(proxy: ProxyHandle) -> ProxyHandle:
    """Enter the block; the proxy is running already."""
    return proxy


async def leave(proxy: ProxyHandle) -> None:
    """Shut the proxy down without holding up the loop."""
    await asyncio.to_thread(proxy.shutdown)
