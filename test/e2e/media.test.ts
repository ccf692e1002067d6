import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { AzureOpenAI, toFile } from "openai";
import { PackagesMissing, pythonClient, skipWithout } from "../foreign-clients.ts";
import { toneOf } from "../recording.ts";
import { sendJson, Upstream } from "../upstream.ts";
import { Stack } from "./stack.ts";

const deployment = (name: string, model: string, base: string, mode: string, prices = "") => `
  - model_name: ${name}
    litellm_params: { model: ${model}, api_base: "${base}", api_key: sk-upstream${prices} }
    model_info: { mode: ${mode} }`;

const models = (base: string) =>
  [
    deployment("painter", "openai/gpt-image-1", base, "image_generation"),
    deployment("old-painter", "openai/dall-e-3", base, "image_generation", ", input_cost_per_image: 0.04"),
    deployment("reader", "openai/tts-1", base, "audio_speech", ", input_cost_per_character: 0.000015"),
    deployment("actor", "openai/gpt-4o-mini-tts", base, "audio_speech"),
    deployment("writer", "openai/whisper-1", base, "audio_transcription"),
    deployment("listener", "openai/gpt-4o-transcribe", base, "audio_transcription"),
    deployment("ranker", "openai_like/rerank", base, "rerank", ", input_cost_per_query: 0.002"),
  ].join("");

const picture = Buffer.from("a picture").toString("base64");
const imageUsage = {
  ...{ input_tokens: 50, output_tokens: 4160, total_tokens: 4210 },
  input_tokens_details: { text_tokens: 40, image_tokens: 10 },
};
const heardUsage = {
  ...{ type: "tokens", input_tokens: 14, output_tokens: 45, total_tokens: 59 },
  input_token_details: { text_tokens: 4, audio_tokens: 10 },
};
/** Every byte value, in pieces that no reader expects. */
const audio = Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7) % 256));

/** In nano-dollars. */
const bills = {
  // 40 x 5000 + 10 x 10000 + 4160 x 40000
  image: 166_700_000n,
  // 2 x $0.04
  oldImages: 80_000_000n,
  // 11 x $0.000015
  speech: 165_000n,
  // 4 x 2500 + 10 x 6000 + 45 x 10000
  heard: 520_000n,
  // 9 s x $0.36 / 3600
  whisper: 900_000n,
  // The recording itself has 2 s.
  whisperAsText: 200_000n,
  // 3 x $0.002
  ranking: 6_000_000n,
};

