-- Ids are UUIDs as text, times are milliseconds since 1970, truth values are 0 and 1.
-- Text sorts by its bytes, whatever language the server was set up for: what the program expects.

CREATE TABLE deployment (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    generation  BIGINT NOT NULL
);
INSERT INTO deployment (id, generation) VALUES (1, 0);

-- What an edge must hear about, and since which generation. A key whose row is gone is a tombstone.
CREATE TABLE feed_change (
    kind        TEXT COLLATE "C" NOT NULL,
    id          TEXT COLLATE "C" NOT NULL,
    generation  BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX feed_change_generation ON feed_change (generation);

CREATE TABLE tenant (
    id          TEXT COLLATE "C" PRIMARY KEY,
    name        TEXT COLLATE "C" NOT NULL UNIQUE,
    is_operator BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE account (
    id              TEXT COLLATE "C" PRIMARY KEY,
    tenant_id       TEXT COLLATE "C" NOT NULL REFERENCES tenant (id),
    email           TEXT COLLATE "C" NOT NULL UNIQUE,
    password_hash   TEXT COLLATE "C" NOT NULL,
    is_owner        BIGINT NOT NULL,
    permissions     TEXT COLLATE "C" NOT NULL,
    created_ms      BIGINT NOT NULL
);
CREATE INDEX account_tenant ON account (tenant_id, email);

CREATE TABLE session (
    digest          TEXT COLLATE "C" PRIMARY KEY,
    user_id         TEXT COLLATE "C" NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    created_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT NOT NULL
);

CREATE TABLE api_key (
    id              TEXT COLLATE "C" PRIMARY KEY,
    user_id         TEXT COLLATE "C" NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name            TEXT COLLATE "C" NOT NULL,
    digest          TEXT COLLATE "C" NOT NULL,
    created_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT,
    revoked_ms      BIGINT
);
CREATE INDEX api_key_user ON api_key (user_id);

CREATE TABLE team (
    id          TEXT COLLATE "C" PRIMARY KEY,
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenant (id),
    name        TEXT COLLATE "C" NOT NULL,
    created_ms  BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE team_member (
    team_id     TEXT COLLATE "C" NOT NULL REFERENCES team (id) ON DELETE CASCADE,
    user_id     TEXT COLLATE "C" NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_member_user ON team_member (user_id);

CREATE TABLE tunnel (
    id              TEXT COLLATE "C" PRIMARY KEY,
    tenant_id       TEXT COLLATE "C" NOT NULL REFERENCES tenant (id),
    name            TEXT COLLATE "C" NOT NULL,
    display_name    TEXT COLLATE "C" NOT NULL,
    access          TEXT COLLATE "C" NOT NULL,
    created_ms      BIGINT NOT NULL,
    ever_connected  BIGINT NOT NULL DEFAULT 0,
    UNIQUE (tenant_id, name)
);

CREATE TABLE tunnel_key (
    id              TEXT COLLATE "C" PRIMARY KEY,
    tunnel_id       TEXT COLLATE "C" NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    public_key      TEXT COLLATE "C" NOT NULL,
    created_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT,
    revoked_ms      BIGINT
);
CREATE INDEX tunnel_key_tunnel ON tunnel_key (tunnel_id);

-- Connectors that hold a link or vanished without a goodbye.
CREATE TABLE connector (
    tunnel_id       TEXT COLLATE "C" NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    connector_id    TEXT COLLATE "C" NOT NULL,
    facts           TEXT COLLATE "C" NOT NULL,
    vanished_ms     BIGINT,
    PRIMARY KEY (tunnel_id, connector_id)
);

CREATE TABLE health (
    tunnel_id   TEXT COLLATE "C" NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    since_ms    BIGINT NOT NULL,
    health      TEXT COLLATE "C" NOT NULL,
    reason      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tunnel_id, since_ms)
);

CREATE TABLE workflow (
    id          TEXT COLLATE "C" PRIMARY KEY,
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenant (id),
    team_id     TEXT COLLATE "C" NOT NULL REFERENCES team (id),
    name        TEXT COLLATE "C" NOT NULL,
    actions     TEXT COLLATE "C" NOT NULL,
    created_ms  BIGINT NOT NULL
);
CREATE INDEX workflow_tenant ON workflow (tenant_id, name);

CREATE TABLE run (
    id          TEXT COLLATE "C" PRIMARY KEY,
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenant (id),
    team_id     TEXT COLLATE "C" NOT NULL,
    workflow_id TEXT COLLATE "C" NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
    status      TEXT COLLATE "C" NOT NULL,
    results     TEXT COLLATE "C" NOT NULL,
    created_ms  BIGINT NOT NULL,
    finished_ms BIGINT
);
CREATE INDEX run_workflow ON run (workflow_id, id);

CREATE TABLE edge (
    id          TEXT COLLATE "C" PRIMARY KEY,
    link        TEXT COLLATE "C" NOT NULL,
    gateway     TEXT COLLATE "C" NOT NULL,
    joined_ms   BIGINT NOT NULL
);

CREATE TABLE join_token (
    id              TEXT COLLATE "C" PRIMARY KEY,
    digest          TEXT COLLATE "C" NOT NULL,
    created_ms      BIGINT NOT NULL,
    expires_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT,
    revoked_ms      BIGINT
);

CREATE TABLE token_key (
    kid         TEXT COLLATE "C" PRIMARY KEY,
    public_key  TEXT COLLATE "C" NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE audit (
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenant (id),
    sequence    BIGINT NOT NULL,
    entry       TEXT COLLATE "C" NOT NULL,
    hash        TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);

-- Deleting the team or the workflow revokes its tokens; their rows stay.
CREATE TABLE proxy_token (
    id          TEXT COLLATE "C" PRIMARY KEY,
    tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenant (id),
    team_id     TEXT COLLATE "C" NOT NULL,
    workflow_id TEXT COLLATE "C",
    name        TEXT COLLATE "C" NOT NULL,
    digest      TEXT COLLATE "C" NOT NULL,
    created_by  TEXT COLLATE "C" NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    revoked_ms  BIGINT
);
CREATE INDEX proxy_token_tenant ON proxy_token (tenant_id, name);
CREATE INDEX proxy_token_team ON proxy_token (team_id);
CREATE INDEX proxy_token_workflow ON proxy_token (workflow_id);
