import { create, type UnknownField } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { Clock, Random } from "../clock.ts";
import type { FileValue } from "../file-value.ts";
import { KeyService, SettleRequestSchema } from "../gen/tollgate/keys/v1/keys_pb.ts";
import type { Secret } from "../secret.ts";
import { errorInfo } from "../server/rpc-error.ts";
import { clientSpans } from "../telemetry/rpc-spans.ts";
import { http2Connector, type TlsMaterial } from "../tls-files.ts";
import {
  type Authority,
  AuthorityRejected,
  AuthorityUnavailable,
  type Grant,
  type KeyNews,
  type LeaseAnswer,
  type LeaseAsk,
  type LeaseReturn,
  type Party,
  type PartyGrant,
  type SpendRecord,
} from "./authority.ts";
import { Backoff, pause } from "./backoff.ts";
import { readGrant, readLeaseAnswer, readModels, readNews, readPartyGrant, writeParty } from "./messages.ts";
import type { ModelsAnswer } from "./model-sync.ts";
import { SpendRecordEncoder } from "./spend-record-encoder.ts";
import { SturdySession } from "./sturdy-session.ts";

/** A call waits for these: short. */
const callerWaitsMs = 2_000;
/** Nobody waits for these. */
const backgroundMs = 10_000;
/** Records written for the KeyService in one go: two tenths of a millisecond's work. */
const encodedAtOnce = 64;

/** What a RemoteAuthority is made of. */
export interface RemoteAuthorityParts {
  /** "http://keyservice:4100", for instance. */
  readonly url: string;
  /** Sent as a bearer token: of several, one a line, the first. */
  readonly token: Secret | undefined;
  /** What an https connection is made with; undefined: with the authorities that node trusts. */
  readonly tls?: FileValue<TlsMaterial> | undefined;
  /** This pod, the same over restarts of its container. */
  readonly podId: string;
  readonly clock: Clock;
  readonly random: Random;
}

/** The KeyService over gRPC. */
export class RemoteAuthority implements Authority {
  readonly #parts: RemoteAuthorityParts;
  #connection: Connection;
  readonly #podId: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #closed = new AbortController();

  constructor(parts: RemoteAuthorityParts) {
    this.#parts = parts;
    this.#connection = connectionTo(parts);
    this.#podId = parts.podId;
    this.#clock = parts.clock;
    this.#random = parts.random;
  }

  async resolve(keySha256: Buffer): Promise<Grant | undefined> {
    try {
      return await this.#call(callerWaitsMs, async (options) => {
        const sentAtMs = this.#clock.monotonicMs();
        const { grant, readTime } = await this.#client.resolveKey({ keySha256 }, options);
        if (grant === undefined) throw new Error("The KeyService sent no grant.");
        return readGrant(grant, { atMs: readTime ? timestampMs(readTime) : this.#clock.nowMs(), sentAtMs });
      });
    } catch (error) {
      if (error instanceof AuthorityRejected && isNoSuchKey(error.cause)) return undefined;
      // A request as small as a digest is never at fault, so nothing else is a definite answer about the key.
      throw error instanceof AuthorityRejected ? new AuthorityUnavailable(error.cause) : error;
    }
  }

