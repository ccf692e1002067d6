import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TlsFiles } from "../src/tls-files.ts";

/** A certificate authority of a test's own, in a folder. */
export class TestAuthority {
  readonly #folder: string;
  readonly #name: string;

  constructor(folder: string, name = "authority") {
    this.#folder = folder;
    this.#name = name;
    const files = ["-keyout", this.#file(`${name}.key`), "-out", this.#file(`${name}.crt`)];
    openssl("req", "-x509", ...keyKind, "-nodes", "-days", "2", ...files, "-subj", `/CN=${name}`);
  }

  get file(): string {
    return this.#file(`${this.#name}.crt`);
  }

  /**
   * Issues a certificate, for two days unless `days` says otherwise.
   *
   * @param names as openssl has them: "DNS:localhost,URI:spiffe://cluster.local/ns/a/sa/b".
   */
  issue(name: string, names: string, days = 2): TlsFiles & { readonly certFile: string; readonly keyFile: string } {
    const [keyFile, certFile, request, extensions] = ["key", "crt", "csr", "ext"].map((kind) =>
      this.#file(`${name}.${kind}`),
    ) as [string, string, string, string];
    openssl("req", "-new", ...keyKind, "-nodes", "-keyout", keyFile, "-out", request, "-subj", `/CN=${name}`);
    writeFileSync(extensions, `subjectAltName=${names}\n`);
    const signer = ["-CA", this.file, "-CAkey", this.#file(`${this.#name}.key`), "-CAcreateserial"];
    openssl("x509", "-req", "-in", request, ...signer, "-days", String(days), "-extfile", extensions, "-out", certFile);
    return { certFile, keyFile, caFile: this.file };
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }
}

const keyKind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

function openssl(...args: readonly string[]): void {
  execFileSync("openssl", args, { stdio: "ignore" });
}
