import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { framesOf, type Item, ResponsesServer, type Saying } from "../responses-server.ts";
import { Upstream } from "../upstream.ts";
import { Stack } from "./stack.ts";

/** In nano-dollars, by hand: 10 tokens at $1 a million, 30 from a cache at $0.1, 5 at $2 and of these 2 thought at $3. */
const cost = 10n * 1_000n + 30n * 100n + 3n * 2_000n + 2n * 3_000n;
const usage = {
  ...{ input_tokens: 40, output_tokens: 5, total_tokens: 45 },
  input_tokens_details: { cached_tokens: 30 },
  output_tokens_details: { reasoning_tokens: 2 },
};
const prices = `
      input_cost_per_token: 0.000001
      cache_read_input_token_cost: 0.0000001
      output_cost_per_token: 0.000002
      output_cost_per_reasoning_token: 0.000003`;

const deployment = (group: string, id: string, model: string, base: string, more = "") => `
  - model_name: ${group}
    litellm_params:
      model: ${model}
      api_base: ${base}
      api_key: sk-upstream-${id}${more}${prices}
    model_info: { id: ${id} }`;

/** Says how much of the conversation it knows. */
const saying: Saying = ({ conversation }): Item[] => {
  const turns = conversation.filter(({ role }) => role === "user").length;
  return [{ type: "message", text: `turn ${turns}` }];
};

