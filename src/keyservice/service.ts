import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { KeyService, WatchRequest, WatchResponse } from "../gen/tollgate/keys/v1/keys_pb.ts";
import type { Secret } from "../secret.ts";
import type { ChangeFeed } from "./change-feed.ts";
import { holdConfigured, isConfigured } from "./configured-budgets.ts";
import { findGrant, findParties } from "./grants.ts";
import type { Leases } from "./leases.ts";
import type { Lender } from "./lender.ts";
import {
  isUuid,
  readParty,
  readSpendRecord,
  writeChange,
  writeGrant,
  writeLeaseAnswer,
  writePartyGrant,
} from "./messages.ts";
import { keyOfCaller } from "./operators.ts";
import type { Queryable } from "./postgres.ts";
import { type Pepper, sameSecret } from "./secrets.ts";
import type { BookingMeter } from "./service-metrics.ts";
import type { Settlements } from "./settlements.ts";
import type { StoredModelsReader } from "./stored-models.ts";

/** What the runtime service is made of. */
export interface RuntimeParts {
  readonly books: Queryable;
  readonly lender: Lender;
  readonly leases: Leases;
  readonly settlements: Settlements;
  readonly feed: ChangeFeed;
  readonly models: StoredModelsReader;
  readonly pepper: Pepper;
  readonly clock: Clock;
  readonly meter: BookingMeter;
  /** What sidecars show. The master key does as well. */
  readonly runtimeToken: Secret;
  readonly masterKey: Secret;
}

/** Makes the implementation of tollgate.keys.v1.KeyService. Its methods throw GatewayError. */
export function createRuntimeService(parts: RuntimeParts): ServiceImpl<typeof KeyService> {
  const { books, lender, leases, settlements, pepper, clock, meter } = parts;
  return {
    async resolveKey({ keySha256 }, context) {
      authorize(context, parts);
      const grant = await findGrant(books, Buffer.from(keySha256), pepper);
      if (grant === undefined) throw new GatewayError("key_not_found", "There is no such key.");
      return { grant: writeGrant(grant), readTime: timestampFromMs(clock.nowMs()) };
    },
    async resolveParties(request, context) {
      authorize(context, parts);
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
      authorize(context, parts);
      const { requestId, podId, leaseId, keyId, budgetIds, minNanos, wantNanos } = request;
      const ask = { requestId, podId, leaseId, keyId, budgetIds, min: minNanos, want: wantNanos };
      const answer = await lender.acquire(ask);
      meter.lent(answer);
      return writeLeaseAnswer(leaseId, answer);
    },
    async renewLeases({ leaseIds }, context) {
      authorize(context, parts);
      const { ttlMs, ended } = await leases.renew(leaseIds.filter(isUuid));
      return { ttlMs: BigInt(ttlMs), endedLeaseIds: [...ended, ...leaseIds.filter((id) => !isUuid(id))] };
    },
    async returnLeases({ returns }, context) {
      authorize(context, parts);
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
      authorize(context, parts);
      const read = records.map(readSpendRecord);
      const duplicateCount = await settlements.settle(podId, read);
      meter.settled(read, duplicateCount);
      return { duplicateCount };
    },
    async getModels(_, context) {
      authorize(context, parts);
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

async function* watch(
  parts: RuntimeParts,
  request: WatchRequest,
  context: HandlerContext,
): AsyncGenerator<WatchResponse> {
  authorize(context, parts);
  for await (const change of parts.feed.watch(request.sinceVersion, context.signal)) yield writeChange(change);
  // Only a replica that is going away ends a watch by itself; its sidecars go to another.
  if (!context.signal.aborted) throw new GatewayError("shutting_down", "The KeyService is shutting down.");
}

function authorize(context: HandlerContext, { runtimeToken, masterKey }: RuntimeParts): void {
  const token = keyOfCaller((name) => context.requestHeader.get(name) ?? undefined);
  if (sameSecret(token, runtimeToken) || sameSecret(token, masterKey)) return;
  throw new GatewayError("invalid_api_key", "The token is not that of a sidecar.");
}
