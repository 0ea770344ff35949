"""Documents as tools: what is asked for, and the requests that are made of it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from services.tools import schema
from services.tools.context import ToolError
from services.tools.sources.openapi_document import Document
from services.tools.sources.openapi_operations import Operation, OperationError, operations
from services.tools.sources.source import SourceError

DOCUMENT = """
openapi: 3.0.3
paths:
  /things/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}}
    put:
      operationId: put_thing
      summary: Replace a thing.
      description: All of it.
      parameters:
        - {name: id, in: query, schema: {type: integer}}
        - {name: tags, in: query, schema: {type: array, items: {type: string}}}
        - {name: sizes, in: query, explode: false, schema: {type: array, items: {type: integer}}}
        - {name: filter, in: query, content: {application/json: {schema: {type: object}}}}
        - {name: deep, in: query, style: deepObject, schema: {type: object}}
        - {name: X-Trace, in: header, schema: {type: boolean}}
        - {name: Authorization, in: header, required: true, schema: {type: string}}
        - {name: key, in: query, required: true, schema: {type: string}}
        - {name: session, in: cookie, schema: {type: string}}
      requestBody:
        required: true
        content:
          application/vnd.thing+json:
            schema: {$ref: '#/components/schemas/Thing'}
  /trees:
    post:
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Tree'}}}}
  /broken/{id}: {get: {}}
  /outside: {get: {parameters: [{$ref: 'other.yaml#/x'}]}}
  /nowhere: {get: {parameters: [{name: a, in: query, schema: {$ref: '#/components/schemas/None'}}]}}
  /circle: {get: {parameters: [{$ref: '#/components/parameters/a'}]}}
  /form: {post: {requestBody: {content: {multipart/form-data: {}}}}}
  /cookie: {get: {parameters: [{name: c, in: cookie, required: true}]}}
  /object: {get: {parameters: [{name: o, in: query, required: true, schema: {type: object}}]}}
  /typo: {get: {parameters: [{name: a, in: nowhere}]}}
  /list: {get: [1, 2]}
  /item: {$ref: 'https://example.com/api.yaml'}
components:
  parameters:
    a: {$ref: '#/components/parameters/b'}
    b: {$ref: '#/components/parameters/a'}
  schemas:
    Thing:
      type: object
      required: [id, name, made]
      properties:
        id: {type: string, nullable: true, example: a}
        name: {type: string, enum: [one, two], nullable: true, xml: {name: n}}
        made: {type: string, readOnly: true}
        size: {type: integer, minimum: 0, exclusiveMinimum: true}
        of: {nullable: true, allOf: [{$ref: '#/components/schemas/Kind'}], x-internal: 1}
    Kind: {type: string}
    Tree:
      type: object
      properties: {children: {type: array, items: {$ref: '#/components/schemas/Tree'}}}
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Operation | OperationError]:
    every = list(operations(Document(DOCUMENT), frozenset({("query", "key")})))
    assert len(every) == 12
    return {one.name if isinstance(one, Operation) else str(one).split(":")[0]: one for one in every}


def operation(found: dict[str, Any], name: str) -> Operation:
    one = found[name]
    assert isinstance(one, Operation), one
    return one


def test_everything_becomes_one_object(found: dict[str, Any]) -> None:
    put = operation(found, "put_thing")
    assert (put.method, put.idempotent, put.description) == ("put", True, "Replace a thing.\nAll of it.")
    properties = put.parameters["properties"]
    assert list(properties) == ["id", "query_id", "tags", "sizes", "filter", "X-Trace", "body_id", "name", "size", "of"]
    assert put.parameters["required"] == ["id", "body_id", "name"]
    assert properties["body_id"] == {"type": ["string", "null"]}
    assert properties["name"] == {"type": ["string", "null"], "enum": ["one", "two", None]}
    assert properties["size"] == {"type": "integer", "exclusiveMinimum": 0}
    neutral = schema.neutral(put.parameters)
    assert neutral["properties"]["of"] == {"anyOf": [{"allOf": [{"type": "string"}]}, {"type": "null"}]}
    assert "$defs" not in neutral


