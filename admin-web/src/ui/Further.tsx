import { Button, Group } from "@mantine/core";

/** Asks for the next page of a list that is looked up page by page, if there is one. */
export function Further({
  list,
}: {
  list: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown };
}) {
  if (!list.hasNextPage) return null;
  return (
    <Group>
      <Button
        variant="default"
        loading={list.isFetchingNextPage}
        onClick={() => void list.fetchNextPage()}
      >
        Look further back
      </Button>
    </Group>
  );
}
