import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, it, type TestContext } from "node:test";
import { type Authority, AuthorityUnavailable, type Grant } from "../../src/keys/authority.ts";
import { Decisions, decisionDefaults, masterGrant } from "../../src/keys/decisions.ts";
import { GrantCache } from "../../src/keys/grant-cache.ts";
import { Secret } from "../../src/secret.ts";
import { HandClock } from "./hand-clock.ts";
import { PaperAuthority } from "./paper-authority.ts";
import { Log, sampleGrant } from "./samples.ts";

const token = "sk-alpha";

async function setUp(
  t: TestContext,
  parts: {
    masterKey?: string;
    capacity?: number;
    wrap?: (a: Authority) => Authority;
    onModels?: (version: bigint) => void;
    onRecall?: (budgetId: string) => void;
  } = {},
) {
  const clock = new HandClock();
  const authority = new PaperAuthority({ clock });
  const log = new Log();
  addKey(authority, token, sampleGrant("key_a", 100n));
  const decisions = new Decisions({
    ...decisionDefaults,
    capacity: parts.capacity ?? decisionDefaults.capacity,
    authority: parts.wrap?.(authority) ?? authority,
    clock,
    random: () => 0.5,
    telemetry: log,
    masterKey: parts.masterKey === undefined ? undefined : new Secret(parts.masterKey),
    onModels: parts.onModels ?? (() => {}),
    onRecall: parts.onRecall ?? (() => {}),
  });
  decisions.start();
  t.after(async () => {
    const closing = decisions.close();
    await clock.advance(100);
    await closing;
  });
  await clock.advance(10);
  const ask = async (of: string) => {
    const answer = Promise.resolve(decisions.resolve(of));
    answer.catch(() => {});
    await clock.advance(100);
    return answer;
  };
  return { clock, authority, decisions, ask, log };
}

function addKey(authority: PaperAuthority, of: string, grant: Grant): void {
  authority.grants.set(hash("sha256", of), grant);
}

