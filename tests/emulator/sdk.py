"""The unmodified Python SDK as a client of an emulator in this process."""

from typing import Any

from google import genai
from google.genai import types
from google.genai.live import AsyncSession

from tests.emulator.conftest import Here

VERTEX = "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent"


def client(here: Here, *, vertex: bool = False, **switches: Any) -> genai.Client:
    """A client with a key, of the Developer API or as on Vertex, with switches of the emulator's."""
    options = types.HttpOptions(
        # On Vertex the SDK takes a base URL without a project as it is.
        base_url=here.address.replace("https", "wss") + VERTEX if vertex else here.address,
        api_version="v1beta1" if vertex else "v1beta",
        headers={
            "x-emulator-switches": "; ".join(f"{name}={value}" for name, value in switches.items()),
            "x-goog-api-key": "key",
        },
        async_client_args={"ssl": here.ssl_context},
    )
    return genai.Client(vertexai=vertex, api_key=None if vertex else "key", http_options=options)


async def ask(live: AsyncSession, text: str = "hello") -> None:
    """A typed turn."""
    await live.send_client_content(turns=types.Content(role="user", parts=[types.Part(text=text)]))
