"""The page of the API: a small but tricky OpenAPI 3.1 document as tables, examples, commands and links."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.page.test_page_access import faults
from tests.support.browser import Tab, opened, run_by_shell, serious
from tests.support.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TRICKY = 'it\'s "good" $HOME <b>\n'
SCHEMAS: dict[str, Any] = {
    "One": {
        "type": "object",
        "title": "One text",
        "required": ["text"],
        "properties": {
            "text": {"type": "string", "maxLength": 1000, "description": "The `text` to read. <b>Not HTML</b>"},
            "top_k": {"type": ["integer", "null"], "minimum": 1, "default": None},
            "truncation": {"$ref": "#/components/schemas/Truncation", "description": "How a long text is read."},
            "threshold": {
                "anyOf": [
                    {"type": "number", "minimum": 0, "maximum": 1},
                    {"type": "object", "additionalProperties": {"type": "number"}},
                ]
            },
        },
    },
    "Many": {
        "allOf": [
            {
                "type": "object",
                "required": ["texts"],
                "properties": {
                    "texts": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 4},
                },
            },
            {"type": "object", "properties": {"a/b~c": {"const": 1}}},
        ]
    },
    "Truncation": {"enum": ["head", "head_tail", "windows", "error"]},
    "Tree": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
            "anything": True,
        },
    },
    "a/b": {"type": "object", "properties": {"score": {"type": "number", "exclusiveMinimum": 0}}},
    "Loop": {"$ref": "#/components/schemas/Loop"},
}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Tricky", "version": "1", "description": "First.\n\nSecond with `code`."},
    "tags": [{"name": "texts", "description": "About texts."}, {"name": "unused"}],
    "paths": {
        "/predict": {
            "post": {
                "operationId": "predict",
                "summary": "Classify <i>texts</i>",
                "tags": ["texts"],
                "parameters": [{"$ref": "#/components/parameters/Timeout"}],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "oneOf": [
                                    {"$ref": "#/components/schemas/One"},
                                    {"$ref": "#/components/schemas/Many"},
                                    {"properties": {"inputs": {"pattern": "a" * 50}}, "required": ["inputs"]},
                                ]
                            },
                            "examples": {"one": {"summary": "One text", "value": {"text": TRICKY}}},
                        }
                    },
                },
                "responses": {
                    "200": {
                        "description": "The answer.",
                        "headers": {"Server-Timing": {"$ref": "#/components/headers/Timing"}},
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/a~1b"},
                                "examples": {"reply": {"value": {"label": "pos", "score": 0.5}}},
                            }
                        },
                    },
                    "429": {"$ref": "#/components/responses/Busy"},
                },
            }
        },
        "/tree/{name}": {
            "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
            "get": {"summary": "A tree", "deprecated": True, "responses": {"default": {"description": "It."}}},
            "put": {
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}}},
                "responses": {},
            },
        },
        "/loop": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Loop"}},
                        "text/csv": {"schema": {"$ref": "#/components/nowhere"}, "example": "a,b\nc"},
                    }
                },
                "responses": {"204": {"description": "Nothing."}},
            }
        },
    },
    "components": {
        "schemas": SCHEMAS,
        "headers": {"Timing": {"description": "Where the time went.", "schema": {"type": "string"}}},
        "parameters": {
            "Timeout": {
                "name": "X-Request-Timeout-Ms",
                "in": "header",
                "description": "How long to wait.",
                "schema": {"type": "integer", "minimum": 1},
            }
        },
        "responses": {"Busy": {"description": "Too many at once.", "headers": {"Retry-After": {"schema": {}}}}},
    },
}


@contextmanager
def docs(browser: Browser, server: Server, document: Any = DOCUMENT, path: str = "/docs") -> Iterator[Tab]:
    """Open the page with `document` in place of the service's own."""
    with opened(browser, server, path=None) as tab:
        body = document if isinstance(document, str) else json.dumps(document)
        tab.page.route("**/openapi.json", lambda route: route.fulfill(body=body, content_type="application/json"))
        tab.page.goto(f"http://127.0.0.1:{server.port}{path}")
        tab.page.wait_for_selector("#intro[aria-busy=false]", state="attached")
        yield tab


