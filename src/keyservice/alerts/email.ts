import { createTransport, type Transporter } from "nodemailer";
import type { Secret } from "../../secret.ts";
import { type Alert, dedupKey, detailsOf, headline } from "./alert.ts";
import { type AlertSink, DeliveryFailed, failureCode } from "./sink.ts";

/** A mail server and what it is to send. */
export interface SmtpAddress {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: Secret | undefined;
  /** Whether nothing is sent in the clear: by STARTTLS, or from the first byte on at port 465. */
  readonly tls: boolean;
  readonly sender: string;
  readonly recipients: readonly string[];
}

const implicitTlsPort = 465;

/** E-mail. Each alert has one Message-ID, by which mail systems know a repetition. */
export class EmailSink implements AlertSink {
  readonly name = "email";
  readonly #address: SmtpAddress;
  readonly #transport: Transporter;

  /** `timeoutMs`: how long each step of the conversation may take. */
  constructor(parts: { readonly address: SmtpAddress; readonly timeoutMs: number }) {
    const { address, timeoutMs } = parts;
    this.#address = address;
    const { host, port, username, password, tls } = address;
    const isImplicit = tls && port === implicitTlsPort;
    this.#transport = createTransport({
      ...{ host, port, secure: isImplicit, requireTLS: tls && !isImplicit, ignoreTLS: !tls },
      ...(username === undefined ? {} : { auth: { user: username, pass: password?.reveal() ?? "" } }),
      ...{ connectionTimeout: timeoutMs, greetingTimeout: timeoutMs, socketTimeout: timeoutMs },
    });
  }

  wants(): boolean {
    return true;
  }

  async deliver(alert: Alert, signal: AbortSignal): Promise<void> {
    const { sender, recipients } = this.#address;
    const details = Object.entries(detailsOf(alert)).map(([name, value]) => `${name}: ${value}`);
    const sent = this.#transport.sendMail({
      from: sender,
      to: [...recipients],
      subject: `[Tollgate] ${headline(alert)}`,
      text: `${headline(alert)}.\n\n${details.join("\n")}\n`,
      messageId: `<${dedupKey(alert)}@tollgate>`,
      date: alert.createdAt,
    });
    try {
      await Promise.race([sent, aborted(signal)]);
    } catch (error) {
      // What is still under way ends by its own timeouts, and nobody asks how.
      sent.catch(() => {});
      if (signal.aborted) throw new DeliveryFailed("It did not answer in time.", { isAway: true });
      const { responseCode } = error as { responseCode?: number };
      if (responseCode !== undefined) throw new DeliveryFailed(`It answered ${responseCode}.`, { isAway: false });
      throw new DeliveryFailed(`It could not be reached (${failureCode(error)}).`, { isAway: true });
    }
  }

  close(): void {
    this.#transport.close();
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
