import { z } from "zod";
import { ConfigDocument } from "../config/document.ts";
import { pathText, remarkText } from "../config/remarks.ts";
import { matchWildcard } from "../wildcard.ts";

const text = z.string({ error: "a text" }).min(1, { error: "a text" });
const url = z.url({ protocol: /^https?$/, error: "an http or https URL" });

const tokens = z
  .strictObject({
    issuer: text,
    audience: text,
    jwks_file: text.optional(),
    jwks_url: url.optional(),
    jwks_ca_file: text.optional(),
    jwks_token_file: text.optional(),
    bound_to_pod: z.boolean({ error: "true or false" }).default(true),
  })
  .refine((given) => (given.jwks_file === undefined) !== (given.jwks_url === undefined), {
    error: "either jwks_file or jwks_url",
  });

const rules = z
  .strictObject({
    service_account_tokens: tokens.optional(),
    client_certificates: z.strictObject({ trust_domain: text }).optional(),
    shared_token: z.boolean({ error: "true or false" }).default(false),
    sidecars: z
      .array(
        z.strictObject({
          namespace: text,
          service_account: text.default("*"),
          teams: z.array(text, { error: 'a list of team ids, or ["*"]' }),
        }),
        { error: "a list of {namespace, service_account, teams}" },
      )
      .min(1, { error: "at least one rule" }),
  })
  .refine((given) => given.service_account_tokens !== undefined || given.client_certificates !== undefined, {
    error: "service_account_tokens, client_certificates or both",
  });

/** Whose tokens are taken, and how they are verified. */
export type TokenRules = z.output<typeof tokens>;

/** Who the KeyService's sidecars are, and which teams they serve. */
export interface IdentityRules {
  /** Undefined: tokens of service accounts are not taken. */
  readonly tokens: TokenRules | undefined;
  /** The domain of SPIFFE ids in client certificates; undefined: they say nothing. */
  readonly trustDomain: string | undefined;
  /** Whether the shared secret is taken as well: while sidecars are moved from it. */
  readonly takesSharedToken: boolean;
  readonly sidecars: readonly {
    readonly namespace: string;
    readonly service_account: string;
    readonly teams: readonly string[];
  }[];
}

/**
 * Reads the file of TOLLGATE_SIDECAR_IDENTITIES.
 *
 * @throws Error that names the line and says what to write.
 */
export function readIdentityRules(file: string, content: string): IdentityRules {
  const document = ConfigDocument.parse(file, content);
  if (!(document instanceof ConfigDocument)) throw new Error(document.map(remarkText).join("\n"));
  const read = rules.safeParse(document.tree);
  if (!read.success) {
    const faults = read.error.issues.map((issue) => {
      const path = issue.path.map((step) => (typeof step === "symbol" ? String(step) : step));
      const message = issue.code === "unrecognized_keys" ? `unknown: ${issue.keys}` : `write ${issue.message}`;
      return remarkText({ file, line: document.lineOf(path), path: pathText(path), message });
    });
    throw new Error(faults.join("\n"));
  }
  const { service_account_tokens, client_certificates, shared_token, sidecars } = read.data;
  return {
    tokens: service_account_tokens,
    trustDomain: client_certificates?.trust_domain,
    takesSharedToken: shared_token,
    sidecars,
  };
}

/** A service account, and perhaps the pod it acts in. */
export interface ServiceAccount {
  readonly namespace: string;
  readonly name: string;
  readonly pod?: { readonly name: string; readonly uid: string } | undefined;
}

/** The teams whose keys a service account's sidecars serve; "all" are those without a team too. Undefined: no rule names it. */
export function teamsOf(
  { namespace, name }: ServiceAccount,
  { sidecars }: IdentityRules,
): ReadonlySet<string> | "all" | undefined {
  const matching = sidecars.filter(
    (rule) =>
      matchWildcard(rule.namespace, namespace) !== undefined && matchWildcard(rule.service_account, name) !== undefined,
  );
  if (matching.length === 0) return undefined;
  const teams = new Set(matching.flatMap((rule) => rule.teams));
  return teams.has("*") ? "all" : teams;
}
