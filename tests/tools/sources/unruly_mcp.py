"""An MCP server that does what none should, by hand: the SDK would not let it. It starts fast, too.

`unruly_mcp.py FOLDER`: what it sees it writes into files there. `tools.json` in it is one more tool, if it is there.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

FOLDER = Path(sys.argv[1])
OUT = sys.stdout.buffer
LOCK = threading.Lock()
ANY = {"type": "object"}
TEXT = {"type": "object", "properties": {"text": {"type": "string", "maxLength": 100}}, "required": ["text"]}


def tool(name, schema=ANY, **more):
    return {"name": name, "description": f"Does {name}.", "inputSchema": schema, **more}


TOOLS = [
    tool("echo", {**TEXT, "additionalProperties": False}),
    *map(tool, ("sleep", "die", "noise", "flood", "huge", "endless", "big", "mixed", "fails", "not_mcp", "token")),
    *map(tool, ("talk", "grow", "refuse", "wants_input", "silent_error", "reports")),
    tool("looks", annotations={"readOnlyHint": True}),
    tool("lies", outputSchema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
    tool("keeps_its_word", outputSchema={"type": "object", "properties": {"n": {"type": "integer"}}}),
    tool("promises", outputSchema={"type": "object"}),
    tool("slow_pattern", {"type": "object", "properties": {"text": {"type": "string", "pattern": "^(a+)+$"}}}),
    # What cannot be declared.
    tool("no_schema", {"type": "nonsense"}),
    tool("elsewhere", {"type": "object", "properties": {"a": {"$ref": "https://example.com/a.json"}}}),
    tool("no_object", {"type": "string"}),
    tool("x" * 80),
    tool("deep", {"type": "object", "properties": {"a": json.loads('{"items":' * 60 + "{}" + "}" * 60)}}),
    tool(
        "laughs",
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/definitions/a9"}},
            "definitions": {
                "a0": {"type": "string"},
                **{f"a{n}": {"anyOf": [{"$ref": f"#/definitions/a{n - 1}"}] * 9} for n in range(1, 10)},
            },
        },
    ),
    tool("lied_answer", outputSchema={"type": "nonsense"}),
    tool("echo"),
    tool("odd name/here"),
]


def say(message):
    with LOCK:
        OUT.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        OUT.flush()


def raw(data):
    with LOCK:
        OUT.write(data)
        OUT.flush()


def text(value, **more):
    return {"content": [{"type": "text", "text": value}], **more}


def mark(name):
    with (FOLDER / name).open("a") as file:
        file.write("x")


def call(number, name, arguments):
    mark("called-" + name.replace("/", "_"))
    match name:
        case "sleep":
            return None
        case "die":
            os._exit(3)
        case "noise":
            raw(b"ready!\nDEBUG: what a day\n\n{not json}\n")
        case "flood":
            for count in range(1500):
                say({"method": "notifications/message", "params": {"level": "info", "data": f"line {count}"}})
        case "huge":  # the id comes last, as in TypeScript
            end = b'"}]},"jsonrpc":"2.0","id":' + str(number).encode() + b"}\n"
            raw(b'{"result":{"content":[{"type":"text","text":"' + b"x" * 3_000_000 + end)
            return None
        case "endless":
            for _ in range(80):
                raw(b"y" * 1_000_000)
            return None
        case "big":
            return text('"' * 200_000)
        case "mixed":
            return {
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "data": "QUJD" * 1000, "mimeType": "image/png"},
                    {"type": "resource_link", "uri": "file:///a", "name": "a"},
                    {"type": "resource", "resource": {"uri": "file:///b", "text": "inside"}},
                    {"type": "resource", "resource": {"uri": "file:///c", "blob": "QUJD", "mimeType": "a/b"}},
                ]
            }
        case "reports":
            for done, total in ((1, 4), (2, 4), (3, None)):
                far = {"progressToken": number, "progress": done, "message": f"{done} {os.environ.get('TOKEN')}"}
                far |= {"total": total} if total else {}
                say({"method": "notifications/progress", "params": far})
                time.sleep(0.4)
            say({"method": "notifications/progress", "params": {"progressToken": "nobody's", "progress": 9}})
            say({"method": "notifications/progress", "params": {"progressToken": number, "progress": "far"}})
        case "fails":
            return text("no seats left on that day", isError=True)
        case "silent_error":
            return {"content": [], "isError": True}
        case "not_mcp":
            return {"content": "what?"}
        case "refuse":
            say({"id": number, "error": {"code": -32602, "message": "not on a Sunday"}})
            return None
        case "wants_input":
            return {"resultType": "input_required", "inputRequests": {}}
        case "token":
            return text(f"the token is {os.environ.get('TOKEN')}, and {json.dumps(sorted(os.environ))}")
        case "talk":
            for line in range(500):
                print(f"line {line} of {os.environ.get('TOKEN')}", file=sys.stderr)
        case "lies":
            return text("{}", structuredContent={"n": "many"})
        case "keeps_its_word":
            return text("{}", structuredContent={"n": 3})
        case "grow":
            (FOLDER / "tools.json").write_text(json.dumps(tool("grown")))
            for _ in range(200):
                say({"method": "notifications/tools/list_changed"})
    return text(arguments.get("text", name))


def serve(request):
    number, params = request.get("id"), request.get("params", {})
    match request["method"]:
        case "initialize":
            info = {"name": "unruly", "version": "1"}
            say(
                {
                    "id": number,
                    "result": {
                        "protocolVersion": "2025-06-18",
                        "capabilities": {"tools": {"listChanged": True}},
                        "serverInfo": info,
                    },
                }
            )
        case "tools/list":
            mark("listed")
            extra = FOLDER / "tools.json"
            more = [json.loads(extra.read_text())] if extra.exists() else []
            say({"id": number, "result": {"tools": TOOLS + more}})
        case "tools/call":
            result = call(number, params["name"], params.get("arguments") or {})
            if result is not None:
                say({"id": number, "result": result})
        case "notifications/cancelled":
            mark("cancelled")
        case _ if number is not None:
            say({"id": number, "error": {"code": -32601, "message": "no such method"}})


if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (FOLDER / "child").write_text(str(child.pid))
(FOLDER / "pid").write_text(str(os.getpid()))
mark("started")
for line in sys.stdin:
    threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()
if "--stubborn" in sys.argv:
    time.sleep(600)
