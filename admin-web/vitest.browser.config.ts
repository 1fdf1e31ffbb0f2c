import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

class ByName extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return files.sort((a, b) => a.moduleId.localeCompare(b.moduleId));
  }
}

// The journeys share a deployment, which `tests/tests/console.rs` starts: one after the other. Those
// that begin with an empty one come first.
export default defineConfig({
  test: {
    environment: "node",
    include: ["tests/**/*.test.ts"],
    // Bounds only: a machine that compiles at the same time is slow.
    testTimeout: 600_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
    bail: 1,
    fileParallelism: false,
    sequence: { concurrent: false, sequencer: ByName },
  },
});
