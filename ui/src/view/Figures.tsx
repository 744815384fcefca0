// Figures with their names.

export type Figure = [name: string, value: string];

export function Figures({ of }: { of: readonly Figure[] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
