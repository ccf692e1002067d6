/** `Headers`, which connect asks for by this name alone, from the undici that is there in any case. */
export { Headers } from "undici/lib/web/fetch/headers.js";
