// Requests to the daemon that served this page: the token into the head, refusals and lost connections out
// as two kinds of error, each with a sentence for people.
import type { Problem } from "./types";

/** The daemon said no. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    sentence: string,
  ) {
    super(sentence);
  }
}

/** Nobody answered. */
export class Unreachable extends Error {}

/** Answers that take longer are given up, unless the caller knows better. */
const PATIENCE_MS = 15_000;
const STORED = "dynmem-token";

/** Kept until the tab is closed, and in no address. */
export const token = {
  get: (): string | null => sessionStorage.getItem(STORED),
  set: (secret: string): void => sessionStorage.setItem(STORED, secret),
  forget: (): void => sessionStorage.removeItem(STORED),
};

export interface Ask {
  method?: string;
  body?: unknown;
  ifMatch?: string | null;
  signal?: AbortSignal;
  patienceMs?: number;
}

/** What a path may have in it. */
export const vmPath = (name: string): string => `/v1/vms/${encodeURIComponent(name)}`;

/** Asks, and gives the answer whose body nobody has read yet. */
export async function open(path: string, { method = "GET", body, ifMatch, signal }: Ask = {}): Promise<Response> {
  const headers: Record<string, string> = {};
  const secret = token.get();
  if (secret) headers["Authorization"] = `Bearer ${secret}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (ifMatch) headers["If-Match"] = ifMatch;
  let response: Response;
  try {
    const text = body === undefined ? null : JSON.stringify(body);
    response = await fetch(path, { method, headers, body: text, signal: signal ?? null, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted && !(signal.reason instanceof Unreachable)) throw error;
    throw signal?.reason instanceof Unreachable ? signal.reason : new Unreachable("The daemon does not answer");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Asks, and reads the answer. */
export async function ask<T>(path: string, request: Ask = {}): Promise<{ value: T; etag: string | null }> {
  const { patienceMs = PATIENCE_MS, signal } = request;
  const limit = new AbortController();
  const seconds = Math.round(patienceMs / 1000);
  const timer = setTimeout(() => limit.abort(new Unreachable(`No answer within ${seconds} s`)), patienceMs);
  const stop = (): void => limit.abort(signal?.reason);
  signal?.addEventListener("abort", stop);
  try {
    const response = await open(path, { ...request, signal: limit.signal });
    const text = await response.text();
    return { value: (text ? JSON.parse(text) : null) as T, etag: response.headers.get("ETag") };
  } catch (error) {
    if (error instanceof SyntaxError) throw new Unreachable("The daemon's answer is not understood");
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

async function refusal(response: Response): Promise<Refused> {
  const text = await response.text().catch(() => "");
  try {
    const { detail } = JSON.parse(text) as Problem;
    if (detail) return new Refused(response.status, detail);
  } catch {
    // not one of the daemon's own: its status says enough
  }
  return new Refused(response.status, `The request was refused with status ${response.status}`);
}

/** An error as a sentence. */
export function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
