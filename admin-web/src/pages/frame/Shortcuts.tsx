/** `/` goes to the page's search, `?` shows what keys there are. */
import { Modal, Table } from "@mantine/core";
import { useDisclosure, useHotkeys } from "@mantine/hooks";

const KEYS = [
  ["/", "Search on this page"],
  ["?", "Show this list"],
  ["Esc", "Close a dialog or a menu"],
] as const;

export function Shortcuts() {
  const [isOpen, dialog] = useDisclosure();
  useHotkeys([
    ["/", () => document.querySelector<HTMLElement>("[data-search]")?.focus()],
    ["shift+?", dialog.open, { usePhysicalKeys: false }],
    ["?", dialog.open],
  ]);
  return (
    <Modal
      opened={isOpen}
      onClose={dialog.close}
      title="Shortcuts"
      closeButtonProps={{ "aria-label": "Close" }}
    >
      <Table>
        <Table.Tbody>
          {KEYS.map(([key, what]) => (
            <Table.Tr key={key}>
              <Table.Td>
                <kbd>{key}</kbd>
              </Table.Td>
              <Table.Td>{what}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Modal>
  );
}
