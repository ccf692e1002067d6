import { after, before, describe, test } from "node:test";
import { cases, casesOfAll } from "./attempt-cases.ts";
import { configOf, play, type Story, storiesOf } from "./attempt-stage.ts";
import { PlannedUpstream } from "./planned-upstream.ts";
import { Stack } from "./stack.ts";

/** A sidecar with the deployments of all stories. */
async function setUp(stories: readonly Story[], more = ""): Promise<{ stack: Stack; upstream: PlannedUpstream }> {
  const upstream = await PlannedUpstream.start();
  const { models, config } = configOf(stories, upstream);
  try {
    return { upstream, stack: await Stack.start({ sidecars: 1, retries: 2, models, config: `${config}\n${more}` }) };
  } catch (error) {
    await upstream.close();
    throw error;
  }
}

/** Plays all stories at once, against one sidecar. */
function tell(what: string, stories: readonly Story[], more?: string): void {
  describe(what, { concurrency: 16 }, () => {
    let stage: Awaited<ReturnType<typeof setUp>>;
    before(async () => {
      stage = await setUp(stories, more);
    });
    after(async () => {
      await stage.upstream.close();
      await stage.stack.close();
    });
    for (const story of stories) test(story.title, () => play(story, stage.stack, stage.upstream));
  });
}

tell("a call comes to", storiesOf(cases));

const ofAll = storiesOf(casesOfAll);
tell(
  "where the configuration speaks for all models, a call comes to",
  ofAll,
  `
  enable_weighted_failover: true
  max_fallbacks: 2
  retry_policy: { TimeoutErrorRetries: 0, ServiceUnavailableErrorRetries: 1 }
  default_fallbacks: [${ofAll.at(-1)?.id}-n]`,
);