describe("responses that providers keep, by an unchanged OpenAI client at two sidecars", () => {
  let upstreams: readonly Upstream[] = [];
  let servers: readonly ResponsesServer[] = [];
  let stack: Stack;
  before(async () => {
    upstreams = await Promise.all([Upstream.start(), Upstream.start()]);
    servers = ["east", "west"].map((name) => new ResponsesServer({ name, usage, saying }));
    for (const [index, upstream] of upstreams.entries()) upstream.responses = servers[index];
    const [east = "", west = ""] = upstreams.map(({ baseUrl }) => baseUrl);
    const models = [
      deployment("spread", "east", "openai/spoken", east),
      deployment("spread", "west", "openai/spoken", west),
      deployment("other", "other", "openai/another", east).replace("sk-upstream-other", "sk-upstream-east"),
      deployment("foreign", "foreign", "openai/another", east),
      deployment("chats", "chats", "openai/ok", east, "\n      use_chat_completions_api: true"),
      deployment("drops", "drops", "openai_like/ok", east, "\n      drop_params: true"),
      deployment("said", "said", "openai_like/spoken", east).replace(
        "{ id: said }",
        '{ id: said, supported_endpoints: ["/v1/responses"] }',
      ),
      deployment("mixed", "mixed-chat", "openai_like/ok", east),
      deployment("mixed", "mixed-own", "openai/spoken", east),
    ].join("");
    const config = "  disable_cooldowns: true\nlitellm_settings: { cache: true, cache_params: { type: local } }";
    stack = await Stack.start({ sidecars: 2, models, config });
  });
  after(async () => {
    await stack.close();
    await Promise.all(upstreams.map((upstream) => upstream.close()));
  });

  const client = (apiKey: string, sidecar = 0) =>
    new OpenAI({ apiKey, baseURL: `${stack.sidecars[sidecar]?.url}/v1`, maxRetries: 0 });
  const failed = async (promise: Promise<unknown>) => {
    const error = await promise.then(
      () => assert.fail("it did not fail"),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof OpenAI.APIError, String(error));
    return error;
  };
  const callsTo = (index: number) => upstreams[index]?.calls ?? [];
  const keptBy = (index: number) => servers[index]?.kept.size ?? 0;

  test("each sidecar finds what the other has had made, and says the same of it", async () => {
    const key = await stack.generateKey({});
    const [here, there] = [client(key, 0).responses, client(key, 1).responses];
    const isUsed = (index: number) => callsTo(index).length > 0;
    for (let made = 0; made < 6 || (made < 40 && !(isUsed(0) && isUsed(1))); made++) {
      const response = await here.create({ model: "spread", input: [{ role: "user", content: "Hello" }] });
      assert.equal(response.output_text, "turn 1");
      assert.equal(
        servers.some(({ kept }) => kept.has(response.id)),
        false,
        "the provider's id is not the caller's",
      );
      const again = await there.retrieve(response.id, { include: ["message.output_text.logprobs"] });
      assert.deepEqual([again.id, again.output_text, again.usage], [response.id, "turn 1", response.usage]);
      const items = await there.inputItems.list(response.id, { order: "asc", limit: 5 });
      assert.deepEqual(
        items.data.map((item) => "content" in item && item.content),
        ["Hello"],
      );
      await there.delete(response.id);
      const gone = await failed(here.retrieve(response.id));
      assert.deepEqual([gone.status, gone.code], [404, "response_not_found"]);
    }
    assert.ok(isUsed(0) && isUsed(1), "both deployments were used");
    const paths = upstreams.flatMap(({ calls }) => calls.map(({ path }) => path));
    assert.ok(
      paths.some((path) => /^\/v1\/responses\/resp_(east|west)\d+\?include/.test(path)),
      paths.join("\n"),
    );
  });

  test("a conversation goes on where its last answer is, whole and streamed, from either sidecar", async () => {
    const key = await stack.generateKey({});
    let previous: string | undefined;
    for (let turn = 1; turn <= 6; turn++) {
      const { responses } = client(key, turn % 2);
      const asked = {
        model: "spread",
        input: "Go on",
        ...(previous !== undefined && { previous_response_id: previous }),
      };
      const response = turn % 3 === 0 ? await responses.stream(asked).finalResponse() : await responses.create(asked);
      assert.equal(response.output_text, `turn ${turn}`);
      assert.equal(response.previous_response_id, previous ?? null, "as its caller named it");
      previous = response.id;
    }
  });

  test("it goes on with another model of the same account, and with none of another's", async () => {
    const key = await stack.generateKey({});
    const { responses } = client(key);
    let east = "";
    while (east === "") {
      const before = keptBy(0);
      const { id } = await responses.create({ model: "spread", input: "Hello" });
      if (keptBy(0) > before) east = id;
    }
    const on = await responses.create({ model: "other", input: "And?", previous_response_id: east });
    assert.equal(on.output_text, "turn 2");
    for (const model of ["foreign", "chats"]) {
      const refused = await failed(responses.create({ model, input: "And?", previous_response_id: east }));
      assert.deepEqual([refused.status, refused.code], [400, "invalid_request"]);
      assert.match(refused.message, /does not have the response that `previous_response_id` names/);
    }
  });

  test("nobody but its key's team comes back to a response", async () => {
    await stack.admin("POST", "/team/new", { team_id: "red" });
    await stack.admin("POST", "/team/new", { team_id: "blue" });
    const [red, mate, blue, loner, other] = await Promise.all(
      [{ team_id: "red" }, { team_id: "red" }, { team_id: "blue" }, {}, {}].map((fields) => stack.generateKey(fields)),
    );
    const made = await client(red ?? "").responses.create({ model: "spread", input: "secret" });
    const own = await client(loner ?? "").responses.create({ model: "spread", input: "secret" });
    assert.equal((await client(mate ?? "", 1).responses.retrieve(made.id)).output_text, "turn 1");
    const before = upstreams.map(({ calls }) => calls.length);
    const strangers = [
      [blue, made.id],
      [loner, made.id],
      [other, own.id],
      [red, own.id],
    ] as const;
    for (const [key = "", id] of strangers) {
      const { responses } = client(key);
      const tries = [
        () => responses.retrieve(id),
        () => responses.delete(id),
        () => responses.cancel(id),
        async () => (await responses.inputItems.list(id)).data,
        () => responses.create({ model: "spread", input: "Go on", previous_response_id: id }),
      ];
      for (const each of tries) {
        const error = await failed(each());
        assert.deepEqual([error.status, error.code], [404, "response_not_found"]);
      }
    }
    // Of a name that is taken apart and put together anew the proof is missing.
    const facts = Buffer.from(made.id.slice("resp_".length), "base64url");
    for (const forged of [
      `resp_${facts.subarray(16).toString("base64url")}`,
      "resp_",
      "resp_east00000001",
      `${made.id}A`,
    ]) {
      assert.equal((await failed(client(blue ?? "").responses.retrieve(forged))).status, 404);
    }
    assert.deepEqual(
      upstreams.map(({ calls }) => calls.length),
      before,
      "no provider was asked",
    );
    const nobody = await failed(client("sk-unknown-0000000000").responses.retrieve(made.id));
    assert.equal(nobody.status, 401);
    const closed = await stack.generateKey({ team_id: "red", allowed_routes: ["/v1/chat/completions"] });
    const open = await stack.generateKey({ team_id: "red", allowed_routes: ["/v1/responses"] });
    const reading = await stack.generateKey({ team_id: "red", allowed_routes: ["/v1/responses/*"] });
    const asks = (key: string) => client(key).responses;
    assert.equal((await asks(open).retrieve(made.id)).id, made.id);
    assert.equal((await asks(reading).retrieve(made.id)).id, made.id);
    assert.equal((await failed(asks(reading).create({ model: "spread", input: "x" }))).code, "permission_denied");
    assert.equal((await asks(closed).retrieve(made.id)).id, made.id, "whoever may complete by chat may by this");
  });

  test("what a provider says of its responses has the client's own form", async () => {
    const { responses } = client(await stack.generateKey({}));
    const { id } = await responses.create({ model: "spread", input: "Hello" });
    const cancelled = await failed(responses.cancel(id));
    assert.deepEqual([cancelled.status, cancelled.code], [400, "provider_rejected"]);
    assert.match(cancelled.message, /Cannot cancel a synchronous response/);
    const streamed = await failed(responses.retrieve(id, { stream: true }) as Promise<unknown>);
    assert.deepEqual([streamed.status, streamed.param], [400, "stream"]);
    const unkept = await responses.create({ model: "spread", input: "Hello", store: false });
    assert.equal((await failed(responses.retrieve(unkept.id))).status, 404);
  });

  test("each costs what was computed by hand, coming back to one costs nothing, and budgets and limits hold", async () => {
    const key = await stack.generateKey({ max_budget: 1 });
    const { responses } = client(key);
    const first = await responses.create({ model: "spread", input: "Hello", max_output_tokens: 20 });
    await responses.stream({ model: "spread", input: "On", previous_response_id: first.id }).finalResponse();
    await responses.retrieve(first.id);
    const rows = await stack.booked(key, 2);
    assert.deepEqual(
      rows.map(({ cost_nanos, usage_estimated, status }) => [BigInt(cost_nanos), usage_estimated, status]),
      [0, 1].map(() => [cost, false, "success"]),
    );
    assert.deepEqual(
      rows.map((row) =>
        [row.input_tokens, row.cache_read_input_tokens, row.output_tokens, row.reasoning_output_tokens].map(Number),
      ),
      [0, 1].map(() => [40, 30, 5, 2]),
    );
    assert.match(String(rows[0]?.provider_response_id), /^resp_(east|west)\d+$/);
    assert.equal((await stack.spent(key)).spent, 2n * cost);
    const of = async (fields: object) => client(await stack.generateKey(fields)).responses;
    const ask = { model: "spread", input: "Hello" };
    assert.equal((await failed((await of({ max_budget: 0 })).create(ask))).code, "budget_exceeded");
    assert.equal((await failed((await of({ models: ["chats"] })).create(ask))).code, "model_not_allowed");
    const limited = await of({ rpm_limit: 1 });
    await limited.create(ask);
    assert.equal((await failed(limited.create(ask))).code, "rate_limit_exceeded");
  });

  test("of a conversation the provider keeps, the budget is asked for what it may have grown to", async () => {
    // Of $0.01, 10,000 tokens of input can be paid.
    const key = await stack.generateKey({ max_budget: 0.01 });
    const { responses } = client(key);
    const short = await responses.create({ model: "spread", input: "Hello", max_output_tokens: 100 });
    await responses.create({ model: "spread", input: "On", max_output_tokens: 100, previous_response_id: short.id });
    const long = await client(await stack.generateKey({})).responses.create({
      model: "spread",
      input: "x".repeat(20_000),
      max_output_tokens: 16,
    });
    const asking = responses.create({
      model: "spread",
      input: "On",
      max_output_tokens: 16,
      previous_response_id: long.id,
    });
    assert.equal((await failed(asking)).code, "response_not_found", "it is another key's");
    const own = await responses.create({ model: "spread", input: "y".repeat(4_000), max_output_tokens: 100 });
    const again = { model: "spread", input: "z".repeat(4_000), max_output_tokens: 100, previous_response_id: own.id };
    const grown = await responses.create(again);
    const refused = await failed(responses.create({ ...again, previous_response_id: grown.id }));
    assert.equal(refused.code, "budget_exceeded");
  });

  test("an answer is given again where nothing is stored, and only there", async () => {
    const { responses } = client(await stack.generateKey({}));
    const ask = { model: "spread", input: "the same", store: false };
    const before = upstreams.reduce((sum, { calls }) => sum + calls.length, 0);
    const first = await responses.create(ask);
    const second = await responses.create(ask).withResponse();
    assert.deepEqual([second.response.headers.get("x-tollgate-cache"), second.data.id], ["hit", first.id]);
    await responses.create({ ...ask, store: true });
    await responses.create({ ...ask, store: true });
    const after = upstreams.reduce((sum, { calls }) => sum + calls.length, 0);
    assert.equal(after - before, 3);
  });

  test("of equal calls with one Idempotency-Key one is made", async () => {
    const { responses } = client(await stack.generateKey({}));
    const headers = { "idempotency-key": "once" };
    await responses.create({ model: "spread", input: "Hello" }, { headers });
    const twice = await failed(responses.create({ model: "spread", input: "Hello" }, { headers }));
    assert.deepEqual([twice.status, twice.code], [409, "duplicate_request"]);
  });

  test("a server of OpenAI's chat gets chat, unless its operator says that it takes responses", async () => {
    const { responses } = client(await stack.generateKey({}));
    const chatted = await responses.create({ model: "chats", input: "Hello", instructions: "Be brief." });
    assert.match(chatted.output_text, /^Hello/);
    assert.deepEqual(["store" in chatted && chatted.store, chatted.instructions], [false, "Be brief."]);
    const { path, body } = callsTo(0).at(-1) ?? {};
    assert.equal(path, "/v1/chat/completions");
    assert.deepEqual(JSON.parse(body ?? "").messages, [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hello" },
    ]);
    assert.equal((await failed(responses.retrieve(chatted.id))).status, 404);
    const said = await responses.create({ model: "said", input: "Hello" });
    assert.equal(said.output_text, "turn 1");
    assert.equal((await responses.retrieve(said.id)).id, said.id);
  });

  test("what another wire has no word for is refused by name, dropped where that is wanted, or goes where it is understood", async () => {
    const { responses } = client(await stack.generateKey({}));
    const tools: OpenAI.Responses.Tool[] = [{ type: "code_interpreter", container: { type: "auto" } }];
    const refused = await failed(responses.create({ model: "chats", input: "Hello", tools }));
    assert.deepEqual([refused.status, refused.code, refused.param], [400, "invalid_request", "tools[0]"]);
    const stored = await failed(responses.create({ model: "chats", input: "Hello", store: true }));
    assert.equal(stored.param, "store");
    const dropped = await responses.create({ model: "drops", input: "Hello", tools, store: true });
    assert.equal(dropped.status, "completed");
    assert.equal("tools" in JSON.parse(callsTo(0).at(-1)?.body ?? ""), false);
    const referring: OpenAI.Responses.ResponseInput = [{ type: "item_reference", id: "msg_1" }];
    const content = await failed(responses.create({ model: "drops", input: referring }));
    assert.deepEqual([content.status, content.param], [400, "input[0]"]);
    for (let tries = 0; tries < 6; tries++) {
      const { output_text: text } = await responses.create({ model: "mixed", input: "Hello", tools });
      assert.equal(text, "turn 1");
    }
  });

  test("what is not served is said so", async () => {
    const { responses } = client(await stack.generateKey({}));
    const bodies: [string, object][] = [
      ["background", { background: true }],
      ["conversation", { conversation: "conv_1" }],
      ["input", { input: [] }],
      ["max_output_tokens", { max_output_tokens: 0 }],
      ["previous_response_id", { previous_response_id: 7 }],
      ["api_key", { api_key: "sk-other" }],
    ];
    for (const [param, fields] of bodies) {
      const error = await failed(responses.create({ model: "spread", input: "Hello", ...fields } as never) as never);
      assert.deepEqual([error.status, error.code, error.param], [400, "invalid_request", param]);
    }
    const elsewhere = await failed(client(await stack.generateKey({})).post("/responses/input_tokens", { body: {} }));
    assert.deepEqual([elsewhere.status, elsewhere.code], [404, "route_not_found"]);
    const method = await fetch(`${stack.sidecars[0]?.url}/v1/responses/resp_1`, { method: "PUT" });
    assert.deepEqual([method.status, method.headers.get("allow")], [405, "GET, DELETE, HEAD, OPTIONS"]);
  });

  test("a stream that breaks off, or says that it has failed, ends with an error the client throws, and is booked", async () => {
    const response = { id: "resp_east1", object: "response", output: [], status: "completed", usage };
    const whole = framesOf(response, [
      { id: "msg_1", type: "message", content: [{ type: "output_text", text: "Hello, world", annotations: [] }] },
    ]).split(/(?<=\n\n)/);
    const error = { code: "server_error", message: "The model is overloaded." };
    const failing = { type: "response.failed", response: { ...response, status: "failed", error } };
    const endings: [string[], string][] = [
      [[], "stream_interrupted"],
      [[`event: response.failed\ndata: ${JSON.stringify(failing)}\n\n`], "provider_error"],
      [
        [`event: error\ndata: ${JSON.stringify({ type: "error", ...error, code: "rate_limit_exceeded" })}\n\n`],
        "provider_rate_limited",
      ],
    ];
    const [upstream] = upstreams;
    assert.ok(upstream !== undefined);
    try {
      upstream.responses = undefined;
      for (const [ending, code] of endings) {
        const key = await stack.generateKey({ max_budget: 1 });
        upstream.scripts.set("spoken", (_call, res) => {
          res.writeHead(200, { "content-type": "text/event-stream" });
          res.end([...whole.slice(0, 6), ...ending].join(""));
        });
        const stream = await client(key).responses.create({ model: "said", input: "Hello", stream: true });
        const types: string[] = [];
        const error = await failed(
          (async () => {
            for await (const { type } of stream) types.push(type);
          })(),
        );
        assert.equal(error.code, code);
        assert.equal(types.at(-1), "response.output_text.delta");
        const [row] = await stack.booked(key, 1);
        assert.deepEqual([row?.status, row?.usage_estimated], ["failure", true]);
        assert.ok(BigInt(row?.cost_nanos) > 0n);
      }
    } finally {
      upstream.responses = servers[0];
    }
  });
});
