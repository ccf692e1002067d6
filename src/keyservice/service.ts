import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Clock, Random } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { KeyService, WatchRequest, WatchResponse } from "../gen/tollgate/keys/v1/keys_pb.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { ChangeFeed } from "./change-feed.ts";
import { holdConfigured, isConfigured } from "./configured-budgets.ts";
import { findGrant, findParties } from "./grants.ts";
import type { Leases } from "./leases.ts";
import type { Lender } from "./lender.ts";
import {
  isUuid,
  readParty,
  readSpendRecord,
  writeGrant,
  writeLeaseAnswer,
  writeNews,
  writePartyGrant,
} from "./messages.ts";
import type { Postgres } from "./postgres.ts";
import type { Pepper } from "./secrets.ts";
import type { BookingMeter } from "./service-metrics.ts";
import type { Settlements } from "./settlements.ts";
import type { CallingSidecar, SidecarAccess } from "./sidecar-access.ts";
import { checkCharges, checkPod, serves } from "./sidecar-reach.ts";
import type { StoredModelsReader } from "./stored-models.ts";

/** What the runtime service is made of. */
export interface RuntimeParts {
  readonly books: Postgres;
  readonly lender: Lender;
  readonly leases: Leases;
  readonly settlements: Settlements;
  readonly feed: ChangeFeed;
  readonly models: StoredModelsReader;
  readonly pepper: Pepper;
  readonly clock: Clock;
  readonly random: Random;
  /** How long a watch lasts at most, in milliseconds, a tenth more or less. */
  readonly watchMaxMs: number;
  readonly meter: BookingMeter;
  readonly access: SidecarAccess;
  readonly log: Telemetry["log"];
}

/** Makes the implementation of tollgate.keys.v1.KeyService. Its methods throw GatewayError. */
export function createRuntimeService(parts: RuntimeParts): ServiceImpl<typeof KeyService> {
  const { books, lender, leases, settlements, pepper, clock, access, log, meter } = parts;
  return {
    async resolveKey({ keySha256 }, context) {
      const sidecar = await access.identify(context);
      const grant = await findGrant(books.until(context.signal), Buffer.from(keySha256), pepper);
      // Whether there is such a key is none of its business either.
      const isStrange = grant !== undefined && !serves(sidecar, grant.teamId);
      if (isStrange) {
        const { keyId, teamId } = grant;
        log("warn", "A sidecar was shown a key of a team it does not serve.", { sidecar: sidecar.name, keyId, teamId });
      }
      if (grant === undefined || isStrange) throw new GatewayError("key_not_found", "There is no such key.");
      return { grant: writeGrant(grant), readTime: timestampFromMs(clock.nowMs()) };
    },
    async resolveParties(request, context) {
      await access.identify(context);
      const asked = request.parties.map(readParty);
      const held = await holdConfigured(books, asked.filter(isConfigured));
      const { parties, version } = await findParties(
        books,
        asked.flatMap((party) => (isConfigured(party) ? [] : party)),
      );
      const [configured, named] = [held.values(), parties.values()];
      // Each of the two is in the order of the request.
      const grants = asked.flatMap((party) => (isConfigured(party) ? configured : named).next().value ?? []);
      return { parties: grants.map(writePartyGrant), version };
    },
    async acquireLease(request, context) {
      const { requestId, podId, leaseId, keyId, budgetIds, minNanos, wantNanos, aheadNanos } = request;
      const sidecar = await accessAs(access, context, podId);
      await checkCharges(books, sidecar, podId, [{ keyId, budgetIds, leaseId }]);
      const amounts = { min: minNanos, want: wantNanos, ahead: aheadNanos };
      const ask = { requestId, podId, leaseId, keyId, budgetIds, ...amounts };
      const answer = await lender.acquire(ask, context.signal);
      meter.lent(answer);
      return writeLeaseAnswer(leaseId, answer);
    },
    async renewLeases({ podId, leaseIds }, context) {
      await accessAs(access, context, podId);
      const { ttlMs, ended } = await leases.renew(leaseIds.filter(isUuid));
      return { ttlMs: BigInt(ttlMs), endedLeaseIds: [...ended, ...leaseIds.filter((id) => !isUuid(id))] };
    },
    async returnLeases({ podId, returns }, context) {
      await accessAs(access, context, podId);
      await leases.giveBack(
        returns.map(({ requestId, leaseId, amountNanos, close }) => ({
          requestId,
          leaseId,
          amount: amountNanos,
          close,
        })),
      );
      return {};
    },
    async settle({ podId, records }, context) {
      const sidecar = await accessAs(access, context, podId);
      const read = records.map(readSpendRecord);
      await checkCharges(books, sidecar, podId, read);
      const duplicateCount = await settlements.settle(podId, read);
      meter.settled(read, duplicateCount);
      return { duplicateCount };
    },
    async getModels({ podId }, context) {
      await accessAs(access, context, podId);
      const { version, ...read } = await parts.models.read();
      return {
        version,
        models: [...read.models],
        credentials: [...read.credentials],
        unreadableModelIds: [...read.unreadableModelIds],
        unreadableCredentialNames: [...read.unreadableCredentialNames],
      };
    },
    watch: (request, context) => watch(parts, request, context),
  };
}

/**
 * A watch that is over without an error is to be asked for again, on a new connection: so sidecars come to the replicas that were started
 * after they were, and none goes on with a token that has expired.
 */
async function* watch(
  { access, feed, clock, random, watchMaxMs }: RuntimeParts,
  request: WatchRequest,
  context: HandlerContext,
): AsyncGenerator<WatchResponse> {
  const { expiresAtMs = Number.POSITIVE_INFINITY } = await accessAs(access, context, request.podId);
  const lifeMs = Math.min(watchMaxMs * (0.9 + random() * 0.2), expiresAtMs - clock.nowMs());
  const old = new AbortController();
  const cancel = clock.after(lifeMs, () => old.abort());
  try {
    const either = AbortSignal.any([context.signal, old.signal]);
    const recallsOf = request.takesRecalls ? request.podId : undefined;
    for await (const news of feed.watch(request.sinceVersion, either, recallsOf)) yield writeNews(news);
    // Else only a replica that is going away ends a watch by itself; its sidecars go to another.
    if (!either.aborted) throw new GatewayError("shutting_down", "The KeyService is shutting down.");
  } finally {
    cancel();
  }
}

/** The sidecar that calls, in the name of its own pod. */
async function accessAs(access: SidecarAccess, context: HandlerContext, podId: string): Promise<CallingSidecar> {
  const sidecar = await access.identify(context);
  checkPod(sidecar, podId);
  return sidecar;
}