describe("an unchanged OpenAI client asks for images and audio", () => {
  let upstream: Upstream;
  let stack: Stack;
  before(async () => {
    upstream = await Upstream.start();
    stack = await Stack.start({ sidecars: 1, models: models(upstream.baseUrl) });
    const { scripts } = upstream;
    scripts.set("gpt-image-1", (call, res) => {
      if (JSON.parse(call.body).stream !== true) {
        return sendJson(res, 200, { created: 1, data: [{ b64_json: picture }], usage: imageUsage });
      }
      const partial = { type: "image_generation.partial_image", partial_image_index: 0, b64_json: picture };
      events(res, [partial, { type: "image_generation.completed", b64_json: picture, usage: imageUsage }]);
    });
    scripts.set("dall-e-3", (call, res) => {
      const data = Array.from({ length: JSON.parse(call.body).n ?? 1 }, () => ({ b64_json: picture }));
      sendJson(res, 200, { created: 1, data });
    });
    scripts.set("tts-1", (_call, res) => void speak(res));
    scripts.set("gpt-4o-mini-tts", (call, res) => {
      if (JSON.parse(call.body).stream_format !== "sse") return void speak(res);
      const usage = { input_tokens: 11, output_tokens: 100, total_tokens: 111 };
      const delta = { type: "speech.audio.delta", audio: audio.subarray(0, 99).toString("base64") };
      events(res, [delta, { type: "speech.audio.done", usage }]);
    });
    scripts.set("whisper-1", ({ form }, res) => {
      const format = form?.get("response_format");
      if (format === "text" || format === "srt" || format === "vtt") {
        res.writeHead(200, { "content-type": "text/plain; charset=utf-8" });
        return void res.end("Hello\n");
      }
      const usage = { type: "duration", seconds: 9 };
      sendJson(res, 200, format === "verbose_json" ? { text: "Hello", duration: 8.47 } : { text: "Hello", usage });
    });
    scripts.set("gpt-4o-transcribe", ({ form }, res) => {
      if (form?.get("stream") !== "true") return sendJson(res, 200, { text: "Hello", usage: heardUsage });
      const deltas = ["Hel", "lo"].map((delta) => ({ type: "transcript.text.delta", delta }));
      events(res, [...deltas, { type: "transcript.text.done", text: "Hello", usage: heardUsage }]);
    });
    scripts.set("rerank", (_call, res) =>
      sendJson(res, 200, { id: "r", results: [], meta: { billed_units: { search_units: 3 } } }),
    );
  });
  after(async () => {
    await stack.close();
    await upstream.close();
  });

  const url = () => stack.sidecars[0]?.url ?? "";
  const client = (apiKey: string) => new OpenAI({ apiKey, baseURL: `${url()}/v1`, maxRetries: 0 });
  const recording = () => toFile(toneOf(2), "tone.wav");
  /** Makes a call with a key of its own. @returns what the books have of it, in nano-dollars. */
  const costOf = async (call: (api: OpenAI) => PromiseLike<unknown>): Promise<bigint> => {
    const key = await stack.generateKey({ max_budget: 5 });
    await call(client(key));
    const [row] = await stack.booked(key, 1);
    const cost = BigInt(row?.cost_nanos ?? -1);
    assert.equal((await stack.spent(key)).spent, cost);
    return cost;
  };

  test("images cost their tokens, or each its price", async () => {
    const one = await costOf(async (api) => {
      const { data } = await api.images.generate({ model: "painter", prompt: "a cat", quality: "high" });
      assert.equal(data?.[0]?.b64_json, picture);
    });
    assert.equal(one, bills.image);
    assert.equal(upstream.calls.at(-1)?.path, "/v1/images/generations");
    const two = await costOf((api) => api.images.generate({ model: "old-painter", prompt: "a cat", n: 2 }));
    assert.equal(two, bills.oldImages);
  });

  test("images come as a stream", async () => {
    const types: string[] = [];
    const cost = await costOf(async (api) => {
      const ask = { model: "painter", prompt: "a cat", partial_images: 1, stream: true } as const;
      for await (const event of await api.images.generate(ask)) types.push(event.type);
    });
    assert.deepEqual(types, ["image_generation.partial_image", "image_generation.completed"]);
    assert.equal(cost, bills.image);
  });

  test("speech flows byte for byte as it comes, and costs its characters", async () => {
    const cost = await costOf(async (api) => {
      const answer = await api.audio.speech.create({ model: "reader", voice: "alloy", input: "Hello wörld" });
      assert.equal(answer.headers.get("content-type"), "audio/mpeg");
      const reader = answer.body?.getReader();
      const first = await reader?.read();
      assert.ok((first?.value?.length ?? 0) < audio.length, "the first bytes are here before the last are made");
      const pieces = [Buffer.from(first?.value ?? [])];
      for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) {
        pieces.push(Buffer.from(next.value));
      }
      assert.ok(Buffer.concat(pieces).equals(audio));
    });
    assert.equal(cost, bills.speech);
  });

  test("speech in events costs what they report", async () => {
    const cost = await costOf(async (api) => {
      const ask = { model: "actor", voice: "alloy", input: "Hello wörld", stream_format: "sse" } as const;
      const text = await (await api.audio.speech.create(ask)).text();
      assert.match(text, /speech\.audio\.done/);
    });
    // 11 x 600 + 100 x 12000
    assert.equal(cost, 1_206_600n);
  });

  test("a transcription costs what its usage says, whole or as a stream", async () => {
    const whole = await costOf(async (api) => {
      const { text } = await api.audio.transcriptions.create({ model: "listener", file: await recording() });
      assert.equal(text, "Hello");
    });
    const texts: string[] = [];
    const streamed = await costOf(async (api) => {
      const ask = { model: "listener", file: await recording(), stream: true } as const;
      for await (const event of await api.audio.transcriptions.create(ask)) {
        if (event.type === "transcript.text.delta") texts.push(event.delta);
      }
    });
    assert.deepEqual(texts, ["Hel", "lo"]);
    assert.deepEqual([whole, streamed], [bills.heard, bills.heard]);
  });

  test("a recording passes as it is, in every format of answer, and costs its seconds", async () => {
    const ask = async (api: OpenAI, format: "json" | "text" | "srt" | "vtt" | "verbose_json") => {
      const file = await recording();
      return api.audio.transcriptions.create({ model: "writer", file, response_format: format, prompt: "hello" });
    };
    const cost = async (format: Parameters<typeof ask>[1]) => costOf((api) => ask(api, format));
    assert.equal(await cost("json"), bills.whisper);
    assert.equal(await cost("verbose_json"), bills.whisper);
    const { form } = upstream.calls.at(-1) ?? {};
    const file = form?.get("file");
    assert.ok(file instanceof File && Buffer.from(await file.arrayBuffer()).equals(toneOf(2)));
    assert.deepEqual([form?.get("model"), form?.get("prompt")], ["whisper-1", "hello"]);
    for (const format of ["text", "srt", "vtt"] as const) assert.equal(await cost(format), bills.whisperAsText, format);
    const said = await ask(client(await stack.generateKey({})), "text");
    assert.equal(said, "Hello\n");
  });

  test("a model that makes no streams answers whole to who asked for one", async () => {
    const file = await recording();
    const api = client(await stack.generateKey({}));
    const ask = { model: "writer", file, stream: true } as const;
    const answer = await api.audio.transcriptions.create(ask).asResponse();
    assert.equal(answer.headers.get("content-type"), "application/json");
    assert.equal(((await answer.json()) as { text: string }).text, "Hello");
  });

  test("translations, and Azure's paths", async () => {
    const key = await stack.generateKey({});
    await client(key).audio.translations.create({ model: "writer", file: await recording() });
    assert.equal(upstream.calls.at(-1)?.path, "/v1/audio/translations");
    const azure = new AzureOpenAI({ apiKey: key, endpoint: url(), apiVersion: "2024-10-21", maxRetries: 0 });
    await azure.images.generate({ model: "painter", prompt: "a cat" });
    const { text } = await azure.audio.transcriptions.create({ model: "writer", file: await recording() });
    assert.equal(text, "Hello");
    assert.equal(upstream.calls.at(-1)?.form?.get("model"), "whisper-1");
  });

  test("a ranking costs Cohere's units", async () => {
    const body = { model: "ranker", query: "q", documents: ["a", "b"] };
    assert.equal(await costOf((api) => api.post("/rerank", { body })), bills.ranking);
  });

  test("what a budget cannot pay is refused before anybody is asked", async () => {
    const api = client(await stack.generateKey({ max_budget: 0.001 }));
    const before = upstream.calls.length;
    const refused = [
      api.images.generate({ model: "painter", prompt: "a cat" }),
      api.images.generate({ model: "old-painter", prompt: "a cat" }),
      api.audio.speech.create({ model: "reader", voice: "alloy", input: "x".repeat(100) }),
      api.audio.transcriptions.create({ model: "writer", file: await toFile(toneOf(60), "tone.wav") }),
    ];
    for (const call of refused) {
      await assert.rejects(call, { status: 429, code: "budget_exceeded" });
    }
    assert.equal(upstream.calls.length, before);
  });

  test("what is no form, or has no recording, is refused in words", async () => {
    const key = await stack.generateKey({});
    const send = async (body: BodyInit, headers: Record<string, string> = {}) => {
      const init = { method: "POST", body, headers: { authorization: `Bearer ${key}`, ...headers } };
      const answer = await fetch(`${url()}/v1/audio/transcriptions`, init);
      return [answer.status, ((await answer.json()) as { error: { param: string | null } }).error.param];
    };
    const form = (fields: Record<string, string>) => {
      const made = new FormData();
      for (const [name, text] of Object.entries(fields)) made.set(name, text);
      return made;
    };
    assert.deepEqual(await send("{}", { "content-type": "application/json" }), [415, null]);
    assert.deepEqual(await send("--b\r\n", { "content-type": "multipart/form-data; boundary=b" }), [400, null]);
    assert.deepEqual(await send(form({ model: "writer" })), [400, "file"]);
    assert.deepEqual(await send(form({ model: "writer", file: "text" })), [400, "file"]);
    assert.deepEqual(await send(form({ file: "text" })), [400, "model"]);
    assert.deepEqual(await send(form({ model: "writer", api_base: "http://x", file: "f" })), [400, "api_base"]);
  });

  test("speech that breaks off is broken off", async () => {
    upstream.scripts.set("tts-1", async (_call, res) => {
      res.writeHead(200, { "content-type": "audio/mpeg" });
      res.write(audio);
      await sleep(50);
      res.destroy();
    });
    const api = client(await stack.generateKey({}));
    const answer = await api.audio.speech.create({ model: "reader", voice: "alloy", input: "Hello" });
    await assert.rejects(answer.arrayBuffer());
    upstream.scripts.set("tts-1", (_call, res) => void speak(res));
  });

  test("Python's client gets the same", { skip: skipWithout("python3"), timeout: 600_000 }, async (context) => {
    const run = await pythonClient().catch((thrown: unknown) => {
      if (!(thrown instanceof PackagesMissing)) throw thrown;
      context.skip(thrown.message);
    });
    if (run === undefined) return;
    const env = { SIDECAR_URL: url(), API_KEY: await stack.generateKey({}) };
    assert.deepEqual(await run("media_client.py", ["painter", "reader", "writer", "listener"], env), {
      image: picture,
      image_events: ["image_generation.partial_image", "image_generation.completed"],
      speech_bytes: audio.length,
      transcript: "Hello",
      transcript_as_text: "Hello\n",
      transcript_events: ["transcript.text.delta", "transcript.text.delta", "transcript.text.done"],
    });
  });
});

async function speak(res: ServerResponse): Promise<void> {
  res.writeHead(200, { "content-type": "audio/mpeg" });
  for (let start = 0; start < audio.length; start += 33_333) {
    res.write(audio.subarray(start, start + 33_333));
    await sleep(20);
  }
  res.end();
}

function events(res: ServerResponse, values: readonly ({ readonly type: string } & Record<string, unknown>)[]): void {
  res.writeHead(200, { "content-type": "text/event-stream" });
  for (const value of values) res.write(`event: ${value.type}\ndata: ${JSON.stringify(value)}\n\n`);
  res.end();
}