@pytest.fixture
def tricky(browser: Browser, server: Server) -> Iterator[Tab]:
    """The page of the tricky document, with every part open."""
    with docs(browser, server) as tab:
        open_all(tab)
        yield tab


def open_all(tab: Tab) -> None:
    """Open every part that can be."""
    tab.page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")


def fields(tab: Tab, table: str) -> dict[str, list[str]]:
    """Return the rows of the table with the accessible name `table`: field -> its other cells."""
    rows = tab.page.get_by_role("group", name=table, exact=True).locator("tbody tr").all()
    cells = [[" ".join(cell.split()) for cell in row.locator("th, td").all_inner_texts()] for row in rows]
    return {name: others for name, *others in cells}


def test_every_operation_is_there(tricky: Tab) -> None:
    """Operations stand under their tags, those without one under Other, each with a link that leads to it."""
    assert tricky.page.locator("#title").inner_text() == "Tricky"
    assert tricky.page.locator("#intro p").all_inner_texts() == ["First.", "Second with code."]
    assert tricky.page.locator(".operations-of").all_inner_texts() == ["texts", "Other"]
    assert [" ".join(text.split()) for text in tricky.page.locator(".operation h3").all_inner_texts()] == [
        *("POST /predict", "GET /tree/{name}", "PUT /tree/{name}", "POST /loop")
    ]
    assert tricky.page.locator("#op-predict .says").first.inner_text() == "Classify <i>texts</i>"
    for link in tricky.page.locator("#contents a").all():
        assert tricky.page.locator(link.get_attribute("href") or "").count() == 1


def test_fields_are_in_words(tricky: Tab) -> None:
    """Fields behind $ref, oneOf, anyOf and allOf have their type, limits, whether they are required, and meaning."""
    one = fields(tricky, "Body of POST /predict: One text")
    assert one == {
        "text required": ["string; at most 1,000 characters", "The text to read. <b>Not HTML</b>"],
        "top_k": ["integer or null; at least 1, default null", ""],
        "truncation": ['one of "head", "head_tail", "windows", "error"', "How a long text is read."],
        "threshold": ["number or object of number by name; at least 0, at most 1", ""],
    }
    many = fields(tricky, "Body of POST /predict: Many")
    assert many == {
        "texts required": ["array of string; at least 1 item, at most 4 items"],
        "a/b~c": ["1"],
    }
    other = fields(tricky, "Body of POST /predict: with inputs")
    assert other == {"inputs required": ["anything; of a form that openapi.json has"]}
    assert fields(tricky, "Parameters of /predict") == {
        "X-Request-Timeout-Ms": ["header", "integer; at least 1", "How long to wait."]
    }
    assert fields(tricky, "Body of 200") == {"score": ["number; more than 0"]}
    assert fields(tricky, "Headers of 200") == {"Server-Timing": ["string", "Where the time went."]}
    assert fields(tricky, "Headers of 429") == {"Retry-After": ["anything"]}


def test_schemas_of_themselves_come_to_an_end(tricky: Tab) -> None:
    """A tree of itself is shown once, and a $ref in a circle or to nowhere does no harm."""
    assert list(fields(tricky, "Body of PUT /tree/{name}")) == ["name", "children", "anything"]
    loop = tricky.page.locator("#op-post--loop").inner_text()
    assert "Type: anything" in loop
    assert "content-type: text/csv" in loop


def test_the_commands_work(tricky: Tab) -> None:
    """The curl of an example, run by bash, sends that example; a path's parameter has a value."""
    command = tricky.page.locator("#op-predict code").filter(has_text="curl").inner_text()
    assert run_by_shell(command) == tricky.server.predict({"text": TRICKY}).json()
    commands = [text for text in tricky.page.locator("code").all_inner_texts() if text.startswith("curl")]
    assert f"curl -s 'http://127.0.0.1:{tricky.server.port}/tree/text'" in commands
    assert any(text.startswith("curl -s -X PUT") for text in commands)
    assert '"label": "pos"' in tricky.page.locator("pre.reply").first.inner_text()


