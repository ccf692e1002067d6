/** Which sidecar it is that calls. */

import type { HandlerContext } from "@connectrpc/connect";
import { errors, jwtVerify } from "jose";
import type { Clock } from "../clock.ts";
import { GatewayError } from "../errors.ts";
import type { FileValue } from "../file-value.ts";
import type { Secret } from "../secret.ts";
import { peerUrisOf } from "../server/rpc-handlers.ts";
import type { IdentityRules, ServiceAccount, TokenRules } from "./identity-rules.ts";
import { teamsOf } from "./identity-rules.ts";
import { keyOfCaller } from "./operators.ts";
import { sameSecret } from "./secrets.ts";
import { SigningKeys } from "./signing-keys.ts";

/** Who calls, and what that allows. */
export interface CallingSidecar {
  /** For the log. */
  readonly name: string;
  /** The teams whose keys it serves; "all": every key. */
  readonly teams: ReadonlySet<string> | "all";
  /** What it may call its pod; undefined: anything. */
  readonly podNames: readonly string[] | undefined;
  /** When what it showed is worth nothing any more, Unix time in milliseconds. Absent: nobody says. */
  readonly expiresAtMs?: number;
}

/** What a SidecarAccess is made of. */
export interface SidecarAccessParts {
  /** What sidecars show that have no identity of their own: of several, one a line, any. */
  readonly runtimeToken: Secret;
  /** Undefined: it is for administration only. */
  readonly masterKey: Secret | undefined;
  /** Undefined: sidecars have no identities. */
  readonly rules: FileValue<IdentityRules> | undefined;
  readonly clock: Clock;
  readonly onError: (error: Error) => void;
}

/** Whoever knows a shared secret is any sidecar. */
const anySidecar: CallingSidecar = { name: "shared token", teams: "all", podNames: undefined };

/** No shared secrets and no signatures that anybody can make. */
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
const clockSkewS = 5;

/** Recognises sidecars: by a service account's token, by a certificate with a SPIFFE id, or by a shared secret. */
export class SidecarAccess {
  readonly #parts: SidecarAccessParts;
  #keys: { readonly rules: TokenRules; readonly found: SigningKeys } | undefined;

  /** @throws Error if the cluster's keys stand in a file that cannot be read. */
  constructor(parts: SidecarAccessParts) {
    this.#parts = parts;
    const tokens = parts.rules?.current.tokens;
    if (tokens !== undefined) this.#keysFor(tokens);
  }

  /**
   * @throws GatewayError `missing_api_key`, `invalid_api_key`, `permission_denied` if no rule names the caller; `keyservice_unavailable` if
   *   the cluster's keys are not known.
   */
  async identify(context: Pick<HandlerContext, "values" | "requestHeader">): Promise<CallingSidecar> {
    const rules = this.#parts.rules?.current;
    if (rules === undefined) return this.#bySharedSecret(tokenOf(context));
    const ofCertificate = rules.trustDomain === undefined ? undefined : spiffeAccount(context, rules.trustDomain);
    const isToken = context.requestHeader.has("authorization");
    if (ofCertificate !== undefined && !isToken) return sidecarOf(ofCertificate, rules);
    const token = tokenOf(context);
    if (rules.takesSharedToken && this.#isShared(token)) return anySidecar;
    if (rules.tokens === undefined) {
      if (ofCertificate !== undefined) return sidecarOf(ofCertificate, rules);
      throw new GatewayError("invalid_api_key", "Sidecars are known by their certificates here; none was shown.");
    }
    const { account, expiresAtMs } = await this.#ofToken(token, rules.tokens);
    if (ofCertificate !== undefined && !isSame(account, ofCertificate))
      throw new GatewayError("invalid_api_key", "The token and the certificate are of different service accounts.");
    return { ...sidecarOf(account, rules), expiresAtMs };
  }

  #bySharedSecret(token: string): CallingSidecar {
    if (this.#isShared(token)) return anySidecar;
    throw new GatewayError("invalid_api_key", "The token is not that of a sidecar.");
  }

  #isShared(token: string): boolean {
    const { runtimeToken, masterKey } = this.#parts;
    const taken = runtimeToken.reveal().split(/\r?\n/);
    // All are compared, whichever it is.
    const same = [...taken, ...(masterKey === undefined ? [] : [masterKey.reveal()])].map((each) =>
      sameSecret(token, each),
    );
    return same.includes(true);
  }