  async resolveParties(parties: readonly Party[]): Promise<{ parties: readonly PartyGrant[]; version: bigint }> {
    try {
      return await this.#call(callerWaitsMs, async (options) => {
        const answer = await this.#client.resolveParties({ parties: parties.map(writeParty) }, options);
        if (answer.parties.length !== parties.length) throw new Error("The KeyService left parties out.");
        return { parties: answer.parties.map(readPartyGrant), version: answer.version };
      });
    } catch (error) {
      throw error instanceof AuthorityRejected ? new AuthorityUnavailable(error.cause) : error;
    }
  }

  async acquire(ask: LeaseAsk): Promise<LeaseAnswer> {
    const { requestId, leaseId, keyId, min, want, ahead } = ask;
    const amounts = { minNanos: min, wantNanos: want, aheadNanos: ahead };
    const request = { requestId, podId: this.#podId, leaseId, keyId, budgetIds: [...ask.budgetIds], ...amounts };
    try {
      return await this.#call(callerWaitsMs, async (options) =>
        readLeaseAnswer(await this.#client.acquireLease(request, options)),
      );
    } catch (error) {
      // The key was blocked or has expired a moment ago, and no money was lent.
      if (error instanceof AuthorityUnavailable && isForbidden(error.cause)) throw new AuthorityRejected(error.cause);
      throw error;
    }
  }

  renew(leaseIds: readonly string[]): Promise<{ ttlMs: number; ended: readonly string[] }> {
    const request = { podId: this.#podId, leaseIds: [...leaseIds] };
    return this.#call(backgroundMs, async (options) => {
      const { ttlMs, endedLeaseIds } = await this.#client.renewLeases(request, options);
      return { ttlMs: Number(ttlMs), ended: endedLeaseIds };
    });
  }

  async giveBack(returns: readonly LeaseReturn[]): Promise<void> {
    const request = {
      podId: this.#podId,
      returns: returns.map(({ requestId, leaseId, amount, close }) => ({
        requestId,
        leaseId,
        amountNanos: amount,
        close,
      })),
    };
    await this.#call(backgroundMs, (options) => this.#client.returnLeases(request, options));
  }

  async settle(records: readonly SpendRecord[]): Promise<void> {
    const request = create(SettleRequestSchema, { podId: this.#podId });
    request.$unknown = await encodeAll(records);
    await this.#call(backgroundMs, (options) => this.#client.settle(request, options));
  }

  /** The models and credentials of the database. @throws AuthorityUnavailable. */
  async models(): Promise<ModelsAnswer> {
    try {
      return await this.#call(backgroundMs, async (options) =>
        readModels(await this.#client.getModels({ podId: this.#podId }, options)),
      );
    } catch (error) {
      throw error instanceof AuthorityRejected ? new AuthorityUnavailable(error.cause) : error;
    }
  }

  async *watch(sinceVersion: bigint, signal: AbortSignal): AsyncIterable<KeyNews> {
    const request = { podId: this.#podId, sinceVersion, takesRecalls: true };
    const either = AbortSignal.any([signal, this.#closed.signal]);
    try {
      for await (const message of this.#client.watch(request, { signal: either })) yield readNews(message);
    } catch (error) {
      if (either.aborted) return;
      throw new AuthorityUnavailable(error);
    }
    // Calls that are under way on the old connection end there.
    if (!either.aborted) this.#connection = connectionTo(this.#parts);
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#connection.session.abort();
  }

  get #client(): Client<typeof KeyService> {
    return this.#connection.client;
  }

  /** Asks, and asks again while the service is away and time is left: every request carries ids that make that safe. */
  async #call<Answer>(
    timeoutMs: number,
    ask: (options: { timeoutMs: number; signal: AbortSignal }) => Promise<Answer>,
  ): Promise<Answer> {
    const deadlineMs = this.#clock.monotonicMs() + timeoutMs;
    const backoff = new Backoff({ firstMs: 50, maxMs: 1_000, random: this.#random });
    const { signal } = this.#closed;
    for (;;) {
      const leftMs = Math.max(1, Math.ceil(deadlineMs - this.#clock.monotonicMs()));
      try {
        return await ask({ timeoutMs: leftMs, signal });
      } catch (error) {
        if (!(error instanceof ConnectError)) throw new AuthorityUnavailable(error);
        if (isRejection(error)) throw new AuthorityRejected(error);
        const waitMs = backoff.nextMs();
        const late = this.#clock.monotonicMs() + waitMs >= deadlineMs;
        if (late || signal.aborted || !isTransient(error)) throw new AuthorityUnavailable(error);
        await pause(this.#clock, waitMs, signal);
      }
    }
  }
}

/** A connection to whichever replica is found behind the address. */
interface Connection {
  readonly session: SturdySession;
  readonly client: Client<typeof KeyService>;
}

function connectionTo({ url, token, tls }: RemoteAuthorityParts): Connection {
  const session = new SturdySession(
    url,
    // A dead connection (dropped packets, no reset) is noticed within 8 s and replaced.
    { pingIntervalMs: 5_000, pingTimeoutMs: 3_000, idleConnectionTimeoutMs: 30_000 },
    // In megabytes. Node's default of 10 refuses streams under load.
    { maxSessionMemory: 1_000, ...(tls && { createConnection: http2Connector(tls) }) },
  );
  const interceptors = [clientSpans, ...(token === undefined ? [] : [bearer(token)])];
  const transport = createGrpcTransport({ baseUrl: url, sessionManager: session, interceptors });
  return { session, client: createClient(KeyService, transport) };
}

/**
 * The request's records, each as the field that it is on the wire. Some at a time: a batch that is written in one go, as a message is, holds up
 * all calls that are under way for as long.
 *
 * @throws AuthorityRejected (as a rejection) if one cannot be written: it never will be.
 */
async function encodeAll(records: readonly SpendRecord[]): Promise<UnknownField[]> {
  const fields: UnknownField[] = [];
  const { number: no } = SettleRequestSchema.field.records;
  const encoder = new SpendRecordEncoder();
  for (const record of records) {
    if (fields.length > 0 && fields.length % encodedAtOnce === 0) await new Promise(setImmediate);
    try {
      fields.push({ no, wireType: WireType.LengthDelimited, data: encoder.encode(record) });
    } catch (error) {
      throw new AuthorityRejected(error);
    }
  }
  return fields;
}

function bearer(token: Secret): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${token.reveal().split(/\r?\n/)[0]}`);
    return next(request);
  };
}

/**
 * Aborted and Canceled (by nobody here) are what a connection cut in the middle of a call becomes; a refused stream, what one does that
 * a KeyService is about to close.
 */
function isTransient(error: ConnectError): boolean {
  if (error.code === Code.Internal) return error.rawMessage.includes("NGHTTP2_REFUSED_STREAM");
  return error.code === Code.Unavailable || error.code === Code.Aborted || error.code === Code.Canceled;
}

function isRejection(error: ConnectError): boolean {
  return error.code === Code.InvalidArgument || error.code === Code.NotFound || error.code === Code.OutOfRange;
}

/** Whether the key is refused, and not this sidecar. */
function isForbidden(error: unknown): boolean {
  const reason = error instanceof ConnectError ? errorInfo(error)?.reason : undefined;
  return reason === "BLOCKED_KEY" || reason === "EXPIRED_KEY";
}

function isNoSuchKey(error: unknown): boolean {
  if (!(error instanceof ConnectError) || error.code !== Code.NotFound) return false;
  return errorInfo(error)?.reason === "KEY_NOT_FOUND";
}
