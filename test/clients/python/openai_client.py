"""The openai package as it comes: completes, streams and has its tools called.

Usage: openai_client.py MODEL...    (SIDECAR_URL and API_KEY say where and as whom)
Prints one JSON object: what each model said.
"""

import json
import os
import sys

from openai import OpenAI

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]


def whole(client, **ask):
    return client.chat.completions.create(**ask)


def streamed(client, **ask):
    with client.chat.completions.stream(**ask, stream_options={"include_usage": True}) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


def told(ask, client, **fields):
    """Asks, and brings the results of the tools that are called."""
    messages = [{"role": "user", "content": "Hello"}]
    calls = []
    while True:
        answer = ask(client, messages=messages, **fields)
        message = answer.choices[0].message
        if not message.tool_calls:
            tokens = [answer.usage.prompt_tokens, answer.usage.completion_tokens]
            return {"text": message.content, "calls": calls, "tokens": tokens}
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            calls.append([call.function.name, json.loads(call.function.arguments)])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})


said = {}
url = os.environ["SIDECAR_URL"] + "/v1"
with OpenAI(base_url=url, api_key=os.environ["API_KEY"], max_retries=0, timeout=20) as client:
    for model in sys.argv[1:]:
        said[model] = {
            "whole": told(whole, client, model=model),
            "streamed": told(streamed, client, model=model),
            "tools": told(whole, client, model=model, tools=TOOLS),
            "streamedTools": told(streamed, client, model=model, tools=TOOLS),
        }

json.dump(said, sys.stdout)
