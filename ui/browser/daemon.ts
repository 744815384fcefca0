// A real dynmemd with imitated guests on a folder of its own, reached by TLS and tokens on a port of 127.0.0.1.
// What is started here is stopped and removed here, also when a test fails or the process is ended.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { appendFileSync, chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { VmView } from "../src/api/types";

const PROGRAMS = process.env["DYNMEM_PROGRAMS"] ?? join(process.cwd(), "../target/debug"); // npm's folder is ui
const UP_MS = 60_000;

export interface DaemonOptions {
  /** The pool, as in the settings. */
  memory?: string;
}

export interface VmOptions {
  startup?: string;
  minimum?: string;
  maximum?: string;
  buffer?: number;
  dynamic?: boolean;
}

const running = new Set<Daemon>();
process.on("exit", () => running.forEach((daemon) => daemon.remove()));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
// npm that is ended does not tell what it has started.
const parent = process.ppid;
setInterval(() => process.ppid !== parent && process.exit(1), 500).unref();

export class Daemon {
  readonly operate = newToken();
  readonly read = newToken();
  private child: ChildProcess | null = null;

  private constructor(
    readonly folder: string,
    readonly port: number,
  ) {}

  static async start({ memory = "3GiB" }: DaemonOptions = {}): Promise<Daemon> {
    const folder = mkdtempSync(join(tmpdir(), "dynmem-ui-"));
    const daemon = new Daemon(folder, await freePort());
    running.add(daemon);
    daemon.configure(memory);
    await daemon.run();
    return daemon;
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  private configure(memory: string): void {
    const at = (name: string): string => join(this.folder, name);
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", at("tls.key")];
    const name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
    execFileSync("openssl", ["req", "-x509", "-days", "2", ...key, ...name, "-out", at("tls.pem")], { stdio: "pipe" });
    writeFileSync(at("tokens"), `console operate ${digest(this.operate)}\nwall read ${digest(this.read)}\n`);
    ["tls.key", "tokens"].forEach((file) => chmodSync(at(file), 0o600));
    writeFileSync(
      at("dynmemd.toml"),
      `state_dir = "${at("state")}"\nsocket = "${this.socket}"\nbackend = "fake"\n[host]\nmemory = "${memory}"\n` +
        `reserve = "512MiB"\n[tcp]\nlisten = "127.0.0.1:${this.port}"\ncertificate = "${at("tls.pem")}"\n` +
        `key = "${at("tls.key")}"\ntokens = "${at("tokens")}"\n`,
    );
  }

  private get socket(): string {
    return join(this.folder, "api.sock");
  }

  /** Starts it, also again, and waits until it answers. */
  async run(): Promise<void> {
    const log = openSync(join(this.folder, "log"), "a");
    const child = spawn(join(PROGRAMS, "dynmemd"), ["--config", join(this.folder, "dynmemd.toml")], {
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.child = child;
    child.on("error", (error) => appendFileSync(join(this.folder, "log"), String(error)));
    await until(`dynmemd in ${PROGRAMS} answers`, UP_MS, async () => {
      if (child.exitCode !== null || child.pid === undefined) throw new Error(`dynmemd has ended:\n${this.log()}`);
      return (await this.ask("GET", "/v1/version").catch(() => null))?.status === 200;
    });
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    const child = this.child;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await ended;
    this.child = null;
  }

  /** Ends it and removes everything. */
  async stop(): Promise<void> {
    await this.kill();
    this.remove();
  }

  remove(): void {
    this.child?.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
    running.delete(this);
  }

  log(): string {
    return readFileSync(join(this.folder, "log"), "utf8").slice(-4000);
  }

  /** Another client's request, on the Unix socket. */
  ask(method: string, path: string, body?: unknown): Promise<{ status: number; value: unknown }> {
    return new Promise((done, fail) => {
      const headers = { "Content-Type": "application/json", Connection: "close" };
      const asked = request({ socketPath: this.socket, method, path, headers }, (answer) => {
        let text = "";
        answer.setEncoding("utf8");
        answer.on("data", (piece: string) => (text += piece));
        answer.on("error", fail);
        answer.on("end", () => done({ status: answer.statusCode ?? 0, value: text ? JSON.parse(text) : null }));
      });
      asked.on("error", fail);
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** The same, and it must be done. */
  async do(method: string, path: string, body?: unknown): Promise<unknown> {
    const { status, value } = await this.ask(method, path, body);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(value)}`);
    return value;
  }

  async vm(name: string): Promise<VmView> {
    return (await this.do("GET", `/v1/vms/${name}`)) as VmView;
  }

  async define(name: string, options: VmOptions = {}): Promise<void> {
    const { startup = "256MiB", minimum = "128MiB", maximum = "1GiB", buffer = 20, dynamic = true } = options;
    await this.do("POST", "/v1/vms", { name, memory: { dynamic, startup, minimum, maximum, buffer } });
  }

  /** Starts a VM and waits until its guest has reported. */
  async boot(name: string): Promise<void> {
    await until(`${name} starts`, UP_MS, async () => (await this.ask("POST", `/v1/vms/${name}/start`)).status === 200);
    await until(`${name} reports`, UP_MS, async () => {
      const { state, pressure_percent: pressure } = await this.vm(name);
      return state === "running" && pressure !== undefined;
    });
  }
}

function newToken(): string {
  return `dynmem_${randomBytes(32).toString("hex")}`;
}

function digest(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer().once("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (typeof address === "object" && address ? done(address.port) : fail(new Error("no port"))));
    });
  });
}

export async function until(what: string, limitMs: number, is: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await is())) {
    if (Date.now() > end) throw new Error(`Waited ${limitMs} ms in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}
