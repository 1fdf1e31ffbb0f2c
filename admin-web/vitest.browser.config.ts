import { defineConfig } from "vitest/config";

// The journeys share a deployment, which `tests/tests/console.rs` starts: one file, in order.
export default defineConfig({
  test: {
    environment: "node",
    include: ["tests/**/*.test.ts"],
    // Bounds only: a machine that compiles at the same time is slow.
    testTimeout: 600_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 60_000 } },
    bail: 1,
    fileParallelism: false,
    sequence: { concurrent: false },
  },
});
