"""The openai package as it comes: makes images, speaks, and writes down what was spoken.

Usage: media_client.py PAINTER READER WRITER LISTENER    (SIDECAR_URL and API_KEY say where and as whom)
Prints one JSON object: what each model gave.
"""

import io
import json
import os
import sys
import wave

from openai import OpenAI

painter, reader, writer, listener = sys.argv[1:]


def recording():
    spoken = io.BytesIO()
    with wave.open(spoken, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    spoken.seek(0)
    return "tone.wav", spoken


url = os.environ["SIDECAR_URL"] + "/v1"
with OpenAI(base_url=url, api_key=os.environ["API_KEY"], max_retries=0, timeout=20) as client:
    image = client.images.generate(model=painter, prompt="a cat")
    image_events = [e.type for e in client.images.generate(model=painter, prompt="a cat", partial_images=1, stream=True)]
    with client.audio.speech.with_streaming_response.create(model=reader, voice="alloy", input="Hello") as answer:
        speech_bytes = sum(len(piece) for piece in answer.iter_bytes())
    transcript = client.audio.transcriptions.create(model=writer, file=recording())
    as_text = client.audio.transcriptions.create(model=writer, file=recording(), response_format="text")
    events = client.audio.transcriptions.create(model=listener, file=recording(), stream=True)
    print(
        json.dumps(
            {
                "image": image.data[0].b64_json,
                "image_events": image_events,
                "speech_bytes": speech_bytes,
                "transcript": transcript.text,
                "transcript_as_text": as_text,
                "transcript_events": [event.type for event in events],
            }
        )
    )