def test_request_is_made_as_the_document_says(found: dict[str, Any]) -> None:
    request = operation(found, "put_thing").request(
        {
            "id": "a/b ?{id}",
            "query_id": 3,
            "tags": ["x", "y&z"],
            "sizes": [1, 2],
            "filter": {"a": 1},
            "X-Trace": True,
            "body_id": None,
            "name": "one",
        }
    )
    assert request.path == "/things/a%2Fb%20%3F%7Bid%7D"
    assert request.query == [("id", "3"), ("tags", "x"), ("tags", "y&z"), ("sizes", "1,2"), ("filter", '{"a": 1}')]
    assert request.headers == {"X-Trace": "true"}
    assert (request.has_body, request.body) == (True, {"id": None, "name": "one"})


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_path_cannot_be_left(found: dict[str, Any], value: str) -> None:
    with pytest.raises(ToolError, match="cannot stand in a path"):
        operation(found, "put_thing").request({"id": value, "body_id": "x", "name": "one"})


def test_schema_that_refers_to_itself_stays_as_it_is(found: dict[str, Any]) -> None:
    post = operation(found, "post_trees")
    assert not post.idempotent
    neutral = schema.neutral(post.parameters)
    assert neutral["properties"]["body"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert list(neutral["$defs"]) == ["Tree"]
    assert "required" not in neutral
    assert not post.request({}).has_body
    assert post.request({"body": {"children": []}}).body == {"children": []}


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("GET /broken/{id}", "no parameter for {id} of its path"),
        ("GET /outside", "$ref 'other.yaml#/x' leads out of the document"),
        ("GET /nowhere", "$ref '#/components/schemas/None' leads nowhere"),
        ("GET /circle", "go round in a circle"),
        ("POST /form", "its body is multipart/form-data; only JSON is supported"),
        ("GET /cookie", "parameter 'c' is a cookie"),
        ("GET /object", "parameter 'o' is sent in a way that is not supported"),
        ("GET /typo", "in: Input should be 'path', 'query', 'header' or 'cookie'"),
        ("GET /list", "expected an operation, found list"),
        ("/item", "leads out of the document"),
    ],
)
def test_operation_that_cannot_be_a_tool_says_why(found: dict[str, Any], where: str, problem: str) -> None:
    error = found[where]
    assert isinstance(error, OperationError)
    assert problem in str(error)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("swagger: '2.0'", "found swagger: '2.0'"),
        ("openapi: 4.0.0", "found openapi: '4.0.0'"),
        ("openapi: 3.1.0", "has no `paths`"),
        ("a: [", "is not YAML: line "),
        ("{", "neither JSON nor YAML"),
        ("<html></html>", "is not an object"),
        ("- 1", "is not an object"),
        ('{"a":' * 100_000, "is nested too deeply"),
        ("a: " + "[" * 100_000 + "]" * 100_000, "is nested too deeply"),
        ("a: \x00", "neither JSON nor YAML"),
    ],
)
def test_document_that_is_none_says_so(text: str, problem: str) -> None:
    with pytest.raises(SourceError) as caught:
        Document(text)
    assert problem in str(caught.value)


def test_document_that_explodes_is_refused_in_time() -> None:
    lists = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    item = "get: {parameters: [{name: a, in: query, schema: {enum: *a8}}]}"
    bomb = f"a0: &a0 {{type: string}}\n{lists}\nopenapi: 3.1.0\npaths: {{/x: {{{item}}}}}"
    [one] = operations(Document(bomb), frozenset())
    assert isinstance(one, Operation)
    with pytest.raises(schema.SchemaError, match="more than 20000 parts"):
        schema.check_bounds(schema.neutral(one.parameters))


def test_dates_of_yaml_are_no_fault() -> None:
    text = "openapi: 3.1.0\npaths: {/x: {get: {parameters: [{name: a, in: query, schema: {enum: [2024-01-01]}}]}}}"
    [one] = operations(Document(text), frozenset())
    assert isinstance(one, Operation)
    with pytest.raises(schema.SchemaError, match="is not JSON"):
        schema.check_bounds(schema.neutral(one.parameters))
    assert yaml.safe_load(text)
