"""A client that protoc generated from our protos: calls StreamComplete.

Usage: stream_client.py HOST:PORT KEY MODEL PROMPT
Prints one JSON object.
"""

import json
import sys

import grpc
from tollgate.completion.v1 import completion_pb2 as pb
from tollgate.completion.v1 import completion_pb2_grpc

address, key, model, prompt = sys.argv[1:]

with grpc.insecure_channel(address) as channel:
    service = completion_pb2_grpc.CompletionServiceStub(channel)
    chat = pb.Chat(model=model, messages=[pb.Message(role=pb.ROLE_USER, text=prompt)])
    answers = service.StreamComplete(
        pb.StreamCompleteRequest(chat=chat), metadata=[("authorization", f"Bearer {key}")], timeout=20
    )
    kinds, text = [], ""
    try:
        for answer in answers:
            kind = answer.WhichOneof("event")
            if kind == "delta":
                text += answer.delta.text
            if kind not in kinds:
                kinds.append(kind)
        status = "OK"
    except grpc.RpcError as error:
        status = error.code().name

json.dump({"kinds": kinds, "text": text, "status": status}, sys.stdout)
