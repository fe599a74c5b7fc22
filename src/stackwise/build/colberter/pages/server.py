"""A search of one's own in a browser: a page, and the same answers as JSON.

    GET /                       the page
    GET /search?q=...&k=10      {"query", "hits": [{"rank", "id", "score", "words", ...}]}
    GET /health, GET /ready     whether it runs; whether it can answer

It listens to this machine alone unless it is told otherwise, and reads queries of bounded length.
"""

import threading
from typing import Annotated, Any

from stackwise.errors import StackwiseError
from stackwise.optional import needs
from stackwise.tasks.retrieval.retriever import LONGEST_QUERY

MOST = 100
"""Hits that may be asked for at once."""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Search</title><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
h1 { font-size: 1.2rem; font-weight: 600 } form { display: flex; gap: .5rem }
input { flex: 1; font: inherit; padding: .4rem .6rem }
button { font: inherit; padding: .4rem 1rem } .hit { border-top: 1px solid #ddd; padding: .8rem 0 }
.hit p { margin: .2rem 0 } .id { color: #555; font-size: .85rem }
mark { color: inherit; border-radius: .2rem; padding: 0 .1rem }
</style></head><body>
<h1>COUNT documents</h1>
<form id="asked"><input id="q" name="q" aria-label="Query" placeholder="a question, or some words"
maxlength="LONGEST" autofocus>
<button>Search</button></form><p id="said" role="status"></p><main id="hits"></main>
<script>
"use strict";
const byId = name => document.getElementById(name);
const made = (kind, name, text) => {
  const one = document.createElement(kind);
  if (name) one.className = name;
  one.textContent = text;
  return one;
};
function shown(hit) {
  const part = made("section", "hit", "");
  part.append(made("p", "id", `${hit.rank}. ${hit.id}, score ${hit.score.toFixed(3)}`));
  const text = made("p", "", "");
  const most = Math.max(...hit.spans.map(one => one.score));
  for (const one of hit.spans) {
    if (one.score > 0 && most > 0) {
      const word = made("mark", "", one.text);
      word.style.background = `rgba(255, 170, 0, ${0.15 + 0.75 * one.score / most})`;
      word.title = one.score.toFixed(3);
      text.append(word);
    } else text.append(one.text);
  }
  part.append(text);
  return part;
}
async function search(query) {
  byId("said").textContent = "Searching";
  const answer = await fetch("search?" + new URLSearchParams({ q: query }));
  const found = await answer.json();
  if (!answer.ok) {
    const told = typeof found.detail === "string" ? found.detail : "The query cannot be read.";
    byId("said").textContent = told;
    byId("hits").replaceChildren();
    return;
  }
  byId("said").textContent = `${found.hits.length} documents`;
  byId("hits").replaceChildren(...found.hits.map(shown));
}
byId("asked").addEventListener("submit", event => {
  event.preventDefault();
  const query = byId("q").value.trim();
  if (!query) return;
  history.replaceState(null, "", "?" + new URLSearchParams({ q: query }));
  search(query);
});
const first = new URLSearchParams(location.search).get("q");
if (first) { byId("q").value = first; search(first); }
</script></body></html>
""".replace("LONGEST", str(LONGEST_QUERY))


def search_app(retriever: Any) -> Any:
    """The app of FastAPI around a fitted retriever.

    Raises:
        NotInstalled: FastAPI is not here.
    """
    needs("fastapi", "stackwise serve")
    from fastapi import FastAPI, HTTPException, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse

    app = FastAPI(title="stackwise search", docs_url=None, redoc_url=None, openapi_url=None)
    one_at_a_time = threading.Lock()

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return PAGE.replace("COUNT", f"{len(retriever.index_):,}")

    @app.exception_handler(RequestValidationError)
    def refused(_: Request, __: RequestValidationError) -> JSONResponse:
        told = f"q is a text of 1 to {LONGEST_QUERY:,} signs, and k a number from 1 to {MOST}"
        return JSONResponse({"detail": told}, 422)

    @app.get("/search")
    def search(
        q: Annotated[str, Query(min_length=1, max_length=LONGEST_QUERY)],
        k: Annotated[int, Query(ge=1, le=MOST)] = 10,
    ) -> dict[str, Any]:
        try:
            with one_at_a_time:
                found = retriever.search(q, k=k, explain=True)
        except StackwiseError as error:
            raise HTTPException(422, str(error)) from error
        return {"query": q, "hits": found}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    def ready() -> dict[str, Any]:
        if not len(retriever.index_):
            raise HTTPException(503, "no documents are indexed")
        return {"status": "ready", "documents": len(retriever.index_)}

    return app


def serve_app(app: Any, host: str, port: int) -> None:
    """Answer until it is stopped."""
    needs("uvicorn", "stackwise serve")
    import uvicorn

    uvicorn.run(app, host=host, port=port, log_level="warning")
