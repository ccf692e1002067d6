/** Amazon Bedrock's errors: named in a header or in the stream, with a message beside. */

import { type ErrorCode, ProviderFailure } from "../errors.ts";
import { scrubCredentials } from "../secret.ts";
import { phraseCode } from "./complaints.ts";

/** Long enough for any honest message. */
const messageCharsMax = 500;

/** By the exception's name in lower case, without "exception". */
const codes: Readonly<Record<string, ErrorCode>> = {
  throttling: "provider_rate_limited",
  toomanyrequests: "provider_rate_limited",
  servicequotaexceeded: "provider_rate_limited",
  modelnotready: "provider_unavailable",
  serviceunavailable: "provider_unavailable",
  modeltimeout: "provider_timeout",
  internalserver: "provider_error",
  modelerror: "provider_error",
  modelstreamerror: "provider_error",
  accessdenied: "provider_auth_failed",
  unrecognizedclient: "provider_auth_failed",
  invalidsignature: "provider_auth_failed",
  expiredtoken: "provider_auth_failed",
  missingauthenticationtoken: "provider_auth_failed",
  incompletesignature: "provider_auth_failed",
  resourcenotfound: "provider_model_not_found",
};

/**
 * The class of an exception.
 *
 * @param name as Bedrock has it: "ThrottlingException", or "com.amazon.coral#..." around it.
 * @returns undefined if the name says nothing of it.
 */
export function bedrockCode(name: string): ErrorCode | undefined {
  const plain = /([a-z]+?)(exception)?(:.*)?$/i.exec(name.split("#").at(-1) ?? "")?.[1]?.toLowerCase();
  return plain === undefined ? undefined : codes[plain];
}

/** An exception inside a stream. Not billable by itself: what came before it is. */
export function inBandException(name: string, said: string): ProviderFailure {
  const isRefusal = /^validation/i.test(name);
  const code = bedrockCode(name) ?? (isRefusal ? phraseCode(said) : undefined) ?? "provider_error";
  const words = said === "" ? "" : ` It said: ${scrubCredentials(said.slice(0, messageCharsMax))}`;
  return new ProviderFailure(code, `The provider failed while it answered.${words}`, {
    billable: false,
    quotesProvider: true,
  });
}
