import { writeFileSync } from "node:fs";
import { exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";

export const issuer = "https://kubernetes.default.svc.cluster.local";
export const audience = "tollgate-keyservice";

/** What a token says, where it is not what is right. */
export interface TokenFacts {
  readonly namespace?: string;
  readonly serviceAccount?: string;
  /** Null: it is not bound to a pod. */
  readonly pod?: string | null;
  readonly audience?: string;
  readonly issuer?: string;
  readonly expiresInS?: number;
}

/** Signs tokens as a cluster's API server does, and publishes its keys. */
export class TestIssuer {
  readonly #kid: string;
  readonly #keys: { readonly privateKey: CryptoKey; readonly publicKey: CryptoKey };

  private constructor(kid: string, keys: { readonly privateKey: CryptoKey; readonly publicKey: CryptoKey }) {
    this.#kid = kid;
    this.#keys = keys;
  }

  static async open(kid: string): Promise<TestIssuer> {
    return new TestIssuer(kid, await generateKeyPair("RS256"));
  }

  async jwk(): Promise<JWK> {
    return { ...(await exportJWK(this.#keys.publicKey)), kid: this.#kid, alg: "RS256", use: "sig" };
  }

  /** A token of pod `search-0` of service account `search/gateway`, unless `facts` say otherwise. */
  token(facts: TokenFacts = {}): Promise<string> {
    const { namespace = "search", serviceAccount = "gateway", pod = "search-0", expiresInS = 3_600 } = facts;
    const nowS = Math.floor(Date.now() / 1000);
    const bound = pod === null ? {} : { pod: { name: pod, uid: `uid-of-${pod}` } };
    return new SignJWT({ "kubernetes.io": { namespace, serviceaccount: { name: serviceAccount, uid: "u" }, ...bound } })
      .setProtectedHeader({ alg: "RS256", kid: this.#kid })
      .setSubject(`system:serviceaccount:${namespace}:${serviceAccount}`)
      .setIssuer(facts.issuer ?? issuer)
      .setAudience(facts.audience ?? audience)
      .setIssuedAt(nowS - 60)
      .setExpirationTime(nowS + expiresInS)
      .sign(this.#keys.privateKey);
  }
}

/** Publishes the keys of these issuers, and of no others. */
export async function writeKeySet(file: string, issuers: readonly TestIssuer[]): Promise<void> {
  writeFileSync(file, JSON.stringify({ keys: await Promise.all(issuers.map((each) => each.jwk())) }));
}