describe("decisions", () => {
  it("a known key is decided at once, from memory", async (t) => {
    const { authority, decisions, ask } = await setUp(t);
    assert.equal((await ask(token))?.keyId, "key_a");
    const again = decisions.resolve(token);
    assert.ok(again !== undefined && !(again instanceof Promise));
    assert.equal(again.keyId, "key_a");
    assert.equal(authority.resolveCount, 1);
  });

  it("what cannot be a key is refused without asking anybody", async (t) => {
    const { authority, decisions } = await setUp(t);
    for (const wrong of [
      "",
      "sk-",
      "pk-1",
      "sk-a b",
      "sk-ä",
      "sk-a\n",
      `sk-${"a".repeat(510)}`,
      "x".repeat(1_000_000),
    ]) {
      assert.equal(decisions.resolve(wrong), undefined, JSON.stringify(wrong.slice(0, 20)));
    }
    assert.equal(authority.resolveCount, 0);
  });

  it("the master key may do everything, whatever its form, and nobody else is it", async (t) => {
    const { authority, decisions, ask } = await setUp(t, { masterKey: "open sesame" });
    assert.equal(decisions.resolve("open sesame"), masterGrant);
    assert.equal(decisions.resolve("open sesam"), undefined);
    assert.equal((await ask(token))?.keyId, "key_a");
    assert.equal(authority.resolveCount, 1);
  });

  it("many calls with one unknown key make one question", async (t) => {
    const { authority, clock, decisions } = await setUp(t);
    const answers = Array.from({ length: 100 }, () => Promise.resolve(decisions.resolve(token)));
    await clock.advance(50);
    for (const answer of await Promise.all(answers)) assert.equal(answer?.keyId, "key_a");
    assert.equal(authority.resolveCount, 1);
  });

  it("no such key is believed for a few seconds, and forgotten when keys change", async (t) => {
    const { authority, clock, decisions, ask } = await setUp(t);
    assert.equal(await ask("sk-later"), undefined);
    assert.equal(decisions.resolve("sk-later"), undefined);
    assert.equal(authority.resolveCount, 1);
    addKey(authority, "sk-later", sampleGrant("key_later", 1n));
    authority.change("key_later");
    await clock.advance(1);
    assert.equal((await ask("sk-later"))?.keyId, "key_later");
    assert.equal(await ask("sk-never"), undefined);
    const before = authority.resolveCount;
    await clock.advance(5_000);
    assert.equal(await ask("sk-never"), undefined);
    assert.equal(authority.resolveCount, before + 1);
  });

  it("a pushed change is obeyed by the next call", async (t) => {
    const { authority, clock, decisions, ask } = await setUp(t);
    await ask(token);
    addKey(authority, token, { ...sampleGrant("key_a", 100n), blocked: true });
    authority.change("key_a");
    await clock.advance(1);
    assert.ok(decisions.resolve(token) instanceof Promise, "the old grant was used");
    assert.equal((await ask(token))?.blocked, true);
  });

  it("tells of models that changed or may have: when it connects, when told so, and after a reset; and keeps its grants", async (t) => {
    const told: bigint[] = [];
    const { authority, clock, decisions, ask } = await setUp(t, { onModels: (version) => told.push(version) });
    assert.deepEqual(told, [1n]);
    await ask(token);
    authority.change("key_b");
    authority.push({ type: "models", version: ++authority.version });
    await clock.advance(1);
    assert.deepEqual(told, [1n, 3n]);
    assert.ok(!(decisions.resolve(token) instanceof Promise));
    authority.push({ type: "reset", version: authority.version });
    await clock.advance(1);
    assert.deepEqual(told, [1n, 3n, 3n]);
    authority.cut();
    await clock.advance(100);
    authority.trouble.away = false;
    await clock.advance(10_000);
    assert.deepEqual(told.slice(3), [3n]);
  });

  it("a change of another key costs nothing", async (t) => {
    const { authority, clock, decisions, ask } = await setUp(t);
    await ask(token);
    authority.change("key_b");
    await clock.advance(1);
    assert.ok(!(decisions.resolve(token) instanceof Promise));
  });

  it("an answer under way when its key changes is not kept, but asked for again", async (t) => {
    const { authority, clock, decisions } = await setUp(t);
    const answer = Promise.resolve(decisions.resolve(token));
    // The grant has been read, its answer travels; the change overtakes it.
    await clock.advance(3);
    addKey(authority, token, { ...sampleGrant("key_a", 100n), blocked: true });
    authority.change("key_a");
    await clock.advance(100);
    assert.equal((await answer)?.blocked, true);
    assert.equal(authority.resolveCount, 2);
  });

  it("a reset forgets everything, answers under way included", async (t) => {
    const { authority, clock, decisions, ask } = await setUp(t);
    await ask(token);
    authority.push({ type: "reset", version: authority.version });
    await clock.advance(1);
    const answer = decisions.resolve(token);
    assert.ok(answer instanceof Promise);
    await clock.advance(3);
    authority.push({ type: "reset", version: authority.version });
    await clock.advance(100);
    assert.equal((await answer)?.keyId, "key_a");
    assert.equal(authority.resolveCount, 3);
  });

  it("what was read before the first watch is not believed after it", async (t) => {
    const clock = new HandClock();
    const authority = new PaperAuthority({ clock });
    addKey(authority, token, sampleGrant("key_a", 1n));
    const telemetry = new Log();
    const parts = {
      ...decisionDefaults,
      authority,
      clock,
      random: () => 0.5,
      telemetry,
      masterKey: undefined,
      onModels: () => {},
      onRecall: () => {},
    };
    const decisions = new Decisions(parts);
    const first = Promise.resolve(decisions.resolve(token));
    await clock.advance(50);
    await first;
    assert.equal(decisions.ready, false);
    decisions.start();
    await clock.advance(10);
    assert.equal(decisions.ready, true);
    assert.ok(decisions.resolve(token) instanceof Promise);
    await clock.advance(50);
    t.after(() => decisions.close());
  });

  it("a KeyService that does not answer is told in the log once, at the start as later", async (t) => {
    const { authority, clock, log } = await setUp(t, {
      wrap: (paper) => {
        (paper as PaperAuthority).trouble.away = true;
        return paper;
      },
    });
    const warnings = () => log.lines.filter(({ message }) => message === "The KeyService's changes are not heard.");
    await clock.advance(20_000);
    assert.equal(warnings().length, 1);
    assert.ok(warnings()[0]?.facts?.error instanceof AuthorityUnavailable);
    authority.trouble.away = false;
    await clock.advance(5_000);
    authority.cut();
    await clock.advance(20_000);
    assert.equal(warnings().length, 2);
  });

  it("while the KeyService is away known keys work until they are stale, new ones are not refused but unavailable", async (t) => {
    const { authority, clock, decisions, ask } = await setUp(t);
    await ask(token);
    authority.cut();
    await clock.advance(100);
    assert.equal(decisions.connected, false);
    await clock.advance(decisionDefaults.staleMs - 10_000);
    assert.ok(!(decisions.resolve(token) instanceof Promise), "refused too early");
    await assert.rejects(ask("sk-new"), AuthorityUnavailable);
    await clock.advance(20_000);
    await assert.rejects(ask(token), AuthorityUnavailable);
    authority.trouble.away = false;
    await clock.advance(5_000);
    assert.equal(decisions.connected, true);
    assert.equal((await ask(token))?.keyId, "key_a");
  });

  it("after a break it catches up on the changes it has missed", async (t) => {
    const { authority, clock, decisions, ask } = await setUp(t);
    await ask(token);
    authority.cut();
    await clock.advance(100);
    authority.change("key_a");
    await clock.advance(1_000);
    authority.trouble.away = false;
    await clock.advance(5_000);
    assert.ok(decisions.resolve(token) instanceof Promise, "the missed change was not heard of");
    await clock.advance(100);
  });

  it("what is stale stays so until everything that was missed has been told", async (t) => {
    const { authority, clock, decisions, ask } = await setUp(t, {
      wrap: (inner) => ({
        resolve: (digest) => inner.resolve(digest),
        resolveParties: (parties) => inner.resolveParties(parties),
        acquire: (lease) => inner.acquire(lease),
        renew: (ids) => inner.renew(ids),
        giveBack: (returns) => inner.giveBack(returns),
        settle: (records) => inner.settle(records),
        close: () => inner.close(),
        async *watch(since, signal) {
          for await (const change of inner.watch(since, signal)) {
            yield change;
            // The network stops after the first of what was missed.
            if (change.type === "key") await new Promise((resolve) => signal.addEventListener("abort", resolve));
          }
        },
      }),
    });
    await ask(token);
    authority.cut();
    await clock.advance(100);
    authority.change("key_other");
    authority.change("key_a");
    await clock.advance(decisionDefaults.staleMs);
    authority.trouble.away = false;
    await clock.advance(5_000);
    assert.equal(decisions.connected, true);
    assert.ok(decisions.resolve(token) instanceof Promise, "it is decided by what was known before the break");
    await clock.advance(100);
  });

  it("a silent watch is taken for dead and begun anew", async (t) => {
    let watches = 0;
    const { clock, decisions } = await setUp(t, {
      wrap: (inner) => ({
        resolve: (digest) => inner.resolve(digest),
        resolveParties: (parties) => inner.resolveParties(parties),
        acquire: (ask) => inner.acquire(ask),
        renew: (ids) => inner.renew(ids),
        giveBack: (returns) => inner.giveBack(returns),
        settle: (records) => inner.settle(records),
        close: () => inner.close(),
        watch: (since, signal) => {
          watches++;
          return inner.watch(since, signal);
        },
      }),
    });
    assert.equal(watches, 1);
    await clock.advance(14_000);
    assert.equal(decisions.connected, true);
    await clock.advance(2_000);
    assert.equal(watches, 2);
  });

  it("a flood of made-up keys does not become a flood of questions", async (t) => {
    const { authority, clock, decisions } = await setUp(t);
    const answers = Array.from({ length: 3_000 }, (_, index) => Promise.resolve(decisions.resolve(`sk-${index}`)));
    const results = Promise.allSettled(answers);
    await clock.advance(50);
    const refused = (await results).filter(({ status }) => status === "rejected");
    assert.equal(authority.resolveCount, 1_000);
    assert.equal(refused.length, 2_000);
  });

  it("a flood that goes on makes at most 50 questions a second, and known keys notice nothing", async (t) => {
    const { authority, clock, decisions, ask } = await setUp(t);
    await ask(token);
    const before = authority.resolveCount;
    for (let second = 0; second < 20; second++) {
      const guesses = Array.from({ length: 400 }, (_, index) => decisions.resolve(`sk-${second}-${index}`));
      const settled = Promise.allSettled(guesses);
      assert.equal((decisions.resolve(token) as Grant).keyId, "key_a");
      await clock.advance(1_000);
      await settled;
    }
    const asked = authority.resolveCount - before;
    assert.ok(asked >= 1_900 && asked <= 1_000 + 20 * 50 + 50, `${asked} questions`);
  });

  it("keys that exist are looked up as quickly as they come", async (t) => {
    const { authority, clock, decisions } = await setUp(t);
    for (let index = 0; index < 3_000; index++)
      addKey(authority, `sk-real-${index}`, sampleGrant(`key_${index}`, 100n));
    for (let from = 0; from < 3_000; from += 500) {
      const asked = Array.from({ length: 500 }, (_, index) => decisions.resolve(`sk-real-${from + index}`));
      await clock.advance(50);
      assert.ok((await Promise.all(asked)).every((grant) => grant !== undefined));
    }
  });
});

describe("the grant cache", () => {
  const kept = (keyId: string) => ({ grant: sampleGrant(keyId, 1n), readAtMs: 0 });

  it("is bounded, and keeps what is used", () => {
    const cache = new GrantCache(100);
    cache.put("hot", kept("hot"));
    for (let index = 0; index < 1_000; index++) {
      cache.put(`d${index}`, kept(`k${index}`));
      assert.ok(cache.get("hot"), `lost the hot key at ${index}`);
    }
    let left = 0;
    for (let index = 0; index < 1_000; index++) if (cache.get(`d${index}`)) left++;
    assert.ok(left <= 100, `${left} kept`);
  });

  it("forgets every copy of a key", () => {
    const cache = new GrantCache(4);
    cache.put("d1", kept("k"));
    cache.put("d2", kept("k"));
    cache.put("d3", kept("other"));
    cache.get("d1");
    cache.dropKey("k");
    assert.deepEqual([cache.get("d1"), cache.get("d2")], [undefined, undefined]);
    assert.ok(cache.get("d3"));
  });
});