  async #ofToken(token: string, rules: TokenRules): Promise<{ account: ServiceAccount; expiresAtMs: number }> {
    const { clock } = this.#parts;
    try {
      const { payload } = await jwtVerify(token, this.#keysFor(rules).find, {
        ...{ issuer: rules.issuer, audience: rules.audience, algorithms, clockTolerance: clockSkewS },
        ...{ currentDate: new Date(clock.nowMs()), requiredClaims: ["exp"] },
      });
      const expiresAtMs = ((payload.exp ?? 0) + clockSkewS) * 1_000;
      return { account: accountOf(payload, rules), expiresAtMs };
    } catch (error) {
      if (error instanceof GatewayError) throw error;
      if (error instanceof errors.JOSEError) throw new GatewayError("invalid_api_key", refusalText(error));
      throw new GatewayError("keyservice_unavailable", "The KeyService cannot verify tokens now.", { cause: error });
    }
  }

  #keysFor(rules: TokenRules): SigningKeys {
    if (this.#keys?.rules !== rules) this.#keys = { rules, found: new SigningKeys({ ...this.#parts, rules }) };
    return this.#keys.found;
  }
}

function tokenOf(context: Pick<HandlerContext, "requestHeader">): string {
  return keyOfCaller((name) => context.requestHeader.get(name) ?? undefined);
}

/** What Kubernetes writes into a token. */
interface Claims {
  readonly sub?: string;
  readonly "kubernetes.io"?: {
    readonly namespace?: string;
    readonly serviceaccount?: { readonly name?: string };
    readonly pod?: { readonly name?: string; readonly uid?: string };
  };
}

function accountOf({ sub = "", ...claims }: Claims, rules: TokenRules): ServiceAccount {
  const [, namespace, name] = /^system:serviceaccount:([a-z0-9.-]+):([a-z0-9.-]+)$/.exec(sub) ?? [];
  if (namespace === undefined || name === undefined)
    throw new GatewayError("invalid_api_key", "The token is not a service account's.");
  const { pod } = claims["kubernetes.io"] ?? {};
  if (pod?.name === undefined || pod.uid === undefined) {
    if (rules.bound_to_pod)
      throw new GatewayError("invalid_api_key", "The token is not bound to a pod. Mount a projected one.");
    return { namespace, name };
  }
  return { namespace, name, pod: { name: pod.name, uid: pod.uid } };
}

/** `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/NAME`; a certificate with other names than one such id is nobody's. */
function spiffeAccount(context: Pick<HandlerContext, "values">, trustDomain: string): ServiceAccount | undefined {
  const uris = peerUrisOf(context);
  if (uris.length === 0) return undefined;
  const [, domain, namespace, name] =
    /^spiffe:\/\/([^/]+)\/ns\/([a-z0-9.-]+)\/sa\/([a-z0-9.-]+)$/.exec(uris.join()) ?? [];
  if (domain !== trustDomain || namespace === undefined || name === undefined) {
    throw new GatewayError(
      "invalid_api_key",
      `The certificate's name is not spiffe://${trustDomain}/ns/NAMESPACE/sa/SERVICE-ACCOUNT.`,
    );
  }
  return { namespace, name };
}

function isSame(one: ServiceAccount, other: ServiceAccount): boolean {
  return one.namespace === other.namespace && one.name === other.name;
}

function sidecarOf(account: ServiceAccount, rules: IdentityRules): CallingSidecar {
  const { namespace, name, pod } = account;
  const teams = teamsOf(account, rules);
  if (teams === undefined) {
    const message = `No rule lets service account ${name} of namespace ${namespace} be a sidecar.`;
    throw new GatewayError("permission_denied", message);
  }
  const podNames = pod && [pod.name, `${namespace}/${pod.name}`, pod.uid];
  return { name: `${namespace}/${name}`, teams, podNames };
}

/** Says what is wrong with a token, and never what is in it. */
function refusalText(error: errors.JOSEError): string {
  if (error instanceof errors.JWTExpired) return "The token has expired.";
  if (error instanceof errors.JWTClaimValidationFailed) {
    switch (error.claim) {
      case "aud":
        return "The token is for another audience.";
      case "iss":
        return "The token is of another issuer.";
      case "nbf":
        return "The token is not valid yet.";
      default:
        return `The token's claim "${error.claim}" is missing or wrong.`;
    }
  }
  return "The token is no service-account token, or nobody we trust has signed it.";
}
