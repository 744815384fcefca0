// The words of the HTTP API, by short names. They are generated from docs/openapi.json.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type VmView = Schemas["VmView"];
export type HostView = Schemas["HostView"];
export type SettingsView = Schemas["SettingsView"];
export type EventView = Schemas["EventView"];
export type ExplanationView = Schemas["ExplanationView"];
export type DryRunView = Schemas["DryRunView"];
export type MemoryPatch = Schemas["MemoryPatch"];
export type VmHistory = Schemas["VmHistory"];
export type HostHistory = Schemas["HostHistory"];
export type VmPoint = Schemas["VmPoint"];
export type HostPoint = Schemas["HostPoint"];
export type LiveSnapshot = Schemas["LiveSnapshot"];
export type LiveChange = Schemas["LiveChange"];
export type MemoryStatus = Schemas["MemoryStatus"];
export type StopRequest = Schemas["StopRequest"];
export type Problem = Schemas["Problem"];
export type AdviceView = Schemas["AdviceView"];
