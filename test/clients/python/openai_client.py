"""The openai package as it comes: completes and streams. OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom.

Usage: openai_client.py MODEL PROMPT
Prints one JSON object.
"""

import json
import sys

from openai import OpenAI

model, prompt = sys.argv[1:]
messages = [{"role": "user", "content": prompt}]

with OpenAI(max_retries=0, timeout=20) as client:
    whole = client.chat.completions.create(model=model, messages=messages)
    stream = client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    pieces, usage = [], None
    for chunk in stream:
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        usage = chunk.usage or usage

json.dump(
    {
        "text": whole.choices[0].message.content,
        "tokens": whole.usage.total_tokens,
        "streamed": "".join(pieces),
        "streamedTokens": usage.total_tokens if usage else None,
    },
    sys.stdout,
)
