import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { CallCells } from "../../src/telemetry/call-cells.ts";
import { CallMeter } from "../../src/telemetry/call-meter.ts";
import { callMetrics } from "../../src/telemetry/call-metrics.ts";
import { litellmMetrics } from "../../src/telemetry/litellm-metrics.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { HandClock } from "../keys/hand-clock.ts";

const route = "/v1/chat/completions";
const key = { keyId: "key_1", keyAlias: "ci", teamId: "team_1", userId: "user_1" };
const target: Parameters<CallMeter["attempt"]>[0] = {
  provider: "openai",
  deploymentId: "d1",
  modelGroup: "gpt",
  model: "gpt-4o",
  apiBase: "https://user:password@api.example.com/v1?key=secret",
};
const usage = {
  inputTokens: 10,
  outputTokens: 7,
  cacheReadInputTokens: 3,
  cacheWriteInputTokens: 0,
  reasoningOutputTokens: 2,
  estimated: false,
};
const answered = { usage, cost: 24_000n, error: undefined };
const failed = { usage: undefined, cost: 0n, error: "provider_error" } as const;

function stage() {
  const cells = new CallCells();
  const clock = new HandClock();
  const metrics = new Metrics();
  metrics.add(...callMetrics(cells), ...litellmMetrics(cells));
  const call = (stream = true) => new CallMeter(cells, clock, { route, stream });
  const text = async (accept?: string) => (await metrics.expose(accept)).text;
  return { cells, clock, metrics, call, text };
}

