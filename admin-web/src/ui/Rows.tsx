/** A list that looks like a table where there is room, and like cards with labels where there is not. */
import { Card, Text } from "@mantine/core";
import type { ReactNode } from "react";
import { When } from "./When";

/** The first column is what a row is called; it needs no label beside it. */
export type Column<T> = { readonly label: string; readonly cell: (item: T) => ReactNode };

export function Rows<T>({
  label,
  kind,
  columns,
  items,
  itemKey,
}: {
  label: string;
  /** `row-{kind}` in `styles.css` says how wide the columns are. */
  kind: string;
  columns: readonly Column<T>[];
  items: readonly T[];
  itemKey: (item: T) => string;
}) {
  return (
    <Card withBorder className="card" p={0}>
      <RowHead kind={kind} columns={columns} />
      <ul className="rows" aria-label={label}>
        {items.map((item) => (
          <li key={itemKey(item)} className={`row row-${kind}`}>
            <Cells columns={columns} item={item} />
          </li>
        ))}
      </ul>
    </Card>
  );
}

/** The labels over the rows. Whoever listens hears each in its cell. */
export function RowHead<T>({ kind, columns }: { kind: string; columns: readonly Column<T>[] }) {
  return (
    <div className={`row row-head row-${kind}`} aria-hidden="true">
      {columns.map(({ label }) => (
        <span key={label}>{label}</span>
      ))}
    </div>
  );
}

export function Cells<T>({ columns, item }: { columns: readonly Column<T>[]; item: T }) {
  return columns.map(({ label, cell }, index) => (
    <div key={label} className={index === 0 ? "cell-title" : "cell"}>
      {index > 0 && <span className="cell-label">{label}</span>}
      <div>{cell(item)}</div>
    </div>
  ));
}

/** A moment in a row; `never` where there is none. */
export function Moment({ at }: { at: string | null | undefined }) {
  return <Dim>{at ? <When at={at} /> : "never"}</Dim>;
}

/** What matters less in a row. */
export function Dim({ children }: { children: ReactNode }) {
  return (
    <Text size="sm" c="dimmed" component="div">
      {children}
    </Text>
  );
}
