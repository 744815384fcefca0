// The page, served with what a daemon once told: as fast as the page takes it, or by the second.
//
//   recorded snapshot and change ──another demand for each VM, each time──▶ /v1/live ──▶ page
import { readFileSync } from "node:fs";
import { type Server, type ServerResponse, createServer } from "node:http";
import { type AddressInfo } from "node:net";

import type { LiveChange, LiveSnapshot } from "../src/api/types";

/** npm runs scripts in the folder of package.json. */
export const DIST = `${process.cwd()}/dist/`;
const KINDS: Record<string, string> = { html: "text/html", js: "text/javascript", css: "text/css" };
const MIB = 2 ** 20;
/** Changes that are made ready, and told by turns. */
const VARIANTS = 16;

export class Replay {
  private readonly server: Server;
  private readonly streams = new Set<ServerResponse>();
  private readonly changes: string[];
  private readonly snapshot: string;
  private marks = 0;

  constructor(snapshot: LiveSnapshot, explanation: unknown, version: string) {
    this.snapshot = event("snapshot", snapshot);
    this.changes = Array.from({ length: VARIANTS }, (_, at) => event("change", varied(snapshot, at)));
    const answers: Record<string, unknown> = {
      "/v1/version": { version },
      "/v1/events": [],
      explanation,
      history: { from_unix_seconds: 0, to_unix_seconds: 1, step_seconds: 1, points: [], events: [] },
    };
    this.server = createServer((request, response) => {
      const path = (request.url ?? "/").split("?")[0] ?? "/";
      if (request.method === "OPTIONS") response.writeHead(405).end("{}");
      else if (path === "/v1/live") this.stream(response);
      else if (path.startsWith("/v1/")) {
        const last = path.split("/").pop() ?? "";
        const vm = snapshot.vms.find(({ name }) => name === last);
        response.setHeader("Content-Type", "application/json");
        response.end(JSON.stringify(answers[path] ?? vm ?? answers[last] ?? null));
      } else {
        const name = path === "/" ? "index.html" : path.slice(1);
        response.setHeader("Content-Type", KINDS[name.split(".").pop() ?? ""] ?? "text/plain");
        response.end(readFileSync(DIST + name));
      }
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((done) => this.server.listen(0, "127.0.0.1", done));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  /** Tells so many changes, each when the last one was taken or after `everyMs`; gives a word that is told last. */
  async tell(count: number, everyMs = 0): Promise<string> {
    for (let at = 0; at < count; at += 1) {
      await this.write(this.changes[at % VARIANTS] ?? "");
      if (everyMs > 0) await new Promise((done) => setTimeout(done, everyMs));
    }
    this.marks += 1;
    const message = `mark ${this.marks}`;
    await this.write(event("event", { id: this.marks, time_unix_ms: Date.now(), kind: "mark", vm: "guest0000", message }));
    return message;
  }

  private stream(response: ServerResponse): void {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(this.snapshot);
    this.streams.add(response);
    response.on("close", () => this.streams.delete(response));
  }

  private async write(text: string): Promise<void> {
    for (const stream of this.streams) {
      if (!stream.write(text)) await taken(stream);
    }
  }
}

/** Until its reader has read, or is gone. */
function taken(stream: ServerResponse): Promise<void> {
  return new Promise((done) => {
    const end = (): void => {
      stream.off("drain", end).off("close", end);
      done();
    };
    stream.on("drain", end).on("close", end);
  });
}

function event(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** Everybody needs and has something else. */
function varied({ host, vms }: LiveSnapshot, at: number): LiveChange {
  const changed = vms.map((vm, index) => {
    const more = ((at * 7 + index * 3) % VARIANTS) * 8 * MIB;
    const demand_bytes = vm.demand_bytes + more;
    const assigned_bytes = vm.assigned_bytes + (at % 3 === 0 ? 0 : more);
    const memory_status = assigned_bytes < demand_bytes ? ("low" as const) : ("ok" as const);
    const pressure_percent = Math.round((demand_bytes * 100) / Math.max(1, assigned_bytes));
    return { ...vm, demand_bytes, assigned_bytes, memory_status, pressure_percent, charged_bytes: assigned_bytes };
  });
  return { host, vms: changed, gone: [] };
}
