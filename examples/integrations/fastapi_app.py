"""A FastAPI service that meters itself with the asyncio client.

    uvicorn fastapi_app:app --port 8002

STRIPEMETER_URL, STRIPEMETER_TENANT and STRIPEMETER_API_KEY say where the usage goes.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Header, Request, Response

from stripemeter import AsyncStripeMeterClient


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The client lives as long as the service; leaving the block sends what is in its buffer."""
    async with AsyncStripeMeterClient(
        os.environ["STRIPEMETER_URL"],
        os.environ["STRIPEMETER_TENANT"],
        api_key=os.environ.get("STRIPEMETER_API_KEY"),
        spool_dir=os.environ.get("STRIPEMETER_SPOOL"),
        close_timeout=30,
    ) as meter:
        app.state.meter = meter
        yield


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def meter_requests(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Buffer one `api_calls` event for each request that was answered."""
    response = await call_next(request)
    customer = request.headers.get("X-Customer")
    if customer and response.status_code < 500:
        await app.state.meter.buffer("api_calls", customer, meta={"path": request.url.path})
    return response


@app.get("/hello")
async def hello() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/reports/{report_id}")
async def make_report(report_id: str, x_customer: str = Header()) -> dict[str, str]:
    """A report counts once, however often the request is repeated: its id is the key."""
    result = await app.state.meter.track(
        "report_pages", x_customer, quantity=12,
        ts="2026-11-01T00:00:00Z", idempotency_key=f"report-{report_id}",
    )  # fmt: skip
    return {"report": report_id, "status": result.results[0].status}
