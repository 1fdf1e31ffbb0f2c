/** How a connector can run: for each way what to paste, with the secret in it. */

export type Recipe = {
  readonly id: string;
  readonly label: string;
  /** What it needs, and what it does. */
  readonly about: string;
  readonly steps: readonly Step[];
};

type Step = { readonly title: string; readonly text: (secret: string, tunnel: string) => string };

const file = (secret: string) =>
  `mkdir -p -m 700 secrets\n(umask 022; printf '%s\\n' '${secret}' > secrets/tunnel_secret.txt)`;

export const RECIPES: readonly Recipe[] = [
  {
    id: "docker",
    label: "Docker",
    about:
      "One container. The image is built by make image-connector and pushed to a registry of yours.",
    steps: [
      {
        title: "Command",
        text: (secret) =>
          `docker run -d --name connector --restart unless-stopped --stop-timeout 40 \\\n  --read-only --cap-drop ALL --security-opt no-new-privileges \\\n  -e TUNNEL_SECRET='${secret}' \\\n  postern/connector`,
      },
    ],
  },
  {
    id: "compose",
    label: "Compose",
    about:
      "One container, with the secret in a variable. compose/connector.yml is in the repository.",
    steps: [
      {
        title: "Command",
        text: (secret) => `TUNNEL_SECRET='${secret}' docker compose -f compose/connector.yml up -d`,
      },
    ],
  },
  {
    id: "compose-secrets",
    label: "Compose with secrets",
    about: "Two replicas with the secret in a file: either may stop without a request lost.",
    steps: [
      { title: "Secret file", text: (secret) => `cd compose\n${file(secret)}` },
      { title: "Command", text: () => "docker compose -f connector-secrets.yml up -d" },
    ],
  },
  {
    id: "kubernetes",
    label: "Kubernetes",
    about:
      "Two replicas on different nodes. compose/kubernetes/connector.yaml is in the repository; set its image first.",
    steps: [
      {
        title: "Secret",
        text: (secret) =>
          `kubectl create namespace postern\nprintf '%s' '${secret}' | kubectl -n postern create secret generic postern-connector \\\n  --from-file=TUNNEL_SECRET=/dev/stdin`,
      },
      {
        title: "Command",
        text: () => "kubectl -n postern apply -f compose/kubernetes/connector.yaml",
      },
    ],
  },
  {
    id: "helm",
    label: "Helm",
    about: "The chart compose/helm/postern-connector of the repository, with an image of yours.",
    steps: [
      {
        title: "Secret",
        text: (secret, tunnel) =>
          `printf '%s' '${secret}' | kubectl create secret generic ${tunnel} --from-file=TUNNEL_SECRET=/dev/stdin`,
      },
      {
        title: "Command",
        text: (_, tunnel) =>
          `helm install ${tunnel} compose/helm/postern-connector --set existingSecret=${tunnel} \\\n  --set image.repository=registry.example.com/postern/connector`,
      },
    ],
  },
  {
    id: "systemd",
    label: "systemd",
    about:
      "A hardened service on one machine, with systemd 250 or newer. cargo build --release -p postern-connector makes the program.",
    steps: [
      {
        title: "Secret file",
        text: (secret) =>
          `sudo install -d -m 700 /etc/postern\nprintf '%s\\n' '${secret}' | sudo install -m 400 /dev/stdin /etc/postern/tunnel_secret`,
      },
      {
        title: "Command",
        text: () =>
          "sudo install target/release/postern-connector /usr/local/bin/\nsudo install -m 644 compose/systemd/postern-connector.service /etc/systemd/system/\nsudo systemctl enable --now postern-connector",
      },
    ],
  },
  {
    id: "binary",
    label: "Program",
    about:
      "The program alone, in this terminal. cargo build --release -p postern-connector makes it.",
    steps: [
      {
        title: "Command",
        text: (secret) => `TUNNEL_SECRET='${secret}' ./target/release/postern-connector`,
      },
    ],
  },
];
