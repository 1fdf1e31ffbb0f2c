-- Ids are UUIDs as text, times are milliseconds since 1970, truth values are 0 and 1.

CREATE TABLE deployment (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    generation  BIGINT NOT NULL
);
INSERT INTO deployment (id, generation) VALUES (1, 0);

-- What an edge must hear about, and since which generation. A key whose row is gone is a tombstone.
CREATE TABLE feed_change (
    kind        TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    generation  BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX feed_change_generation ON feed_change (generation);

CREATE TABLE tenant (
    id          TEXT   PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    is_operator BIGINT NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE account (
    id              TEXT   PRIMARY KEY,
    tenant_id       TEXT   NOT NULL REFERENCES tenant (id),
    email           TEXT   NOT NULL UNIQUE,
    password_hash   TEXT   NOT NULL,
    is_owner        BIGINT NOT NULL,
    permissions     TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL
);
CREATE INDEX account_tenant ON account (tenant_id, email);

CREATE TABLE session (
    digest          TEXT   PRIMARY KEY,
    user_id         TEXT   NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    created_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT NOT NULL
);

CREATE TABLE api_key (
    id              TEXT   PRIMARY KEY,
    user_id         TEXT   NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name            TEXT   NOT NULL,
    digest          TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT,
    revoked_ms      BIGINT
);
CREATE INDEX api_key_user ON api_key (user_id);

CREATE TABLE team (
    id          TEXT   PRIMARY KEY,
    tenant_id   TEXT   NOT NULL REFERENCES tenant (id),
    name        TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);

CREATE TABLE team_member (
    team_id     TEXT   NOT NULL REFERENCES team (id) ON DELETE CASCADE,
    user_id     TEXT   NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_member_user ON team_member (user_id);

CREATE TABLE tunnel (
    id              TEXT   PRIMARY KEY,
    tenant_id       TEXT   NOT NULL REFERENCES tenant (id),
    name            TEXT   NOT NULL,
    display_name    TEXT   NOT NULL,
    access          TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    ever_connected  BIGINT NOT NULL DEFAULT 0,
    UNIQUE (tenant_id, name)
);

CREATE TABLE tunnel_key (
    id              TEXT   PRIMARY KEY,
    tunnel_id       TEXT   NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    public_key      TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT,
    revoked_ms      BIGINT
);
CREATE INDEX tunnel_key_tunnel ON tunnel_key (tunnel_id);

-- Connectors that hold a link or vanished without a goodbye.
CREATE TABLE connector (
    tunnel_id       TEXT   NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    connector_id    TEXT   NOT NULL,
    facts           TEXT   NOT NULL,
    vanished_ms     BIGINT,
    PRIMARY KEY (tunnel_id, connector_id)
);

CREATE TABLE health (
    tunnel_id   TEXT   NOT NULL REFERENCES tunnel (id) ON DELETE CASCADE,
    since_ms    BIGINT NOT NULL,
    health      TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    PRIMARY KEY (tunnel_id, since_ms)
);

CREATE TABLE workflow (
    id          TEXT   PRIMARY KEY,
    tenant_id   TEXT   NOT NULL REFERENCES tenant (id),
    team_id     TEXT   NOT NULL REFERENCES team (id),
    name        TEXT   NOT NULL,
    actions     TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL
);
CREATE INDEX workflow_tenant ON workflow (tenant_id, name);

CREATE TABLE run (
    id          TEXT   PRIMARY KEY,
    tenant_id   TEXT   NOT NULL REFERENCES tenant (id),
    team_id     TEXT   NOT NULL,
    workflow_id TEXT   NOT NULL REFERENCES workflow (id) ON DELETE CASCADE,
    status      TEXT   NOT NULL,
    results     TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    finished_ms BIGINT
);
CREATE INDEX run_workflow ON run (workflow_id, id);

CREATE TABLE edge (
    id          TEXT   PRIMARY KEY,
    link        TEXT   NOT NULL,
    gateway     TEXT   NOT NULL,
    joined_ms   BIGINT NOT NULL
);

CREATE TABLE join_token (
    id              TEXT   PRIMARY KEY,
    digest          TEXT   NOT NULL,
    created_ms      BIGINT NOT NULL,
    expires_ms      BIGINT NOT NULL,
    last_used_ms    BIGINT,
    revoked_ms      BIGINT
);

CREATE TABLE token_key (
    kid         TEXT   PRIMARY KEY,
    public_key  TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL
);

CREATE TABLE audit (
    tenant_id   TEXT   NOT NULL REFERENCES tenant (id),
    sequence    BIGINT NOT NULL,
    entry       TEXT   NOT NULL,
    hash        TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);

-- Deleting the team or the workflow revokes its tokens; their rows stay.
CREATE TABLE proxy_token (
    id          TEXT   PRIMARY KEY,
    tenant_id   TEXT   NOT NULL REFERENCES tenant (id),
    team_id     TEXT   NOT NULL,
    workflow_id TEXT,
    name        TEXT   NOT NULL,
    digest      TEXT   NOT NULL,
    created_by  TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    revoked_ms  BIGINT
);
CREATE INDEX proxy_token_tenant ON proxy_token (tenant_id, name);
CREATE INDEX proxy_token_team ON proxy_token (team_id);
CREATE INDEX proxy_token_workflow ON proxy_token (workflow_id);
