import { createHmac, timingSafeEqual } from "node:crypto";
import type { Secret } from "./secret.ts";

/** An answer that a provider keeps. */
export interface StoredResponse {
  /** The deployment that made it. */
  readonly deploymentId: string;
  /** The provider's id of it. */
  readonly responseId: string;
  /** A number of tokens that the conversation up to and with it cannot exceed; Infinity: nobody knows. */
  readonly tokensMax: number;
}

/** Who may come back to an answer: a team if the key has one, else a user, else the key alone. */
export interface ResponseOwner {
  readonly keyId: string;
  readonly userId: string | undefined;
  readonly teamId: string | undefined;
}

const prefix = "resp_";
const proofBytes = 16;

/**
 * Names of answers that providers keep. A name holds where its answer is, so that every pod finds it, and a proof of whose it is, which
 * nobody can make without the pods' common secret: to others than its owner it is as good as a made-up one. The same answer has the
 * same name each time.
 */
export class ResponseIds {
  readonly #secret: Secret;

  /** @param parts.secret the same on all pods; names made with another one are not known. */
  constructor(parts: { secret: Secret }) {
    this.#secret = parts.secret;
  }

  nameFor({ deploymentId, responseId, tokensMax }: StoredResponse, owner: ResponseOwner): string {
    const facts = Buffer.from(
      JSON.stringify([deploymentId, responseId, Number.isFinite(tokensMax) ? tokensMax : null]),
    );
    return prefix + Buffer.concat([this.#proof(facts, owner), facts]).toString("base64url");
  }

  /** @returns undefined if it is no name of an answer of this owner's. */
  find(name: string, owner: ResponseOwner): StoredResponse | undefined {
    if (!name.startsWith(prefix)) return undefined;
    const bytes = Buffer.from(name.slice(prefix.length), "base64url");
    // Node reads over what is not base64: two names must not mean the same.
    if (prefix + bytes.toString("base64url") !== name) return undefined;
    const [proof, facts] = [bytes.subarray(0, proofBytes), bytes.subarray(proofBytes)];
    if (proof.length < proofBytes || !timingSafeEqual(proof, this.#proof(facts, owner))) return undefined;
    const [deploymentId, responseId, tokensMax] = JSON.parse(facts.toString()) as [string, string, number | null];
    return { deploymentId, responseId, tokensMax: tokensMax ?? Number.POSITIVE_INFINITY };
  }

  #proof(facts: Buffer, { keyId, userId, teamId }: ResponseOwner): Buffer {
    const owner = teamId !== undefined ? ["team", teamId] : userId !== undefined ? ["user", userId] : ["key", keyId];
    const mac = createHmac("sha256", `tollgate response ids ${this.#secret.reveal()}`);
    return mac
      .update(`${JSON.stringify(owner)}\n`)
      .update(facts)
      .digest()
      .subarray(0, proofBytes);
  }
}
