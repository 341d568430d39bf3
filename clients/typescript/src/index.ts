/**
 * A typed client of goalsvc: the operations of its OpenAPI document, with an Idempotency-Key for each POST, retries, and errors as
 * exceptions.
 */
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./generated/schema.js";

export type { components, paths };

/** What goalsvc has refused (RFC 9457), or what was answered instead by something in between. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: number,
    /** As `insufficient_funds`; `http_502` and the like where the answer is not goalsvc's. */
    readonly code: string,
    readonly detail: string,
    readonly requestId: string | null,
    readonly problem: Readonly<Record<string, unknown>>,
  ) {
    super(`${status} ${code}: ${detail}`);
  }
}

export interface Options {
  /** How often a call is made at most. */
  tries?: number;
  /** The longest rest before the second try, in milliseconds; it doubles with each. */
  firstMilliseconds?: number;
  /** No try begins later than this after the first, in milliseconds. */
  deadlineMilliseconds?: number;
  fetch?: (request: Request) => Promise<Response>;
}

const AGAIN = new Set([429, 502, 503, 504]);
const KEY = "Idempotency-Key";

/** Returns the client of the goalsvc at that address. Its calls throw `ApiError` for what is refused. */
export function openGoalsvc(baseUrl: string, apiKey: string, options: Options = {}): Client<paths> {
  const client = createClient<paths>({ baseUrl, fetch: (request) => repeated(request, options) });
  client.use({
    onRequest({ request }) {
      request.headers.set("Authorization", `Bearer ${apiKey}`);
      if (request.method === "POST" && !request.headers.has(KEY)) {
        request.headers.set(KEY, crypto.randomUUID());
      }
      return request;
    },
    async onResponse({ response }) {
      if (!response.ok && response.status !== 304) {
        throw await errorOf(response);
      }
    },
  });
  return client;
}

/** Makes the call; again after 429, 502, 503, 504 and broken connections, where a repeat is safe. */
async function repeated(request: Request, options: Options): Promise<Response> {
  const { tries = 5, firstMilliseconds = 200, deadlineMilliseconds = 60_000, fetch = globalThis.fetch } = options;
  const safe = request.method !== "POST" || request.headers.has(KEY);
  const begun = Date.now();
  for (let tried = 1; ; tried++) {
    let rest = Math.random() * firstMilliseconds * 2 ** (tried - 1);
    const last = !safe || tried >= tries;
    try {
      const response = await fetch(request.clone());
      rest = Math.max(rest, 1000 * Number(response.headers.get("Retry-After") ?? 0) || 0);
      if (last || !AGAIN.has(response.status) || Date.now() + rest > begun + deadlineMilliseconds) {
        return response;
      }
      await response.body?.cancel();
    } catch (error) {
      if (last || request.signal.aborted || Date.now() + rest > begun + deadlineMilliseconds) {
        throw error;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, rest));
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text();
  let problem: Record<string, unknown> = {};
  try {
    const told: unknown = JSON.parse(text);
    if (typeof told === "object" && told !== null) {
      problem = told as Record<string, unknown>;
    }
  } catch {
    // Something in between answered.
  }
  const code = typeof problem["code"] === "string" ? problem["code"] : `http_${response.status}`;
  const detail = typeof problem["detail"] === "string" ? problem["detail"] : text.slice(0, 200);
  return new ApiError(response.status, code, detail, response.headers.get("X-Request-ID"), problem);
}

interface Listed<Item> {
  items: Item[];
  next?: string | null;
}

/** Yields the items of a list, page after page: `allOf((cursor) => client.GET("/v1/goals", { params: { query: { cursor } } }))`. */
export async function* allOf<Item>(
  page: (cursor: string | undefined) => Promise<{ data?: Listed<Item> }>,
): AsyncGenerator<Item> {
  let cursor: string | undefined;
  do {
    const { data } = await page(cursor);
    yield* data?.items ?? [];
    cursor = data?.next ?? undefined;
  } while (cursor !== undefined);
}
