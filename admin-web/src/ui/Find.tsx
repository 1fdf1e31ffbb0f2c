import { TextInput } from "@mantine/core";

/** The search of a list, which `/` goes to. */
export function Find({
  value,
  placeholder = "Name",
  onChange,
}: {
  value: string | undefined;
  placeholder?: string;
  onChange: (text: string | undefined) => void;
}) {
  return (
    <TextInput
      label="Search"
      placeholder={placeholder}
      type="search"
      data-search
      w={{ base: "100%", xs: 220 }}
      value={value ?? ""}
      onChange={(event) => onChange(event.currentTarget.value || undefined)}
    />
  );
}