/** Every one of the lines is there. */
function has(text: string, ...lines: string[]): void {
  const told = text.split("\n");
  for (const line of lines) {
    const name = line.split(/[{ ]/, 1)[0] ?? "";
    const alike = told.filter((each) => each.startsWith(name)).slice(0, 20);
    assert.ok(told.includes(line), `${line}\nis not among\n${alike.join("\n")}`);
  }
}

describe("what is counted of calls", () => {
  test("calls, attempts, tokens, money, and what of the time was whose", async () => {
    const { clock, call, text } = stage();
    const meter = call();
    has(await text(), "tollgate_requests_in_flight 1");
    meter.identify(key);
    meter.identify({ modelGroup: "gpt" });
    await clock.advance(4);
    const attempt = meter.attempt(target);
    await clock.advance(300);
    attempt.firstOutput();
    await clock.advance(700);
    attempt.end(answered);
    await clock.advance(2);
    meter.end(undefined, undefined);
    has(
      await text(),
      "tollgate_requests_in_flight 0",
      `tollgate_requests_total{route="${route}",model="gpt",provider="openai",code="ok",stream="true"} 1`,
      `tollgate_request_duration_seconds_sum{route="${route}",model="gpt"} 1.006`,
      `tollgate_gateway_overhead_seconds_bucket{route="${route}",model="gpt",le="0.005"} 0`,
      `tollgate_gateway_overhead_seconds_bucket{route="${route}",model="gpt",le="0.01"} 1`,
      'tollgate_upstream_attempts_total{provider="openai",model="gpt",outcome="ok"} 1',
      'tollgate_upstream_duration_seconds_sum{provider="openai",model="gpt"} 1',
      'tollgate_time_to_first_token_seconds_sum{model="gpt",provider="openai"} 0.3',
      'tollgate_tokens_total{model="gpt",kind="input"} 10',
      'tollgate_tokens_total{model="gpt",kind="output"} 7',
      'tollgate_tokens_total{model="gpt",kind="cache_read"} 3',
      'tollgate_tokens_total{model="gpt",kind="reasoning"} 2',
      'tollgate_cost_usd_total{model="gpt",team="team_1"} 0.000024',
    );
  });

  test("the same under LiteLLM's names, the address without what is secret in it", async () => {
    const { clock, call, text } = stage();
    const meter = call();
    meter.identify(key);
    meter.identify({ modelGroup: "gpt" });
    const attempt = meter.attempt(target);
    await clock.advance(1_750);
    attempt.end(answered);
    meter.end(undefined, undefined);
    const owner = 'hashed_api_key="key_1",api_key_alias="ci",team="team_1",user="user_1"';
    const deployment =
      'litellm_model_name="gpt-4o",model_id="d1",api_base="https://api.example.com/v1",api_provider="openai"';
    has(
      await text(),
      'litellm_requests_total{model="gpt",status_code="200",fallback="false"} 1',
      'litellm_request_duration_seconds_count{model="gpt"} 1',
      'litellm_tokens_total{model="gpt",type="input"} 10',
      'litellm_tokens_total{model="gpt",type="output"} 7',
      'litellm_spend_total{model="gpt",team="team_1"} 0.000024',
      `litellm_spend_metric_total{${owner},model="gpt-4o",requested_model="gpt",model_id="d1"} 0.000024`,
      `litellm_total_tokens_metric_total{${owner},model="gpt-4o",requested_model="gpt",model_id="d1"} 17`,
      `litellm_proxy_total_requests_metric_total{${owner},requested_model="gpt",route="${route}",status_code="200"} 1`,
      `litellm_deployment_success_responses_total{requested_model="gpt",${deployment},hashed_api_key="key_1",api_key_alias="ci",team="team_1"} 1`,
      `litellm_deployment_latency_per_output_token_sum{requested_model="gpt",${deployment},team="team_1"} 0.25`,
    );
    assert.doesNotMatch(await text(), /password|secret/);
  });

  test("a call without key and team is LiteLLM's None, and one without a known model is other", async () => {
    const { call, text } = stage();
    call(false).end("missing_api_key", undefined);
    has(
      await text(),
      `tollgate_requests_total{route="${route}",model="other",provider="none",code="missing_api_key",stream="false"} 1`,
      'tollgate_rejected_total{reason="missing_api_key",model="other"} 1',
      'litellm_requests_total{model="other",status_code="401",fallback="false"} 1',
      `litellm_proxy_failed_requests_metric_total{hashed_api_key="None",api_key_alias="None",team="None",user="None",requested_model="other",route="${route}",exception_status="401",exception_class="MissingApiKey"} 1`,
    );
  });

  test("a fallback counts where it came from and went, why, and whether it helped", async () => {
    const { call, text } = stage();
    const meter = call();
    meter.identify({ ...key, modelGroup: "gpt" });
    meter.attempt(target).end(failed);
    meter.fellBack("gpt", "claude", "provider_error");
    meter.attempt({ ...target, provider: "anthropic", deploymentId: "d2", modelGroup: "claude" }).end(answered);
    meter.end(undefined, undefined);
    has(
      await text(),
      'tollgate_fallbacks_total{from="gpt",to="claude",reason="provider_error"} 1',
      `tollgate_requests_total{route="${route}",model="gpt",provider="anthropic",code="ok",stream="true"} 1`,
      'tollgate_upstream_attempts_total{provider="openai",model="gpt",outcome="provider_error"} 1',
      'tollgate_tokens_total{model="claude",kind="output"} 7',
      'litellm_requests_total{model="gpt",status_code="200",fallback="true"} 1',
      'litellm_deployment_successful_fallbacks_total{requested_model="gpt",fallback_model="claude",exception_status="502",exception_class="ProviderError"} 1',
    );
    assert.match(
      await text(),
      /^litellm_deployment_failure_responses_total\{.*exception_class="Openai.ProviderError"\} 1$/m,
    );
  });

  test("an answer given again is from the cache, and neither refused nor any provider's", async () => {
    const { call, text } = stage();
    const meter = call();
    meter.identify({ ...key, modelGroup: "gpt" });
    meter.identify({ cacheHit: true });
    meter.end(undefined, undefined);
    has(
      await text(),
      `tollgate_requests_total{route="${route}",model="gpt",provider="cache",code="ok",stream="true"} 1`,
      'litellm_cache_hits_metric_total{hashed_api_key="key_1",api_key_alias="ci",team="team_1",user="user_1",model="gpt"} 1',
    );
    assert.doesNotMatch(await text(), /^tollgate_rejected_total\{/m);
  });

  test("whole answers have no time to the first token", async () => {
    const { call, text } = stage();
    const meter = call(false);
    const attempt = meter.attempt(target);
    attempt.firstOutput();
    attempt.end(answered);
    meter.end(undefined, undefined);
    assert.doesNotMatch(await text(), /time_to_first_token\w*_count/);
  });

  test("two attempts at once are no overhead twice, and one that goes on after the call takes nothing from it", async () => {
    const { clock, call, text } = stage();
    const meter = call();
    meter.identify({ modelGroup: "gpt" });
    const [first, second] = [meter.attempt(target), meter.attempt(target)];
    await clock.advance(500);
    first.end(answered);
    second.end({ ...failed, error: "client_closed_request" });
    await clock.advance(3);
    meter.end(undefined, undefined);
    has(await text(), `tollgate_gateway_overhead_seconds_sum{route="${route}",model="gpt"} 0.003`);
  });
});

describe("labels", () => {
  test("are never what a caller chooses: behind a wildcard the model is the pattern", async () => {
    const { cells, call, text } = stage();
    for (let index = 0; index < 50; index++) {
      const meter = call();
      meter.identify({ ...key, modelGroup: "openai/*" });
      meter.attempt({ ...target, modelGroup: "openai/*", model: `odd-${index}` }).end(answered);
      meter.end(undefined, undefined);
    }
    assert.doesNotMatch(await text(), /odd/);
    assert.equal([...cells.attempts].length, 1);
    assert.equal([...cells.calls].length, 1);
  });

  test("tell 500 keys apart, count the others of a team together, and count how often", async () => {
    const { cells, call, text } = stage();
    for (let index = 0; index < 600; index++) {
      const meter = call();
      meter.identify({ ...key, keyId: `key_${index}`, modelGroup: "gpt" });
      meter.attempt(target).end(answered);
      meter.end(undefined, undefined);
    }
    assert.ok([...cells.calls].length <= 501);
    const told = await text();
    has(
      told,
      'litellm_spend_metric_total{hashed_api_key="other",api_key_alias="other",team="team_1",user="other",model="gpt-4o",requested_model="gpt",model_id="d1"} 0.0024',
      `tollgate_requests_total{route="${route}",model="gpt",provider="openai",code="ok",stream="true"} 600`,
    );
    assert.match(told, /^tollgate_label_overflows_total [1-9]\d*$/m);
  });

  test("follow a key that is renamed", async () => {
    const { call, text } = stage();
    for (const keyAlias of ["before", "after"]) {
      const meter = call();
      meter.identify({ ...key, keyAlias, modelGroup: "gpt" });
      meter.end("rate_limit_exceeded", undefined);
    }
    assert.match(await text(), /api_key_alias="before"/);
    assert.match(await text(), /api_key_alias="after"/);
  });
});

describe("what Prometheus reads", () => {
  test("is OpenMetrics for those who ask for it, with the trace of the latest call in each bucket", async () => {
    const { clock, call, text } = stage();
    const traceId = "0af7651916cd43dd8448eb211c80319c";
    const meter = call();
    meter.identify({ modelGroup: "gpt" });
    await clock.advance(70);
    meter.end(undefined, traceId);
    const told = await text("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1");
    has(told, "# TYPE tollgate_requests counter", "# EOF");
    const seconds = (clock.nowMs() / 1000).toFixed(3);
    has(
      told,
      `tollgate_request_duration_seconds_bucket{route="${route}",model="gpt",le="0.1"} 1 # {trace_id="${traceId}"} 0.07 ${seconds}`,
      `tollgate_request_duration_seconds_bucket{route="${route}",model="gpt",le="1.0"} 1`,
    );
    const plain = await text("text/plain");
    has(plain, "# TYPE tollgate_requests_total counter");
    assert.doesNotMatch(plain, /trace_id|EOF/);
  });

  test("holds whatever a name has in it", async () => {
    const { call, text } = stage();
    const meter = call();
    meter.identify({ ...key, keyAlias: 'a "b"\\\n', modelGroup: "gpt" });
    meter.end("rate_limit_exceeded", undefined);
    assert.match(await text(), /api_key_alias="a \\"b\\"\\\\\\n"/);
  });

  test("has each name once", () => {
    const { cells, metrics } = stage();
    assert.throws(() => metrics.add(...callMetrics(cells)), /two metrics of the name tollgate_requests_total/);
  });
});
