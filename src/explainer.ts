import type { Admission } from "./admission/admission.ts";
import type { Option } from "./admission/option.ts";
import type { Named } from "./admission/payer.ts";
import type { Clock, Random } from "./clock.ts";
import type { CompletionRequest } from "./completion.ts";
import type { Shortage } from "./counters/counters.ts";
import { startFor } from "./destinations.ts";
import { type ErrorCode, GatewayError } from "./errors.ts";
import type { Grant } from "./keys/authority.ts";
import { Planner } from "./planner.ts";
import type { Candidate, Exclusion } from "./routing/candidate.ts";
import type { Itinerary } from "./routing/itinerary.ts";
import { nowhere } from "./routing/nowhere.ts";
import { rulesFor } from "./routing/own-rules.ts";
import { retryBound } from "./routing/retries.ts";
import type { Router } from "./routing/router.ts";
import type { Snapshots } from "./routing/snapshots.ts";
import type { TokenCounter } from "./routing/token-counter.ts";

/** A call nobody makes. */
export interface ExplainAsk {
  /** The virtual key it would be made with. */
  readonly token: string | undefined;
  readonly request: CompletionRequest;
  readonly tags: readonly string[];
  /** Whether the request is one somebody would send; then it must have what the key's calls must have. */
  readonly isWhole: boolean;
}

/** What would become of a call: where it would be tried, and where not. */
export interface Explanation {
  readonly keyId: string;
  readonly strategy: string;
  /** Of the call, its key and its team. */
  readonly tags: readonly string[];
  /** The model's own group, then the fallbacks in their order, as if each before had failed. */
  readonly groups: readonly ExplainedGroup[];
  /** Models that follow where the conversation is too long, or the provider refuses its content. */
  readonly contextWindowFallbacks: readonly string[];
  readonly contentPolicyFallbacks: readonly string[];
}

/** One group of deployments. */
export interface ExplainedGroup {
  /** As it was asked for. */
  readonly model: string;
  readonly modelGroup: string;
  /** Attempts in the group after the first. */
  readonly retriesMax: number;
  /** Where the call would be tried, the best first. */
  readonly tried: readonly Candidate[];
  readonly excluded: readonly Exclusion[];
  /** Why it would not be let through at all; undefined: it would. */
  readonly refusal: GatewayError | undefined;
}

/** Says what would become of a call, by the very steps that calls go; nobody is called and nothing is taken of any limit. */
export class Explainer {
  readonly #admission: Pick<Admission, "authenticate" | "named" | "foresee">;
  readonly #snapshots: Pick<Snapshots, "current">;
  readonly #planner: Planner;

  constructor(parts: {
    admission: Pick<Admission, "authenticate" | "named" | "foresee">;
    snapshots: Pick<Snapshots, "current">;
    tokenCounter?: TokenCounter | undefined;
    clock: Clock;
    random: Random;
  }) {
    this.#admission = parts.admission;
    this.#snapshots = parts.snapshots;
    this.#planner = new Planner(parts);
  }

  /** @throws GatewayError as calls do before a deployment is looked for: the key's, and model_not_allowed, model_not_found. */
  async explain({ token, request, tags, isWhole }: ExplainAsk): Promise<Explanation> {
    const { router } = this.#snapshots.current;
    const grant = await this.#admission.authenticate(token);
    if (isWhole) grant.policy?.checkCompletion("/v1/chat/completions", () => request.chat());
    const start = startFor(router, grant, request.model);
    const named = await this.#admission.named(grant, request, tags);
    const begin = () => this.#planner.plan({ request, caller: { repeat: {} }, grant, named, router, start });
    const itinerary = await begin();
    const groupOf = () => this.#group(itinerary, router, { grant, named });
    const groups = [await groupOf()];
    for await (const _ of this.#fallbacks(itinerary, router, "provider_unavailable")) {
      groups.push(await groupOf());
    }
    const namesAfter = async (code: ErrorCode) => {
      const names: string[] = [];
      for await (const name of this.#fallbacks(await begin(), router, code)) names.push(name);
      return names;
    };
    return {
      keyId: grant.keyId,
      strategy: router.config.strategy,
      ...{ tags: named.tags, groups },
      contextWindowFallbacks: await namesAfter("context_length_exceeded"),
      contentPolicyFallbacks: await namesAfter("content_policy_violation"),
    };
  }

  /** Goes from group to group, as if each failed so. */
  async *#fallbacks(itinerary: Itinerary, router: Router, code: ErrorCode): AsyncGenerator<string, void, undefined> {
    for (;;) {
      // Nowhere tried, nothing is repeated: only another group can follow.
      const step = itinerary.after(new GatewayError(code, "What if?"));
      if (step.kind !== "fallback") return;
      await this.#planner.enter(itinerary, router, step.destination);
      yield itinerary.names[0] ?? itinerary.route.modelGroup;
    }
  }

  async #group(
    itinerary: Itinerary,
    router: Router,
    { grant, named }: { grant: Grant; named: Named },
  ): Promise<ExplainedGroup> {
    const { route, names, ask } = itinerary;
    const { request } = ask;
    const { candidates, excluded } = itinerary.candidates();
    const { retriesMax } = retryBound(
      new GatewayError("provider_unavailable", "What if?"),
      rulesFor(router.config, grant.repeat),
      route.modelGroup,
      undefined,
      request.repeat?.retries,
    );
    const group = { model: names[0] ?? route.modelGroup, modelGroup: route.modelGroup, retriesMax };
    if (candidates.length === 0) return { ...group, tried: [], excluded, refusal: nowhere(route, excluded) };
    const options = [...router.ranked(candidates, ask)];
    const { refusal, shortages } = await this.#admission.foresee({
      ...{ request, models: names, ...route, options },
      ...{ grant, named },
    });
    const full = options.flatMap((option, index) => fullAt(option, shortages[index], ask.nowMs) ?? []);
    const tried = options.filter((_, index) => shortages[index] === undefined);
    return { ...group, tried, excluded: [...excluded, ...full], refusal };
  }
}

const limitWords: Readonly<Record<string, string>> = {
  requests: "requests a minute",
  tokens: "tokens a minute",
  parallel: "at once",
};

/** A deployment that has no room. */
function fullAt(
  { deployment }: Pick<Option, "deployment">,
  shortage: Shortage | undefined,
  nowMs: number,
): Exclusion | undefined {
  if (shortage === undefined) return undefined;
  const { refused, retryAfterMs } = shortage;
  if (refused.name === "probe") {
    return { deployment, reason: "probing", detail: "whether it is well again is being found out", retryAfterMs };
  }
  const until = new Date(nowMs + retryAfterMs).toISOString().slice(11, 19);
  // Nobody knows when an attempt ends.
  const when = refused.kind === "slot" ? "" : ` until ${until} UTC`;
  const detail = `no room within its ${refused.ceiling} ${limitWords[refused.name] ?? refused.name}${when}`;
  return { deployment, reason: "limit", detail, retryAfterMs };
}
