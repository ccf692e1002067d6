"""The openai package as it comes, by its newer wire: responses, streams, tools, and what is stored.

Usage: responses_client.py MODEL...    (SIDECAR_URL and API_KEY say where and as whom)
Prints one JSON object: what each model said.
"""

import json
import os
import sys

from openai import NotFoundError, OpenAI

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}]


def whole(client, **ask):
    return client.responses.create(**ask)


def streamed(client, **ask):
    with client.responses.stream(**ask) as stream:
        for _ in stream:
            pass
        return stream.get_final_response()


def told(ask, client, **fields):
    """Asks, and brings the results of the tools that are called."""
    items = [{"role": "user", "content": "Hello"}]
    calls = []
    while True:
        answer = ask(client, input=items, **fields)
        called = [item for item in answer.output if item.type == "function_call"]
        if not called:
            look_up(client, answer)
            tokens = [answer.usage.input_tokens, answer.usage.output_tokens]
            return {"text": answer.output_text, "calls": calls, "tokens": tokens}
        items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output]
        for call in called:
            calls.append([call.name, json.loads(call.arguments)])
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})


def look_up(client, answer):
    """What is stored is there until it is deleted, and what is not is not."""
    if answer.store:
        again = client.responses.retrieve(answer.id)
        assert (again.id, again.output_text) == (answer.id, answer.output_text)
        assert len(client.responses.input_items.list(answer.id, limit=10).data) > 0
        client.responses.delete(answer.id)
    try:
        client.responses.retrieve(answer.id)
    except NotFoundError:
        return
    raise AssertionError("it is still there")


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
