import type { Alert } from "./alert.ts";

/** Somewhere alerts are delivered to. */
export interface AlertSink {
  /** Kept in the books beside what it has: the same for all replicas. */
  readonly name: string;
  /** Whether it is to have this one. */
  wants(alert: Alert): boolean;
  /**
   * Delivers it, or gives up when `signal` aborts. It may have been delivered before: what is sent tells the receiver so.
   *
   * @throws DeliveryFailed
   */
  deliver(alert: Alert, signal: AbortSignal): Promise<void>;
}

/** A sink does not have the alert. The message says why and holds no secrets: addresses are some. */
export class DeliveryFailed extends Error {
  /** Whether nobody answered, so that others would wait in vain just now. */
  readonly isAway: boolean;

  constructor(message: string, options: { readonly isAway: boolean }) {
    super(message);
    this.isAway = options.isAway;
  }
}

/** Where `error` of a library may quote an address, its code does not. */
export function failureCode(error: unknown): string {
  const { code, name } = error instanceof Error ? (error as { code?: unknown; name: string }) : { name: "unknown" };
  return typeof code === "string" && /^[A-Z0-9_]{1,40}$/.test(code) ? code : name;
}
