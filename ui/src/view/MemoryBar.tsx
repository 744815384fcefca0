// A VM's memory as a bar: what it needs, what it has beyond that, what it lacks, and where it is to go.

interface Props {
  assigned: number;
  demand: number;
  target: number;
  /** Bytes that fill the bar. */
  whole: number;
}

export function MemoryBar({ assigned, demand, target, whole }: Props) {
  const part = (bytes: number): string => `${Math.min(100, (bytes / Math.max(1, whole)) * 100)}%`;
  const needed = Math.min(assigned, demand);
  return (
    <div class="memory-bar">
      <i class="is-beyond" style={{ width: part(assigned) }} />
      <i class="is-needed" style={{ width: part(needed) }} />
      {demand > assigned && <i class="is-lacking" style={{ left: part(assigned), width: part(demand - assigned) }} />}
      {target > 0 && <i class="is-target" style={{ left: part(target) }} />}
    </div>
  );
}