def test_a_link_opens_its_operation(browser: Browser, server: Server) -> None:
    """An address with an operation opens it and puts the focus there; so does its link, by keyboard too."""
    with docs(browser, server, path="/docs#op-predict") as tab:
        assert tab.page.locator("#op-predict").get_attribute("open") is not None
        assert tab.page.locator(".operation[open]").count() == 1
        tab.page.get_by_role("link", name="POST /loop").press("Enter")
        tab.page.wait_for_selector("#op-post--loop[open]")
        assert tab.page.evaluate("document.activeElement.parentElement.id") == "op-post--loop"


def test_no_serious_fault(tricky: Tab) -> None:
    """axe-core finds no fault with every part open, in light and dark, and nothing is wider than the window."""
    assert faults(tricky) == {}


def test_a_document_that_is_none(browser: Browser, server: Server) -> None:
    """Something else than a description with routes ends in a sentence."""
    for document, sentence in {
        "{": "The answer is no JSON.",
        "null": "The answer is no JSON.",
        "[]": "The description names no route.",
        '{"openapi": "3.1.0", "paths": {}}': "The description names no route.",
    }.items():
        with docs(browser, server, document) as tab:
            said = tab.page.locator("#problem .problem strong, #operations p").inner_text()
            assert said == sentence, document


def test_the_services_own_description(browser: Browser, server: Server) -> None:
    """The page has a box for every operation of /openapi.json, and the command of /predict's first example works."""
    reply = server.request("GET", "/openapi.json")
    operations = [method for path in reply.json()["paths"].values() for method in path if method != "parameters"]
    with opened(browser, server, path="/docs") as tab:
        tab.page.wait_for_selector(".operation")
        assert tab.page.locator(".operation").count() == len(operations)
        assert (serious(tab.page), tab.overflow()) == ([], 0)
        box = tab.page.locator(".operation").filter(has=tab.page.locator("h3", has_text="POST /predict")).first
        box.locator("summary").first.click()
        assert "error" not in run_by_shell(box.locator(".command code").first.inner_text())


def test_failures_are_sentences(browser: Browser, server: Server) -> None:
    """A description that cannot be had is told in a sentence, and Try again gets it."""
    with opened(browser, server, path=None) as tab:
        tab.allowed.append("ERR_FAILED")
        tab.page.route("**/openapi.json", lambda route: route.abort())
        tab.page.goto(f"http://127.0.0.1:{server.port}/docs")
        problem = tab.page.locator("#problem .problem")
        assert problem.inner_text().startswith("The server does not answer. See that the service runs")
        tab.page.unroute("**/openapi.json")
        tab.page.route("**/openapi.json", lambda route: route.fulfill(json=DOCUMENT))
        problem.get_by_role("button", name="Try again").click()
        tab.page.wait_for_selector("#op-predict")
        assert tab.page.locator("#problem .problem").count() == 0


def test_a_key_is_asked_for(browser: Browser, server: Server) -> None:
    """With keys the page asks for one, shows the description, and names the key by a variable in its commands."""

    def locked(route: Any) -> None:
        if route.request.headers.get("x-api-key") == "secret-key":
            route.fulfill(json=DOCUMENT)
        else:
            route.fulfill(status=401, json={"error": "the key is missing or wrong"})

    with opened(browser, server, path=None) as tab:
        tab.allowed.append("401")
        tab.page.route("**/openapi.json", locked)
        tab.page.route("**/info", locked)
        tab.page.goto(f"http://127.0.0.1:{server.port}/docs")
        tab.page.get_by_label("Key", exact=True).fill("secret-key")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_selector("#op-predict")
        open_all(tab)
        assert '-H "x-api-key: $KEY"' in tab.page.locator("#op-predict code").filter(has_text="curl").inner_text()
        assert "secret-key" not in tab.page.content()
