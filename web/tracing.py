"""One trace id for all that a request makes happen: given by the caller (W3C Trace Context), or made here."""

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Middleware, Receive, Scope, Send

from orders.logs.trace import trace_of, tracing


def traced() -> Middleware:
    """A middleware within which everything that is logged bears the request's trace id."""

    def tracing_app(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            header = dict(scope["headers"]).get(b"traceparent")
            with tracing(trace_of(None if header is None else header.decode("latin-1"))):
                await app(scope, receive, send)

        return answer

    return tracing_app
