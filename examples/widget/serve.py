"""A host page for the widget, on the standard library alone.

    STRIPEMETER_KEY=sm_… python examples/widget/serve.py

Against `make demo` no key is needed: the demo answers loopback. The page is at
http://127.0.0.1:8080; the key stays on this server, the browser gets a short-lived token.
"""

import json
import os
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

API = os.environ.get("STRIPEMETER_URL", "http://127.0.0.1:3000")
KEY = os.environ.get("STRIPEMETER_KEY", "")
CUSTOMER = os.environ.get("CUSTOMER", "cust_northwind")
PORT = int(os.environ.get("PORT", "8080"))


def mint_token() -> dict[str, str]:
    """A widget session for one customer, framed by this page only."""
    body = {"customerRef": CUSTOMER, "origins": [f"http://127.0.0.1:{PORT}"]}
    headers = {"Content-Type": "application/json"}
    if KEY:
        headers["Authorization"] = f"Bearer {KEY}"
    request = urllib.request.Request(
        f"{API}/v1/widget/sessions", data=json.dumps(body).encode(), headers=headers
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        session = json.load(answer)
    return {"apiUrl": API, "token": session["token"], "expiresAt": session["expiresAt"]}


class Handler(SimpleHTTPRequestHandler):
    """Serves the page, and tokens to it."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, directory=str(Path(__file__).parent), **named)

    def do_POST(self) -> None:
        """``POST /token``."""
        if self.path != "/token":
            self.send_error(404)
            return
        content = json.dumps(mint_token()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    print(f"http://127.0.0.1:{PORT}")
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
