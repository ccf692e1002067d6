import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";

/** What a signature was checked against. */
export interface KnownKey {
  readonly secret: string;
  /** What `x-amz-security-token` must be; undefined: nothing. */
  readonly token?: string | undefined;
}

/**
 * Checks a request's signature as AWS documents it, from what came over the wire alone: none of it is the gateway's code.
 *
 * @param keys secrets by the id of their access key.
 * @returns what is wrong; undefined if nothing is.
 */
export function signatureFault(
  request: Pick<IncomingMessage, "method" | "url" | "headers">,
  body: Buffer,
  scope: { readonly region: string; readonly service: string },
  keys: ReadonlyMap<string, KnownKey>,
): string | undefined {
  const { headers } = request;
  const parsed =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? "",
    );
  if (parsed === null) return "no signature";
  const [, id = "", date = "", region = "", service = "", signedNames = "", signature = ""] = parsed;
  if (region !== scope.region || service !== scope.service) return `signed for ${region}/${service}`;
  const key = keys.get(id);
  if (key === undefined) return `unknown access key ${id}`;
  if (headers["x-amz-security-token"] !== key.token) return "another session's token";
  const time = String(headers["x-amz-date"]);
  const iso = time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z");
  if (!time.startsWith(date) || Math.abs(Date.now() - Date.parse(iso)) > 300_000) return `signed at ${time}`;
  const names = signedNames.split(";");
  const required = ["host", "x-amz-date", ...(key.token === undefined ? [] : ["x-amz-security-token"])];
  const missing = required.find((name) => !names.includes(name));
  if (missing !== undefined) return `${missing} is not signed`;
  if (names.join() !== [...names].sort().join()) return "signed headers are not in order";
  const [path = "", query = ""] = (request.url ?? "").split("?");
  const canonical =
    `${request.method}\n` +
    `${path.split("/").map(strictlyEncoded).join("/")}\n` +
    `${query === "" ? "" : query.split("&").sort().join("&")}\n` +
    `${names.map((name) => `${name}:${String(headers[name]).trim()}\n`).join("")}\n` +
    `${signedNames}\n` +
    createHash("sha256").update(body).digest("hex");
  const text = `AWS4-HMAC-SHA256\n${time}\n${date}/${region}/${service}/aws4_request\n${createHash("sha256").update(canonical).digest("hex")}`;
  const mac = (secret: string | Buffer, data: string) => createHmac("sha256", secret).update(data).digest();
  const signingKey = mac(mac(mac(mac(`AWS4${key.secret}`, date), region), service), "aws4_request");
  const expected = mac(signingKey, text);
  return timingSafeEqual(expected, Buffer.from(signature, "hex")) ? undefined : "a wrong signature";
}

/** Percent-encodes everything but unreserved characters, a percent sign included: the path on the wire is encoded once already. */
function strictlyEncoded(segment: string): string {
  return [...Buffer.from(segment)]
    .map((byte) => {
      const character = String.fromCharCode(byte);
      return /[A-Za-z0-9\-._~]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    })
    .join("");
}
