"""Who may use the page: checks of a request before anything is done for it, and what browsers are told.

Without a token only this machine is served, under its loopback names: a foreign page whose name is made to
point here (DNS rebinding) comes with that name. With a token its cookie is what counts.
"""

import hashlib
import hmac
import time
from collections import OrderedDict
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from stages.web.spec import WebSettings

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",  # no foreign page may show the picture
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
COOKIE_DAYS: Final = 30

REQUESTS_A_S: Final = 20.0
"""Of one address, after a burst; a page needs five to load, and then one connection."""

REQUESTS_BURST: Final = 200.0
LOGINS_A_S: Final = 0.1
LOGINS_BURST: Final = 10.0
ADDRESSES: Final = 1000

PUBLIC: Final = ("/", "/app.js", "/style.css", "/favicon.svg", "/api/login")
"""What needs no token: the page itself holds nothing of the run."""


class Allowance:
    """So many of something a second, by who asks, after a burst."""

    def __init__(self, a_second: float, burst: float) -> None:
        self._a_second, self._burst = a_second, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str, now_s: float) -> bool:
        """Whether one more is allowed."""
        left, since_s = self._left.pop(who, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._a_second)
        self._left[who] = (left - 1 if left >= 1 else left, now_s)
        if len(self._left) > ADDRESSES:
            self._left.popitem(last=False)
        return left >= 1


class Guard:
    """Checks for the page of one run."""

    def __init__(self, settings: WebSettings, *, camera: bool) -> None:
        """camera: whether the page may use the browser's."""
        self._token = settings.token
        allowed = f"camera={'(self)' if camera else '()'}, microphone=(), geolocation=()"
        self._headers = HEADERS | {"Permissions-Policy": allowed}
        self._cookie = f"emotions_{settings.port}"  # cookies don't tell ports apart
        self._requests = Allowance(REQUESTS_A_S, REQUESTS_BURST)
        self._logins = Allowance(LOGINS_A_S, LOGINS_BURST)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer requests that are not served with what is wrong with them."""
        if not self._requests.take(request.remote or "", time.monotonic()):
            raise web.HTTPTooManyRequests(text="too many requests\n")
        self._check_place(request)
        if request.path not in PUBLIC and not self._knows_token(request):
            raise web.HTTPUnauthorized(
                text="a token is needed: open the page with #token=…, or send Authorization: Bearer …\n",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return await handler(request)

    def _check_place(self, request: web.Request) -> None:
        """Refuse names that are not this server's, and requests that other sites' pages make."""
        before, _, port = request.host.rpartition(":")
        name = before if port.isdecimal() else request.host
        if not self._token and name.lower() not in LOOPBACK_NAMES:
            raise web.HTTPForbidden(text=f"Host: expected {' or '.join(LOOPBACK_NAMES)}\n")
        origin = request.headers.get("Origin")
        if origin is not None and origin.lower() != f"{request.scheme}://{request.host}".lower():
            raise web.HTTPForbidden(text="Origin: another site's\n")
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site not in ("none", "same-origin") and request.path != "/":
            raise web.HTTPForbidden(text="asked for by another site\n")

    def _knows_token(self, request: web.Request) -> bool:
        if not self._token:
            return True
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(sent.strip(), self._token):
            return True
        return _same(request.cookies.get(self._cookie, ""), self._session)

    @property
    def _session(self) -> str:
        """The cookie's value: the same in a process that replaces this one, and not the token itself."""
        return hmac.new(self._token.encode(), b"cookie", hashlib.sha256).hexdigest()

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Exchange the token, the request's body, for a cookie."""
        if not self._logins.take(request.remote or "", time.monotonic()):
            raise web.HTTPTooManyRequests(text="too many tries\n")
        if not self._token:
            return web.Response(status=204)
        if not _same((await request.text()).strip(), self._token):
            raise web.HTTPUnauthorized(text="wrong token\n")
        response = web.Response(status=204)
        response.set_cookie(
            self._cookie,
            self._session,
            max_age=COOKIE_DAYS * 86_400,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return response

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tell browsers what the page may do; a signal of aiohttp's before each answer."""
        response.headers.update(self._headers)
        response.headers.setdefault("Cache-Control", "no-store")


def _same(sent: str, expected: str) -> bool:
    return hmac.compare_digest(sent.encode(errors="replace"), expected.encode())
