import { inspect } from "node:util";

/** A value that must not be seen: prints, logs and serialises as "[secret]". Only `reveal` gives it, where it is used. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}

/** What looks like a credential in a text that somebody else wrote. What is in parentheses stays. */
const credentialForms = [
  // Virtual keys and those of OpenAI, Anthropic, xAI, Perplexity, NVIDIA; Groq, Hugging Face, Replicate.
  /\b(?:sk|pk|rk|xai|key|pplx|nvapi)-[A-Za-z0-9_*.-]{6,}|\b(?:gsk|hf|r8)_[A-Za-z0-9]{16,}/,
  // AWS, Google, Azure's bare hex, JSON web tokens.
  /\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\bAIza[A-Za-z0-9_-]{20,}|\b[0-9a-f]{32}\b|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+/,
  /(\bBearer\s+)[^\s"',]{6,}/,
  // The password in a URL.
  /(:\/\/[^\s/:@]*:)[^\s/@]+(?=@)/,
]
  .map(({ source }) => source)
  .join("|");
const credential = new RegExp(credentialForms, "i");
const credentials = new RegExp(credentialForms, "gi");

/** Replaces whatever looks like a credential, for texts of providers and libraries that go into messages or logs. */
export function scrubCredentials(text: string): string {
  // Every call asks for its request's id, and to replace costs more than to look.
  return credential.test(text) ? text.replace(credentials, "$1$2[secret]") : text;
}
